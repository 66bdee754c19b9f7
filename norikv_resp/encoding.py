"""The byte grammar of what is stored in LevelDB, as docs/storage-format.md gives it.

Row keys begin with a family byte; integers in them are big-endian, so that
byte order is numeric order. Integers in values are little-endian. Every
number in this file is on disk and frozen: tests/unit/test_encoding.py holds
golden bytes. An empty value is never a record: it stands for a deletion.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

FORMAT_VERSION = 1

# Type numbers, on disk, frozen.
STRING, LIST, SET, ZSET, HASH, STREAM, ARRAY, VECTORSET = range(1, 9)

TYPE_NAMES = {
    STRING: b"string",
    LIST: b"list",
    SET: b"set",
    ZSET: b"zset",
    HASH: b"hash",
    STREAM: b"stream",
    ARRAY: b"array",
    VECTORSET: b"vectorset",
}

# Row families, on disk, frozen.
ROW_SYSTEM, ROW_DATABASE, ROW_KEY, ROW_ELEMENT = b"!", b"d", b"m", b"e"
ROW_EXPIRY, ROW_IDEM, ROW_IDEM_EXPIRY, ROW_RECLAIM, ROW_SWEEP = b"x", b"i", b"j", b"r", b"s"
IDS_ROW, IDEM_COUNT_ROW = b"!ids", b"!idem"

# Where each sweep goes on, on disk, frozen: nothing is left below that row of its family.
CURSOR_EXPIRY, CURSOR_IDEM, CURSOR_RECLAIM = b"sexpiry", b"sidem", b"sreclaim"

#: Lower epochs are those that numbered databases begin with: two each.
FIRST_EPOCH = 2 * 65536

# What a reclamation row names, on disk, frozen.
RECLAIM_COLLECTION, RECLAIM_NAMESPACE, RECLAIM_IDEM = 1, 2, 3

#: The value of a row whose key says everything. A reclamation row's value goes on with the
#: last element key that has been removed.
PRESENT = b"\x01"

#: Longer strings are stored as chunks of this many bytes.
CHUNK = 65536

# Flags of a metadata record, on disk, frozen.
_HAS_EXPIRY, _HAS_ROW, _HAS_CHUNKS, _ALL_FLAGS = 1, 2, 4, 7

_head = struct.Struct("<BBQQ")
_u64 = struct.Struct("<Q")
_two_u64 = struct.Struct("<QQ")
_database = struct.Struct("<IIQQQQ")
_ids = struct.Struct("<QI")
_idem_head = struct.Struct("<Q16s")
_key_u32 = struct.Struct(">I")
_key_u64 = struct.Struct(">Q")

#: What the value of a plain string's row begins with: a string without flags, which is therefore
#: short, has no deadline, and stands behind the head.
PLAIN = bytes((STRING, 0))

pack_head = _head.pack
_unpack_head = _head.unpack_from
_unpack_u64 = _u64.unpack_from
_unpack_two_u64 = _two_u64.unpack_from
HEAD_SIZE = _head.size


def plain_index(raw: bytes) -> int:
    """The index of a plain string's version, from its row's value."""
    index: int = _unpack_u64(raw, 10)[0]
    return index


def plain_version(raw: bytes) -> tuple[int, int]:
    """The version of a plain string, the database's floor left out, from its row's value."""
    term, index = _unpack_two_u64(raw, 2)
    return term, index


class CorruptRecord(Exception):
    """A stored record does not follow the grammar."""


class Chunks(NamedTuple):
    """Where a long string is: ``length`` bytes in chunk rows under ``cid``."""

    cid: int
    length: int


class Collection(NamedTuple):
    """The body of a collection's metadata; ``extra`` is the type's own."""

    cid: int
    count: int  # type: ignore[assignment]  # hides tuple's method of that name
    extra: bytes = b""


class Record(NamedTuple):
    """A decoded metadata record: one key.

    ``expire_at`` is a deadline in Unix milliseconds, 0 for none; ``row_at``
    is the time of the key's row in the expiry index, 0 for none, never later
    than ``expire_at``.
    """

    type: int
    term: int
    index: int  # type: ignore[assignment]  # hides tuple's method of that name
    expire_at: int
    row_at: int
    value: bytes | Chunks | Collection


def namespace_prefix(ns: int) -> bytes:
    """What the metadata rows of one database epoch begin with."""
    return ROW_KEY + _key_u32.pack(ns)


def element_prefix(cid: int) -> bytes:
    """What the element rows of one collection begin with."""
    return ROW_ELEMENT + _key_u64.pack(cid)


def chunk_row(cid: int, number: int) -> bytes:
    """The row key of one chunk of a long string."""
    return ROW_ELEMENT + _key_u64.pack(cid) + _key_u32.pack(number)


def expiry_row(at: int, ns: int, key: bytes) -> bytes:
    """The expiry index row of a key."""
    return ROW_EXPIRY + _key_u64.pack(at) + _key_u32.pack(ns) + key


def split_expiry_row(row: bytes) -> tuple[int, int, bytes]:
    """``(at, ns, key)`` of an expiry index row; CorruptRecord if it is too short."""
    if len(row) < 13:
        raise CorruptRecord(f"expiry row of {len(row)} bytes")
    return _key_u64.unpack_from(row, 1)[0], _key_u32.unpack_from(row, 9)[0], row[13:]


def idem_row(epoch: int, scope: bytes) -> bytes:
    """The row key of an idempotency record; *scope* is a 16-byte hash."""
    return ROW_IDEM + _key_u32.pack(epoch) + scope


def idem_expiry_row(at: int, epoch: int, scope: bytes) -> bytes:
    """The expiry index row of an idempotency record."""
    return ROW_IDEM_EXPIRY + _key_u64.pack(at) + _key_u32.pack(epoch) + scope


def split_idem_expiry_row(row: bytes) -> tuple[int, int, bytes]:
    """``(at, epoch, scope)`` of an idempotency expiry row; CorruptRecord if it is not one."""
    if len(row) != 29:
        raise CorruptRecord(f"idempotency expiry row of {len(row)} bytes")
    return _key_u64.unpack_from(row, 1)[0], _key_u32.unpack_from(row, 9)[0], row[13:]


def reclaim_row(index: int, kind: int, number: int) -> bytes:
    """The row that queues a collection or an epoch for reclamation.

    *index* is that of the command that deleted it, so that the queue is in
    order of arrival and its reader never goes back over what it has removed.
    """
    return ROW_RECLAIM + _key_u64.pack(index) + bytes((kind,)) + _key_u64.pack(number)


def reclaim_bound(index: int) -> bytes:
    """The least reclamation row of a command's index; a bound for ranges."""
    return ROW_RECLAIM + _key_u64.pack(index)


def split_reclaim_row(row: bytes) -> tuple[int, int, int]:
    """``(index, kind, number)`` of a reclamation row; CorruptRecord if it is not one."""
    if len(row) != 18 or not RECLAIM_COLLECTION <= row[9] <= RECLAIM_IDEM:
        raise CorruptRecord(f"reclamation row of {len(row)} bytes: {row[:18].hex()}")
    return _key_u64.unpack_from(row, 1)[0], row[9], _key_u64.unpack_from(row, 10)[0]


def expiry_bound(at: int) -> bytes:
    """The least expiry row of deadline *at*; a bound for ranges."""
    return ROW_EXPIRY + _key_u64.pack(at)


def idem_expiry_bound(at: int) -> bytes:
    """The least idempotency expiry row of deadline *at*; a bound for ranges."""
    return ROW_IDEM_EXPIRY + _key_u64.pack(at)


def idem_prefix(epoch: int) -> bytes:
    """What the idempotency records of one epoch begin with."""
    return ROW_IDEM + _key_u32.pack(epoch)


def database_row(number: int) -> bytes:
    """The row that describes one numbered database."""
    return ROW_DATABASE + number.to_bytes(2, "big")


class DatabaseRecord(NamedTuple):
    """A numbered database: its epochs, its version floor, its counts."""

    ns: int
    idem_epoch: int
    floor_term: int
    floor_index: int
    keys: int
    expires: int


def encode_database(record: DatabaseRecord) -> bytes:
    """The value of a database row."""
    return _database.pack(*record)


def decode_database(raw: bytes) -> DatabaseRecord:
    """Inverse of encode_database; CorruptRecord if *raw* is not one."""
    try:
        return DatabaseRecord(*_database.unpack(raw))
    except struct.error:
        raise CorruptRecord(f"database row of {len(raw)} bytes") from None


def encode_ids(next_cid: int, next_ns: int) -> bytes:
    """The value of IDS_ROW: the next collection id and the next epoch number."""
    return _ids.pack(next_cid, next_ns)


def decode_ids(raw: bytes) -> tuple[int, int]:
    """Inverse of encode_ids; CorruptRecord if *raw* is not one."""
    try:
        next_cid, next_ns = _ids.unpack(raw)
    except struct.error:
        raise CorruptRecord(f"ids row of {len(raw)} bytes") from None
    return next_cid, next_ns


def encode_count(count: int) -> bytes:
    """The value of IDEM_COUNT_ROW: how many idempotency records there are."""
    return _u64.pack(count)


def decode_count(raw: bytes) -> int:
    """Inverse of encode_count; CorruptRecord if *raw* is not one."""
    try:
        count: int = _u64.unpack(raw)[0]
    except struct.error:
        raise CorruptRecord(f"count row of {len(raw)} bytes") from None
    return count


class IdempotencyRecord(NamedTuple):
    """The stored reply of a command that was run under a token."""

    expire_at: int
    fingerprint: bytes
    reply: bytes


def encode_idempotency(record: IdempotencyRecord) -> bytes:
    """u64 expiry, 16-byte fingerprint of the command, the frozen reply."""
    return _idem_head.pack(record.expire_at, record.fingerprint) + record.reply


def decode_idempotency(raw: bytes) -> IdempotencyRecord:
    """Inverse of encode_idempotency; CorruptRecord if *raw* is not one."""
    try:
        expire_at, fingerprint = _idem_head.unpack_from(raw)
    except struct.error:
        raise CorruptRecord(f"idempotency record of {len(raw)} bytes") from None
    return IdempotencyRecord(expire_at, fingerprint, raw[_idem_head.size :])


def encode_record(record: Record) -> bytes:
    """The value of a metadata row."""
    type_, term, index, expire_at, row_at, value = record
    flags = 0
    expiry = b""
    if expire_at:
        if row_at == expire_at:
            flags = _HAS_EXPIRY
            expiry = _u64.pack(expire_at)
        else:
            assert 0 < row_at < expire_at
            flags = _HAS_EXPIRY | _HAS_ROW
            expiry = _two_u64.pack(expire_at, row_at)
    if type(value) is bytes:
        body = value
    elif type(value) is Chunks:
        flags |= _HAS_CHUNKS
        body = _two_u64.pack(*value)
    else:
        assert type(value) is Collection
        body = _two_u64.pack(value.cid, value.count) + value.extra
    return pack_head(type_, flags, term, index) + expiry + body


def decode_record(raw: bytes) -> Record:
    """Inverse of encode_record; CorruptRecord if *raw* does not follow the grammar."""
    try:
        type_, flags, term, index = _unpack_head(raw)
        at = HEAD_SIZE
        expire_at = row_at = 0
        if flags:
            if flags > _ALL_FLAGS or (flags & _HAS_CHUNKS and type_ != STRING):
                raise CorruptRecord(f"unknown flags {flags:#x} of type {type_}")
            if flags & _HAS_EXPIRY:
                expire_at = row_at = _u64.unpack_from(raw, at)[0]
                at += 8
                if flags & _HAS_ROW:
                    row_at = _u64.unpack_from(raw, at)[0]
                    at += 8
                    if row_at >= expire_at:
                        raise CorruptRecord(f"expiry row at {row_at}, deadline {expire_at}")
                if not row_at:
                    raise CorruptRecord("a deadline at 0")
            elif flags & _HAS_ROW:
                raise CorruptRecord("an expiry row without a deadline")
        value: bytes | Chunks | Collection
        if type_ == STRING:
            if flags & _HAS_CHUNKS:
                value = Chunks(*_two_u64.unpack_from(raw, at))
                if len(raw) != at + 16 or value.length <= CHUNK:
                    raise CorruptRecord(f"string in chunks of {value.length} bytes")
            else:
                value = raw[at:]
        elif type_ in TYPE_NAMES:
            cid, count = _two_u64.unpack_from(raw, at)
            value = Collection(cid, count, raw[at + 16 :])
        else:
            raise CorruptRecord(f"unknown type {type_}")
    except struct.error:
        raise CorruptRecord(f"metadata record of {len(raw)} bytes is cut short") from None
    return Record(type_, term, index, expire_at, row_at, value)


def peek_record(raw: bytes) -> tuple[int, int]:
    """``(type, expire_at)`` of a metadata row without decoding its value; CorruptRecord."""
    if len(raw) < HEAD_SIZE + 8 * (raw[1] & _HAS_EXPIRY if len(raw) > 1 else 0):
        raise CorruptRecord(f"metadata record of {len(raw)} bytes is cut short")
    if raw[0] not in TYPE_NAMES:
        raise CorruptRecord(f"unknown type {raw[0]}")
    return raw[0], _u64.unpack_from(raw, HEAD_SIZE)[0] if raw[1] & _HAS_EXPIRY else 0


def prefix_end(prefix: bytes) -> bytes:
    """The least bytes greater than everything that begins with *prefix*; ValueError if none."""
    trimmed = prefix.rstrip(b"\xff")
    if not trimmed:
        raise ValueError("nothing is greater than everything that begins with 0xff bytes")
    return trimmed[:-1] + bytes((trimmed[-1] + 1,))
