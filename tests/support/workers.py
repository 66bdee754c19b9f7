"""A worker that waits for the test."""

from __future__ import annotations

from collections import deque
from typing import Any

from norikv_resp.worker import Done, Job


class ManualWorker:
    """A `Worker` whose jobs wait for `step`: what a deterministic scheduler needs."""

    def __init__(self) -> None:
        self.jobs: deque[tuple[Job, Done]] = deque()

    def step(self) -> bool:
        """Run the oldest job and report it; False when there is none."""
        if not self.jobs:
            return False
        job, done = self.jobs.popleft()
        result: Any = None
        error: Exception | None = None
        try:
            result = job()
        except AssertionError:
            raise  # a fake's complaint, not a failure that the code may handle
        except Exception as raised:
            error = raised
        done(result, error, 0.0001)
        return True

    def submit(self, job: Job, done: Done) -> None:
        self.jobs.append((job, done))

    def drain(self) -> None:
        while self.step():
            pass

    def close(self) -> None:
        self.drain()
