"""The overlay's parts: a layer of records and the sorted index of row keys.

A record is a row key and its value; an empty value is a tombstone. Layers are plain dicts, so
that a frame moves down with dict.update, and the same record objects are shared by all.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
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


class SortedKeys:
    """A set of row keys in order, as buckets that are cut and sorted when they are visited.

    Adding costs one bisection and an append, so that keys nobody ranges over are never
    sorted; a large unsorted bucket is halved towards the key that is asked for. Not a
    multiset: the caller adds a key once.
    """

    LOAD = 1024

    __slots__ = ("_buckets", "_dirty", "_lows")

    def __init__(self, keys: list[bytes]) -> None:
        # Bucket i holds keys k with lows[i] <= k < lows[i + 1]; lows[0] is below every key.
        self._lows: list[bytes] = [b""]
        self._buckets: list[list[bytes]] = [keys]
        self._dirty: list[bool] = [True]

    def add(self, keys: Iterable[bytes]) -> None:
        """Add keys that are not there yet. O(log n) each."""
        lows, buckets, dirty = self._lows, self._buckets, self._dirty
        if len(lows) == 1:
            buckets[0] += keys
            dirty[0] = True
            return
        for key in keys:
            at = bisect_right(lows, key) - 1
            buckets[at].append(key)
            dirty[at] = True

    def discard(self, key: bytes) -> None:
        """Remove a key that is there."""
        bucket = self._buckets[self._visit(key)]
        place = bisect_left(bucket, key)
        if place < len(bucket) and bucket[place] == key:
            del bucket[place]

    def between(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """Yield the keys k with start <= k < stop, ascending. Nothing may change meanwhile."""
        at = self._visit(start)
        low = bisect_left(self._buckets[at], start)
        while True:
            bucket = self._buckets[at]
            if bucket and bucket[-1] >= stop:
                yield from islice(bucket, low, bisect_left(bucket, stop))
                return
            yield from islice(bucket, low, None)
            at += 1
            if at == len(self._lows) or self._lows[at] >= stop:
                return
            at = self._visit(self._lows[at])
            low = 0

    def between_reversed(self, start: bytes, stop: bytes) -> Iterator[bytes]:
        """Yield the keys k with start <= k < stop, descending. Nothing may change meanwhile."""
        while True:
            at = self._visit(stop, below=True)
            bucket = self._buckets[at]
            yield from reversed(bucket[bisect_left(bucket, start) : bisect_left(bucket, stop)])
            stop = self._lows[at]
            if stop <= start:
                return

    def _visit(self, key: bytes, *, below: bool = False) -> int:
        """Return the place of the bucket for `key` (or for what is just below it), sorted."""
        lows, buckets, dirty, load = self._lows, self._buckets, self._dirty, self.LOAD
        find = bisect_left if below else bisect_right
        while True:
            at = max(0, find(lows, key) - 1)
            bucket = buckets[at]
            if not dirty[at]:
                return at
            if len(bucket) > 4 * load:
                pivot = sorted(bucket[:: len(bucket) // 15])[8]
                parts = [[k for k in bucket if k < pivot], [k for k in bucket if k >= pivot]]
                bounds = [pivot]
            else:
                bucket.sort()
                parts = [bucket]
                if len(bucket) > 2 * load:
                    parts = [bucket[i : i + load] for i in range(0, len(bucket), load)]
                bounds = [part[0] for part in parts[1:]]
            buckets[at : at + 1] = parts
            dirty[at : at + 1] = [len(bucket) > 4 * load] * len(parts)
            lows[at + 1 : at + 1] = bounds

    def check(self) -> None:
        """Raise AssertionError if the buckets break their rule (for tests)."""
        assert len(self._lows) == len(self._buckets) == len(self._dirty)
        assert self._lows == sorted(self._lows)
        for at, bucket in enumerate(self._buckets):
            below = self._lows[at + 1] if at + 1 < len(self._lows) else None
            for key in bucket:
                assert self._lows[at] <= key
                assert below is None or key < below
            assert self._dirty[at] or bucket == sorted(bucket)


GROUP_WIDTH = {ord("m"): 5, ord("e"): 9}
"""Length of the prefix that names a row's group: namespace, collection id; else the family."""


class FamilyIndex:
    """The overlay's row keys of one family (first byte), in order within each group.

    Holds at least the keys that some layer holds; a key that has left every layer may linger.
    Staging is not hooked: sealed frames are handed over as whole dicts, and folded in when
    somebody ranges.
    """

    def __init__(self, family: int) -> None:
        self.family = family
        self.used = True  # Since the last aging.
        self._width = GROUP_WIDTH.get(family, 1)
        self._known: set[bytes] = set()
        self._groups: dict[bytes, SortedKeys] = {}
        self._pending: list[Mapping[bytes, bytes]] = []
        self.pending_rows = 0
        self._open: Mapping[bytes, bytes] = {}
        self._folded = 0  # How many rows of `_open` are folded in already.

    def __len__(self) -> int:
        return len(self._known)

    def seal(self, rows: Mapping[bytes, bytes]) -> None:
        """Remember rows that were staged since the last fold. O(1)."""
        self._pending.append(rows)
        self.pending_rows += len(rows)

    def fold(self, open_rows: dict[bytes, bytes]) -> None:
        """Fold in what was sealed and what is being staged. O(new rows)."""
        for rows in self._pending:
            self._add(rows)
        self._pending.clear()
        self.pending_rows = 0
        if open_rows is not self._open or len(open_rows) < self._folded:
            self._open, self._folded = open_rows, 0
        fresh = len(open_rows) - self._folded
        if fresh:
            self._add(islice(reversed(open_rows), fresh))
            self._folded = len(open_rows)

    def groups(self, start: bytes, stop: bytes) -> list[SortedKeys]:
        """Return the groups that can hold keys between start and stop, ascending."""
        width, groups = self._width, self._groups
        low, high = start[:width], stop[:width]
        if low == high:
            return [groups[low]] if low in groups else []
        found = sorted(prefix for prefix in groups if low <= prefix <= high and prefix < stop)
        return [groups[prefix] for prefix in found]

    def discard(self, keys: Iterable[bytes]) -> None:
        """Forget keys that have left every layer. About 0.5 µs each."""
        known, width = self._known, self._width
        for key in keys:
            if key in known:
                known.remove(key)
                self._groups[key[:width]].discard(key)

    def _add(self, rows: Iterable[bytes]) -> None:
        family, known, width = self.family, self._known, self._width
        new = [key for key in rows if key[0] == family and key not in known]
        if not new:
            return
        known.update(new)
        grouped: dict[bytes, list[bytes]] = defaultdict(list)
        prefix = min(new)[:width]
        if max(new).startswith(prefix):  # The common case, and twice as fast.
            grouped[prefix] = new
        else:
            for key in new:
                grouped[key[:width]].append(key)
        for prefix, keys in grouped.items():
            group = self._groups.get(prefix)
            if group is None:
                self._groups[prefix] = SortedKeys(keys)
            else:
                group.add(keys)
