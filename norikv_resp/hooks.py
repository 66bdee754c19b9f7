"""What modules want to be told: the server's life, commits, and collections that are gone.

A module that fails in a hook must not take the server down: what it raises is logged, except
at the start, where it refuses to start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from norikv_resp.logs import log

if TYPE_CHECKING:
    from norikv_resp.server import Server
    from norikv_resp.value_types import ValueType

Figures = dict[str, "int | float | str"]

#: Seconds that all modules together have at the stop.
STOP_SECONDS = 5.0


class Hooks:
    """Callables by occasion, in the order in which modules were loaded; one per server."""

    def __init__(self) -> None:
        self.opened: list[Callable[[Server], None]] = []
        self.committed: list[Callable[[int], None]] = []
        self.rolled_back: list[Callable[[], None]] = []
        self.reclaimed: list[Callable[[int], None]] = []
        self.stopping: list[Callable[[], Awaitable[None]]] = []
        #: What knows about the values of a type, by its number.
        self.value_types: dict[int, ValueType] = {}
        #: Sections of INFO by their titles.
        self.sections: dict[str, Callable[[], Figures]] = {}

    def add(self, others: Hooks) -> None:
        """Take over what a module has registered."""
        self.opened += others.opened
        self.committed += others.committed
        self.rolled_back += others.rolled_back
        self.reclaimed += others.reclaimed
        self.stopping += others.stopping
        self.value_types.update(others.value_types)
        self.sections.update(others.sections)

    def on_commit(self, last: int) -> None:
        """Everything up to index *last* is committed."""
        for hook in self.committed:
            _call(hook, last)

    def on_rollback(self) -> None:
        """What was staged and not committed is gone."""
        for hook in self.rolled_back:
            _call(hook)

    def on_reclaimed(self, cid: int) -> None:
        """No row of the collection is left."""
        for hook in self.reclaimed:
            _call(hook, cid)

    async def on_stop(self) -> None:
        """Give modules a few seconds to leave things in order."""
        running = [asyncio.ensure_future(hook()) for hook in self.stopping]
        if not running:
            return
        done, late = await asyncio.wait(running, timeout=STOP_SECONDS)
        for task in late:
            log.warning("a module was not ready to stop after %g s", STOP_SECONDS)
            task.cancel()
        for task in done:
            if not task.cancelled() and task.exception() is not None:
                log.error("a module failed at the stop", exc_info=task.exception())


def _call(hook: Callable[..., None], *arguments: Any) -> None:
    try:
        hook(*arguments)
    except Exception:
        log.exception("defect in a module's hook")
