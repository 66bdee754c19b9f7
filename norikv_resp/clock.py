"""The server's clock: Unix milliseconds that never go back, also over a restart."""

from __future__ import annotations

import time


class Clock:
    """Follows the wall clock forwards and the monotonic clock whenever the wall clock lags.

    ``floor`` is the highest time that the data has seen (frames carry it). A
    clock that was set back therefore neither stands still nor brings back
    what had expired.
    """

    def __init__(self, floor: int = 0) -> None:
        self._base = max(floor, time.time_ns() // 1_000_000)
        self._started = time.monotonic_ns()

    def now(self) -> int:
        """The time in Unix milliseconds."""
        elapsed = self._base + (time.monotonic_ns() - self._started) // 1_000_000
        wall = time.time_ns() // 1_000_000
        if wall > elapsed:
            self._base += wall - elapsed
            return wall
        return elapsed
