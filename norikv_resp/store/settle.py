"""Settling: records move from memory to LevelDB, and LevelDB's tables free commit log.

One thread writes LevelDB, a batch at a time; the loop builds each batch. A round settles one
frozen layer: its rows are written newest first and leave the layer once their batch is in
LevelDB, and the mark moves with the last batch. Nothing here trusts LevelDB's log: a round
frees commit log only when the log file that took its batches has been unlinked, which LevelDB
does after the memtable has become a synced table.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any

from norikv_resp.commitlog import Frame, LogError
from norikv_resp.store.errors import ReadFailed
from norikv_resp.store.layers import RECORD_COST, Layer, cost
from norikv_resp.store.leveldb import (
    LevelDB,
    LevelDBError,
    LevelDBOptions,
    LogFile,
    Opener,
    leveldb_property,
    log_numbers,
    move_logs_aside,
)
from norikv_resp.store.mark import (
    FORMAT,
    FORMAT_ROW,
    MARK_ROW,
    Mark,
    decode_mark,
    encode_format,
    encode_mark,
)
from norikv_resp.worker import Worker, giving_way

BATCH_BYTES = 1 << 20
"""A batch ends at this size, so that large values do not make one long write."""

STALL = 0.2
"""A batch that takes longer, in seconds, is counted as a stall."""

RETRY = 1.0
"""Seconds between attempts: to switch memtables, to open a failed LevelDB again."""

REPLAY_SLICE = 0.005
"""Seconds of replaying per tick while a failed LevelDB is being replaced."""


@dataclass(slots=True)
class SettleStats:
    """Counters since the start."""

    batches: int = 0
    records: int = 0
    coalesced: int = 0
    stalls: int = 0
    longest: float = 0.0
    checkpoints: int = 0
    reopened: int = 0


class Settler:
    """LevelDB's handle, the round being settled, and the checkpoint's position.

    Only the loop calls it. `progress` is called after every completion, when layers, the
    checkpoint or the failure may have changed, and `departed` with the rows that have left the
    round. `replay(after)` yields the commit log's frames.
    """

    def __init__(
        self,
        db: LevelDB,
        path: Path,
        aside: Path,
        opener: Opener,
        options: LevelDBOptions,
        writer: Worker,
        flusher: Worker,
        mark: Mark,
        replay: Callable[[int], Iterable[Frame]],
        batch_records: int,
    ) -> None:
        self.db: LevelDB | None = db
        self.round: Layer | None = None
        self.settled = mark.settled
        self.contained = mark.contained
        self.checkpointed = mark.settled
        self.failed: str | None = None
        self.stats = SettleStats()
        self.progress: Callable[[], None] = lambda: None
        self.departed: Callable[[list[bytes]], None] = lambda rows: None
        self._path = path
        self._aside = aside
        self._opener = opener
        self._options = options
        self._writer = writer
        self._flusher = flusher
        self._replay = replay
        self._batch_records = batch_records
        self._mark = mark
        # The batch in flight: how many rows it takes from the round, their cost, its mark.
        self._busy = False
        self._taken = 0
        self._taken_cost = 0
        self._taken_mark = mark
        # LevelDB's log files: the one that took the last batch, and older ones with the
        # index that is safe once they are gone.
        self._file: LogFile | None = None
        self._older: deque[tuple[LogFile, int]] = deque()
        self._requesting = False
        self._requested_at = 0.0
        # Replacing a failed handle.
        self._retry_at = 0.0
        self._replaying: Iterator[Frame] | None = None
        self._replayed = Layer({}, 0, 0)
        self._reopening = False
        self._attach(log_numbers(os.listdir(path)))

    @property
    def idle(self) -> bool:
        """Whether a batch can be built now."""
        return not (self._busy or self.failed)

    @property
    def checkpoint_pending(self) -> bool:
        """Whether LevelDB is already turning a memtable into a table."""
        return bool(self._older) or self._requesting

    def handle(self) -> LevelDB:
        """Return the handle to read from, waiting while it is being replaced."""
        if self.db is None and self._reopening:
            self._writer.drain()
        if self.db is None:
            raise ReadFailed(f"LevelDB is closed: {self.failed or 'the server stops'}")
        return self.db

    # -- rounds ---------------------------------------------------------------------------

    def begin(self, layer: Layer, contained: int, clock: int, term: int) -> None:
        """Start settling `layer`, which nothing may change from now on but this object.

        `contained` is the highest index of which the layer may hold a record.
        """
        assert self.round is None and layer.rows
        self.round = layer
        self.contained = max(self.contained, contained)
        self._mark = Mark(self.settled, self.contained, max(clock, self._mark.clock), term)

    def step(self, newer: dict[bytes, bytes]) -> None:
        """Build a batch of the round's rows and hand it to the writer.

        A row that the synced layer above (`newer`) holds again is left out: its frame stays
        in the commit log until that one settles. Needs `idle` and a round. About 1 ms.
        """
        layer = self.round
        db = self.db
        assert layer is not None and db is not None and self.idle
        batch = db.write_batch()
        put, delete = batch.put, batch.delete
        taken = payload = written = 0
        for key, value in islice(reversed(layer.rows.items()), self._batch_records):
            taken += 1
            payload += len(key) + len(value)
            if key in newer:
                continue
            written += 1
            if value:
                put(key, value)
                if payload > BATCH_BYTES:
                    break
            else:
                delete(key)
        mark = self._mark
        if taken == len(layer.rows):
            mark = mark._replace(settled=max(self.settled, layer.last))
        put(MARK_ROW, encode_mark(mark))
        self._busy = True
        self._taken, self._taken_cost = taken, taken * RECORD_COST + payload
        self._taken_mark = mark
        self.stats.records += written
        self.stats.coalesced += taken - written
        self._writer.submit(batch.write, self._written)

    def _written(self, _: Any, error: Exception | None, took: float) -> None:
        """The batch is in LevelDB's memtable and log, or LevelDB has failed."""
        self._busy = False
        stats = self.stats
        stats.batches += 1
        if took > STALL:
            stats.stalls += 1
        stats.longest = max(stats.longest, took)
        if error is not None:
            self._fail(error)
            self.progress()
            return
        layer = self.round
        assert layer is not None
        before = self._mark.settled
        rows = list(islice(reversed(layer.rows), self._taken))
        layer.drop_newest(self._taken, self._taken_cost)
        self._mark = self._taken_mark
        self.settled = self._mark.settled
        if not layer.rows:
            self._end_round()
        self.departed(rows)
        if self._file is None or not self._file.grew():
            self._locate(before)
        self.poll()
        self.progress()

    def _end_round(self) -> None:
        assert self.round is not None
        self.settled = max(self.settled, self.round.last)
        self.round = None

    def _fail(self, error: Exception) -> None:
        self.failed = str(error) or type(error).__name__
        self._retry_at = 0.0

    # -- checkpoints ----------------------------------------------------------------------

    def request_checkpoint(self, now: float) -> None:
        """Ask LevelDB to turn its memtable into a table; at most once a second.

        Only a request: LevelDB may drop it or fail it without a word. `checkpointed` moves
        when the log file is gone.
        """
        if now >= self._requested_at + RETRY:
            self._requested_at = now
            self._request()

    def _request(self) -> None:
        db = self.db
        if self._requesting or self.failed or db is None:
            return
        self._requesting = True
        self._flusher.submit(lambda: db.compact_range(start=b"\0", stop=b"\0"), self._requested)

    def _requested(self, _: Any, error: Exception | None, _seconds: float) -> None:
        self._requesting = False
        self.poll()
        self.progress()

    def poll(self) -> None:
        """See which log files are gone and move `checkpointed`."""
        if self._replaying is not None or self._reopening:
            return
        older = self._older
        while older and older[0][0].gone():
            file, through = older.popleft()
            file.close()
            self._checkpoint(through)
        if not (older or self._busy) and self._file is not None and self._file.gone():
            # No batch followed the switch: all that was ever written is in tables.
            self._checkpoint(self._mark.settled)
            self._file.close()
            self._file = None
            self._locate(self._mark.settled)

    def _checkpoint(self, through: int) -> None:
        self.stats.checkpoints += 1
        self.checkpointed = max(self.checkpointed, through)

    def _locate(self, settled_before: int) -> None:
        """Look for a newer log file, since the last batch did not lengthen the known one."""
        self._busy = True

        def located(names: Any, error: Exception | None, _seconds: float) -> None:
            self._busy = False
            numbers = [] if error is not None else log_numbers(names)
            file = self._file
            if file is not None and numbers and numbers[-1] > file.number:
                self._older.append((file, settled_before))
                self._file = None
            if self._file is None:
                self._attach(numbers)
            self.poll()
            self.progress()

        self._writer.submit(lambda: os.listdir(self._path), located)

    def _attach(self, numbers: list[int]) -> None:
        if numbers:
            try:
                self._file = LogFile(self._path, numbers[-1])
            except FileNotFoundError:
                self._file = None  # Switched again meanwhile; the next batch looks again.

    # -- a failed LevelDB -----------------------------------------------------------------

    def recover(self, now: float, room: int) -> None:
        """Take a step towards replacing a failed handle; `room` is the free disk in bytes.

        The failed handle answers reads until everything that only its memtable holds was
        replayed from the commit log into a layer, and is closed only when there is room for
        the new one. Called at every tick.
        """
        if not self.failed or self._busy or self._requesting or self._reopening:
            return
        if now < self._retry_at or room < 3 * self._options.write_buffer:
            return
        self._retry_at = now + RETRY
        if self.db is not None and not self._replay_slice():
            return
        old, self.db = self.db, None
        self._reopening = True
        self._close_files()

        def reopen() -> tuple[LevelDB, list[str], bytes | None]:
            if old is not None:
                old.close()
            move_logs_aside(self._path, self._aside)
            db = self._opener(self._path, self._options)
            return db, os.listdir(self._path), db.get(MARK_ROW, verify_checksums=True)

        self._writer.submit(reopen, self._reopened)

    def _replay_slice(self) -> bool:
        """Replay for a moment; True when all that the memtable may hold was replayed."""
        if self._replaying is None:
            self._replayed = Layer({}, 0, self.checkpointed)
            self._replaying = iter(self._replay(self.checkpointed))
        until = perf_counter() + REPLAY_SLICE
        layer = self._replayed
        while layer.last < self.contained:
            try:
                frame = next(self._replaying, None)
            except (LogError, OSError) as error:
                self._replaying = None
                self.failed = str(error)
                return False
            if frame is None:
                self._replaying = None
                self.failed = "the commit log no longer holds what LevelDB has lost"
                return False
            layer.absorb(frame.rows, cost(frame.rows))
            layer.last = frame.last
            if perf_counter() > until:
                self._retry_at = 0.0
                return False
        return True

    def _reopened(self, result: Any, error: Exception | None, _seconds: float) -> None:
        self._reopening = False
        if error is not None:
            self.failed = str(error) or type(error).__name__
            self.progress()
            return
        self.db, names, raw = result
        mark = decode_mark(raw) if raw is not None else Mark(0, 0, 0, 0)
        if mark.settled < self.checkpointed:
            self.failed = "LevelDB has lost tables that it had synced"
            self.progress()
            return
        self._replaying = None
        self.failed = None
        self.stats.reopened += 1
        self.settled = mark.settled
        self.round = self._replayed if self._replayed.rows else None
        self._replayed = Layer({}, 0, 0)
        self._mark = self._mark._replace(settled=mark.settled)
        self._attach(log_numbers(names))
        self.progress()

    # -- the end --------------------------------------------------------------------------

    def write_format(self) -> None:
        """Put the format version into a new database, as a table; raises LevelDBError."""
        assert self.db is not None
        batch = self.db.write_batch()
        batch.put(FORMAT_ROW, encode_format(FORMAT))
        batch.put(MARK_ROW, encode_mark(self._mark))
        batch.write()
        giving_way(self.db.compact_range, start=b"\0", stop=b"\0")
        self._close_files()
        self._attach(log_numbers(os.listdir(self._path)))

    def finish_round(self) -> None:
        """Settle the round, waiting for it; after a failure the commit log keeps it all."""
        self._drain()
        while self.round is not None and self.idle:
            self.step({})
            self._drain()

    def finish_checkpoint(self, last: int, clock: int, term: int) -> None:
        """Turn the memtable into a table, waiting for it; every frame through `last` is settled."""
        if self.round is not None or self.failed or self.db is None:
            return
        if last > self._mark.settled:
            mark = Mark(last, last, clock, term)
            batch = self.db.write_batch()
            batch.put(MARK_ROW, encode_mark(mark))
            try:
                batch.write()
            except LevelDBError as error:
                self._fail(error)
                return
            self._mark = mark
            self.settled = last
        self._wait_for_table()

    def _wait_for_table(self) -> None:
        """Request tables until one holds what is settled; LevelDB may drop a request."""
        for _ in range(5):
            if not self.idle or self.checkpointed >= self.settled:
                return
            self._request()
            self._drain()
            self.poll()
            self._drain()

    def close(self) -> None:
        """End the threads and close LevelDB, whatever its state."""
        self._drain()
        self._flusher.close()
        self._writer.close()
        self._close_files()
        if self.db is not None:
            self.db.close()
            self.db = None

    def leveldb_stats(self) -> str:
        """Return LevelDB's own table of levels."""
        return "" if self.db is None else leveldb_property(self.db, "leveldb.stats")

    def _drain(self) -> None:
        self._flusher.drain()
        self._writer.drain()

    def _close_files(self) -> None:
        for file, _ in self._older:
            file.close()
        self._older.clear()
        if self._file is not None:
            self._file.close()
            self._file = None
