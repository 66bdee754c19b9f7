"""The rows of vector sets: golden bytes, and what is refused."""

from __future__ import annotations

import struct

import pytest

from norikv_resp import vector_rows as rows
from norikv_resp.encoding import CorruptRecord

MADE = rows.Definition(
    metric=rows.L2,
    index=rows.FLAT,
    quantisation=rows.BF16,
    flags=rows.MADE,
    dimensions=128,
    projected_from=0,
    m=16,
    ef_construction=200,
    ef=64,
)


def test_numbers_on_disk_are_frozen() -> None:
    assert (rows.COSINE, rows.L2, rows.IP) == (1, 2, 3)
    assert (rows.HNSW, rows.FLAT) == (1, 2)
    assert (rows.F32, rows.F16, rows.BF16, rows.I8, rows.B1) == (1, 2, 3, 4, 5)
    assert (rows.MADE, rows.PROJECTED) == (1, 2)


def test_the_bytes_of_metadata() -> None:
    extra = rows.encode_extra(MADE, 7, 3)
    assert extra.hex() == (
        "02020301" + "80000000" + "00000000" + "10000000" + "c8000000" + "40000000"
        "0700000000000000" + "0300000000000000"
    )
    assert rows.decode_extra(extra) == (MADE, 7, 3)


def test_the_bytes_of_elements() -> None:
    assert rows.member_row(b"id") == b"mid"
    assert rows.vector_row(258) == b"v\0\0\0\0\0\0\1\2"
    assert rows.attributes_row(258) == b"t\0\0\0\0\0\0\1\2"
    assert rows.projection_row(258) == b"p\0\0\1\2"
    assert rows.encode_label(258) == b"\2\1\0\0\0\0\0\0"
    floats = struct.pack("<2f", 1, -2)
    raw = rows.encode_vector(3, 9, floats, b"id")
    assert raw.hex() == "0300000000000000" + "0900000000000000" + "0000803f000000c0" + "6964"
    assert rows.split_vector(raw, 2) == (floats, b"id")
    assert rows.encode_attributes(b"{}") == b"\x01{}"
    assert rows.decode_attributes(b"\x01") == b""
    assert rows.label_of_row(rows.vector_row(258)) == rows.decode_label(rows.encode_label(258))


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": 0},
        {"metric": 4},
        {"index": 3},
        {"quantisation": 6},
        {"flags": 4},
        {"dimensions": 0},
        {"projected_from": 5},  # without the flag
        {"flags": rows.PROJECTED},  # without the dimensions
    ],
    ids=str,
)
def test_unknown_metadata_is_refused(changed: dict[str, int]) -> None:
    extra = rows.encode_extra(MADE._replace(**changed), 1, 0)
    for _ in range(2):
        with pytest.raises(CorruptRecord):
            rows.decode_extra(extra)


def test_cut_rows_are_refused() -> None:
    with pytest.raises(CorruptRecord):
        rows.decode_extra(rows.encode_extra(MADE, 1, 0)[:-1])
    with pytest.raises(CorruptRecord):
        rows.decode_label(b"\1\0\0")
    with pytest.raises(CorruptRecord):
        rows.label_of_row(b"v\0\0")
    with pytest.raises(CorruptRecord):
        rows.split_vector(bytes(23), 2)


def test_many_definitions_are_told_apart() -> None:
    for _ in range(2):
        for dimensions in range(1, 3000):
            definition = MADE._replace(dimensions=dimensions)
            assert rows.decode_extra(rows.encode_extra(definition, 1, 0))[0] == definition
