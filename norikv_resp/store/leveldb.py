"""The only door to plyvel: opening, options, and what LevelDB's log files tell.

LevelDB's own log is never trusted (a hole in it loses records without a word), so an opening
first moves the log files aside; what they held is replayed from the commit log. The files
still serve as a signal: LevelDB unlinks one only after the table of its memtable, the
directory and the MANIFEST were synced.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import plyvel

from norikv_resp.durable import sync_directory
from norikv_resp.worker import giving_way

LevelDBError: type[Exception] = plyvel.Error
CorruptionError: type[Exception] = plyvel.CorruptionError


class Batch(Protocol):
    """Puts and deletes that LevelDB applies as one."""

    def put(self, key: bytes, value: bytes) -> None: ...

    def delete(self, key: bytes) -> None: ...

    def write(self) -> None: ...


class Cursor(Protocol):
    """An iterator over rows; closed before the call that made it returns."""

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]: ...

    def close(self) -> None: ...


class RawCursor(Protocol):
    """A cursor that is moved by hand; after an error it stands on the next readable row."""

    def seek(self, target: bytes) -> None: ...

    def next(self) -> None: ...

    def valid(self) -> bool: ...

    def key(self) -> bytes: ...

    def value(self) -> bytes: ...

    def close(self) -> None: ...


class LevelDB(Protocol):
    """The part of plyvel.DB that the store uses; tests inject others."""

    def get(self, key: bytes, *, verify_checksums: bool) -> bytes | None: ...

    def iterator(
        self, *, start: bytes, stop: bytes, reverse: bool, verify_checksums: bool
    ) -> Cursor: ...

    def raw_iterator(self, *, verify_checksums: bool) -> RawCursor: ...

    def write_batch(self) -> Batch: ...

    def compact_range(self, *, start: bytes, stop: bytes) -> None: ...

    def get_property(self, name: bytes) -> bytes | None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class LevelDBOptions:
    """Sizes in bytes. Measured: 64 MB memtables over 2 MB tables stall writers least."""

    write_buffer: int = 64 << 20
    max_file_size: int = 2 << 20
    block_cache: int = 8 << 20
    bloom_bits: int = 10
    max_open_files: int = 0  # 0: fitted to the limit on open files


Opener = Callable[[Path, LevelDBOptions], LevelDB]


def fitted_open_files(limit: int | None = None) -> int:
    """Return how many files LevelDB may hold open: half of the process's limit.

    A table that is not open costs a get 115 µs instead of 5, so this should be at least the
    number of tables (one for 2 MB of data).
    """
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if limit == resource.RLIM_INFINITY:
            limit = 1 << 20
    return max(64, min(50_000, limit // 2))


def open_leveldb(path: Path, options: LevelDBOptions) -> LevelDB:
    """Open LevelDB at `path` with paranoid checks; raises LevelDBError.

    The thread that compacts is started by the first one that finds something to do for it, and
    has its priority. So that compaction gives way to clients, such calls are made `giving_way`.
    """
    db = giving_way(
        plyvel.DB,
        str(path),
        create_if_missing=True,
        paranoid_checks=True,
        write_buffer_size=options.write_buffer,
        max_file_size=options.max_file_size,
        lru_cache_size=options.block_cache,
        bloom_filter_bits=options.bloom_bits,
        max_open_files=options.max_open_files or fitted_open_files(),
    )
    return cast(LevelDB, db)


def rebuild_tables(path: Path) -> None:
    """Let LevelDB rebuild its MANIFEST from the tables, leaving out blocks that do not verify.

    What it replaces goes to the directory ``lost`` in `path`. An older value of a row in a
    block that is left out is found again.
    """
    plyvel.repair_db(str(path), paranoid_checks=True)


Unreadable = Callable[[bytes, bytes | None, str], None]
"""Told of rows that cannot be read: from which on, the next that can (None: none), and why."""


def readable_rows(
    db: LevelDB, start: bytes, stop: bytes, unreadable: Unreadable
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rows with start <= row < stop, going on behind blocks that do not verify."""
    low = start
    while True:
        cursor = db.raw_iterator(verify_checksums=True)
        try:
            cursor.seek(low)
            while cursor.valid():
                row = cursor.key()
                if row >= stop:
                    return
                yield row, cursor.value()
                low = row + b"\0"
                cursor.next()
            return
        except LevelDBError as error:
            following = cursor.key() if cursor.valid() else None
            unreadable(low, following, str(error))
            if following is None or following >= stop:
                return
            yield following, cursor.value()
            low = following + b"\0"
        finally:
            cursor.close()


def log_numbers(names: Iterable[str]) -> list[int]:
    """Return the numbers of the log files among a directory's names, ascending."""
    return sorted(int(name[:-4]) for name in names if name.endswith(".log") and name[:-4].isdigit())


def move_logs_aside(db: Path, aside: Path) -> int:
    """Move LevelDB's log files out of `db`, replacing what an earlier start put aside."""
    numbers = log_numbers(os.listdir(db))
    if not numbers:
        return 0
    aside.mkdir(mode=0o700, exist_ok=True)
    for name in os.listdir(aside):
        os.unlink(aside / name)
    for number in numbers:
        name = f"{number:06d}.log"
        os.rename(db / name, aside / name)
    sync_directory(aside)
    sync_directory(db)
    sync_directory(db.parent)
    return len(numbers)


class LogFile:
    """One of LevelDB's log files, held open so that its end can be seen.

    LevelDB appends a batch to its log before the write returns, so a batch that left the file
    as long as it was went to a newer log.
    """

    def __init__(self, db: Path, number: int) -> None:
        self.number = number
        self._fd = os.open(db / f"{number:06d}.log", os.O_RDONLY)
        self._size = os.fstat(self._fd).st_size

    def grew(self) -> bool:
        """Whether the file is longer than when this was asked last."""
        size = os.fstat(self._fd).st_size
        grown = size > self._size
        self._size = size
        return grown

    def gone(self) -> bool:
        """Whether LevelDB has unlinked it: its memtable is a synced table."""
        return os.fstat(self._fd).st_nlink == 0

    def close(self) -> None:
        """Give the descriptor, and so the file's space, back."""
        os.close(self._fd)


def leveldb_property(db: LevelDB, name: str) -> str:
    """Return one of LevelDB's properties, such as leveldb.stats, as text."""
    raw: Any = db.get_property(name.encode())
    return "" if raw is None else bytes(raw).decode("ascii", "replace")
