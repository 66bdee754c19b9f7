"""The attributes of many elements as columns, so that a filter is a few operations on arrays.

An `AttributeTable` keeps the JSON texts packed in one buffer. A field that a filter names becomes
a column when it is first needed. Columns follow later changes; the ones that were used longest
ago go when they take too much memory, and are built again when a filter asks.

The mask of a filter says for every slot what `Filter.matches` says of its text.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np

from .attributes import Path, read
from .column import SMALLEST, Column, Mask, grown
from .filters import Filter
from .masks import evaluate

#: What columns may take together, bytes, before the ones used longest ago are dropped.
COLUMN_BYTES = 256 << 20

#: Masks that are kept while nothing changes.
KEPT_MASKS = 8

#: Rows that are added to a column between two looks at the clock.
_ROWS_AT_ONCE = 512


class AttributeTable:
    """The attributes of the elements of one vector set, by slot; slots begin at 0."""

    def __init__(self, column_bytes: int = COLUMN_BYTES) -> None:
        self._column_bytes = column_bytes
        self._texts = bytearray()
        self._starts = np.zeros(SMALLEST, np.int64)
        #: The length of a slot's text, -1 without one.
        self._lengths = np.full(SMALLEST, -1, np.int32)
        self._garbage = 0
        #: In the order of their last use.
        self._columns: dict[Path, Column] = {}
        #: What filters gave since the last change, by text.
        self._masks: dict[bytes, Mask] = {}

    def put(self, slot: int, attributes: bytes | None) -> None:
        """Set the JSON text of a slot; None: the element has none. O(columns + n)."""
        if slot >= len(self._lengths):
            self._reserve(slot + 1)
        if attributes is None and self._lengths[slot] < 0:
            return
        self._masks.clear()
        self._forget(slot)
        if attributes is None:
            self._clear(slot)
            return
        self._starts[slot] = len(self._texts)
        self._lengths[slot] = len(attributes)
        self._texts += attributes
        columns = [column for column in self._columns.values() if slot < column.built]
        if columns:
            document = read(attributes)
            for column in columns:
                column.set(slot, document)

    def remove(self, slot: int) -> None:
        """The element in this slot is gone."""
        self.put(slot, None)

    def get(self, slot: int) -> bytes | None:
        """The JSON text of a slot, None without one."""
        if slot >= len(self._lengths) or self._lengths[slot] < 0:
            return None
        return self._text(slot)

    @property
    def memory(self) -> int:
        """About what all of it takes in memory."""
        columns = sum(column.memory for column in self._columns.values())
        masks = sum(mask.nbytes for mask in self._masks.values())
        texts = len(self._texts) + self._starts.nbytes + self._lengths.nbytes
        return texts + columns + masks

    def prepare(self, wanted: Filter, seconds: float) -> bool:
        """Work for about *seconds* on the columns that a filter needs; whether all are there.

        `mask` builds what is missing without a pause, about 4 µs for each element: who has
        other things to do meanwhile calls this until it is True.
        """
        return self._build(self._wanted(wanted), time.monotonic() + seconds)

    def mask(self, wanted: Filter, slots: int) -> Mask:
        """For each slot below *slots* whether it matches. Not to be written to.

        O(1) while nothing changes, for the filters that were asked for last.
        """
        mask = self._masks.get(wanted.text)
        if mask is None or len(mask) != slots:
            mask = self._evaluated(wanted, slots)
            mask.flags.writeable = False
            if len(self._masks) == KEPT_MASKS:
                del self._masks[next(iter(self._masks))]
            self._masks[wanted.text] = mask
        return mask

    def _evaluated(self, wanted: Filter, slots: int) -> Mask:
        columns = {column.path: column for column in self._wanted(wanted)}
        self._build(columns.values(), None)
        result = np.zeros(slots, np.bool_)
        known = min(slots, len(self._lengths))
        if known:
            result[:known] = self._lengths[:known] >= 0
            evaluate(wanted, columns, result[:known])
        self._drop_columns(keep=columns)
        return result

    # -- columns

    def _wanted(self, wanted: Filter) -> list[Column]:
        """The columns of a filter's fields, which so become the last used ones."""
        columns = []
        for path in wanted.paths:
            column = self._columns.pop(path, None)
            # One that keeps more former values than there are rows starts afresh.
            if column is None or column.kept > 2 * len(self._lengths) + SMALLEST:
                column = Column(path, len(self._lengths))
            self._columns[path] = column
            columns.append(column)
        return columns

    def _build(self, columns: Iterable[Column], deadline: float | None) -> bool:
        """Add rows until all are in (True) or the deadline has passed."""
        total = len(self._lengths)
        while behind := [column for column in columns if column.built < total]:
            start = min(column.built for column in behind)
            group = [column for column in behind if column.built == start]
            ends = [column.built for column in behind if column.built > start]
            end = min(start + _ROWS_AT_ONCE, total, *ends)
            for slot in (np.flatnonzero(self._lengths[start:end] >= 0) + start).tolist():
                document = read(self._text(slot))
                for column in group:
                    column.set(slot, document)
            for column in group:
                column.built = end
            if deadline is not None and time.monotonic() > deadline:
                return all(column.built == total for column in columns)
        return True

    def _drop_columns(self, keep: dict[Path, Column]) -> None:
        """Free the columns used longest ago while all take too much; *keep* stays."""
        total = sum(column.memory for column in self._columns.values())
        for path in list(self._columns):
            if total <= self._column_bytes:
                return
            if path not in keep:
                total -= self._columns.pop(path).memory

    def _clear(self, slot: int) -> None:
        for column in self._columns.values():
            column.clear(slot)

    # -- texts

    def _text(self, slot: int) -> bytes:
        start = int(self._starts[slot])
        with memoryview(self._texts) as texts:
            return bytes(texts[start : start + int(self._lengths[slot])])

    def _reserve(self, slots: int) -> None:
        old = len(self._lengths)
        self._starts = grown(self._starts, slots)
        self._lengths = grown(self._lengths, slots)
        self._lengths[old:] = -1
        for column in self._columns.values():
            if column.built == old:  # there is nothing in the new slots yet
                column.built = len(self._lengths)
            column.reserve(len(self._lengths))

    def _forget(self, slot: int) -> None:
        """Give up a slot's text; the buffer is packed again when half of it is unused."""
        if self._lengths[slot] < 0:
            return
        self._garbage += int(self._lengths[slot])
        self._lengths[slot] = -1
        if self._garbage * 2 > len(self._texts) and self._garbage > 1 << 16:
            self._pack()

    def _pack(self) -> None:
        packed = bytearray()
        for slot in np.flatnonzero(self._lengths >= 0).tolist():
            text = self._text(slot)
            self._starts[slot] = len(packed)
            packed += text
        self._texts = packed
        self._garbage = 0
