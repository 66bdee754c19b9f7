"""Small sets, searched where they are asked for: vectors of a set as one matrix, in memory.

A set is read from its rows when it is first searched and then follows the changes. What was not
searched for longest goes when all together take too much; a failed commit empties the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from . import exact
from .arrays import FLOAT, floats, np
from .columns import AttributeTable
from .queries import Hit, Query
from .rows import read_attributes, read_vectors

if TYPE_CHECKING:
    from norikv_resp.elements import Elements

    from .arrays import Floats, Places

PAGE = 256
"""Rows that one read fetches."""

SMALLEST = 4
"""Elements that a new set has room for; it doubles."""

ELEMENT_COST = 250
"""Bytes that an element takes beside its vector and its id."""


class SmallSet:
    """The elements of one set; element i of each array and list belongs to slot i."""

    def __init__(self, metric: int, dimensions: int) -> None:
        self.metric = metric
        self.dimensions = dimensions
        self._matrix: Floats = np.empty((SMALLEST, dimensions), FLOAT)
        self._labels = np.empty(SMALLEST, np.uint64)
        self._lengths: Floats = np.empty(SMALLEST, np.float32)
        #: Slots below it have a length.
        self._measured = 0
        self._ids: list[bytes] = []
        self._slots: dict[int, int] = {}
        self._id_bytes = 0
        #: None until a filter asks for it.
        self._attributes: AttributeTable | None = None

    @classmethod
    def load(cls, elements: Elements, metric: int, dimensions: int) -> SmallSet:
        """Read a set from its rows. O(elements)."""
        loaded = cls(metric, dimensions)
        first = 1
        while (block := read_vectors(elements, first, dimensions, PAGE)).labels:
            matrix = floats(block.vectors).reshape(len(block.labels), dimensions)
            for label, ident, vector in zip(block.labels, block.ids, matrix, strict=True):
                loaded.add(label, ident, vector, None)
            first = block.labels[-1] + 1
        return loaded

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def size(self) -> int:
        """What the set takes in memory, about."""
        table = self._attributes.memory if self._attributes is not None else 0
        return self._matrix.nbytes + self._id_bytes + ELEMENT_COST * len(self._labels) + table

    # ---- changes

    def add(self, label: int, ident: bytes, vector: Floats, attributes: bytes | None) -> None:
        """Take an element with a new label."""
        slot = len(self._ids)
        if slot == len(self._labels):
            self._grow()
        self._matrix[slot] = vector
        self._labels[slot] = label
        self._ids.append(ident)
        self._id_bytes += len(ident)
        self._slots[label] = slot
        if self._attributes is not None:
            self._attributes.put(slot, attributes)

    def _grow(self) -> None:
        capacity = 2 * len(self._labels)
        for name in ("_matrix", "_labels", "_lengths"):
            old = getattr(self, name)
            new = np.empty((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def remove(self, label: int) -> None:
        """Forget an element; the last one takes its slot."""
        slot = self._slots.pop(label, None)
        if slot is None:
            return
        self._id_bytes -= len(self._ids[slot])
        last = len(self._ids) - 1
        moved = self._ids.pop()
        table = self._attributes
        if slot != last:
            self._matrix[slot] = self._matrix[last]
            self._labels[slot] = self._labels[last]
            self._ids[slot] = moved
            self._slots[int(self._labels[last])] = slot
            if table is not None:
                table.put(slot, table.get(last))
        if table is not None:
            table.remove(last)
        self._measured = min(self._measured, slot)

    def set_attributes(self, label: int, attributes: bytes | None) -> None:
        """Take other attributes of an element."""
        if self._attributes is not None and label in self._slots:
            self._attributes.put(self._slots[label], attributes)

    # ---- searching

    def search(self, query: Query, elements: Elements) -> list[Hit]:
        """The nearest elements. O(elements)."""
        count = len(self._ids)
        if not count:
            return []
        matrix, labels = self._matrix[:count], self._labels[:count]
        lengths = self._measure(count)
        slots: Places | None = None
        if query.filter is not None:
            slots = np.flatnonzero(self._table(elements).mask(query.filter, count))
            matrix, labels, lengths = matrix[slots], labels[slots], lengths[slots]
        found = exact.nearest(
            self.metric, matrix, labels, query.vector, query.count, query.radius, lengths=lengths
        )
        ids = self._ids
        return [
            Hit(int(labels[row]), ids[row if slots is None else int(slots[row])], distance)
            for distance, row in found
        ]

    def _measure(self, count: int) -> Floats:
        if self._measured < count:
            fresh = slice(self._measured, count)
            self._lengths[fresh] = exact.norms(self._matrix[fresh])
            self._measured = count
        return self._lengths[:count]

    def _table(self, elements: Elements) -> AttributeTable:
        table = self._attributes
        if table is None:
            table = self._attributes = AttributeTable()
            for label, text in read_attributes(elements, 1):
                if label in self._slots:
                    table.put(self._slots[label], text)
        return table


class SmallSets:
    """The small sets that were searched lately, by collection id, within a bound in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._sets: OrderedDict[int, SmallSet] = OrderedDict()
        #: What each took when it was last searched, and all together.
        self._sizes: dict[int, int] = {}
        self.size = 0
        self.searches = 0

    def __len__(self) -> int:
        return len(self._sets)

    def get(self, cid: int) -> SmallSet | None:
        """A set that is held, to tell it of a change."""
        return self._sets.get(cid)

    def search(
        self, elements: Elements, cid: int, metric: int, dimensions: int, query: Query
    ) -> list[Hit]:
        """Search a set, which is read first if need be."""
        self.searches += 1
        held = self._sets.get(cid)
        if held is None:
            held = self._sets[cid] = SmallSet.load(elements, metric, dimensions)
        self._sets.move_to_end(cid)
        hits = held.search(query, elements)
        size = held.size
        self.size += size - self._sizes.get(cid, 0)
        self._sizes[cid] = size
        while self.size > self.limit and self._sets:
            self.drop(next(iter(self._sets)))
        return hits

    def drop(self, cid: int) -> None:
        """Forget a set."""
        if self._sets.pop(cid, None) is not None:
            self.size -= self._sizes.pop(cid)

    def clear(self) -> None:
        """Forget all."""
        self._sets.clear()
        self._sizes.clear()
        self.size = 0
