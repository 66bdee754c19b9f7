"""open_store: from a path to a running Store."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from norikv_resp.commitlog import Frame, LogError
from norikv_resp.store.core import Policy, Store
from norikv_resp.store.errors import StoreError
from norikv_resp.store.leveldb import Opener, open_leveldb
from norikv_resp.store.options import StoreOptions
from norikv_resp.store.recovery import DataDirectory, LocalLog, open_tables, replay
from norikv_resp.store.settle import Settler
from norikv_resp.store.worker import CallSoon, ThreadWorker, Worker


@dataclass(frozen=True, slots=True)
class Workers:
    """The thread that writes LevelDB and the one that asks it for checkpoints."""

    writer: Worker
    flusher: Worker


def open_store(
    path: str | Path,
    *,
    log: Callable[[Path], LocalLog],
    replay_again: Callable[[Path, int], Iterable[Frame]],
    options: StoreOptions | None = None,
    policy: Policy = "always",
    call_soon: CallSoon | None = None,
    opener: Opener = open_leveldb,
    workers: Workers | None = None,
) -> Store:
    """Lock and open the data directory at `path`, making it where it is missing.

    `log` makes the commit log of a directory; `replay_again` reads a running log's frames
    behind an index. `call_soon` is the loop's call_soon_threadsafe. Raises DirectoryInUse,
    NewerFormat, StoreDamage, StoreError. A start costs the replay of what had not settled.
    """
    options = options or StoreOptions()
    directory = DataDirectory(Path(path))
    try:
        opened = open_tables(directory, opener, options.leveldb)
        try:
            commit_log = log(directory.log)
            replayed = replay(directory, commit_log, opened.mark)
        except LogError as error:
            opened.db.close()
            raise StoreError(str(error)) from None
        except BaseException:
            opened.db.close()
            raise
    except BaseException:
        directory.release()
        raise
    if workers is None:
        workers = Workers(
            ThreadWorker("leveldb-writer", call_soon), ThreadWorker("leveldb-flusher", call_soon)
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
    if opened.fresh:
        settler.write_format()
    store = Store(directory, commit_log, settler, replayed.layer, replayed.clock, options, policy)
    store.start(max(commit_log.term, opened.mark.term) + 1)
    return store
