"""When the index process writes a set's checkpoint, and what it may cover.

A checkpoint must not know of a change that the data can still lose. So the server notes the next
label, waits until all that was staged before is on disk, and only then asks; labels that were
removed meanwhile are named, and count as alive in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from norikv_resp.logs import log

from .indexer.messages import Checkpoint, Checkpointed
from .views import IndexedSet, Phase

if TYPE_CHECKING:
    from .indexing import Indexing

LOOK_EVERY = 1.0
"""Seconds between two looks for a set whose checkpoint is due."""

SOON_SECONDS, LATER_SECONDS = 30.0, 600.0
"""Least age of a checkpoint that is replaced: when much has changed, and when anything has."""

MUCH, PART = 1000, 4
"""Much: so many changes at least, and this part of the set."""

STUCK_SECONDS = 600.0
"""After so long without an answer a checkpoint counts as failed."""


class Truth(Protocol):
    """What checkpoints have to know of the data."""

    def version(self) -> tuple[int, int]:
        """Term and index of the last change that was staged."""

    def call_when_synced(self, tell: Callable[[bool], None]) -> None:
        """*tell* whether everything staged so far came to the disk, once that is known."""

    def next_label_of(self, view: IndexedSet) -> int | None:
        """The next label of the set's record where it was seen last; None if it is not there."""

    def database_of(self, view: IndexedSet) -> int:
        """The number of the database that holds the set's key."""


class Checkpoints:
    """Has checkpoints written, one at a time; one per server."""

    def __init__(self, loop: asyncio.AbstractEventLoop, indexing: Indexing, truth: Truth) -> None:
        self._loop = loop
        self._indexing = indexing
        self._truth = truth
        self._running: IndexedSet | None = None
        self._running_since = 0.0
        self._timer = loop.call_later(LOOK_EVERY, self._look)
        self._finished: asyncio.Event | None = None

        # Figures.
        self.written = self.failed = 0
        #: Loop time of the last one.
        self.last_at = 0.0

    # ---- the policy

    def _look(self) -> None:
        self._timer = self._loop.call_later(LOOK_EVERY, self._look)
        now = self._loop.time()
        if self._running is not None and now - self._running_since > STUCK_SECONDS:
            self._end(self._running)
        if self._running is not None or not self._indexing.process.ready:
            return
        for view in self._indexing.sets.values():
            if self._is_due(view, now):
                self._begin(view)
                return

    def _is_due(self, view: IndexedSet, now: float) -> bool:
        age = now - view.checkpoint_at
        if view.phase is not Phase.SERVED or age < SOON_SECONDS:
            return False
        if view.stale >= max(MUCH, view.count // PART):
            return True
        return view.stale > 0 and age >= LATER_SECONDS

    # ---- one checkpoint

    def _begin(self, view: IndexedSet) -> None:
        """Note what is staged, and ask for the checkpoint once that is on disk."""
        self._running, self._running_since = view, self._loop.time()
        unsettled: set[int] = set()
        view.unsettled = unsettled
        next_label = min(view.highest, view.fed) + 1
        recorded = self._truth.next_label_of(view)
        if recorded is not None:
            next_label = min(next_label, recorded)
        version = self._truth.version()

        def settled(on_disk: bool) -> None:
            if view.unsettled is not unsettled:  # detached meanwhile
                self._end(view)
            elif not on_disk:
                view.unsettled = None
                self._end(view)
            else:
                self._ask(view, next_label, version)

        self._truth.call_when_synced(settled)

    def _ask(self, view: IndexedSet, next_label: int, version: tuple[int, int]) -> None:
        assert view.unsettled is not None
        unsettled = sorted(label for label in view.unsettled if label < next_label)
        view.unsettled = None
        view.checkpoint_begun(self._loop.time())
        self._indexing.flush()
        self._indexing.process.send(
            Checkpoint(
                view.handle,
                next_label,
                version,
                self._truth.database_of(view),
                view.epoch,
                view.key,
                unsettled,
            )
        )

    def answered(self, view: IndexedSet, report: Checkpointed) -> None:
        """The index process has written a checkpoint, or could not."""
        if report.reason:
            self.failed += 1
            view.checkpoint_failed()
            reason = report.reason.decode(errors="replace")
            log.warning("no checkpoint of vector set %d: %s", view.cid, reason)
        else:
            self.written += 1
            self.last_at = self._loop.time()
            log.info(
                "checkpoint of vector set %d: %.1f MB in %.2f s",
                view.cid,
                report.size / 1e6,
                report.seconds,
            )
        self._end(view)

    def lost(self) -> None:
        """The index process is gone."""
        if self._running is not None:
            self._end(self._running)

    def _end(self, view: IndexedSet) -> None:
        if self._running is view:
            self._running = None
            if self._finished is not None:
                self._finished.set()

    # ---- the stop

    async def write_all(self, seconds: float) -> None:
        """Write what has changed before the server stops, as far as time allows."""
        self._timer.cancel()
        deadline = self._loop.time() + seconds
        self._finished = asyncio.Event()
        if self._running is not None:
            await self._wait(deadline)
        for view in list(self._indexing.sets.values()):
            if view.stale and view.phase in (Phase.FEEDING, Phase.SERVED):
                if self._loop.time() >= deadline or not self._indexing.process.ready:
                    return
                self._begin(view)
                await self._wait(deadline)

    async def _wait(self, deadline: float) -> None:
        assert self._finished is not None
        if self._running is not None:
            self._finished.clear()
            try:
                await asyncio.wait_for(self._finished.wait(), deadline - self._loop.time())
            except asyncio.TimeoutError:
                log.warning("a checkpoint takes too long: the next start feeds what it lacks")
