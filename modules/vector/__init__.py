"""Vector sets: Redis's own and ours, durable as everything else, searched by an index."""

from __future__ import annotations

from typing import TYPE_CHECKING

from norikv_resp.encoding import VECTORSET

from . import commands, commands_read, commands_search
from .engine import engine
from .value import VectorType

if TYPE_CHECKING:
    from norikv_resp.loader import ModuleAPI

NAME = "vector"
API_VERSION = 1


def load(api: ModuleAPI) -> None:
    """Register the commands, and what follows the data for them."""
    api.commands(commands)
    api.commands(commands_read)
    api.commands(commands_search)
    api.when_opened(engine.open)
    api.when_committed(engine.committed)
    api.when_rolled_back(engine.rolled_back)
    api.when_reclaimed(engine.reclaimed)
    api.when_stopping(engine.stop)
    api.info("Vectors", engine.info)
    api.value_type(VECTORSET, VectorType())
