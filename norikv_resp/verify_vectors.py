"""Verifying vector sets: each row against the grammar, ids against vectors, the counts."""

from __future__ import annotations

from collections.abc import Callable

from norikv_resp.check_report import Report, name_of
from norikv_resp.encoding import PRESENT, Collection, CorruptRecord, element_prefix
from norikv_resp.vector_rows import (
    ATTRIBUTES,
    FLOAT_SIZE,
    MEMBER,
    PROJECTION,
    VECTOR,
    attributes_row,
    decode_extra,
    decode_label,
    encode_extra,
    encode_label,
    label_of_row,
    member_row,
    projection_row,
    split_vector,
    vector_row,
)

#: Reads a row as the repairs so far leave it.
Get = Callable[[bytes], "bytes | None"]


class VectorReader:
    """Follows the rows of one vector set, in the order of their keys: ids, matrix, attributes,
    vectors. What belongs together is looked up: memory does not grow with the set.
    """

    def __init__(self, collection: Collection, get: Get, report: Report) -> None:
        self.cid = collection.cid
        self._collection = collection
        self._definition, self._next_label, self._attributed = decode_extra(collection.extra)
        self._prefix = element_prefix(collection.cid)
        self._get = get
        self._report = report
        self._members = self._texts = self._lines = self._highest = 0
        self._takes = {
            MEMBER: self._member,
            PROJECTION: self._line,
            ATTRIBUTES: self._text,
            VECTOR: self._vector,
        }

    def take(self, row: bytes, value: bytes) -> None:
        """The next row of the collection."""
        element = row[len(self._prefix) :]
        take = self._takes.get(element[:1])
        if take is None:
            self._report.damage("unknown row", name_of(row))
            self._report.give_up(row, value)
            return
        try:
            take(row, element, value)
        except CorruptRecord as error:
            self._report.damage("malformed row", f"{name_of(row)}: {error}")
            self._report.give_up(row, value)

    def _element(self, element: bytes) -> bytes | None:
        return self._get(self._prefix + element)

    def _member(self, row: bytes, element: bytes, value: bytes) -> None:
        label = decode_label(value)
        vector = self._element(vector_row(label))
        if vector is not None and vector != PRESENT:
            _, ident = split_vector(vector, self._definition.dimensions)
            if member_row(ident) != element:
                vector = None
        if vector is None:
            self._report.damage("element without a vector", f"{name_of(row)} names label {label}")
            self._report.give_up(row, value)
            return
        self._members += 1
        self._highest = max(self._highest, label)

    def _line(self, row: bytes, element: bytes, value: bytes) -> None:
        definition = self._definition
        number = int.from_bytes(element[1:], "big")
        if len(element) != 5 or number >= definition.dimensions or not definition.projected_from:
            raise CorruptRecord("of no projection")
        if len(value) != FLOAT_SIZE * definition.projected_from:
            raise CorruptRecord(f"a matrix row of {len(value)} bytes")
        self._lines += 1

    def _text(self, row: bytes, element: bytes, value: bytes) -> None:
        label = label_of_row(element)
        if value[:1] != PRESENT:
            raise CorruptRecord("its value is malformed")
        if self._element(vector_row(label)) is None:
            self._report.damage("attributes without a vector", name_of(row))
            self._report.give_up(row, value)
            return
        self._texts += 1

    def _vector(self, row: bytes, element: bytes, value: bytes) -> None:
        label = label_of_row(element)
        _, ident = split_vector(value, self._definition.dimensions)
        named = self._element(member_row(ident))
        if named == encode_label(label) or named == PRESENT:
            return
        if named is None:
            self._report.damage("vector without an element", f"{name_of(row)}: it is named again")
            self._report.rows[self._prefix + member_row(ident)] = encode_label(label)
            self._members += 1
            self._highest = max(self._highest, label)
            return
        self._report.damage("vector without an element", f"{name_of(row)}: a newer one is there")
        self._report.give_up(row, value)
        if (text := self._element(attributes_row(label))) is not None:
            self._report.give_up(self._prefix + attributes_row(label), text)
            self._texts -= 1

    def complete(self) -> Collection | None:
        """After the last row: what the key's record should say, None if it does."""
        definition = self._definition
        if definition.projected_from and self._lines != definition.dimensions:
            text = f"collection {self.cid}: zeros will stand in place of what is missing"
            self._report.damage("incomplete projection", text)
            zeros = bytes(FLOAT_SIZE * definition.projected_from)
            for number in range(definition.dimensions):
                row = self._prefix + projection_row(number)
                if not self._get(row):
                    self._report.rows[row] = zeros
        next_label = max(self._next_label, self._highest + 1)
        said = (self._collection.count, self._attributed, self._next_label)
        found = (self._members, self._texts, next_label)
        if said == found:
            return None
        extra = encode_extra(definition, next_label, self._texts)
        return self._collection._replace(count=self._members, extra=extra)
