"""The overlay's row keys in order, and range reads that merge them with LevelDB's rows.

Kept for the families (first byte of the row key) that somebody ranges over, built when that
happens first. Staging is not hooked; sealed frames are handed over as whole dicts.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import itemgetter

IDLE = 600
"""Ticks after which the keys of a family that nobody ranges over are dropped."""

MAX_PENDING = 50_000
"""Rows that may wait to be folded in between two ranges."""

Rows = dict[bytes, bytes]

_family_of = itemgetter(0)


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


class OverlayKeys:
    """The indexes of all families that are in use."""

    def __init__(self) -> None:
        self._families: dict[int, FamilyIndex] = {}
        self._age = 0

    def between(
        self, start: bytes, stop: bytes, reverse: bool, layers: list[Rows]
    ) -> Iterator[bytes] | None:
        """Return the row keys of `layers` in the range, in order; None when there are none.

        The first of `layers` is the open one. Keys that no layer holds may be among them.
        """
        groups: list[SortedKeys] = []
        for family in _families(start, stop, layers):
            index = self._families.get(family)
            if index is None:
                index = self._families[family] = FamilyIndex(family)
                for layer in layers[1:]:
                    index.seal(layer)
            index.used = True
            index.fold(layers[0])
            groups += index.groups(start, stop)
        if not groups:
            return None
        if reverse:
            groups.reverse()
            return (key for group in groups for key in group.between_reversed(start, stop))
        return (key for group in groups for key in group.between(start, stop))

    def seal(self, rows: Rows) -> None:
        """Take note of a sealed frame. About 0.03 µs a row, while any family is in use."""
        if not self._families:
            return
        present = bytes(map(_family_of, rows))
        for family, index in self._families.items():
            if family in present:
                index.seal(rows)

    def discard(self, rows: list[bytes], layers: list[Rows]) -> None:
        """Forget those of `rows` that no layer holds any more."""
        if not self._families:
            return
        present = bytes(map(_family_of, rows))
        for family, index in self._families.items():
            if family in present:
                index.discard(
                    row
                    for row in rows
                    if row[0] == family and not any(row in layer for layer in layers)
                )

    def clear(self) -> None:
        """Forget everything; the next range builds anew."""
        self._families.clear()

    def age(self) -> None:
        """Drop what nobody uses, before what it remembers grows large; at every tick."""
        self._age += 1
        aged = self._age >= IDLE
        for family, index in list(self._families.items()):
            if index.pending_rows > MAX_PENDING or (aged and not index.used):
                del self._families[family]
            elif aged:
                index.used = False
        if aged:
            self._age = 0


def _families(start: bytes, stop: bytes, layers: list[Rows]) -> Iterable[int]:
    """Return the first bytes that rows between start and stop can have, ascending."""
    first = start[0] if start else 0
    last = stop[0] if len(stop) > 1 else stop[0] - 1
    if last - first < 4:
        return range(first, last + 1)
    found = {row[0] for layer in layers for row in layer}
    return sorted(family for family in found if first <= family <= last)


def merged(
    keys: Iterator[bytes],
    rows: Iterator[tuple[bytes, bytes]],
    layers: list[Rows],
    reverse: bool,
    limit: int | None,
) -> list[tuple[bytes, bytes]]:
    """Merge the overlay's `keys` with LevelDB's `rows`, both in order; at most `limit` rows."""
    out: list[tuple[bytes, bytes]] = []
    wanted = -1 if limit is None else limit

    def newest(row: bytes) -> bytes | None:
        for layer in layers:
            value = layer.get(row)
            if value is not None:
                return value
        return None

    key = next(keys, None)
    for row, below in rows:
        while key is not None and (key > row if reverse else key < row):
            if value := newest(key):
                out.append((key, value))
                if len(out) == wanted:
                    return out
            key = next(keys, None)
        stored: bytes | None = below
        if key == row:
            above = newest(row)
            if above is not None:
                stored = above
            key = next(keys, None)
        if stored:
            out.append((row, stored))
            if len(out) == wanted:
                return out
    while key is not None:
        if value := newest(key):
            out.append((key, value))
            if len(out) == wanted:
                return out
        key = next(keys, None)
    return out
