"""From a path to a running Store, an offline view, or a repair."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from norikv_resp.commitlog import (
    CommitError,
    Frame,
    Inspection,
    LogError,
    OsFiles,
    SegmentLog,
    inspect,
)
from norikv_resp.commitlog.segment import Reader
from norikv_resp.store.core import Policy, Store
from norikv_resp.store.errors import ReadFailed, StoreDamage, StoreError
from norikv_resp.store.leveldb import (
    LevelDB,
    LevelDBError,
    Opener,
    Unreadable,
    open_leveldb,
    readable_rows,
)
from norikv_resp.store.mark import Mark
from norikv_resp.store.options import StoreOptions
from norikv_resp.store.recovery import (
    DataDirectory,
    LocalLog,
    Opened,
    Replayed,
    merged_rows,
    open_tables,
    repair_tables,
    replay,
)
from norikv_resp.store.settle import Settler
from norikv_resp.worker import CallSoon, ThreadWorker, Worker


@dataclass(frozen=True, slots=True)
class Workers:
    """The thread that writes LevelDB and the one that asks it for checkpoints."""

    writer: Worker
    flusher: Worker


def read_again(log: Path, after: int) -> Iterator[Frame]:
    """Yield the frames behind index `after` of a commit log that is open for writing."""
    return Reader(OsFiles(), str(log), settle=False).read(after)


def open_store(
    path: str | Path,
    *,
    options: StoreOptions | None = None,
    policy: Policy = "always",
    call_soon: CallSoon | None = None,
    log: Callable[[Path], LocalLog] = SegmentLog,
    replay_again: Callable[[Path, int], Iterable[Frame]] = read_again,
    opener: Opener = open_leveldb,
    workers: Workers | None = None,
) -> Store:
    """Lock and open the data directory at `path`, making it where it is missing.

    `call_soon` is the loop's call_soon_threadsafe. `log` makes the commit log of a directory,
    and `replay_again` reads one that is running. Raises DirectoryInUse, NewerFormat,
    StoreDamage, StoreError. A start costs the replay of what had not settled, whatever the
    size of the data.
    """
    directory = DataDirectory(Path(path))
    try:
        return _open(
            directory, options or StoreOptions(), policy, call_soon, log, replay_again, opener,
            workers, salvage=False,
        )  # fmt: skip
    except BaseException:
        directory.release()
        raise


def repair_store(
    path: str | Path,
    *,
    options: StoreOptions | None = None,
    opener: Opener = open_leveldb,
    rebuild: bool = False,
) -> list[str]:
    """Give up what cannot be read in the data directory and make the rest whole.

    With `rebuild` also LevelDB's tables of which single blocks cannot be read. Returns what was
    done, a line each; empty when nothing was damaged. Blocks. Raises DirectoryInUse,
    NewerFormat, StoreError.
    """
    options = options or StoreOptions()
    directory = DataDirectory(Path(path))
    try:
        done = repair_tables(directory, opener, options.leveldb, rebuild=rebuild)
        try:
            with _opened(directory, options, opener) as opened:
                replay(directory, SegmentLog(directory.log), opened.mark, salvage=False)
        except StoreDamage as damage:
            done += [damage.what, damage.saved]
        if done:
            store = _open(
                directory, options, "always", None, SegmentLog, read_again, opener,
                None, salvage=True,
            )  # fmt: skip
            store.close()
            return done
    except (LevelDBError, LogError, OSError) as error:
        directory.release()
        raise StoreError(f"cannot repair {directory.path}: {error}") from None
    except BaseException:
        directory.release()
        raise
    directory.release()
    return done


@dataclass(slots=True)
class Offline:
    """A stopped store's contents, for verification."""

    mark: Mark
    log: Inspection
    replayed: Replayed
    _db: LevelDB
    _keys: list[bytes]  # of the replayed layer, in order

    def get(self, row: bytes) -> bytes | None:
        """Return a row's value, None when there is none; ReadFailed when it cannot be read."""
        value = self.replayed.layer.rows.get(row)
        if value is not None:
            return value or None
        try:
            return self._db.get(row, verify_checksums=True)
        except LevelDBError as error:
            raise ReadFailed(f"LevelDB cannot read row {row!r}: {error}") from None

    def rows(
        self,
        start: bytes = b"",
        stop: bytes = b"\xff" * 32,
        unreadable: Unreadable | None = None,
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the live rows with start <= row < stop in order, checksums verified.

        Goes on behind what cannot be read after telling `unreadable`; StoreError without it.
        """
        keys = self._keys[bisect_left(self._keys, start) : bisect_left(self._keys, stop)]
        stored = readable_rows(self._db, start, stop, unreadable or _refuse)
        return merged_rows(stored, self.replayed.layer.rows, keys)


def _refuse(start: bytes, following: bytes | None, reason: str) -> None:
    raise StoreError(f"LevelDB cannot be read from row {start!r} on: {reason}")


@contextmanager
def inspect_store(
    path: str | Path, *, options: StoreOptions | None = None, opener: Opener = open_leveldb
) -> Iterator[Offline]:
    """Lock a stopped store and verify the log's frames; the caller reads the rows.

    Changes no record. Frames that cannot be read are findings in `log` and left out of the
    rows. Raises DirectoryInUse, NewerFormat, StoreDamage (LevelDB does not open), StoreError.
    """
    options = options or StoreOptions()
    directory = DataDirectory(Path(path))
    try:
        with _opened(directory, options, opener) as opened:
            mark = opened.mark
            try:
                found = inspect(
                    str(directory.log), OsFiles(), after=mark.settled, reach=mark.contained
                )
                log = SegmentLog(directory.log)
                replayed = replay(directory, log, mark, salvage=True)
            except (LogError, OSError) as error:
                raise StoreError(f"cannot read the commit log: {error}") from None
            yield Offline(mark, found, replayed, opened.db, sorted(replayed.layer.rows))
    finally:
        directory.release()


@contextmanager
def _opened(directory: DataDirectory, options: StoreOptions, opener: Opener) -> Iterator[Opened]:
    opened = open_tables(directory, opener, options.leveldb)
    try:
        yield opened
    finally:
        opened.db.close()


def _open(
    directory: DataDirectory,
    options: StoreOptions,
    policy: Policy,
    call_soon: CallSoon | None,
    make_log: Callable[[Path], LocalLog],
    replay_again: Callable[[Path, int], Iterable[Frame]],
    opener: Opener,
    workers: Workers | None,
    *,
    salvage: bool,
) -> Store:
    opened = open_tables(directory, opener, options.leveldb)
    try:
        log = make_log(directory.log)
        replayed = replay(directory, log, opened.mark, salvage=salvage)
    except (LogError, OSError) as error:
        opened.db.close()
        raise StoreError(f"cannot read the commit log: {error}") from None
    except BaseException:
        opened.db.close()
        raise
    if workers is None:
        workers = Workers(
            ThreadWorker("leveldb-writer", call_soon, gives_way=True),
            ThreadWorker("leveldb-flusher", call_soon, gives_way=True),
        )
    settler = Settler(
        opened.db,
        directory.db,
        directory.aside,
        opener,
        options.leveldb,
        workers.writer,
        workers.flusher,
        opened.mark,
        lambda after: replay_again(directory.log, after),
        options.batch_records,
    )
    try:
        if opened.fresh:
            settler.write_format()
        store = Store(directory, log, settler, replayed.layer, replayed.clock, options, policy)
        store.start(max(log.term, opened.mark.term) + 1)
    except (LogError, CommitError, LevelDBError, OSError) as error:
        settler.close()
        raise StoreError(f"cannot write in {directory.path}: {error}") from None
    except BaseException:
        settler.close()
        raise
    return store
