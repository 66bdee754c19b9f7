"""Long work on the loop's thread, cut into steps of about a millisecond.

A job is a generator. Each ``next`` does a little (0.1 to 0.3 ms) and yields how many seconds
it has nothing to do, 0.0 to go on. Jobs take turns. Urgent ones (a client waits) go on as soon
as the loop has looked at its sockets; the others leave two thirds of the loop to clients.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator
from time import perf_counter
from typing import Any

from norikv_resp.logs import log

Work = Generator[float, None, Any]

STEP_SECONDS = 0.001
"""What all jobs together may take before the loop gets its turn."""

REST = 2
"""A step of t seconds is followed by a pause of this many times t, if nobody waits."""


class Job:
    """A generator that is being run; ``cancel`` ends it before its next step."""

    __slots__ = ("cancelled", "done", "urgent", "wakes_at", "work")

    def __init__(self, work: Work, urgent: bool) -> None:
        self.work = work
        self.urgent = urgent
        self.cancelled = False
        #: Whether it has come to its end.
        self.done = False
        #: Loop time before which the job has nothing to do.
        self.wakes_at = 0.0

    def cancel(self) -> None:
        """Do no further step; the generator's ``finally`` blocks run at the next turn."""
        self.cancelled = True


class Pacer:
    """Runs jobs in turns; one per server."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: deque[Job] = deque()
        self._timer: asyncio.Handle | None = None
        self._due = 0.0

    def run(self, work: Work, *, urgent: bool = False) -> Job:
        """Begin a job in the next turn of the loop."""
        job = Job(work, urgent)
        self._jobs.append(job)
        self._wake(0.0)
        return job

    def __len__(self) -> int:
        return len(self._jobs)

    def close(self) -> None:
        """End every job where it is."""
        for job in self._jobs:
            job.work.close()
        self._jobs.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self, seconds: float) -> None:
        """Have a turn in so many seconds, or earlier if one is due anyway."""
        due = self._loop.time() + seconds
        if self._timer is not None:
            if self._due <= due:
                return
            self._timer.cancel()
        self._due = due
        if seconds:
            self._timer = self._loop.call_later(seconds, self._turn)
        else:
            self._timer = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._timer = None
        started = perf_counter()
        until = started + STEP_SECONDS
        now = self._loop.time()
        idle = 0
        while idle < len(self._jobs) and perf_counter() < until:
            job = self._jobs.popleft()
            if job.cancelled:
                job.work.close()
                job.done = True
            elif job.wakes_at > now:
                self._jobs.append(job)
                idle += 1
            elif self._step(job, now):
                self._jobs.append(job)
                idle = idle + 1 if job.wakes_at > now else 0
        if self._jobs:
            self._rest(perf_counter() - started)

    def _step(self, job: Job, now: float) -> bool:
        """Do a step of a job; whether it has more to do."""
        try:
            job.wakes_at = now + next(job.work)
        except StopIteration:
            job.done = True
        except Exception:
            log.exception("defect in the background work of vector sets")
            job.done = True
        return not job.done

    def _rest(self, took: float) -> None:
        now = self._loop.time()
        pause = min(job.wakes_at for job in self._jobs) - now
        if pause > 0.0:
            self._wake(pause)
        elif any(job.urgent and job.wakes_at <= now for job in self._jobs):
            self._wake(0.0)
        else:
            self._wake(max(REST * took, STEP_SECONDS))
