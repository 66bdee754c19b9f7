"""Long strings: values above ``CHUNK`` bytes lie in numbered chunks, rows of a collection.

A chunk holds ``CHUNK`` bytes, the last one what is left. So a part of a long
string is read or overwritten at the cost of that part. What is written here
is staged; the caller stages the key's record with the ``Chunks`` it gets.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from norikv_resp.encoding import CHUNK, Chunks, CorruptRecord, chunk_row

if TYPE_CHECKING:
    from norikv_resp.keyspace import Keyspace
    from norikv_resp.store import Store


def read(store: Store, chunks: Chunks, start: int, end: int) -> bytes:
    """Bytes *start* to *end* (exclusive); reads only the chunks concerned."""
    first = start // CHUNK * CHUNK
    return b"".join(_between(store, chunks, start, end))[start - first : end - first]


def _between(store: Store, chunks: Chunks, start: int, end: int) -> Iterator[bytes]:
    for number in range(start // CHUNK, -(-end // CHUNK)):
        data = store.get(chunk_row(chunks.cid, number))
        if data is None:
            raise CorruptRecord(f"chunk {number} of collection {chunks.cid} is missing")
        yield data


def write(keyspace: Keyspace, value: bytes) -> Chunks:
    """Stage *value* as a collection of its own."""
    cid = keyspace.new_cid()
    rows = keyspace.store.open
    for number, start in enumerate(range(0, len(value), CHUNK)):
        rows[chunk_row(cid, number)] = value[start : start + CHUNK]
    return Chunks(cid, len(value))


def overwrite(keyspace: Keyspace, chunks: Chunks, offset: int, data: bytes) -> Chunks:
    """Stage *data* over what is there from *offset* on, padding with zeros before it.

    Rewrites only the chunks concerned: O(data + padding).
    """
    store = keyspace.store
    end = offset + len(data)
    length = max(end, chunks.length)
    for number in range(min(offset, chunks.length) // CHUNK, -(-end // CHUNK)):
        start = number * CHUNK
        stop = min(start + CHUNK, length)
        row = chunk_row(chunks.cid, number)
        old = b""
        if start < chunks.length:
            old = store.get(row) or b""
        fresh = bytearray(old.ljust(stop - start, b"\0"))
        low, high = max(start, offset), min(stop, end)
        if low < high:
            fresh[low - start : high - start] = data[low - offset : high - offset]
        store.open[row] = bytes(fresh)
    return Chunks(chunks.cid, length)
