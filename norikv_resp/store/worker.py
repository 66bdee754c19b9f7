"""Threads that make single long calls for the loop.

A job is one call that releases the GIL (a batch write, a listing, an open); its completion
runs on the loop's thread. Completions keep the order of their jobs.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

Job = Callable[[], Any]
Done = Callable[[Any, BaseException | None], None]
CallSoon = Callable[[Callable[[], None]], object]


class Worker(Protocol):
    """Runs jobs one at a time, in order."""

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` later; then `done(result, error)` on the loop's thread."""

    def drain(self) -> None:
        """Return when every job has run and every completion was delivered."""

    def close(self) -> None:
        """Drain, then end. Nothing may be submitted afterwards."""


class ThreadWorker:
    """A Worker on one daemon thread.

    `call_soon` is the loop's call_soon_threadsafe. Without a loop, completions wait until
    `drain` delivers them.
    """

    def __init__(self, name: str, call_soon: CallSoon | None) -> None:
        self._call_soon = call_soon
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._finished: deque[tuple[Done, Any, BaseException | None]] = deque()
        self._changed = threading.Condition()
        self._submitted = 0
        self._ran = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done) -> None:
        self._submitted += 1
        self._jobs.put((job, done))

    def drain(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._ran == self._submitted)
            self._deliver()
            if self._ran == self._submitted and not self._finished:
                return

    def close(self) -> None:
        self.drain()
        self._jobs.put(None)
        self._thread.join()

    def _deliver(self) -> None:
        while self._finished:
            done, result, error = self._finished.popleft()
            done(result, error)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            job, done = item
            result, error = None, None
            try:
                result = job()
            except BaseException as raised:
                error = raised
            self._finished.append((done, result, error))
            with self._changed:
                self._ran += 1
                self._changed.notify_all()
            if self._call_soon is not None:
                try:
                    self._call_soon(self._deliver)
                except RuntimeError:
                    # The loop has closed: whoever drains delivers the completion.
                    self._call_soon = None
