"""A data directory written in this process, without a server: keys, deadlines, stored replies."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from norikv_resp.database import Database
from norikv_resp.idempotency import Idempotency
from norikv_resp.keyspace import Keyspace
from norikv_resp.store import LevelDBOptions, StoreOptions, open_store

SMALL = StoreOptions(
    min_free_disk=0,
    leveldb=LevelDBOptions(write_buffer=64 << 10, max_file_size=64 << 10, max_open_files=200),
)


class Data:
    """Opens *path* for writing; every `write` is a command of its own, committed at once."""

    def __init__(self, path: Path, databases: int = 4) -> None:
        self.path = path
        self.store = open_store(path, options=SMALL)
        self.keyspace = Keyspace(self.store, databases, 1 << 20)
        self.idempotency = Idempotency(window_ms=3_600_000, max_records=1000)
        self.idempotency.load(self.keyspace)
        self.tokens = itertools.count()

    def __enter__(self) -> Data:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.store.close()

    @property
    def now(self) -> int:
        return self.keyspace.now

    def write(self, change: Callable[[Database], Any], database: int = 0) -> Any:
        self.keyspace.begin_batch()
        self.keyspace.index += 1
        result = change(self.keyspace.databases[database])
        self.keyspace.seal()
        return result

    def put(self, key: bytes, value: bytes, ttl: int = 0, database: int = 0) -> None:
        self.write(lambda db: db.put(key, value, self.now + ttl if ttl else 0), database)

    def once(self, key: bytes, value: bytes, ttl: int | None = None, database: int = 0) -> None:
        """SET under a token of its own."""
        token = b"token%d" % next(self.tokens)

        def change(db: Database) -> Any:
            def run() -> bytes:
                db.put(key, value)
                return value

            return self.idempotency.run(db, key, token, ttl, token.ljust(16), run)

        self.write(change, database)

    def rows(self, rows: dict[bytes, bytes]) -> None:
        """Write rows past the keyspace: damage of one's own making."""
        self.keyspace.index += 1
        self.store.open.update(rows)
        self.keyspace.seal()

    def some_of_everything(self) -> None:
        """Every kind of row that a server writes."""
        for number in range(200):
            self.put(b"key%03d" % number, b"v" * 50, ttl=1000 * 60 * number)
            self.put(b"other%03d" % number, b"w" * (number % 7), database=1)
        self.put(b"long", b"0123456789" * 20_000, ttl=60_000_000)
        self.put(b"longer", b"abc" * 70_000)
        for number in range(20):
            self.once(b"once%d" % number, b"value")
            self.once(b"once%d" % number, b"value", database=1)
        self.put(b"key005", b"x", ttl=90_000_000)  # its expiry row stays where it is
        self.put(b"deleted", b"z" * 100_000)
        self.write(lambda db: db.delete(b"deleted"))
        self.put(b"flushed", b"z" * 100_000, ttl=1000, database=2)
        self.write(lambda db: self.keyspace.flush([db]), database=2)
        self.put(b"new", b"1", database=2)
        self.write(lambda db: self.keyspace.swap(db, self.keyspace.databases[3]), database=2)
