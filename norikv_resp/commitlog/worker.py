"""Where the commit log's blocking calls run, and when a sync is worth a thread."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Protocol

Done = Callable[[Any, "Exception | None", float], None]  # result, error, seconds it took
Job = tuple[Callable[..., Any], tuple[Any, ...], Done]


class Worker(Protocol):
    """Runs calls in the order of their submission; `done` is called on the loop's thread."""

    def submit(self, call: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None: ...

    def drain(self) -> None:
        """Block until every call was made and its `done` has returned."""

    def close(self) -> None:
        """Drain, then stop."""


class InlineWorker:
    """Makes each call at once: for programs without a loop, and for tests."""

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._running = False

    def submit(self, call: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        self._jobs.append((call, args, done))
        if not self._running:
            self.drain()

    def drain(self) -> None:
        self._running = True
        try:
            while self._jobs:
                call, args, done = self._jobs.popleft()
                started = perf_counter()
                result, error = _attempt(call, args)
                done(result, error, perf_counter() - started)
        finally:
            self._running = False

    def close(self) -> None:
        self.drain()


class ThreadWorker:
    """One thread beside the loop, for single calls that release the GIL."""

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._finished: SimpleQueue[tuple[Done, Any, Exception | None, float]] = SimpleQueue()
        self._outstanding = 0  # touched on the loop's thread only
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[..., Any], args: tuple[Any, ...], done: Done) -> None:
        self._outstanding += 1
        self._jobs.put((call, args, done))

    def drain(self) -> None:
        while self._outstanding:
            done, result, error, seconds = self._finished.get()
            self._outstanding -= 1
            done(result, error, seconds)

    def close(self) -> None:
        self.drain()
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            call, args, done = job
            started = perf_counter()
            result, error = _attempt(call, args)
            self._finished.put((done, result, error, perf_counter() - started))
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: `drain` delivers
                continue

    def _deliver(self) -> None:
        while True:
            try:
                done, result, error, seconds = self._finished.get_nowait()
            except Empty:
                return
            self._outstanding -= 1
            done(result, error, seconds)


def _attempt(call: Callable[..., Any], args: tuple[Any, ...]) -> tuple[Any, Exception | None]:
    try:
        return call(*args), None
    except Exception as error:
        return None, error


class SyncPolicy:
    """Chooses between a sync on the loop and one in a thread, from how long syncs took.

    On the loop while at most 1 % of them took over a millisecond, judged in windows of 256: handing
    a sync to a thread and back costs more than most syncs.  A stay in the thread lasts one window
    at first, and twice as long (up to 16) each time that the return was soon regretted.
    """

    LIMIT = 0.001  # seconds
    WINDOW = 256
    SLOW = 3  # of a window: more than 1 %
    HANDOVER = 0.0005  # seconds by which a busy interpreter inflates a thread's figures
    SOON = 2048  # syncs

    def __init__(self) -> None:
        self.inline = True
        self._count = 0
        self._slow = 0
        self._since = self.SOON  # syncs since the last change; at first none to be regretted
        self._windows = 1  # to stay in the thread
        self._left = 0

    def note(self, seconds: float) -> None:
        """Take one sync's time into account; O(1)."""
        self._count += 1
        self._since += 1
        if self.inline:
            if seconds > self.LIMIT:
                self._slow += 1
                if self._slow >= self.SLOW:
                    self._leave_loop()
                    return
        elif seconds > self.LIMIT + self.HANDOVER:
            self._slow += 1
        if self._count >= self.WINDOW:
            if not self.inline:
                self._left -= 1
                if self._left <= 0 and self._slow < self.SLOW:
                    self.inline = True
                    self._since = 0
            self._count = self._slow = 0

    def _leave_loop(self) -> None:
        soon = self._since < self.SOON
        self._windows = min(self._windows * 2, 16) if soon else 1
        self._left = self._windows
        self.inline = False
        self._count = self._slow = self._since = 0
