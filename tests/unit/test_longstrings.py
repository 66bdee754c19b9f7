"""Long strings: what the chunks hold is what a plain string would."""

from __future__ import annotations

import random

import pytest

from norikv_resp import longstrings
from norikv_resp.encoding import CHUNK, Chunks, CorruptRecord, chunk_row
from norikv_resp.keyspace import Keyspace
from tests.unit.keyspace_fakes import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def keyspace(store: MemoryStore) -> Keyspace:
    return Keyspace(store, 1, 1 << 20)  # type: ignore[arg-type]


def overwritten(value: bytes, offset: int, data: bytes) -> bytes:
    """What SETRANGE makes of *value*."""
    return value[:offset].ljust(offset, b"\0") + data + value[offset + len(data) :]


@pytest.mark.parametrize("seed", range(4))
def test_random_changes_equal_a_plain_string(
    store: MemoryStore, keyspace: Keyspace, seed: int
) -> None:
    pick = random.Random(seed)
    value = pick.randbytes(pick.choice([0, 1, CHUNK, CHUNK + 1, 2 * CHUNK]))
    chunks = longstrings.write(keyspace, value)
    for _ in range(40):
        edge = pick.randrange(4) * CHUNK
        offset = max(edge + pick.choice([-1, 0, 1, pick.randrange(CHUNK)]), 0)
        data = pick.randbytes(pick.choice([1, 2, CHUNK - 1, CHUNK, CHUNK + 1]))
        chunks = longstrings.overwrite(keyspace, chunks, offset, data)
        value = overwritten(value, offset, data)
        assert chunks.length == len(value)
        start = pick.randrange(len(value))
        end = pick.randint(start + 1, len(value))
        assert longstrings.read(keyspace.store, chunks, start, end) == value[start:end]
    assert longstrings.read(keyspace.store, chunks, 0, len(value)) == value
    # Every chunk but the last is full, and there are none beyond it.
    sizes = [
        len(store.get(chunk_row(chunks.cid, n)) or b"") for n in range(len(value) // CHUNK + 2)
    ]
    assert sizes == [max(min(len(value) - n * CHUNK, CHUNK), 0) for n in range(len(sizes))]


def test_only_the_chunks_concerned_are_rewritten(store: MemoryStore, keyspace: Keyspace) -> None:
    chunks = longstrings.write(keyspace, bytes(5 * CHUNK))
    store.open.clear()
    longstrings.overwrite(keyspace, chunks, 2 * CHUNK + 1, b"x")
    assert list(store.open) == [chunk_row(chunks.cid, 2)]


def test_a_missing_chunk_is_damage(keyspace: Keyspace) -> None:
    with pytest.raises(CorruptRecord, match="chunk 0 of collection 7 is missing"):
        longstrings.read(keyspace.store, Chunks(7, CHUNK + 1), 0, 1)
