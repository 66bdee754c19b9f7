"""The byte grammar of vector sets, as docs/storage-format.md gives it.

Row keys are those of elements: what follows the collection id. Every number here is on disk and
frozen; tests/unit/test_vector_rows.py holds golden bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from norikv_resp.encoding import PRESENT, CorruptRecord

# Metrics, index types and quantisations, on disk, frozen.
COSINE, L2, IP = 1, 2, 3
HNSW, FLAT = 1, 2
F32, F16, BF16, I8, B1 = 1, 2, 3, 4, 5

#: The set was made by VCREATE: it keeps its definition, and stays when it is empty.
MADE = 1
#: Vectors are projected to fewer dimensions before they are stored.
PROJECTED = 2

# Kinds of element rows, on disk, frozen.
MEMBER, VECTOR, ATTRIBUTES, PROJECTION = b"m", b"v", b"t", b"p"

#: Bytes that precede the numbers in a vector's row: its version.
VERSION_SIZE = 16
#: Bytes of one number.
FLOAT_SIZE = 4

LONGEST_ID = 65535

_extra = struct.Struct("<BBBBIIIIIQQ")
_definition_size = 24
_u64 = struct.Struct("<Q")
_two_u64 = struct.Struct("<QQ")
_key_u32 = struct.Struct(">I")
_key_u64 = struct.Struct(">Q")


class Definition(NamedTuple):
    """What a vector set is, for its whole life.

    ``ef`` 0 stands for the default; ``projected_from`` is the dimensions before the projection,
    0 for none.
    """

    metric: int
    index: int  # type: ignore[assignment]  # hides tuple's method of that name
    quantisation: int
    flags: int
    dimensions: int
    projected_from: int
    m: int
    ef_construction: int
    ef: int

    @property
    def made(self) -> bool:
        """Whether VCREATE has made the set."""
        return bool(self.flags & MADE)


def encode_extra(definition: Definition, next_label: int, attributed: int) -> bytes:
    """The type's own part of a vector set's metadata."""
    return _extra.pack(*definition, next_label, attributed)


#: Definitions that were decoded lately: a server has few different ones and reads them always.
_known: dict[bytes, Definition] = {}
_KNOWN_MOST = 1000


def decode_extra(extra: bytes) -> tuple[Definition, int, int]:
    """Inverse of encode_extra: definition, next label, elements with attributes; CorruptRecord."""
    if len(extra) != _extra.size:
        raise CorruptRecord(f"vector set metadata of {len(extra)} bytes")
    head = extra[:_definition_size]
    definition = _known.get(head)
    if definition is None:
        definition = Definition(*_extra.unpack(extra)[:-2])
        _check(definition)
        if len(_known) >= _KNOWN_MOST:
            _known.clear()
        _known[head] = definition
    next_label, attributed = _two_u64.unpack_from(extra, _definition_size)
    return definition, next_label, attributed


def _check(definition: Definition) -> None:
    known = (
        COSINE <= definition.metric <= IP
        and HNSW <= definition.index <= FLAT
        and F32 <= definition.quantisation <= B1
        and definition.flags <= MADE | PROJECTED
        and definition.dimensions > 0
        and bool(definition.flags & PROJECTED) == bool(definition.projected_from)
    )
    if not known:
        raise CorruptRecord(f"unknown vector set {definition}")


def member_row(ident: bytes) -> bytes:
    """The row that gives an id its label."""
    return MEMBER + ident


def vector_row(label: int) -> bytes:
    """The row of a vector."""
    return VECTOR + _key_u64.pack(label)


def attributes_row(label: int) -> bytes:
    """The row of a vector's attributes."""
    return ATTRIBUTES + _key_u64.pack(label)


def projection_row(number: int) -> bytes:
    """One row of a projection's matrix."""
    return PROJECTION + _key_u32.pack(number)


def label_of_row(row: bytes) -> int:
    """The label in the key of a vector's or an attributes' row; CorruptRecord."""
    if len(row) != 9:
        raise CorruptRecord(f"vector row key of {len(row)} bytes")
    label: int = _key_u64.unpack_from(row, 1)[0]
    return label


def encode_label(label: int) -> bytes:
    """The value of a member's row."""
    return _u64.pack(label)


def decode_label(raw: bytes) -> int:
    """Inverse of encode_label; CorruptRecord if *raw* is not one."""
    try:
        label: int = _u64.unpack(raw)[0]
    except struct.error:
        raise CorruptRecord(f"label of {len(raw)} bytes") from None
    return label


def encode_vector(term: int, index: int, floats: bytes, ident: bytes) -> bytes:
    """The value of a vector's row; *floats* are little-endian f32s."""
    return _two_u64.pack(term, index) + floats + ident


def split_vector(raw: bytes, dimensions: int) -> tuple[bytes, bytes]:
    """``(floats, id)`` of a vector's row; CorruptRecord if it is too short."""
    end = VERSION_SIZE + FLOAT_SIZE * dimensions
    if len(raw) < end:
        raise CorruptRecord(f"vector row of {len(raw)} bytes")
    return raw[VERSION_SIZE:end], raw[end:]


def encode_attributes(text: bytes) -> bytes:
    """The value of an attributes' row."""
    return PRESENT + text


def decode_attributes(raw: bytes) -> bytes:
    """Inverse of encode_attributes."""
    return raw[1:]
