"""What string commands do to a key, apart from their words and replies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import xxhash

from norikv_resp.encoding import STRING, Record
from norikv_resp.errors import WrongType

from .errors import BAD_DIGEST, STRING_TOO_LONG

if TYPE_CHECKING:
    from norikv_resp.database import Database

#: The version of a key that does not exist.
ABSENT = (0, 0)

DIGEST_SIZE = 16


def version_text(version: tuple[int, int]) -> bytes:
    """A version as clients see it."""
    return b"%d-%d" % version


def staged_version(keys: Database) -> bytes:
    """The version of whatever the running command writes."""
    return b"%d-%d" % (keys.keyspace.term, keys.keyspace.index)


def digest(value: bytes) -> bytes:
    """XXH3 of a value as 16 hexadecimal digits. O(n)."""
    return xxhash.xxh3_64_hexdigest(value).encode()


def find(keys: Database, key: bytes) -> Record | None:
    """The record of any type that a reading command asks for; misses are announced."""
    record = keys.lookup(key)
    if record is None:
        keys.notify("m", b"keymiss", key)
    return record


def read(keys: Database, key: bytes) -> Record | None:
    """The string record that a reading command asks for; misses are announced. WrongType."""
    record = find(keys, key)
    if record is not None and record.type != STRING:
        raise WrongType
    return record


def write(keys: Database, key: bytes, value: bytes, expire_at: int, *, announce: bool) -> None:
    """Make *key* this string. A deadline in the past deletes what was there.

    *announce*: the deadline is new, so that there is an ``expire`` event.
    """
    if expire_at and expire_at <= keys.keyspace.now:
        remove(keys, key)
        return
    keys.put(key, value, expire_at)
    keys.notify("$", b"set", key)
    if announce and expire_at:
        keys.notify("g", b"expire", key)


def update(keys: Database, key: bytes, value: bytes, old: Record | None, event: bytes) -> None:
    """Change a string's value and keep its deadline."""
    keys.put(key, value, old.expire_at if old is not None else 0)
    keys.notify("$", event, key)


def remove(keys: Database, key: bytes) -> bool:
    """Delete a key of any type; False if there is none."""
    if not keys.delete(key):
        return False
    keys.notify("g", b"del", key)
    return True


def matches(keys: Database, record: Record, condition: bytes, operand: bytes) -> bool:
    """Whether a string record meets IFEQ, IFNE, IFDEQ or IFDNE; BAD_DIGEST. O(n)."""
    if condition in (b"IFEQ", b"IFNE"):
        same = keys.string_length(record) == len(operand) and keys.string_value(record) == operand
        return same == (condition == b"IFEQ")
    if len(operand) != DIGEST_SIZE:
        raise BAD_DIGEST
    return (digest(keys.string_value(record)) == operand) == (condition == b"IFDEQ")


def check_length(length: int, limit: int) -> None:
    """STRING_TOO_LONG if a string of *length* bytes may not be made."""
    if length > limit:
        raise STRING_TOO_LONG


def clamp_range(start: int, end: int, length: int) -> tuple[int, int]:
    """GETRANGE's inclusive, possibly negative bounds as a Python slice."""
    if end < start < 0:
        return 0, 0  # judged first: clamping could make one byte of an empty range
    if start < 0:
        start = max(start + length, 0)
    if end < 0:
        end = max(end + length, 0)
    return start, min(end + 1, length)
