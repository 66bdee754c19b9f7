"""When a sync is worth a thread."""

from __future__ import annotations


class SyncPolicy:
    """Chooses between a sync on the loop and one in a thread, from how long syncs took.

    On the loop while at most 1 % of them took over 4 ms and at most a quarter over a millisecond,
    judged in windows of 256.  Handing a sync to a thread and back costs more than most syncs, but
    a disk that is always slow leaves time to go on, and one that stalls would stall readers.  A
    stay in the thread lasts one window at first, and twice as long (up to 16) each time that the
    return was soon regretted.
    """

    SLOW = 0.001  # seconds
    STALL = 0.004  # seconds
    WINDOW = 256
    MOST_SLOW = 64  # of a window
    MOST_STALLS = 2  # of a window
    HANDOVER = 0.0005  # seconds by which a busy interpreter inflates a thread's figures
    SOON = 2048  # syncs

    def __init__(self) -> None:
        self.inline = True
        self._count = self._slow = self._stalls = 0
        self._since = self.SOON  # syncs since the last change; at first none to be regretted
        self._windows = 1  # to stay in the thread
        self._left = 0

    def note(self, seconds: float) -> None:
        """Take one sync's time into account; O(1)."""
        self._count += 1
        self._since += 1
        handover = 0.0 if self.inline else self.HANDOVER
        if seconds > self.SLOW + handover:
            self._slow += 1
            self._stalls += seconds > self.STALL + handover
            if self.inline and self._is_slow:
                self._leave_loop()
                return
        if self._count >= self.WINDOW:
            if not self.inline:
                self._left -= 1
                if self._left <= 0 and not self._is_slow:
                    self.inline = True
                    self._since = 0
            self._count = self._slow = self._stalls = 0

    @property
    def _is_slow(self) -> bool:
        return self._stalls > self.MOST_STALLS or self._slow > self.MOST_SLOW

    def _leave_loop(self) -> None:
        soon = self._since < self.SOON
        self._windows = min(self._windows * 2, 16) if soon else 1
        self._left = self._windows
        self.inline = False
        self._count = self._slow = self._stalls = self._since = 0
