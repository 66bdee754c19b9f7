"""The server's clock: Unix milliseconds that never go back, also over a restart."""

from __future__ import annotations

import time
from time import monotonic_ns


class Clock:
    """Follows the wall clock forwards and the monotonic clock whenever the wall clock lags.

    ``floor`` is the highest time that the data has seen (frames carry it). A
    clock that was set back therefore neither stands still nor brings back
    what had expired.
    """

    def __init__(self, floor: int = 0) -> None:
        self._offset = 0
        self._offset = max(floor, time.time_ns() // 1_000_000) - self.now()

    def now(self) -> int:
        """The time in Unix milliseconds."""
        return self._offset + monotonic_ns() // 1_000_000

    def microseconds(self) -> int:
        """The same time in Unix microseconds."""
        return self._offset * 1000 + monotonic_ns() // 1000

    def follow(self) -> None:
        """Catch up with a wall clock that is ahead; called ten times a second."""
        ahead = time.time_ns() // 1_000_000 - self.now()
        if ahead > 0:
            self._offset += ahead
