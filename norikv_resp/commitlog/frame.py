"""Byte grammar of a frame (little-endian; docs/storage-format.md explains each field).

    frame  = u64 checksum, u64 seed, u64 nonce, u32 segment, u32 flags, u64 size,
             u64 first, u64 last, u64 term, u64 clock, u64 synced, body
    body   = u32 n, n * (u32 key length, u32 value length), n * (key, value)

The checksum is xxh3_64 of everything after it, seeded with the predecessor frame's checksum
(`seed`): a frame verifies only behind the very frame that it was written behind.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import NamedTuple

from xxhash import xxh3_64, xxh3_64_intdigest

from norikv_resp.commitlog.files import Files, write_fully

HEADER_SYNCED = 1  # flag, on disk, frozen: the segment's header was synced before this frame
CLOSED = 2  # flag, on disk, frozen: no rows; written by a clean stop

HEAD = struct.Struct("<QQQIIQQQQQQ")
HEAD_SIZE = HEAD.size  # 80
HASHED = struct.Struct("<QQIIQQQQQQ")  # the header without its checksum
CHECKSUM = struct.Struct("<Q")
COUNT = struct.Struct("<I")
TAG = struct.Struct("<QI")  # nonce and segment: what every frame of one segment has in common
TAG_AT = 16  # where the tag stands in a frame

STEP = 1 << 20  # bytes hashed and written at once of a large frame
_BLOCK = 512  # lengths decoded at once: enough to amortise, small enough for the cache

Fields = tuple[int, int, int, int, int, int, int, int, int, int]


class Head(NamedTuple):
    """A frame's header as stored."""

    checksum: int
    seed: int
    nonce: int
    segment: int
    flags: int
    size: int
    first: int
    last: int
    term: int
    clock: int
    synced: int


def encode_lengths(items: list[bytes]) -> bytes:
    """Encode the start of a body: the number of rows and the length of each key and value."""
    count = len(items)
    return struct.pack(f"<{count + 1}I", count >> 1, *map(len, items))


def flatten(rows: dict[bytes, bytes]) -> list[bytes]:
    """Return key, value, key, value ... in the order of `rows`."""
    return [*chain.from_iterable(rows.items())]


def encode_rows(rows: dict[bytes, bytes]) -> bytes:
    """Encode a body; O(bytes)."""
    items = flatten(rows)
    return encode_lengths(items) + b"".join(items)


def split(items: Iterable[bytes], step: int = STEP) -> Iterator[list[bytes]]:
    """Cut `items` into groups of at least `step` bytes each, the last one excepted."""
    group: list[bytes] = []
    size = 0
    for item in items:
        group.append(item)
        size += len(item)
        if size >= step:
            yield group
            group = []
            size = 0
    if group:
        yield group


def decode_rows(data: bytes, offset: int, size: int) -> dict[bytes, bytes]:
    """Decode the body of `size` bytes at `offset`; ValueError when it breaks the grammar.

    About 3 million small rows a second: lengths and slices are cut by `struct`, not by a loop.
    """
    end = offset + size
    if size < 4:
        raise ValueError("body shorter than its row count")
    count = COUNT.unpack_from(data, offset)[0] * 2
    offset += 4
    if count * 4 > end - offset:
        raise ValueError("more rows than the body has room for")
    lengths = struct.unpack_from(f"<{count}I", data, offset)
    offset += count * 4
    if sum(lengths) != end - offset:
        raise ValueError("row lengths do not add up to the body")
    rows: dict[bytes, bytes] = {}
    if count <= _BLOCK:
        items = iter(struct.unpack_from("%ds" * count % lengths, data, offset))
        return dict(zip(items, items, strict=True))
    for start in range(0, count, _BLOCK):
        block = lengths[start : start + _BLOCK]
        items = iter(struct.unpack_from("%ds" * len(block) % block, data, offset))
        rows.update(zip(items, items, strict=True))
        offset += sum(block)
    return rows


def seal(seed: int, fields: Fields, body: bytes) -> tuple[int, bytes]:
    """Return a frame's checksum and its bytes."""
    hashed = HASHED.pack(*fields) + body
    checksum = xxh3_64_intdigest(hashed, seed)
    return checksum, CHECKSUM.pack(checksum) + hashed


def write_large(
    files: Files, fd: int, offset: int, fields: Fields, groups: list[list[bytes]]
) -> int:
    """Write a frame of any size in steps of about a megabyte and return its checksum.

    Made for a helper thread: nearly all its time is spent in hashing and writing, which release
    the GIL.  The header goes last, so a frame cut short by an error or a kill never verifies.
    """
    hasher = xxh3_64(HASHED.pack(*fields), seed=fields[0])
    at = offset + HEAD_SIZE
    for group in groups:
        piece = group[0] if len(group) == 1 else b"".join(group)
        hasher.update(piece)
        write_fully(files, fd, piece, at)
        at += len(piece)
    checksum = hasher.intdigest()
    write_fully(files, fd, HEAD.pack(checksum, *fields), offset)
    return checksum


def frame_at(data: bytes, offset: int) -> Head | None:
    """Return the header at `offset` when the frame there verifies against its own seed.

    Whether that seed belongs to the frame before it is for the caller to compare.
    """
    body = offset + HEAD_SIZE
    if body > len(data):
        return None
    head = Head._make(HEAD.unpack_from(data, offset))
    if head.size > len(data) - body:
        return None
    hashed = memoryview(data)[offset + 8 : body + head.size]
    return head if xxh3_64_intdigest(hashed, head.seed) == head.checksum else None
