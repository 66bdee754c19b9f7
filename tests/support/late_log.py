"""A commit log whose outcomes come late and from outside the loop, as a replicated log's will."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from norikv_resp.commitlog import CommitError, Frame, LogListener, SegmentLog

DELAY = 0.002  # seconds between an outcome and its delivery


class LateLog:
    """A `CommitLog` around a `SegmentLog`, built with the same arguments.

    Each outcome is delivered `DELAY` later by another thread through the loop, in order; without
    a running loop at `start`, at the next call of `deliver`.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._log = SegmentLog(*args, **options)
        self._listener: LogListener | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outcomes: SimpleQueue[tuple[float, Callable[[], None]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._committed = 0
        self._failing = 0  # failures that are still to be delivered

    @property
    def committed(self) -> int:
        return self._committed

    @property
    def synced(self) -> int:
        return min(self._log.synced, self._committed)

    @property
    def term(self) -> int:
        return self._log.term

    @property
    def clock(self) -> int:
        return self._log.clock

    @property
    def next_index(self) -> int:
        return self._log.next_index

    @property
    def failure(self) -> str | None:
        return self._log.failure

    def recover(self, after: int, reach: int = 0, *, salvage: bool = False) -> Iterator[Frame]:
        yield from self._log.recover(after, reach, salvage=salvage)
        self._committed = self._log.committed

    def start(self, term: int, listener: LogListener) -> int:
        self._listener = listener
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            self._loop = None
        else:
            self._thread = threading.Thread(target=self._deliver_late, daemon=True)
            self._thread.start()
        return self._log.start(term, self)

    def append(self, frame: Frame, sync: bool) -> None:
        if self._failing:
            return  # staged over dropped frames: the failure on its way covers it
        self._log.append(frame, sync)

    def sync(self) -> None:
        self._log.sync()

    def free(self, through: int) -> None:
        self._log.free(through)

    def close(self) -> None:
        try:
            self._log.close()
        finally:
            self._outcomes.put(None)
            if self._thread is not None:
                self._thread.join()
            self.deliver()

    def stats(self) -> dict[str, int | float | str]:
        return self._log.stats()

    # ---- outcomes of the inner log

    def on_commit(self, last: int) -> None:
        def deliver() -> None:
            self._committed = last
            assert self._listener is not None
            self._listener.on_commit(last)

        self._later(deliver)

    def on_failure(self, error: CommitError) -> None:
        def deliver() -> None:
            self._failing -= 1
            assert self._listener is not None
            self._listener.on_failure(error)

        self._failing += 1
        self._later(deliver)

    def on_synced(self, last: int) -> None:
        def deliver() -> None:
            assert self._listener is not None
            self._listener.on_synced(last)

        self._later(deliver)

    def _later(self, outcome: Callable[[], None]) -> None:
        self._outcomes.put((time.monotonic() + DELAY, outcome))

    def deliver(self) -> None:
        """Deliver every outcome that has no thread to do it; call it on the loop's thread."""
        while not self._outcomes.empty():
            late = self._outcomes.get()
            if late is not None:
                late[1]()

    def _deliver_late(self) -> None:
        assert self._loop is not None
        while (late := self._outcomes.get()) is not None:
            due, outcome = late
            time.sleep(max(0.0, due - time.monotonic()))
            self._loop.call_soon_threadsafe(outcome)
