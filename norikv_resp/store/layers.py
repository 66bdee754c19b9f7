"""The overlay's layers of records, and what they cost.

A record is a row key and its value; an empty value is a tombstone. Layers are plain dicts, so
that a frame moves down with dict.update, and the same record objects are shared by all.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice, repeat

RECORD_COST = 175
"""Bytes that a record costs in memory beside its key and value."""


def cost(rows: Mapping[bytes, bytes]) -> int:
    """Return what `rows` cost in memory, in bytes."""
    return RECORD_COST * len(rows) + sum(map(len, rows)) + sum(map(len, rows.values()))


class Layer:
    """Records of consecutive frames, the newest of each row, with their cost.

    `last` is the highest index of which (and below which) the layer is complete.
    """

    __slots__ = ("last", "rows", "size")

    def __init__(self, rows: dict[bytes, bytes], size: int, last: int) -> None:
        self.rows = rows
        self.size = size
        self.last = last

    def absorb(self, rows: Mapping[bytes, bytes], size: int) -> None:
        """Lay newer `rows`, which cost `size`, over this layer's. O(len(rows))."""
        mine = self.rows
        before = len(mine)
        if not before:
            mine.update(rows)
            self.size = size
            return
        replaced = sum(map(len, map(mine.get, rows, repeat(b""))))
        mine.update(rows)
        hits = before + len(rows) - len(mine)
        if hits:
            keys = size - RECORD_COST * len(rows) - sum(map(len, rows.values()))
            replaced += hits * (RECORD_COST + keys // len(rows))
        self.size += size - replaced

    def newest(self, count: int) -> dict[bytes, bytes]:
        """Return the `count` rows that were inserted last, without removing them."""
        return dict(islice(reversed(self.rows.items()), count))

    def drop_newest(self, count: int, size: int) -> None:
        """Remove the rows that `newest(count)` returned, which cost `size`. O(count)."""
        pop = self.rows.popitem
        for _ in repeat(None, count):
            pop()
        self.size = self.size - size if self.rows else 0
