"""The positions that SCAN's cursors name.

A cursor is a number without meaning of its own; the server keeps where it
goes on. That makes a scan exact, in key order, however keys change meanwhile.
Which cursors are known is bounded: the longest unused is forgotten, and a
client that comes back with it gets an error, never a silently shorter scan.
"""

from __future__ import annotations

import random
from collections import OrderedDict

from norikv_resp.errors import INVALID_CURSOR

#: Cursors are below this, so that every client holds them exactly, in doubles too.
CURSOR_LIMIT = 1 << 53


class Cursors:
    """The known cursors of all connections, the least recently used first.

    Numbers are random: one from before a restart does not pass for another
    scan's. A scan holds two of them at most: the last one it was given, and
    the one before, with which a client may repeat a call whose reply it lost.
    """

    def __init__(self) -> None:
        # Cursor to its position and the cursor before it in the same scan, 0 for none.
        self._known: OrderedDict[int, tuple[bytes, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def position(self, cursor: int) -> bytes:
        """Where *cursor* goes on; INVALID_CURSOR if it is not known (any more)."""
        if cursor not in self._known:
            raise INVALID_CURSOR
        self._known.move_to_end(cursor)
        position, before = self._known[cursor]
        self._known.pop(before, None)
        return position

    def keep(self, position: bytes, before: int, limit: int) -> int:
        """A new cursor for *position* that follows *before*; at most *limit* stay known."""
        cursor = 0
        while not cursor or cursor in self._known:
            cursor = random.randrange(1, CURSOR_LIMIT)
        self._known[cursor] = position, before
        while len(self._known) > limit:
            self._known.popitem(last=False)
        return cursor


def parse_cursor(data: bytes) -> int:
    """A cursor as clients send it; INVALID_CURSOR if it is no number of 64 bits."""
    if not data.isdigit() or len(data) > 20 or (cursor := int(data)) >= 1 << 64:
        raise INVALID_CURSOR
    return cursor
