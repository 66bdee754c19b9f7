"""A module with just enough of lists and sets to meet WRONGTYPE: keys of their types."""

from __future__ import annotations

from norikv_resp.loader import ModuleAPI

from . import commands

NAME = "other_types"
API_VERSION = 1


def load(api: ModuleAPI) -> None:
    api.commands(commands)
