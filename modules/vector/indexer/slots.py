"""What is known of each slot of a generation, but for its vector: arrays, no object per slot.

Slots are numbered from 0 as vectors come, so labels ascend with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Slots = npt.NDArray[np.int64]

_SMALLEST = 1024


class SlotTable:
    """Labels, ids, norms, and which slots are alive."""

    def __init__(self) -> None:
        self.count = 0
        self.alive_count = 0
        self._labels: npt.NDArray[np.uint64] = np.empty(_SMALLEST, np.uint64)
        self._alive: npt.NDArray[np.bool_] = np.empty(_SMALLEST, np.bool_)
        #: NaN where float32 arithmetic cannot be trusted with the vector.
        self._norms: npt.NDArray[np.float32] = np.empty(_SMALLEST, np.float32)
        #: Where the id of a slot starts in `_ids`; one more says where the last one ends.
        self._starts: npt.NDArray[np.uint64] = np.zeros(_SMALLEST + 1, np.uint64)
        self._ids = bytearray()

    @property
    def labels(self) -> npt.NDArray[np.uint64]:
        """The label of each slot."""
        return self._labels[: self.count]

    @property
    def alive(self) -> npt.NDArray[np.bool_]:
        """Whether a slot is alive."""
        return self._alive[: self.count]

    @property
    def norms(self) -> npt.NDArray[np.float32]:
        """The length of each vector."""
        return self._norms[: self.count]

    @property
    def last_label(self) -> int:
        """The highest label, 0 if there is none."""
        return int(self._labels[self.count - 1]) if self.count else 0

    def append(self, labels: Sequence[int], ids: Sequence[bytes], norms: npt.NDArray[Any]) -> None:
        """Put labels above all others, alive, behind the last slot."""
        start, end = self.count, self.count + len(labels)
        if end > len(self._labels):
            self._grow(end)
        self._labels[start:end] = labels
        self._alive[start:end] = True
        self._norms[start:end] = norms
        lengths = np.fromiter(map(len, ids), np.uint64, len(ids))
        self._starts[start + 1 : end + 1] = np.cumsum(lengths) + np.uint64(len(self._ids))
        self._ids += b"".join(ids)
        self.count = end
        self.alive_count += len(labels)

    def find(self, labels: Sequence[int]) -> Slots:
        """The slot of each label, -1 where there is none. O(labels * log slots)."""
        wanted = np.array(labels, np.uint64)
        at = np.searchsorted(self.labels, wanted)
        inside = at < self.count
        found = np.full(len(wanted), -1, np.int64)
        hit = np.flatnonzero(inside)
        hit = hit[self._labels[at[hit]] == wanted[hit]]
        found[hit] = at[hit]
        return found

    def kill(self, slots: Slots) -> Slots:
        """Mark slots dead; those that were alive."""
        slots = np.unique(slots[self._alive[slots]])
        self._alive[slots] = False
        self.alive_count -= len(slots)
        return slots

    def revive(self, slots: Slots) -> Slots:
        """Mark slots alive; those that were dead."""
        slots = np.unique(slots[~self._alive[slots]])
        self._alive[slots] = True
        self.alive_count += len(slots)
        return slots

    def ids(self, slots: Slots) -> list[bytes]:
        """The id of each slot."""
        starts = self._starts[slots].tolist()
        ends = self._starts[slots + 1].tolist()
        with memoryview(self._ids) as ids:
            return [bytes(ids[start:end]) for start, end in zip(starts, ends, strict=True)]

    def sections(self, count: int) -> list[bytes]:
        """The first `count` slots as bytes: labels, alive, norms, starts of ids, ids."""
        starts = self._starts[: count + 1]
        arrays = (self._labels[:count], self._alive[:count], self._norms[:count], starts)
        return [*(each.tobytes() for each in arrays), bytes(self._ids[: int(starts[-1])])]

    @classmethod
    def from_sections(cls, count: int, sections: Sequence[memoryview]) -> SlotTable:
        """What `sections` was made of; ValueError if they do not fit each other."""
        table = cls()
        labels, alive, norms, starts, ids = sections
        table._labels = np.frombuffer(labels, np.uint64).copy()
        table._alive = np.frombuffer(alive, np.bool_).copy()
        table._norms = np.frombuffer(norms, np.float32).copy()
        table._starts = np.frombuffer(starts, np.uint64).copy()
        table._ids = bytearray(ids)
        lengths = {len(table._labels), len(table._alive), len(table._norms), len(table._starts) - 1}
        if lengths != {count}:
            raise ValueError("the tables differ in length")
        table.count = count
        table.alive_count = int(np.count_nonzero(table._alive))
        return table

    def check(self) -> None:
        """Every invariant, for tests."""
        labels = self.labels
        assert np.all(labels[1:] > labels[:-1])
        assert self.alive_count == np.count_nonzero(self.alive)
        starts = self._starts[: self.count + 1]
        assert np.all(starts[1:] >= starts[:-1])
        assert int(starts[0]) == 0 and int(starts[-1]) == len(self._ids)

    def _grow(self, least: int) -> None:
        # What lies behind the slots in use is never touched, so it takes no memory yet.
        size = max(least, len(self._labels) * 3 // 2)
        self._labels = _larger(self._labels, self.count, size)
        self._alive = _larger(self._alive, self.count, size)
        self._norms = _larger(self._norms, self.count, size)
        self._starts = _larger(self._starts, self.count + 1, size + 1)


def _larger(array: npt.NDArray[Any], used: int, size: int) -> npt.NDArray[Any]:
    larger: npt.NDArray[Any] = np.empty(size, array.dtype)
    larger[:used] = array[:used]
    return larger
