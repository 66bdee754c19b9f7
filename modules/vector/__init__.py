"""Vector sets: Redis's own and ours, durable as everything else, searched by an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import commands, commands_read, commands_search

if TYPE_CHECKING:
    from norikv_resp.loader import ModuleAPI

NAME = "vector"
API_VERSION = 1


def load(api: ModuleAPI) -> None:
    """Register the commands."""
    api.commands(commands)
    api.commands(commands_read)
    api.commands(commands_search)
