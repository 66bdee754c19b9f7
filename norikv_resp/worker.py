"""Where the loop's blocking calls are made: one at a time, in order, usually in a thread.

A job is one call that releases the GIL (a write, a sync, an open). How it ended is told to its
`done` on the loop's thread, in the order of the jobs.
"""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar

Job = Callable[[], Any]
Done = Callable[[Any, "Exception | None", float], None]  # result, error, seconds the call took
CallSoon = Callable[[Callable[[], None]], object]

#: The nice value of threads that give way: about a tenth of a core that others want as well.
NICE = 10

_P = ParamSpec("_P")
_R = TypeVar("_R")


def give_way() -> None:
    """Let other threads go before this one, and before those that it starts from now on.

    Only Linux has nice values for threads; elsewhere, and where it is forbidden, nothing changes.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


def giving_way(call: Callable[_P, _R], *args: _P.args, **kwargs: _P.kwargs) -> _R:
    """Make a call in a thread that gives way, and wait for it: for what starts threads itself."""
    with ThreadPoolExecutor(1, "giving-way", initializer=give_way) as executor:
        return executor.submit(call, *args, **kwargs).result()


class Worker(Protocol):
    """Runs jobs one at a time, in the order of their submission."""

    def submit(self, job: Job, done: Done) -> None:
        """Run `job` later, or now; then call `done` on the loop's thread."""

    def drain(self) -> None:
        """Block until every job has run and every `done` has returned."""

    def close(self) -> None:
        """Drain, then stop. Nothing may be submitted afterwards."""


class InlineWorker:
    """Runs each job at once: for programs without a loop, and for tests."""

    def __init__(self) -> None:
        self._jobs: deque[tuple[Job, Done]] = deque()
        self._running = False

    def submit(self, job: Job, done: Done) -> None:
        self._jobs.append((job, done))
        if not self._running:
            self.drain()

    def drain(self) -> None:
        self._running = True
        try:
            while self._jobs:
                _run(*self._jobs.popleft()).report()
        finally:
            self._running = False

    def close(self) -> None:
        self.drain()


class ThreadWorker:
    """Runs jobs on a daemon thread of its own.

    `call_soon` is the loop's call_soon_threadsafe. Without a loop, or once it is closed, outcomes
    wait until `deliver` or `drain` is called. With `gives_way` its work can wait for that of other
    threads. All methods are for the loop's thread only.
    """

    def __init__(self, name: str, call_soon: CallSoon | None, *, gives_way: bool = False) -> None:
        self._call_soon = call_soon
        self._gives_way = gives_way
        self._jobs: SimpleQueue[tuple[Job, Done] | None] = SimpleQueue()
        self._finished: SimpleQueue[_Outcome] = SimpleQueue()
        self._outstanding = 0  # submitted and not yet reported; the thread never touches it
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Job, done: Done) -> None:
        self._outstanding += 1
        self._jobs.put((job, done))

    def deliver(self) -> None:
        """Report the jobs that have run so far, without waiting for others."""
        while True:
            try:
                outcome = self._finished.get_nowait()
            except Empty:
                return
            self._outstanding -= 1
            outcome.report()

    def drain(self) -> None:
        while self._outstanding:
            outcome = self._finished.get()
            self._outstanding -= 1
            outcome.report()

    def close(self) -> None:
        self.drain()
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        if self._gives_way:
            give_way()
        while (item := self._jobs.get()) is not None:
            self._finished.put(_run(*item))
            if self._call_soon is not None:
                try:
                    self._call_soon(self.deliver)
                except RuntimeError:  # the loop is closed: `drain` delivers
                    self._call_soon = None


class _Outcome(NamedTuple):
    done: Done
    result: Any
    error: Exception | None
    seconds: float

    def report(self) -> None:
        self.done(self.result, self.error, self.seconds)


def _run(job: Job, done: Done) -> _Outcome:
    result: Any = None
    error: Exception | None = None
    started = perf_counter()
    try:
        result = job()
    except Exception as raised:
        error = raised
    return _Outcome(done, result, error, perf_counter() - started)
