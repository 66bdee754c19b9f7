"""Index processes that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .child import Child

StartChild = Callable[[], Child]


@pytest.fixture
def start_child(tmp_path: Path) -> Iterator[StartChild]:
    """Starts index processes on one directory, one after the other."""
    children: list[Child] = []

    def start() -> Child:
        children.append(Child(tmp_path))
        return children[-1]

    yield start
    for child in children:
        child.kill()


@pytest.fixture
def child(start_child: StartChild) -> Child:
    return start_child()
