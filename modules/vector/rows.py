"""A set's rows, read many at a time in the order of their labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.vector_rows import (
    ATTRIBUTES,
    FLOAT_SIZE,
    MEMBER,
    VECTOR,
    VERSION_SIZE,
    attributes_row,
    decode_attributes,
    decode_label,
    vector_row,
)

if TYPE_CHECKING:
    from norikv_resp.elements import Elements

_AFTER_VECTORS = bytes((VECTOR[0] + 1,))
_AFTER_ATTRIBUTES = bytes((ATTRIBUTES[0] + 1,))
_AFTER_MEMBERS = bytes((MEMBER[0] + 1,))


class Block(NamedTuple):
    """Consecutive elements; `vectors` are the f32 of all, one after another."""

    labels: list[int]
    ids: list[bytes]
    vectors: bytes


def read_vectors(
    elements: Elements, first: int, dimensions: int, limit: int, *, below: int | None = None
) -> Block:
    """At most *limit* elements with labels from *first* on, those *below* a label if given."""
    end = VERSION_SIZE + FLOAT_SIZE * dimensions
    stop = _AFTER_VECTORS if below is None else vector_row(below)
    rows = elements.range(vector_row(first), stop, limit=limit)
    return Block(
        [int.from_bytes(key[1:], "big") for key, _ in rows],
        [raw[end:] for _, raw in rows],
        b"".join([raw[VERSION_SIZE:end] for _, raw in rows]),
    )


def newest_labels(elements: Elements, below: int, limit: int) -> list[int]:
    """The *limit* greatest labels under *below*."""
    rows = elements.range(vector_row(0), vector_row(below), reverse=True, limit=limit)
    return [int.from_bytes(key[1:], "big") for key, _ in rows]


def read_attributes(
    elements: Elements, first: int, limit: int | None = None, *, below: int | None = None
) -> list[tuple[int, bytes]]:
    """Labels from *first* on that have attributes, with them; at most *limit*."""
    stop = _AFTER_ATTRIBUTES if below is None else attributes_row(below)
    rows = elements.range(attributes_row(first), stop, limit=limit)
    return [(int.from_bytes(key[1:], "big"), decode_attributes(raw)) for key, raw in rows]


def read_members(elements: Elements, after: bytes | None, limit: int) -> list[tuple[bytes, int]]:
    """At most *limit* ids with their labels, by id, those greater than *after*."""
    start = MEMBER if after is None else MEMBER + after + b"\0"
    rows = elements.range(start, _AFTER_MEMBERS, limit=limit)
    return [(key[1:], decode_label(raw)) for key, raw in rows]


def rows_at_once(dimensions: int) -> int:
    """How many vectors one read fetches, so that it takes a fraction of a millisecond."""
    return max(8, min(128, (64 << 10) // (FLOAT_SIZE * dimensions + 64)))
