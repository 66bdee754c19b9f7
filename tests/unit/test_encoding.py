"""Bytes of rows: round trips, what is refused, and golden bytes that hold the format still."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp import encoding as enc
from norikv_resp.encoding import (
    CHUNK,
    Chunks,
    Collection,
    CorruptRecord,
    DatabaseRecord,
    IdempotencyRecord,
    Record,
)
from norikv_resp.idempotency import fingerprint, scope_hash
from norikv_resp.store.mark import Mark, encode_format, encode_mark

u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
sixteen = st.binary(min_size=16, max_size=16)
keys = st.binary(max_size=40)


@st.composite
def deadlines(draw: st.DrawFn) -> tuple[int, int]:
    expire_at = draw(u64)
    return expire_at, draw(st.integers(1, expire_at)) if expire_at else 0


@st.composite
def records(draw: st.DrawFn) -> Record:
    kind = draw(st.sampled_from(sorted(enc.TYPE_NAMES)))
    value: Any
    if kind != enc.STRING:
        value = Collection(draw(u64), draw(u64), draw(keys))
    elif draw(st.booleans()):
        value = Chunks(draw(u64), draw(st.integers(CHUNK + 1, 2**64 - 1)))
    else:
        value = draw(st.binary(max_size=100))
    return Record(kind, draw(u64), draw(u64), *draw(deadlines()), value)


@given(records())
def test_metadata_records_survive(record: Record) -> None:
    raw = enc.encode_record(record)
    assert enc.decode_record(raw) == record
    assert enc.peek_record(raw) == (record.type, record.expire_at)


@given(st.tuples(u32, u32, u64, u64, u64, u64), u64, u32, sixteen, keys)
def test_other_values_survive(
    database: tuple[int, ...], number: int, epoch: int, print_: bytes, reply: bytes
) -> None:
    row = DatabaseRecord(*database)
    assert enc.decode_database(enc.encode_database(row)) == row
    assert enc.decode_ids(enc.encode_ids(number, epoch)) == (number, epoch)
    assert enc.decode_count(enc.encode_count(number)) == number
    stored = IdempotencyRecord(number, print_, reply)
    assert enc.decode_idempotency(enc.encode_idempotency(stored)) == stored


@given(u64, u32, keys, sixteen, st.integers(1, 3), u64)
def test_row_keys_survive(
    at: int, epoch: int, key: bytes, scope: bytes, kind: int, number: int
) -> None:
    assert enc.split_expiry_row(enc.expiry_row(at, epoch, key)) == (at, epoch, key)
    assert enc.split_idem_expiry_row(enc.idem_expiry_row(at, epoch, scope)) == (at, epoch, scope)
    assert enc.split_reclaim_row(enc.reclaim_row(at, kind, number)) == (at, kind, number)


@given(u64, u64, u32, keys, keys)
def test_rows_are_in_order_of_their_numbers(
    a: int, b: int, epoch: int, k: bytes, l_: bytes
) -> None:
    rows = sorted((enc.expiry_row(a, epoch, k), enc.expiry_row(b, epoch, l_)))
    assert [enc.split_expiry_row(row)[0] for row in rows] == sorted((a, b))
    assert enc.expiry_bound(a) <= enc.expiry_row(a, epoch, k)
    low, high = sorted((a % 2**32, b % 2**32))
    assert enc.chunk_row(1, low) <= enc.chunk_row(1, high) < enc.element_prefix(2)


DECODERS: list[Callable[[bytes], Any]] = [
    enc.decode_record,
    enc.peek_record,
    enc.decode_database,
    enc.decode_ids,
    enc.decode_count,
    enc.decode_idempotency,
    enc.split_expiry_row,
    enc.split_idem_expiry_row,
    enc.split_reclaim_row,
]


@settings(max_examples=400)
@given(st.one_of(st.binary(max_size=80), records().map(enc.encode_record)), st.data())
def test_arbitrary_bytes_raise_nothing_but_corrupt_record(raw: bytes, data: st.DataObject) -> None:
    if raw:  # A whole record with a byte changed or its end cut off reaches further.
        at = data.draw(st.integers(0, len(raw) - 1))
        changed = raw[:at] + bytes((data.draw(st.integers(0, 255)),)) + raw[at + 1 :]
        raw = data.draw(st.sampled_from((raw, changed, raw[:at])))
    for decode in DECODERS:
        try:
            decode(raw)
        except CorruptRecord:
            continue


@settings(max_examples=300)
@given(st.binary(max_size=60))
def test_a_record_that_decodes_has_one_encoding(tail: bytes) -> None:
    for head in (b"\x01", b"\x01\x01", b"\x01\x03", b"\x01\x04", b"\x05\x00", b"\x03\x03"):
        raw = head + tail
        try:
            record = enc.decode_record(raw)
        except CorruptRecord:
            continue
        assert enc.encode_record(record) == raw


HEAD = bytes.fromhex("0300000000000000 3207000000000000")  # version 3-1842
SOON, LATER = 1_700_000_000_000, 1_700_000_060_000
SOON_LE, LATER_LE = "0068e5cf8b010000", "6052e6cf8b010000"


@pytest.mark.parametrize(
    ("record", "golden"),
    [
        (Record(enc.STRING, 3, 1842, 0, 0, b"value"), "0100 H 76616c7565"),
        (Record(enc.STRING, 3, 1842, 0, 0, b""), "0100 H"),
        (Record(enc.STRING, 3, 1842, SOON, SOON, b"v"), f"0101 H {SOON_LE} 76"),
        (Record(enc.STRING, 3, 1842, LATER, SOON, b"v"), f"0103 H {LATER_LE} {SOON_LE} 76"),
        (
            Record(enc.STRING, 3, 1842, 0, 0, Chunks(7, 65537)),
            "0104 H 0700000000000000 0100010000000000",
        ),
        (
            Record(enc.LIST, 3, 1842, 0, 0, Collection(8, 2)),
            "0200 H 0800000000000000 0200000000000000",
        ),
        (
            Record(enc.VECTORSET, 3, 1842, SOON, SOON, Collection(9, 1, b"extra")),
            f"0801 H {SOON_LE} 0900000000000000 0100000000000000 6578747261",
        ),
    ],
)
def test_golden_metadata_records(record: Record, golden: str) -> None:
    assert enc.encode_record(record) == bytes.fromhex(golden.replace("H", HEAD.hex()))


SCOPE = bytes(range(16))


@pytest.mark.parametrize(
    ("row", "golden"),
    [
        (enc.database_row(15), "64 000f"),
        (enc.namespace_prefix(131074) + b"key", "6d 00020002 6b6579"),
        (enc.element_prefix(258) + b"f", "65 0000000000000102 66"),
        (enc.chunk_row(258, 3), "65 0000000000000102 00000003"),
        (enc.expiry_row(SOON, 2, b"key"), "78 0000018bcfe56800 00000002 6b6579"),
        (enc.expiry_bound(SOON), "78 0000018bcfe56800"),
        (enc.idem_row(3, SCOPE), "69 00000003 000102030405060708090a0b0c0d0e0f"),
        (
            enc.idem_expiry_row(SOON, 3, SCOPE),
            "6a 0000018bcfe56800 00000003 000102030405060708090a0b0c0d0e0f",
        ),
        (enc.idem_expiry_bound(SOON), "6a 0000018bcfe56800"),
        (enc.idem_prefix(3), "69 00000003"),
        (enc.reclaim_row(1842, 1, 258), "72 0000000000000732 01 0000000000000102"),
        (enc.PRESENT, "01"),
        (
            enc.encode_database(DatabaseRecord(131072, 131073, 3, 1842, 100, 7)),
            "00000200 01000200 0300000000000000 3207000000000000 6400000000000000 07" + 7 * "00",
        ),
        (enc.encode_ids(258, 131074), "0201000000000000 02000200"),
        (enc.encode_count(5), "0500000000000000"),
        (
            enc.encode_idempotency(IdempotencyRecord(SOON, SCOPE, b"\x01\x0e")),
            f"{SOON_LE} 000102030405060708090a0b0c0d0e0f 010e",
        ),
        (encode_format(1), "01000000"),
        (
            encode_mark(Mark(5, 6, SOON, 3)),
            f"0500000000000000 0600000000000000 {SOON_LE} 0300000000000000",
        ),
        (scope_hash(b"key", b"token"), "4028e67be7294c96978cf60da2c8298b"),
        (scope_hash(None, b"token"), "8c9bd5c63321bac032f28b8b4d9272bd"),
        (fingerprint("SET", [b"key", b"value"]), "d9a9ebdf7515414974813dbd8a21f854"),
    ],
    ids=range(21),
)
def test_golden_bytes(row: bytes, golden: str) -> None:
    assert row == bytes.fromhex(golden)


def test_golden_names_and_numbers() -> None:
    assert enc.FORMAT_VERSION == 1
    numbers = "STRING LIST SET ZSET HASH STREAM ARRAY VECTORSET"
    assert [getattr(enc, name) for name in numbers.split()] == [1, 2, 3, 4, 5, 6, 7, 8]
    kinds = (enc.RECLAIM_COLLECTION, enc.RECLAIM_NAMESPACE, enc.RECLAIM_IDEM)
    assert kinds == (1, 2, 3)
    assert (enc.IDS_ROW, enc.IDEM_COUNT_ROW) == (b"!ids", b"!idem")
    cursors = (enc.CURSOR_EXPIRY, enc.CURSOR_IDEM, enc.CURSOR_RECLAIM)
    assert cursors == (b"sexpiry", b"sidem", b"sreclaim")
    assert enc.CHUNK == 65536
    assert enc.FIRST_EPOCH == 131072


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "01",
        "0100",
        "00 00 H",  # type 0
        "09 00 H",  # an unknown type
        "01 08 H",  # an unknown flag
        "02 04 H 0700000000000000 0100010000000000",  # chunks of a list
        "01 01 H 00",  # a deadline cut short
        "01 01 H 0000000000000000",  # a deadline at 0
        f"01 02 H {SOON_LE} 76",  # a row without a deadline
        f"01 03 H {SOON_LE} {LATER_LE} 76",  # a row behind the deadline
        "01 04 H 0700000000000000 0000010000000000",  # chunks of a short string
        "01 04 H 0700000000000000 0100010000000000 00",  # bytes behind the chunks
        "05 00 H 0700000000000000",  # a collection without a count
    ],
)
def test_what_breaks_the_grammar_of_metadata_is_refused(raw: str) -> None:
    with pytest.raises(CorruptRecord):
        enc.decode_record(bytes.fromhex(raw.replace("H", HEAD.hex())))
