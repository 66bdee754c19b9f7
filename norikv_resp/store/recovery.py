"""Opening a data directory: the lock, the layout, LevelDB, the mark and what to replay.

    DIR/lock     held (flock) for as long as the store is open
    DIR/log/     the commit log's segments
    DIR/db/      LevelDB
    DIR/aside/   LevelDB's own log files of the start before, never read

LevelDB's tables and the commit log are the database. A start replays every frame behind the
mark in the tables. A log that ends before an index that LevelDB contains, or that begins
behind the mark, is damage: a part of the history is missing, and nothing is opened.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from norikv_resp.commitlog import CommitLog, Frame, LogDamage
from norikv_resp.durable import make_directory, sync_directory
from norikv_resp.store.errors import DirectoryInUse, NewerFormat, StoreDamage, StoreError
from norikv_resp.store.layers import Layer, cost
from norikv_resp.store.leveldb import (
    CorruptionError,
    LevelDB,
    LevelDBError,
    LevelDBOptions,
    Opener,
    move_logs_aside,
    rebuild_tables,
)
from norikv_resp.store.mark import (
    FORMAT,
    FORMAT_ROW,
    MARK_ROW,
    NO_MARK,
    Mark,
    decode_format,
    decode_mark,
    encode_format,
    encode_mark,
)


class DataDirectory:
    """A data directory that this process holds the lock of."""

    def __init__(self, path: Path) -> None:
        """Make the directory (mode 0700) where it is missing and lock it.

        Raises DirectoryInUse, or StoreError when it cannot be made or entered.
        """
        self.path = path
        self.log = path / "log"
        self.db = path / "db"
        self.aside = path / "aside"
        try:
            make_directory(path)
            self._fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(f"cannot use the directory {path}: {error.strerror}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise StoreError(f"cannot lock {path / 'lock'}: {error.strerror}") from None
            raise DirectoryInUse(f"another server is using this directory: {path}") from None
        try:
            make_directory(self.log)
            make_directory(self.db)
            sync_directory(path)
        except OSError as error:
            os.close(self._fd)
            raise StoreError(f"cannot use the directory {path}: {error.strerror}") from None

    def free_bytes(self) -> int:
        """Return the space that is free for this process on the directory's file system."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def release(self) -> None:
        """Let others use the directory."""
        os.close(self._fd)


@dataclass(slots=True)
class Opened:
    """LevelDB as the start found it."""

    db: LevelDB
    mark: Mark
    fresh: bool  # Holds no format row yet.


def open_tables(directory: DataDirectory, opener: Opener, options: LevelDBOptions) -> Opened:
    """Open LevelDB by its tables alone and read the mark.

    Raises StoreDamage when the tables are damaged, NewerFormat, or StoreError.
    """
    path = str(directory.path)
    had_tables = any(name.endswith((".ldb", ".sst")) for name in os.listdir(directory.db))
    try:
        move_logs_aside(directory.db, directory.aside)
        db = opener(directory.db, options)
    except (CorruptionError, LevelDBError) as error:
        if "lock" in str(error).lower() and "corruption" not in str(error).lower():
            raise StoreError(f"cannot open LevelDB in {directory.db}: {error}") from None
        saved = "A repair keeps every record of the tables that can still be read"
        raise StoreDamage(f"LevelDB in {directory.db} is damaged: {error}", saved, path) from None
    except OSError as error:
        raise StoreError(f"cannot open LevelDB in {directory.db}: {error}") from None
    try:
        return Opened(db, *_read_mark(db, directory, had_tables))
    except BaseException:
        db.close()
        raise


def _read_mark(db: LevelDB, directory: DataDirectory, had_tables: bool) -> tuple[Mark, bool]:
    path = str(directory.path)
    saved = "A repair keeps every record that can still be read"
    try:
        raw_format = db.get(FORMAT_ROW, verify_checksums=True)
        raw_mark = db.get(MARK_ROW, verify_checksums=True)
    except LevelDBError as error:
        raise StoreDamage(f"LevelDB in {directory.db} is damaged: {error}", saved, path) from None
    if raw_format is None and raw_mark is None:
        if had_tables and _first_row(db) is not None:
            what = f"LevelDB in {directory.db} holds rows but no format version"
            raise StoreDamage(what, saved, path)
        return NO_MARK, True
    try:
        version = decode_format(raw_format or b"")
        mark = decode_mark(raw_mark or b"")
    except ValueError as error:
        what = f"LevelDB in {directory.db} holds {error}"
        raise StoreDamage(what, saved, path) from None
    if version > FORMAT:
        raise NewerFormat(
            f"the data in {path} has format version {version}, this server knows {FORMAT}:"
            " start the newer server that wrote it"
        )
    return mark, False


def _first_row(db: LevelDB) -> bytes | None:
    cursor = db.iterator(start=b"", stop=b"\xff" * 16, reverse=False, verify_checksums=True)
    try:
        for key, _ in cursor:
            return key
        return None
    finally:
        cursor.close()


class LocalLog(CommitLog, Protocol):
    """A commit log that can be judged against what LevelDB holds."""

    @property
    def failure(self) -> str | None:
        """Why appends fail now; None when they do not."""

    def recover(self, after: int, reach: int = 0, *, salvage: bool = False) -> Iterator[Frame]:
        """Yield the frames with `last` > `after`; LogDamage when synced ones are missing.

        `reach` is the highest index that LevelDB holds a record of. With `salvage` what cannot
        be read is given up instead.
        """


@dataclass(slots=True)
class Replayed:
    """What the commit log held behind the mark."""

    layer: Layer
    clock: int
    frames: int


def replay(directory: DataDirectory, log: LocalLog, mark: Mark, *, salvage: bool) -> Replayed:
    """Read the frames behind the mark into one layer; about a million records a second.

    Raises StoreDamage when the history has a hole or ends before an index that LevelDB holds,
    unless `salvage` gives up what is missing.
    """
    path = str(directory.path)
    layer = Layer({}, 0, mark.settled)
    clock = mark.clock
    frames = 0
    try:
        for frame in log.recover(mark.settled, mark.contained, salvage=salvage):
            layer.absorb(frame.rows, cost(frame.rows))
            layer.last = frame.last
            clock = max(clock, frame.clock)
            frames += 1
    except LogDamage as damage:
        hint = ""
        if damage.saved_through < mark.contained:
            hint = " (this may be a copy that was taken from a running server)"
        raise StoreDamage(
            f"the commit log is damaged: {damage.path} at byte {damage.offset}:"
            f" {damage.reason}{hint}",
            f"A repair keeps everything through index {layer.last} and what LevelDB holds of"
            f" later ones (up to {mark.contained})",
            path,
        ) from None
    if layer.last < mark.contained:
        if not salvage:
            raise StoreDamage(
                f"the commit log ends at index {layer.last}, but LevelDB holds records of index"
                f" {mark.contained} (this may be a copy that was taken from a running server)",
                f"A repair keeps everything through index {layer.last} and what LevelDB holds"
                " of later ones",
                path,
            )
        layer.last = mark.contained
    return Replayed(layer, max(clock, log.clock), frames)


def merged_rows(
    stored_rows: Iterable[tuple[bytes, bytes]], rows: dict[bytes, bytes], keys: Iterable[bytes]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the live rows of LevelDB (`stored_rows`) under those of `rows` named by `keys`.

    Both in order, as are the results; for tools.
    """
    keys = iter(keys)
    key = next(keys, None)
    for row, stored in stored_rows:
        while key is not None and key < row:
            if rows[key]:
                yield key, rows[key]
            key = next(keys, None)
        value = stored
        if key == row:
            value = rows[row]
            key = next(keys, None)
        if value:
            yield row, value
    while key is not None:
        if rows[key]:
            yield key, rows[key]
        key = next(keys, None)


def repair_tables(
    directory: DataDirectory, opener: Opener, options: LevelDBOptions, *, rebuild: bool
) -> list[str]:
    """Make LevelDB openable again and its mark readable; return what was done.

    With `rebuild` its tables are written anew in any case, without what cannot be read. The
    log files are put aside first, so that a repair never revives what they hold.
    """
    done: list[str] = []
    try:
        opened = open_tables(directory, opener, options)
    except StoreDamage as damage:
        done.append(damage.what)
    else:
        opened.db.close()
        if not rebuild:
            return done
    rebuild_tables(directory.db)
    move_logs_aside(directory.db, directory.aside)
    done.append("LevelDB's list of tables was made again from the tables that can be read")
    db = opener(directory.db, options)
    try:
        try:
            mark = db.get(MARK_ROW, verify_checksums=True)
            decode_mark(mark or b"")
        except (LevelDBError, ValueError):
            done.append("the mark was lost: every frame of the commit log is replayed")
            mark = encode_mark(NO_MARK)
        batch = db.write_batch()
        batch.put(FORMAT_ROW, encode_format(FORMAT))
        batch.put(MARK_ROW, mark or encode_mark(NO_MARK))
        batch.write()
        db.compact_range(start=b"\0", stop=b"\0")
    finally:
        db.close()
    return done
