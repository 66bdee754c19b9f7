"""When a sync is worth a thread."""

from __future__ import annotations


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
