"""A commit log whose outcomes come late and from another thread, as a replicated one's will.

For a server under test: ``--commit-log tests.support.late_log:LateLog``.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from norikv_resp.commitlog import CommitError, Frame, LogListener, SegmentLog

#: How long an outcome is on its way, seconds.
DELAY = 0.002

Outcome = tuple[float, Callable[[Any], None], Any]


class LateLog:
    """`SegmentLog` behind a delay. Outcomes keep their order and arrive on the loop's thread."""

    def __init__(self, directory: Path, segment_size: int) -> None:
        self._log = SegmentLog(directory, segment_size=segment_size)
        self._underway: SimpleQueue[Outcome | None] = SimpleQueue()
        self._arrived: SimpleQueue[Outcome] = SimpleQueue()
        self._committed = 0
        self._failing = 0  # failures that the listener does not know of yet
        self._thread: threading.Thread | None = None

    # -- CommitLog -----------------------------------------------------------------

    @property
    def committed(self) -> int:
        return self._committed if self._thread is not None else self._log.committed

    @property
    def synced(self) -> int:
        return min(self._log.synced, self.committed)

    @property
    def term(self) -> int:
        return self._log.term

    @property
    def clock(self) -> int:
        return self._log.clock

    def recover(self, after: int) -> Iterator[Frame]:
        return self._log.recover(after)

    def start(self, term: int, listener: LogListener) -> int:
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        first = self._log.start(term, _Postman(self))
        self._committed = self._log.committed
        self._thread = threading.Thread(target=self._travel, name="late-log", daemon=True)
        self._thread.start()
        return first

    def append(self, frame: Frame, sync: bool) -> None:
        if not self._failing:  # else the failure that is on its way drops this frame too
            self._log.append(frame, sync)

    def sync(self) -> None:
        self._log.sync()

    def free(self, through: int) -> None:
        self._log.free(through)

    def close(self) -> None:
        try:
            self._log.close()
        finally:
            self._underway.put(None)
            if self._thread is not None:
                self._thread.join()
            self._deliver()

    def stats(self) -> Mapping[str, int | float | str]:
        return self._log.stats()

    # -- the delay -------------------------------------------------------------------

    def failed(self, error: CommitError) -> None:
        self._failing += 1
        self.post(self.fail, error)

    def post(self, outcome: Callable[[Any], None], argument: Any) -> None:
        self._underway.put((time.monotonic() + DELAY, outcome, argument))

    def commit(self, last: int) -> None:
        self._committed = last
        self._listener.on_commit(last)

    def fail(self, error: CommitError) -> None:
        self._failing -= 1
        self._listener.on_failure(error)

    def synchronised(self, last: int) -> None:
        self._listener.on_synced(last)

    def _travel(self) -> None:
        while (outcome := self._underway.get()) is not None:
            time.sleep(max(outcome[0] - time.monotonic(), 0.0))
            self._arrived.put(outcome)
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: `close` delivers
                continue

    def _deliver(self) -> None:
        while not self._arrived.empty():
            _, outcome, argument = self._arrived.get()
            outcome(argument)


class _Postman:
    """The listener that the inner log knows."""

    def __init__(self, log: LateLog) -> None:
        self._log = log

    def on_commit(self, last: int) -> None:
        self._log.post(self._log.commit, last)

    def on_failure(self, error: CommitError) -> None:
        self._log.failed(error)

    def on_synced(self, last: int) -> None:
        self._log.post(self._log.synchronised, last)
