"""Bytes of frames and segment headers: round trips, and golden bytes that hold them still."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from norikv_resp.commitlog import LogError
from norikv_resp.commitlog.frame import (
    HASHED,
    HEAD_SIZE,
    decode_rows,
    encode_lengths,
    encode_rows,
    flatten,
    frame_at,
    seal,
    split,
    write_large,
)
from norikv_resp.commitlog.segment import (
    HEADER_SIZE,
    Header,
    decode_header,
    encode_header,
    file_name,
)
from tests.support.power import PowerFiles

FIELDS = (0x1111, 0x2222, 7, 1, 0, 41, 42, 3, 1_700_000_000_000, 40)
ROWS = {b"m\x00\x00\x00\x01key": b"value", b"gone": b""}

rows = st.dictionaries(st.binary(max_size=40), st.binary(max_size=200), max_size=40)


def with_size(body: bytes) -> tuple[int, int, int, int, int, int, int, int, int, int]:
    return (*FIELDS[:4], len(body), *FIELDS[5:])


@settings(max_examples=200, deadline=None)
@given(rows, st.binary(max_size=20))
def test_rows_survive_encoding(rows: dict[bytes, bytes], around: bytes) -> None:
    body = encode_rows(rows)
    data = around + body + around
    decoded = decode_rows(data, len(around), len(body))
    assert decoded == rows
    assert list(decoded) == list(rows)


def test_rows_survive_encoding_beyond_one_block_of_lengths() -> None:
    rows = {b"key%d" % i: b"x" * (i % 7) for i in range(5000)}
    body = encode_rows(rows)
    assert decode_rows(body, 0, len(body)) == rows


@settings(max_examples=200, deadline=None)
@given(rows, st.data())
def test_any_flipped_bit_is_seen(rows: dict[bytes, bytes], data: st.DataObject) -> None:
    body = encode_rows(rows)
    _, frame = seal(FIELDS[0], with_size(body), body)
    head = frame_at(frame, 0)
    assert head is not None
    assert tuple(head)[1:] == with_size(body)
    bit = data.draw(st.integers(0, len(frame) * 8 - 1))
    flipped = bytearray(frame)
    flipped[bit // 8] ^= 1 << bit % 8
    assert frame_at(bytes(flipped), 0) is None


@given(st.binary(max_size=200))
def test_decoding_garbage_fails_cleanly(body: bytes) -> None:
    try:
        decode_rows(body, 0, len(body))
    except ValueError:
        pass


@given(st.lists(st.binary(max_size=30)), st.integers(1, 50))
def test_split_keeps_order_and_size(items: list[bytes], step: int) -> None:
    groups = list(split(items, step))
    assert [item for group in groups for item in group] == items
    assert all(sum(map(len, group)) >= step for group in groups[:-1])


@settings(deadline=None)
@given(rows)
def test_a_large_frame_has_the_bytes_of_a_small_one(rows: dict[bytes, bytes]) -> None:
    items = flatten(rows)
    body = encode_rows(rows)
    files = PowerFiles()
    fd = files.open("/file", 0o100)
    groups = [[encode_lengths(items)], *split(items, 64)]
    checksum = write_large(files, fd, 10, with_size(body), groups)
    expected_checksum, expected = seal(FIELDS[0], with_size(body), body)
    assert checksum == expected_checksum
    assert files.pread(fd, 1 << 20, 10) == expected


def test_a_frame_has_its_golden_bytes() -> None:
    body = encode_rows(ROWS)
    assert body.hex() == (
        "02000000080000000500000004000000000000006d000000016b657976616c7565676f6e65"
    )
    checksum, frame = seal(FIELDS[0], with_size(body), body)
    assert HEAD_SIZE == 80
    assert frame[:8] == struct.pack("<Q", checksum)
    assert frame[8:80] == HASHED.pack(*with_size(body))
    assert frame.hex() == GOLDEN_FRAME


def test_a_segment_header_has_its_golden_bytes() -> None:
    header = Header(18, 0x0123456789ABCDEF, 3, 41, 0xFEDCBA9876543210, 2, 1_700_000_000_000, 40)
    block = encode_header(header)
    assert len(block) == HEADER_SIZE == 4096
    assert block[:80].hex() == GOLDEN_HEADER
    assert block[80:4088] == bytes(4008)
    assert hashlib.sha256(block).hexdigest() == GOLDEN_HEADER_SHA256
    assert decode_header(block) == header
    assert file_name(18) == "000000000018.log"


def test_a_newer_format_is_refused_and_a_broken_header_is_none() -> None:
    header = Header(1, 2, 3, 4, 5, 6, 7, 8)
    block = bytearray(encode_header(header))
    assert decode_header(bytes(4096)) is None
    assert decode_header(bytes(block[:100])) is None
    block[8] = 2
    assert decode_header(bytes(block)) is None  # a flipped bit, not a newer version
    block[4088:] = struct.pack("<Q", xxh3_64_intdigest(bytes(block[:4088])))
    with pytest.raises(LogError, match="format version 2, this server knows 1"):
        decode_header(bytes(block))


GOLDEN_FRAME = (
    "916b9072a382131f1111000000000000222200000000000007000000010000002500000000000000"
    "29000000000000002a0000000000000003000000000000000068e5cf8b0100002800000000000000"
    "02000000080000000500000004000000000000006d000000016b657976616c7565676f6e65"
)
GOLDEN_HEADER = (
    "4e4f52494b4c4f4701000000000000001200000000000000efcdab89674523010300000000000000"
    "29000000000000001032547698badcfe02000000000000000068e5cf8b0100002800000000000000"
)
GOLDEN_HEADER_SHA256 = "f002b95417a6cc33f29d580dbf17f02621582f883367bf9b5541c00699dbd563"
