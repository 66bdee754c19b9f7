"""Commands that run at most once: stored replies under a token.

The reply of a command that changed something is staged in the same frame as
the change, so either both survive or neither does.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import xxhash

from norikv_resp.encoding import (
    IDEM_COUNT_ROW,
    PRESENT,
    IdempotencyRecord,
    decode_count,
    decode_idempotency,
    encode_count,
    encode_idempotency,
    idem_expiry_row,
    idem_row,
)
from norikv_resp.errors import IdempotencyMismatch, ReplyError
from norikv_resp.protocol import freeze, thaw

if TYPE_CHECKING:
    from norikv_resp.command import Request
    from norikv_resp.database import Database
    from norikv_resp.keyspace import Keyspace

TOO_MANY = ReplyError(
    b"ERR too many idempotency records: raise idempotency-max-records or use shorter TTLs"
)
IDEM_READ = ReplyError(b"ERR IDEM needs a write command")
IDEM_NESTED = ReplyError(b"ERR IDEM inside IDEM is not allowed")


def scope_hash(key: bytes | None, token: bytes) -> bytes:
    """16 bytes for the pair of first key and token; a missing key differs from an empty one."""
    prefix = b"\0" if key is None else b"\1" + struct.pack("<Q", len(key)) + key
    return xxhash.xxh3_128_digest(prefix + token)


def fingerprint(name: str, arguments: Request) -> bytes:
    """16 bytes for a command: its name without case, its arguments byte for byte."""
    digest = xxhash.xxh3_128(name.encode())
    for argument in arguments:
        digest.update(struct.pack("<Q", len(argument)))
        digest.update(argument)
    return digest.digest()


class Idempotency:
    """The stored replies of all databases, bounded in number."""

    def __init__(self, window_ms: int, max_records: int) -> None:
        self.window_ms = window_ms
        self.max_records = max_records
        self.records = 0
        # Counted since start, for INFO.
        self.replayed = 0
        self.mismatched = 0

    def load(self, keyspace: Keyspace) -> None:
        """Read how many replies are stored."""
        raw = keyspace.store.get(IDEM_COUNT_ROW)
        self.records = decode_count(raw) if raw is not None else 0

    def stage_count(self, rows: dict[bytes, bytes]) -> None:
        """Write the number of stored replies into the frame being staged."""
        rows[IDEM_COUNT_ROW] = encode_count(self.records)

    def run(
        self,
        database: Database,
        key: bytes | None,
        token: bytes,
        ttl: int | None,
        print_: bytes,
        execute: Callable[[], Any],
    ) -> Any:
        """The stored reply of *token* in its scope, else what *execute* returns, stored.

        *execute* may raise ReplyError: then nothing is stored. IdempotencyMismatch if the token was
        used for another command. The look-up comes before *execute* judges anything.
        """
        keyspace = database.keyspace
        scope = scope_hash(key, token)
        row = idem_row(database.idem_epoch, scope)
        raw = keyspace.store.get(row)
        if raw is not None:
            record = decode_idempotency(raw)
            if record.expire_at > keyspace.now:
                if keyspace.index > keyspace.store.durable and keyspace.store.is_pending(row):
                    keyspace.depend_on_all()
                if record.fingerprint != print_:
                    self.mismatched += 1
                    raise IdempotencyMismatch
                self.replayed += 1
                return thaw(record.reply)
        if raw is None and self.records >= self.max_records:
            raise TOO_MANY
        before = keyspace.changes
        reply = execute()
        if keyspace.changes != before:
            if row != idem_row(database.idem_epoch, scope):
                raw = None  # Flushed: the old epoch's record is reclaimed with its epoch.
            self._store(database, scope, ttl, print_, reply, raw)
        return reply

    def _store(
        self,
        database: Database,
        scope: bytes,
        ttl: int | None,
        print_: bytes,
        reply: Any,
        replaced: bytes | None,
    ) -> None:
        keyspace = database.keyspace
        rows = keyspace.store.open
        epoch = database.idem_epoch  # a flush has begun a new one by now
        expire_at = keyspace.now + (self.window_ms if ttl is None else ttl)
        if replaced is not None:
            stale = decode_idempotency(replaced)
            rows[idem_expiry_row(stale.expire_at, epoch, scope)] = b""
        else:
            self.records += 1
        record = IdempotencyRecord(expire_at, print_, freeze(reply))
        rows[idem_row(epoch, scope)] = encode_idempotency(record)
        rows[idem_expiry_row(expire_at, epoch, scope)] = PRESENT
        self.stage_count(rows)
