"""Strings: values, counters, ranges, and the commands that compare and set by version."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import commands, counters, fast, versions

if TYPE_CHECKING:
    from norikv_resp.loader import ModuleAPI

NAME = "string"
API_VERSION = 1


def load(api: ModuleAPI) -> None:
    """Register the commands and their hot paths."""
    api.commands(commands)
    api.commands(counters)
    api.commands(versions)
    fast.register(api)
