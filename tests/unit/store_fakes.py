"""A commit log in memory, workers run by hand, and LevelDBs that misbehave."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from norikv_resp.commitlog import CommitError, Frame, LogDamage, LogListener
from norikv_resp.store import Store, StoreOptions, open_store
from norikv_resp.store.leveldb import LevelDBOptions, open_leveldb
from norikv_resp.store.opening import Workers
from tests.support.workers import ManualWorker

SMALL = StoreOptions(
    settle_from=0,
    batch_records=7,
    log_budget=1 << 30,
    log_records=1 << 30,
    min_free_disk=0,
    idle_after=1e9,
    leveldb=LevelDBOptions(write_buffer=64 << 10, block_cache=1 << 16, max_open_files=100),
)


@dataclass
class Disk:
    """What outlives the process: the frames handed over, and how many of them are synced."""

    frames: list[Frame] = field(default_factory=list)
    synced: int = 0  # index
    freed: int = 0
    term: int = 0
    highest: int = 0

    def lose_unsynced(self) -> None:
        self.frames = [frame for frame in self.frames if frame.last <= self.synced]


class MemoryLog:
    """A CommitLog that answers at once, or when `deliver` is called if `late`."""

    def __init__(self, disk: Disk, *, late: bool = False) -> None:
        self.disk = disk
        self.late = late
        self.listener: LogListener | None = None
        self.queue: deque[tuple[Frame, bool]] = deque()
        self.sync_wanted = False
        self.committed = disk.frames[-1].last if disk.frames else 0
        self.closed = False
        self.failure: str | None = None

    @property
    def synced(self) -> int:
        return self.disk.synced

    @property
    def term(self) -> int:
        return self.disk.term

    @property
    def clock(self) -> int:
        return max((frame.clock for frame in self.disk.frames), default=0)

    def recover(self, after: int, reach: int = 0, *, salvage: bool = False) -> Iterator[Frame]:
        frames = [frame for frame in self.disk.frames if frame.last > self.disk.freed]
        last = frames[-1].last if frames else self.disk.freed
        if self.disk.freed > after and not salvage:
            raise LogDamage("memory", 0, f"frames {after + 1} to {self.disk.freed}", after)
        yield from (frame for frame in frames if frame.last > after)
        if last < reach and not salvage:
            raise LogDamage("memory", 0, f"frames {last + 1} to {reach}", last)
        self.committed = max(self.committed, last)
        self.disk.synced = last

    def start(self, term: int, listener: LogListener) -> int:
        assert term > self.disk.term
        self.disk.term = term
        self.listener = listener
        self.disk.highest = max(self.disk.highest, self.committed)
        return self.disk.highest + 1

    def append(self, frame: Frame, sync: bool) -> None:
        assert frame.first > self.disk.highest
        assert frame.last >= frame.first
        self.disk.highest = frame.last
        self.queue.append((frame, sync))
        if not self.late:
            self.deliver()

    def deliver(self, count: int = 1 << 30) -> None:
        assert self.listener is not None
        while self.queue and count:
            count -= 1
            frame, sync = self.queue.popleft()
            self.disk.frames.append(frame)
            self.committed = frame.last
            if sync:
                self.disk.synced = frame.last
            self.listener.on_commit(frame.last)
        if self.sync_wanted and not self.queue:
            self.sync_wanted = False
            self.disk.synced = self.committed
            self.listener.on_synced(self.committed)

    def fail(self) -> None:
        assert self.listener is not None
        self.queue.clear()
        self.listener.on_failure(CommitError("no space left", "unknown"))

    def sync(self) -> None:
        self.sync_wanted = True
        if not self.late:
            self.deliver()

    def free(self, through: int) -> None:
        assert through >= self.disk.freed
        self.disk.freed = through

    def close(self) -> None:
        self.sync_wanted = True
        self.deliver()
        self.closed = True

    def stats(self) -> Mapping[str, int | float | str]:
        return {"frames": len(self.disk.frames)}


class Trouble:
    """Opens LevelDBs whose writes fail or stall, or which do not open, when told."""

    def __init__(self) -> None:
        self.fail_writes: Exception | None = None
        self.fail_opens: Exception | None = None
        self.gate = threading.Event()  # Closed: writes stall.
        self.gate.set()
        self.opened = 0

    def open(self, path: Path, options: LevelDBOptions) -> Any:
        if self.fail_opens is not None:
            raise self.fail_opens
        self.opened += 1
        return TroubledDB(open_leveldb(path, options), self)


class TroubledDB:
    """Like LevelDB, once it has failed it stays so until it is opened again."""

    def __init__(self, db: Any, trouble: Trouble) -> None:
        self._db = db
        self._trouble = trouble
        self._broken: Exception | None = None

    def write_batch(self) -> Any:
        return TroubledBatch(self._db.write_batch(), self)

    def check(self) -> None:
        self._trouble.gate.wait()
        self._broken = self._broken or self._trouble.fail_writes
        if self._broken is not None:
            raise self._broken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class TroubledBatch:
    def __init__(self, batch: Any, db: TroubledDB) -> None:
        self.put = batch.put
        self.delete = batch.delete
        self._batch = batch
        self._db = db

    def write(self) -> None:
        self._db.check()
        self._batch.write()


class Heard:
    """A StoreListener that remembers."""

    def __init__(self) -> None:
        self.commits: list[int] = []
        self.rollbacks: list[tuple[set[bytes], CommitError]] = []

    def on_commit(self, last: int) -> None:
        self.commits.append(last)

    def on_rollback(self, dropped: set[bytes], error: CommitError) -> None:
        self.rollbacks.append((dropped, error))


class Bench:
    """A store over a MemoryLog with workers that are stepped by hand."""

    def __init__(
        self,
        path: Path,
        disk: Disk,
        *,
        options: StoreOptions = SMALL,
        late: bool = False,
        opener: Any = open_leveldb,
        policy: Any = "always",
    ) -> None:
        self.disk = disk
        self.log = MemoryLog(disk, late=late)
        self.writer = ManualWorker()
        self.flusher = ManualWorker()
        self.heard = Heard()
        self.now = 100.0
        self.store: Store = open_store(
            path,
            log=lambda _: self.log,
            replay_again=lambda _, after: MemoryLog(disk).recover(after),
            options=options,
            opener=opener,
            policy=policy,
            workers=Workers(self.writer, self.flusher),
        )
        self.store.listener = self.heard

    def put(self, rows: dict[bytes, bytes]) -> int:
        """Stage and seal rows as one frame; return its index."""
        self.store.open.update(rows)
        self.store.staged += 1
        self.store.seal(self.store.staged, self.store.staged)
        return self.store.staged

    def tick(self, seconds: float = 0.1) -> None:
        self.now += seconds
        self.store.tick(self.now)

    def run(self) -> None:
        """Let the threads do all they have."""
        while self.writer.step() or self.flusher.step():
            pass

    def settle(self) -> None:
        """Settle everything that is synced."""
        for _ in range(1000):
            self.tick(1.1)
            self.run()
            if not self.store.stats()["unsettled_records"]:
                return
        raise AssertionError(f"did not settle: {self.store.stats()}")

    def kill(self) -> None:
        """End without a word to anyone: LevelDB is closed, nothing is settled."""
        self.writer.jobs.clear()
        self.flusher.jobs.clear()
        self.store._settler.close()
        self.store._directory.release()
