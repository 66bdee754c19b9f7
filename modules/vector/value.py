"""Vector sets as values: what DUMP writes, RESTORE reads and MEMORY USAGE counts.

The parts of a dumped set: what its metadata say beyond the count (without labels), the matrix of
its projection, the number of elements, then of each, in the order of their labels, id, vector
and attributes, which have a byte before them if there are any.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.elements import Elements
from norikv_resp.encoding import Collection, CorruptRecord, prefix_end
from norikv_resp.errors import ReplyError
from norikv_resp.rdb import BadPayloadError, module_id
from norikv_resp.vector_rows import (
    ATTRIBUTES,
    FLOAT_SIZE,
    LONGEST_ID,
    VECTOR,
    Definition,
    attributes_row,
    decode_extra,
    encode_attributes,
    encode_extra,
    encode_label,
    encode_vector,
    label_of_row,
    member_row,
    split_vector,
    vector_row,
)

from . import projection
from .arrays import are_finite, floats
from .definition import is_allowed

if TYPE_CHECKING:
    from norikv_resp.database import Database
    from norikv_resp.store import Store
    from norikv_resp.value_types import Parts

#: Bytes that a set may have for DUMP: the checksum alone takes a second for twice as many.
LARGEST_DUMP = 64 << 20

#: Rows that a walk fetches at once.
_PAGE = 512

#: What an element's row has before its key: a family byte and a collection id.
_ROW_HEAD = 9


class Element(NamedTuple):
    """One element of a parsed set; ``attributes`` as their row has them, empty for none."""

    id: bytes
    floats: bytes
    attributes: bytes


class Parsed(NamedTuple):
    """A set from a payload, checked."""

    definition: Definition
    matrix: bytes
    elements: list[Element]


class VectorType:
    """What the core asks about vector sets."""

    #: Version 1 of a type that no Redis has.
    module_id = module_id("norikvset", 1)

    def dump(self, keys: Database, collection: Collection) -> Iterator[int | bytes]:
        definition, _, attributed = decode_extra(collection.extra)
        size = collection.count * FLOAT_SIZE * definition.dimensions
        if size > LARGEST_DUMP:
            raise ReplyError(
                f"ERR vectors of {size} bytes are too large for DUMP: VRANGE lists them"
            )
        return self._parts(keys.elements(collection.cid), definition, collection, attributed)

    def _parts(
        self, elements: Elements, definition: Definition, collection: Collection, attributed: int
    ) -> Iterator[int | bytes]:
        yield encode_extra(definition, 1, 0)
        matrix = b""
        if definition.projected_from:
            matrix = projection.matrix_of(elements, definition, collection.cid).tobytes()
        yield matrix
        yield collection.count
        low, high = VECTOR, prefix_end(VECTOR)
        while rows := elements.range(low, high, limit=_PAGE):
            for row, raw in rows:
                vector, ident = split_vector(raw, definition.dimensions)
                yield ident
                yield vector
                text = elements.get(attributes_row(label_of_row(row))) if attributed else None
                yield text or b""
            low = rows[-1][0] + b"\0"

    def parse(self, parts: Parts) -> Parsed:
        given = iter(parts)
        try:
            definition, _, _ = decode_extra(_bytes(next(given)))
            matrix = _bytes(next(given))
            count = next(given)
        except (StopIteration, CorruptRecord, struct.error):
            raise BadPayloadError("no vector set") from None
        rest = list(given)
        if not is_allowed(definition):
            raise BadPayloadError("a definition that VCREATE refuses")
        numbers = definition.projected_from * definition.dimensions
        if len(matrix) != FLOAT_SIZE * numbers or numbers > projection.LARGEST_MATRIX:
            raise BadPayloadError("a projection of another size")
        if not isinstance(count, int) or len(rest) != 3 * count:
            raise BadPayloadError("another number of elements")
        elements = [Element(*map(_bytes, rest[at : at + 3])) for at in range(0, len(rest), 3)]
        size = FLOAT_SIZE * definition.dimensions
        if any(len(each.floats) != size or len(each.id) > LONGEST_ID for each in elements):
            raise BadPayloadError("an element of another size")
        if len({each.id for each in elements}) != len(elements):
            raise BadPayloadError("an element that is there twice")
        if any(each.attributes and each.attributes[:1] != b"\x01" for each in elements):
            raise BadPayloadError("malformed attributes")
        if not elements and not definition.made:
            raise BadPayloadError("an empty set")
        if not are_finite(matrix + b"".join(each.floats for each in elements)):
            raise BadPayloadError("a number that is none")
        return Parsed(definition, matrix, elements)

    def restore(self, keys: Database, parsed: Parsed) -> Collection:
        keyspace = keys.keyspace
        cid = keyspace.new_cid()
        elements = keys.elements(cid)
        definition = parsed.definition
        if parsed.matrix:
            shape = (definition.dimensions, definition.projected_from)
            projection.stage(elements, cid, floats(parsed.matrix).reshape(shape))
        attributed = 0
        for label, each in enumerate(parsed.elements, 1):
            elements.put(member_row(each.id), encode_label(label))
            row = encode_vector(keyspace.term, keyspace.index, each.floats, each.id)
            elements.put(vector_row(label), row)
            if each.attributes:
                elements.put(attributes_row(label), encode_attributes(each.attributes[1:]))
                attributed += 1
        count = len(parsed.elements)
        return Collection(cid, count, encode_extra(definition, count + 1, attributed))

    def usage(self, store: Store, collection: Collection, samples: int) -> int:
        definition, _, attributed = decode_extra(collection.extra)
        elements = Elements(store, collection.cid)
        vectors = [
            # An id stands in the key of its own row as well, with a label as the value.
            _ROW_HEAD + len(row) + len(raw) + _ROW_HEAD + 1 + len(_id(raw, definition)) + 8
            for row, raw in _sample(elements, VECTOR, samples)
        ]
        texts = [
            _ROW_HEAD + len(row) + len(raw) for row, raw in _sample(elements, ATTRIBUTES, samples)
        ]
        matrix = FLOAT_SIZE * definition.projected_from * definition.dimensions
        return _scaled(vectors, collection.count) + _scaled(texts, attributed) + matrix


def _bytes(part: int | bytes) -> bytes:
    if isinstance(part, int):
        raise BadPayloadError("a number in place of a string")
    return part


def _id(raw: bytes, definition: Definition) -> bytes:
    return split_vector(raw, definition.dimensions)[1]


def _sample(elements: Elements, kind: bytes, samples: int) -> Iterator[tuple[bytes, bytes]]:
    """The first *samples* rows of a kind, all for 0, in pages."""

    def rows() -> Iterator[tuple[bytes, bytes]]:
        low, high = kind, prefix_end(kind)
        while page := elements.range(low, high, limit=min(_PAGE, samples or _PAGE)):
            yield from page
            low = page[-1][0] + b"\0"

    return islice(rows(), samples or None)


def _scaled(sizes: list[int], count: int) -> int:
    """What *count* elements take, by the sizes of some."""
    return sum(sizes) * max(count, len(sizes)) // len(sizes) if sizes else 0
