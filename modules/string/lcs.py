"""The longest common subsequence of two strings, bit-parallel on Python's integers.

The table of the textbook algorithm has one cell for each pair of positions.
Neighbouring cells differ by 0 or 1, so one row of it is one integer with a bit
per column, and a row follows from the one before in five operations on whole
integers (Hyyrö 2004). The walk back through the table then needs one row at a
time and makes one step per row. Rows belong to the shorter string. Time is
O(n * m / 30) machine operations, memory n * m bits: the 512 MB of table that
Redis allows at most are 16 MB here.

Where several subsequences are longest, the walk chooses as Redis does.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

#: Redis holds a cell in four bytes.
CELL = 4


class Match(NamedTuple):
    """A common run: both ends inclusive, from 0."""

    a_start: int
    a_end: int
    b_start: int
    b_end: int

    @property
    def length(self) -> int:
        """Its number of bytes."""
        return self.a_end - self.a_start + 1


def table_bytes(a: bytes, b: bytes) -> int:
    """What Redis would allocate for these strings."""
    return (len(a) + 1) * (len(b) + 1) * CELL


def length(a: bytes, b: bytes) -> int:
    """The length of the longest common subsequence. O(len(b)) memory."""
    if len(a) > len(b):
        a, b = b, a
    masks = _masks(a, b)
    everything = (1 << len(b)) - 1
    row = everything
    for letter in a:
        hits = row & masks[letter]
        row = ((row + hits) | (row - hits)) & everything
    return len(b) - row.bit_count()


def pairs(a: bytes, b: bytes) -> Iterator[tuple[int, int]]:
    """The positions in *a* and *b* of each byte of the subsequence, last one first."""
    return _pairs_by_a(a, b) if len(a) <= len(b) else _pairs_by_b(a, b)


def _masks(short: bytes, long: bytes) -> dict[int, int]:
    """For each byte of *short*, the positions in *long* where it stands, as bits."""
    masks = {}
    backwards = long[::-1]
    for letter in set(short):
        table = bytearray(b"0" * 256)
        table[letter] = ord("1")
        masks[letter] = int(backwards.translate(table) or b"0", 2)
    return masks


def _pairs_by_a(a: bytes, b: bytes) -> Iterator[tuple[int, int]]:
    masks = _masks(a, b)
    everything = (1 << len(b)) - 1
    row = everything
    #: Bit j of row i says that cell (i, j + 1) is greater than its left neighbour.
    rows = []
    for letter in a:
        hits = row & masks[letter]
        row = ((row + hits) | (row - hits)) & everything
        rows.append(everything ^ row)
    j = len(b)
    for i in range(len(a) - 1, -1, -1):
        if not j:
            return
        step = (rows.pop() & ((1 << j) - 1)).bit_length()
        match = b.rfind(a[i], 0, j) + 1
        if match and match >= step:
            yield i, match - 1
            j = match - 1
        else:
            j = step


def _pairs_by_b(a: bytes, b: bytes) -> Iterator[tuple[int, int]]:
    masks = _masks(b, a)
    everything = (1 << len(a)) - 1
    row = everything
    #: Bit i of row j says that cell (i + 1, j) equals its left neighbour.
    rows = []
    for letter in b:
        hits = row & masks[letter]
        total = row + hits
        # The carry out of a position is the difference of its cell to the left neighbour.
        rows.append(everything & ~((total ^ row ^ hits) >> 1))
        row = (total | (row - hits)) & everything
    i = len(a)
    for j in range(len(b) - 1, -1, -1):
        if not i:
            return
        step = (rows.pop() & ((1 << i) - 1)).bit_length()
        match = a.rfind(b[j], 0, i) + 1
        if match and match >= step:
            yield match - 1, j
            i = match - 1
        else:
            i = step


def matches(a: bytes, b: bytes) -> Iterator[Match]:
    """The runs of the subsequence, last one first."""
    run: Match | None = None
    for i, j in pairs(a, b):
        if run is not None and run.a_start == i + 1 and run.b_start == j + 1:
            run = Match(i, run.a_end, j, run.b_end)
            continue
        if run is not None:
            yield run
        run = Match(i, i, j, j)
    if run is not None:
        yield run


def subsequence(a: bytes, b: bytes) -> bytes:
    """The longest common subsequence itself."""
    return bytes(a[i] for i, _ in pairs(a, b))[::-1]
