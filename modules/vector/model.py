"""A vector set as rows: what commands do to it, apart from their words and replies.

``VectorSet`` is the decoded record of a key, ``Members`` its element rows. A change stages rows and
then, once, the record (``stage``), which gives the key its version.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.encoding import VECTORSET, Collection, CorruptRecord, Record, prefix_end
from norikv_resp.errors import WrongType
from norikv_resp.vector_rows import (
    LONGEST_ID,
    MEMBER,
    VECTOR,
    Definition,
    attributes_row,
    decode_attributes,
    decode_extra,
    decode_label,
    encode_attributes,
    encode_extra,
    encode_label,
    encode_vector,
    member_row,
    split_vector,
    vector_row,
)

from .errors import ID_TOO_LONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from norikv_resp.database import Database
    from norikv_resp.elements import Elements

#: Rows that one read of a walk over a set fetches.
PAGE = 512

#: A random pick takes the next living label after trying so many times as many as it needs usually.
_PATIENCE = 10


class VectorSet(NamedTuple):
    """A key's vector set. ``attributed`` counts the elements with attributes."""

    cid: int
    count: int  # type: ignore[assignment]  # hides tuple's method of that name
    definition: Definition
    next_label: int
    attributed: int
    expire_at: int


def decode(record: Record) -> VectorSet:
    """The vector set of a key's record; CorruptRecord."""
    collection = record.value
    assert type(collection) is Collection
    definition, next_label, attributed = decode_extra(collection.extra)
    return VectorSet(
        collection.cid, collection.count, definition, next_label, attributed, record.expire_at
    )


def find(keys: Database, key: bytes) -> VectorSet | None:
    """The vector set at a key, None if there is none; WrongType."""
    record = keys.get_typed(key, VECTORSET)
    return None if record is None else decode(record)


def read(keys: Database, key: bytes) -> VectorSet | None:
    """As ``find``, for commands that only read: misses are announced."""
    record = keys.lookup(key)
    if record is None:
        keys.notify("m", b"keymiss", key)
        return None
    if record.type != VECTORSET:
        raise WrongType
    return decode(record)


def new(keys: Database, definition: Definition) -> VectorSet:
    """A set without elements, under an id of its own; the caller stages it."""
    return VectorSet(keys.keyspace.new_cid(), 0, definition, 1, 0, 0)


def stage(keys: Database, key: bytes, changed: VectorSet) -> None:
    """Put the record of a set whose element rows are staged."""
    cid, count, definition, next_label, attributed, expire_at = changed
    extra = encode_extra(definition, next_label, attributed)
    keys.put_record(key, VECTORSET, Collection(cid, count, extra), expire_at)


def stage_or_remove(keys: Database, key: bytes, changed: VectorSet) -> None:
    """As ``stage``; a set that has become empty goes, unless VCREATE has made it."""
    if changed.count or changed.definition.made:
        stage(keys, key, changed)
        return
    keys.remove(key)
    keys.notify("g", b"del", key)


def check_id(ident: bytes) -> None:
    """ID_TOO_LONG."""
    if len(ident) > LONGEST_ID:
        raise ID_TOO_LONG


class Added(NamedTuple):
    """What adding an element has done: ``replaced`` is its label of before, 0 for none."""

    vector_set: VectorSet
    label: int
    replaced: int
    attributes: bytes | None


class Members:
    """The element rows of one set."""

    __slots__ = ("dimensions", "elements")

    def __init__(self, keys: Database, vector_set: VectorSet) -> None:
        self.elements: Elements = keys.elements(vector_set.cid)
        self.dimensions = vector_set.definition.dimensions

    # ---- reading

    def label(self, ident: bytes) -> int:
        """The label of an element, 0 if there is none."""
        raw = self.elements.get(member_row(ident))
        return 0 if raw is None else decode_label(raw)

    def vector(self, label: int) -> tuple[bytes, bytes] | None:
        """``(floats, id)`` of a label, None if it is dead."""
        raw = self.elements.get(vector_row(label))
        return None if raw is None else split_vector(raw, self.dimensions)

    def floats(self, ident: bytes) -> bytes | None:
        """The vector of an element, None if there is none; CorruptRecord."""
        label = self.label(ident)
        if not label:
            return None
        found = self.vector(label)
        if found is None:
            raise CorruptRecord(f"label {label} has no vector")
        return found[0]

    def attributes(self, label: int) -> bytes | None:
        """The attributes of a label, None if it has none."""
        raw = self.elements.get(attributes_row(label))
        return None if raw is None else decode_attributes(raw)

    def ids(self, start: bytes, stop: bytes | None, limit: int | None) -> list[bytes]:
        """The ids from *start* up to *stop*, which is excluded (None: to the last). O(ids)."""
        high = prefix_end(MEMBER) if stop is None else member_row(stop)
        rows = self.elements.range(member_row(start), high, limit=limit)
        return [row[1:] for row, _ in rows]

    def vectors(self, first: int = 1) -> Iterator[list[tuple[bytes, bytes]]]:
        """The rows of vectors from a label on, in pages, by label; see ``label_of_row``."""
        low, high = vector_row(first), prefix_end(VECTOR)
        while page := self.elements.range(low, high, limit=PAGE):
            yield page
            low = page[-1][0] + b"\0"

    def random_id(self, vector_set: VectorSet) -> bytes:
        """The id of an element chosen at random, each equally likely; the set must not be empty.

        O(labels given out / elements).
        """
        end = vector_set.next_label
        for _ in range(_PATIENCE * (end // vector_set.count + 1)):
            found = self.vector(random.randrange(1, end))
            if found is not None:
                return found[1]
        low = vector_row(random.randrange(1, end))
        rows = self.elements.range(low, prefix_end(VECTOR), limit=1)
        rows = rows or self.elements.range(VECTOR, prefix_end(VECTOR), limit=1)
        return split_vector(rows[0][1], self.dimensions)[1]

    # ---- changing

    def add(
        self,
        keys: Database,
        vector_set: VectorSet,
        ident: bytes,
        floats: bytes,
        attributes: bytes | None,
    ) -> Added:
        """Stage an element, new or in place of one, with a new label.

        *attributes* None leaves those that it has; empty ones take them from an element that
        was there, as in Redis. The caller stages the set that is returned.
        """
        elements, keyspace = self.elements, keys.keyspace
        cid, count, definition, label, attributed, expire_at = vector_set
        member = member_row(ident)
        raw = elements.get(member)
        replaced = 0
        if raw is None:
            count += 1
        else:
            replaced = decode_label(raw)
            elements.delete(vector_row(replaced))
            held = self.attributes(replaced) if attributed else None
            if held is not None:
                elements.delete(attributes_row(replaced))
                attributed -= 1
            if attributes is None:
                attributes = held
            elif not attributes:
                attributes = None
        elements.put(member, encode_label(label))
        row = encode_vector(keyspace.term, keyspace.index, floats, ident)
        elements.put(vector_row(label), row)
        if attributes is not None:
            elements.put(attributes_row(label), encode_attributes(attributes))
            attributed += 1
        changed = VectorSet(cid, count, definition, label + 1, attributed, expire_at)
        return Added(changed, label, replaced, attributes)

    def remove(self, vector_set: VectorSet, ident: bytes, label: int) -> VectorSet:
        """Stage the end of an element; the caller stages the set that is returned."""
        elements = self.elements
        elements.delete(member_row(ident))
        elements.delete(vector_row(label))
        attributed = vector_set.attributed
        if attributed and elements.get(attributes_row(label)) is not None:
            elements.delete(attributes_row(label))
            attributed -= 1
        return vector_set._replace(count=vector_set.count - 1, attributed=attributed)

    def set_attributes(
        self, vector_set: VectorSet, label: int, attributes: bytes | None
    ) -> VectorSet:
        """Stage other attributes of an element; the caller stages the set that is returned."""
        elements = self.elements
        had = elements.get(attributes_row(label)) is not None
        if attributes is None:
            elements.delete(attributes_row(label))
        else:
            elements.put(attributes_row(label), encode_attributes(attributes))
        change = (attributes is not None) - had
        return vector_set._replace(attributed=vector_set.attributed + change)
