"""A server that also has keys of other types, emptied before each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.resp import Wire
from tests.support.server import ServerProcess

OTHER_TYPES = Path(__file__).parent / "other_types"


@pytest.fixture(scope="module")
def typed_server() -> Iterator[ServerProcess]:
    with ServerProcess("--loadmodule", str(OTHER_TYPES)) as process:
        yield process


@pytest.fixture
def typed(typed_server: ServerProcess, resp: int) -> Iterator[Wire]:
    """A raw connection to it, once per protocol."""
    with typed_server.wire(resp) as wire:
        wire.ok("FLUSHALL")
        yield wire
