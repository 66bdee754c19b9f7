"""One generation of a set: its vectors and what searches them.

The slots fall into three parts, apart from dead ones: those in the graph; *outside* ones, which
the graph cannot hold or had lost when they came alive again; and the *pending* ones, all slots from
`graphed` on, which wait to be added to the graph. The last two parts are searched exactly, so what
has been appended is found at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from norikv_resp.vector_rows import FLAT

from ..columns import AttributeTable
from .graph import Graph
from .messages import Definition
from .ranking import row_norms
from .slots import Slots, SlotTable
from .vectorfile import Matrix, VectorFile

NO_SLOTS: Slots = np.empty(0, np.int64)


class UnexpectedLabelError(Exception):
    """A label came that is neither new nor known: what is kept is not what the server thinks."""


class Generation:
    """Vectors under slots, attributes, a graph unless the set is flat."""

    def __init__(self, definition: Definition, number: int, file: VectorFile) -> None:
        self.definition = definition
        self.number = number
        self.file = file
        self.table = SlotTable()
        self.graph = None if definition.kind == FLAT else Graph(definition)
        #: Slots below it have been offered to the graph.
        self.graphed = 0
        self.outside = NO_SLOTS
        self.attributes = AttributeTable()
        #: Counts changes of attributes.
        self.attributes_version = 0

    @classmethod
    def create(cls, definition: Definition, number: int, path: Path) -> Generation:
        """An empty generation with a new file. Raises OSError."""
        return cls(definition, number, VectorFile(path, definition.dimensions, create=True))

    @property
    def pending(self) -> int:
        """Slots that wait to be added, dead ones included. 0 for a flat set."""
        return self.table.count - self.graphed if self.graph is not None else 0

    @property
    def dead(self) -> int:
        """Slots that only take room."""
        return self.table.count - self.table.alive_count

    # -- changes

    def append(self, labels: Sequence[int], ids: Sequence[bytes], rows: Matrix) -> None:
        """Add vectors under ascending labels above all others; a known one comes alive again."""
        known = [n for n, label in enumerate(labels) if label <= self.table.last_label]
        if known:
            self.revive([labels[n] for n in known])
            first = len(known)  # labels ascend, so the known ones come first
            labels, ids, rows = labels[first:], ids[first:], rows[first:]
        if not labels:
            return
        if any(low >= high for low, high in pairwise(labels)):
            raise UnexpectedLabelError("labels that do not ascend")
        self.file.write(self.table.count, rows)
        self.table.append(labels, ids, row_norms(rows))

    def remove(self, labels: Sequence[int]) -> None:
        """Forget labels; unknown ones are ignored."""
        slots = self.table.find(labels)
        slots = self.table.kill(slots[slots >= 0])
        self.outside = np.setdiff1d(self.outside, slots, assume_unique=True)
        if self.graph is not None:
            self.graph.remove(slots[slots < self.graphed])
        for slot in slots.tolist():
            self.set_attributes(slot, None)

    def revive(self, labels: Sequence[int]) -> None:
        """Take back a `remove`; UnexpectedLabelError for a label that has no slot."""
        slots = self.table.find(labels)
        if (slots < 0).any():
            raise UnexpectedLabelError(f"label {labels[int(np.argmin(slots))]} is not known")
        slots = self.table.revive(slots)
        if self.graph is not None:
            self.outside = np.union1d(self.outside, slots[slots < self.graphed])

    def set_attributes(self, slot: int, text: bytes | None) -> None:
        """Set or take away the attributes of a slot."""
        if text is None and self.attributes.get(slot) is None:
            return
        self.attributes.put(slot, text)
        self.attributes_version += 1

    # -- the graph

    def advance(self, limit: int) -> int:
        """Offer up to `limit` pending vectors to the graph; how many that were.

        Dead slots on the way are passed over.
        """
        if self.graph is None or not self.pending:
            return 0
        start = self.graphed
        waiting = np.flatnonzero(self.table.alive[start : start + 64 * limit])[:limit] + start
        if len(waiting) < limit:
            self.graphed = min(start + 64 * limit, self.table.count)
        else:
            self.graphed = int(waiting[-1]) + 1
        self._offer(waiting)
        return len(waiting)

    def _offer(self, slots: Slots) -> None:
        if self.graph is None or not len(slots):
            return
        rows = self.file.rows[slots]
        fit = self.graph.accepts(rows, self.table.norms[slots])
        if fit.all():
            self.graph.add(slots, rows)
            return
        self.outside = np.union1d(self.outside, slots[~fit])
        if fit.any():
            self.graph.add(slots[fit], rows[fit])

    # -- its end

    def close(self) -> None:
        """Free memory, keep the file."""
        self.file.close()

    def check(self) -> None:
        """Every invariant, for tests."""
        self.table.check()
        assert self.graphed <= self.table.count <= len(self.file.rows)
        assert self.table.alive[self.outside].all()
        if self.graph is not None:
            assert (self.outside < self.graphed).all()
            graphed = int(np.count_nonzero(self.table.alive[: self.graphed]))
            assert len(self.graph) == graphed - len(self.outside)
