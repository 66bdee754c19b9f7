"""Store: layers of records over LevelDB, behind one ordered commit log.

Newest first: `open` (staged in this turn of the loop), frames in flight, `written`
(acknowledged, not synced: only under `everysec` and `no`), `syncing` (frozen while a sync
runs), `committed` (synced), the round that is settling, LevelDB. A frame's records move down
as the log reports; a failed commit drops `open` and everything in flight. Only synced records
settle, so LevelDB never holds what the log could lose.

Everything runs on the loop's thread; the store sets no timers and is driven by `seal`, by
completions and by `tick`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import islice, takewhile
from typing import Literal, Protocol

from norikv_resp.commitlog import CommitError, Frame, LogError
from norikv_resp.store.errors import ReadFailed, StoreError
from norikv_resp.store.layers import RECORD_COST, Layer, cost
from norikv_resp.store.leveldb import LevelDBError
from norikv_resp.store.options import StoreOptions
from norikv_resp.store.ordered import OverlayKeys, merged
from norikv_resp.store.recovery import DataDirectory, LocalLog
from norikv_resp.store.settle import Settler

Policy = Literal["always", "everysec", "no"]

MERGE_ROWS = 5000
"""Rows that move from a synced layer into `committed` in one go: below a millisecond."""

FULL = 1.0
"""`slowdown` in seconds while the overlay is full and LevelDB is merely slow."""

UNITE = 3
"""Frames in flight above which reads see them through one dict."""

SLACK = 5000
"""Committed rows that may linger in that dict."""


class StoreListener(Protocol):
    """What the keyspace hears; called on the loop's thread, possibly within `seal`."""

    def on_commit(self, last: int) -> None:
        """Every index up to `last` is committed: replies that depend on it may leave."""

    def on_rollback(self, dropped: set[bytes], error: CommitError) -> None:
        """The staged records of these rows are gone, with every index above `durable`."""


class NoListener:
    """Hears nothing; stands in until the keyspace has set itself."""

    def on_commit(self, last: int) -> None:
        pass

    def on_rollback(self, dropped: set[bytes], error: CommitError) -> None:
        pass


class InFlight:
    """A frame that the log has not reported yet."""

    __slots__ = ("frame", "size", "sync")

    def __init__(self, frame: Frame, size: int, sync: bool) -> None:
        self.frame = frame
        self.size = size
        self.sync = sync


class Store:
    """The rows of the database; the only door to LevelDB. Made by `open_store`.

    open: rows staged in this turn; `store.open[row] = value` stages, `b""` deletes. Rows may be
        assigned again but never removed from it.
    staged: the last index handed out; the keyspace counts it up.
    durable: the highest committed index; replies that depend on no higher one may leave.
    refusal: why writes are refused now, None when they are accepted.
    slowdown: seconds that a writer should wait before its next batch; 0.0 until the overlay is
        half full.
    """

    def __init__(
        self,
        directory: DataDirectory,
        log: LocalLog,
        settler: Settler,
        replayed: Layer,
        clock: int,
        options: StoreOptions,
        policy: Policy,
    ) -> None:
        self.open: dict[bytes, bytes] = {}
        self.staged = self.durable = replayed.last
        self.refusal: str | None = None
        self.slowdown = 0.0
        self.listener: StoreListener = NoListener()
        self.clock = clock
        self.term = 0
        self._directory = directory
        self._log = log
        self._options = options
        self._policy: Policy = policy
        self._always = policy == "always"
        self._closed = False
        self._sealed = replayed.last  # The last index that a frame has taken, dropped or not.
        # Layers.
        self._in_flight: deque[InFlight] = deque()
        self._in_flight_rows = 0
        self._union: dict[bytes, bytes] | None = None  # Newest of the rows in flight, if many.
        self._written = Layer({}, 0, replayed.last)
        self._syncing: Layer | None = None
        self._merging = False  # `syncing` is synced and moves into `committed`.
        #: Who waits for a sync: the index needed, and what to tell whether it is on disk.
        self._waiting: list[tuple[int, Callable[[bool], None]]] = []
        self._committed = replayed
        self._layers: list[dict[bytes, bytes]] = []
        self._synced = replayed.last
        self._keys = OverlayKeys()
        # Settling.
        self._settler = settler
        settler.progress = self._on_progress
        settler.departed = self._on_departed
        self._freed = settler.checkpointed
        self._credit = 0.0
        self._half_full = False
        self._hurry = False
        self._log_bytes = replayed.size
        self._log_records = len(replayed.rows)
        self._rounds: deque[tuple[int, int, int]] = deque()  # last, log bytes, log records
        self._freed_bytes = self._freed_records = 0
        # Time, by the last tick.
        self._now = 0.0
        self._synced_at = 0.0
        self._busy_at = 0.0
        self._frames_seen = 0
        self._disk_refuses = False
        # Counters for INFO.
        self._frames = 0
        self._frame_rows = 0
        self._frame_bytes = 0
        self._rollbacks = 0
        self._arrange()

    def start(self, term: int) -> None:
        """Open the log for writing in `term`. `staged` moves past indices that were given up."""
        lowest = self._log.start(term, self)
        self.term = term
        self.staged = self._sealed = max(self.staged, lowest - 1)
        self._log.free(self._settler.checkpointed)
        self._measure()

    # -- reading --------------------------------------------------------------------------

    def get(self, row: bytes) -> bytes | None:
        """Return a row's value, None when it is absent or deleted; staged writes are seen.

        0.1 µs when memory answers, 3-5 µs from LevelDB. Raises ReadFailed.
        """
        for layer in self._layers:
            value = layer.get(row)
            if value is not None:
                return value or None
        db = self._settler.db or self._settler.handle()
        try:
            return db.get(row, verify_checksums=True)
        except LevelDBError as error:
            raise ReadFailed(f"LevelDB cannot read, run norikv-resp check: {error}") from error

    def is_pending(self, row: bytes) -> bool:
        """Whether a change of this row is staged and not committed yet."""
        return row in self.open or any(row in item.frame.rows for item in self._in_flight)

    def range(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        """Return the live rows with start <= row < stop in order, at most `limit`.

        About 1 µs a row; the first range over a family (first byte of the row key) sorts its
        keys in memory. Raises ReadFailed.
        """
        if start >= stop or limit == 0:
            return []
        db = self._settler.db or self._settler.handle()
        keys = self._keys.between(start, stop, reverse, self._layers)
        try:
            # plyvel loses a row that equals `start` when it iterates in reverse.
            low = b"" if reverse else start
            cursor = db.iterator(start=low, stop=stop, reverse=reverse, verify_checksums=True)
            try:
                rows = iter(cursor)
                if reverse:
                    rows = takewhile(lambda item: item[0] >= start, rows)
                if keys is None:
                    return list(islice(rows, limit))
                return merged(keys, rows, self._layers, reverse, limit)
            finally:
                cursor.close()
        except LevelDBError as error:
            raise ReadFailed(f"LevelDB cannot read, run norikv-resp check: {error}") from error

    # -- writing --------------------------------------------------------------------------

    def seal(self, last: int, clock: int) -> None:
        """End a turn: the staged rows become one frame, ending at index `last`, and go to the log.

        `clock` is the server's time in ms. Does nothing when nothing is staged. The outcome
        reaches the listener, perhaps before this returns.
        """
        rows = self.open
        if not rows:
            return
        if last > self.staged:
            self.staged = last
        if clock > self.clock:
            self.clock = clock
        frame = Frame(self._sealed + 1, last, self.term, self.clock, rows)
        self._sealed = last
        self._in_flight.append(InFlight(frame, cost(rows), self._always))
        self._in_flight_rows += len(rows)
        if self._union is not None:
            self._union.update(rows)
        elif len(self._in_flight) > UNITE:
            self._unite()
        self.open = {}
        self._keys.seal(rows)
        self._log.append(frame, self._always)
        if self._in_flight:  # Not committed yet; a commit has arranged the layers already.
            self._arrange()

    def on_commit(self, last: int) -> None:
        """The log has committed every frame through `last`."""
        in_flight = self._in_flight
        records = payload = 0
        while in_flight and in_flight[0].frame.last <= last:
            item = in_flight.popleft()
            rows, size = item.frame.rows, item.size
            count = len(rows)
            records += count
            payload += size - RECORD_COST * count
            self._frames += 1
            if item.sync:
                self._all_synced()
                self._committed.absorb(rows, size)
                self._committed.last = self._synced = item.frame.last
            else:
                self._written.absorb(rows, size)
                self._written.last = item.frame.last
        self.durable = max(self.durable, last)
        if records:
            self._in_flight_rows -= records
            if not in_flight:
                self._union = None
            elif self._union and len(self._union) > 2 * self._in_flight_rows + SLACK:
                self._unite()
            self._frame_rows += records
            self._frame_bytes += payload
            self._log_records += records
            self._log_bytes += payload
            self._arrange()
            self._measure()
            self._settle(records)
        if self._waiting:
            self._serve_waiting()
        self.listener.on_commit(last)

    def on_synced(self, last: int) -> None:
        """The log has synced every committed frame through `last`."""
        syncing = self._syncing
        if syncing is None and self._written.rows and self._written.last <= last:
            syncing = self._freeze_written()
        if syncing is not None and syncing.last <= last and not self._merging:
            self._synced = max(self._synced, syncing.last)
            self._merging = True
            self._merge()
        self._settle(0)
        if self._waiting:
            self._serve_waiting()

    def on_failure(self, error: CommitError) -> None:
        """The log has dropped every frame that it had not reported; so does the store.

        The indices that were staged are not used again.
        """
        dropped = set(self.open)
        for item in self._in_flight:
            dropped.update(item.frame.rows)
        self._in_flight.clear()
        self._in_flight_rows = 0
        self._union = None
        self.open = {}
        self._sealed = self.staged
        self._keys.clear()
        self._rollbacks += 1
        self._arrange()
        self._measure()
        lost = [tell for last, tell in self._waiting if last > self.durable]
        self._waiting = [each for each in self._waiting if each[0] <= self.durable]
        for tell in lost:
            tell(False)
        self.listener.on_rollback(dropped, error)

    def _unite(self) -> None:
        """Lay the frames in flight into one dict, so that a read asks one and not dozens.

        Rows of frames that commit stay in it for a while; they are still the newest.
        """
        union: dict[bytes, bytes] = {}
        for item in self._in_flight:
            union.update(item.frame.rows)
        self._union = union

    def _arrange(self) -> None:
        """List the layers that hold something, newest first."""
        layers = [self.open]
        if self._union is not None:
            layers.append(self._union)
        elif self._in_flight:
            layers += [item.frame.rows for item in reversed(self._in_flight)]
        if self._written.rows:
            layers.append(self._written.rows)
        if self._syncing is not None:
            layers.append(self._syncing.rows)
        layers.append(self._committed.rows)
        if self._settler.round is not None:
            layers.append(self._settler.round.rows)
        self._layers = layers

    # -- syncing under everysec and no ----------------------------------------------------

    def set_policy(self, policy: Policy) -> None:
        """Change when frames are synced: with every commit, every second, or when needed."""
        self._policy = policy
        self._always = policy == "always"

    @property
    def all_synced(self) -> bool:
        """Whether nothing is staged, written or under way that is not on disk."""
        syncing = self._syncing is not None and not self._merging
        return not (self.open or self._in_flight or self._written.rows or syncing)

    def when_synced(self, last: int, tell: Callable[[bool], None]) -> None:
        """Sync soon, and call `tell(True)` once everything through index `last` is on disk.

        `last` is the last index of a frame, or will be. `tell(False)` if it was dropped.
        """
        if self.all_synced or last <= self._synced:
            tell(True)
            return
        self._waiting.append((last, tell))
        self._serve_waiting()

    def _serve_waiting(self) -> None:
        synced = self._synced
        ready = [tell for last, tell in self._waiting if last <= synced]
        self._waiting = [each for each in self._waiting if each[0] > synced]
        if any(last <= self.durable for last, _ in self._waiting):
            self._sync()
        for tell in ready:
            tell(True)

    def _freeze_written(self) -> Layer:
        frozen = self._syncing = self._written
        self._written = Layer({}, 0, frozen.last)
        self._arrange()
        return frozen

    def _all_synced(self) -> None:
        """A synced frame follows: what was written before it is synced as well."""
        while self._syncing is not None or self._written.rows:
            if self._syncing is None:
                self._freeze_written()
            self._merging = True
            while self._syncing is not None:
                self._merge()

    def _merge(self) -> None:
        """Move a piece of the synced `syncing` layer into `committed`."""
        syncing = self._syncing
        if syncing is None or not self._merging:
            return
        committed = self._committed
        if not committed.rows:
            self._committed = syncing
        elif len(syncing.rows) <= MERGE_ROWS:
            committed.absorb(syncing.rows, syncing.size)
        else:
            piece = syncing.newest(MERGE_ROWS)
            size = cost(piece)
            committed.absorb(piece, size)
            syncing.drop_newest(MERGE_ROWS, size)
            return
        self._committed.last = max(committed.last, syncing.last)
        self._syncing = None
        self._merging = False
        self._arrange()

    def _sync(self) -> None:
        """Start a sync of what is written, or remind the log of the one that is running.

        After a failed sync the log tries again only when it is asked.
        """
        if self._syncing is None and self._written.rows:
            self._freeze_written()
        if self._syncing is not None and not self._merging:
            self._synced_at = self._now
            self._log.sync()

    # -- settling -------------------------------------------------------------------------

    def _on_progress(self) -> None:
        """A batch was written, a log file went, or LevelDB failed or came back."""
        self._arrange()
        checkpointed = self._settler.checkpointed
        if checkpointed > self._freed:
            self._freed = checkpointed
            while self._rounds and self._rounds[0][0] <= checkpointed:
                _, self._freed_bytes, self._freed_records = self._rounds.popleft()
            if not self._closed:
                self._log.free(checkpointed)
        self._measure()
        if not self._closed:
            self._settle(0)

    def _on_departed(self, rows: list[bytes]) -> None:
        """These rows have left the round: LevelDB holds them."""
        self._keys.discard(rows, self._layers)

    def _settle(self, records: int) -> None:
        """Go on settling; `records` were committed meanwhile.

        A round starts when enough has gathered, the log's budget is used, or nobody writes. It
        is paced by the commits: somewhat more records settle than come in, so that the loop
        builds at most one batch per turn and the round ends.
        """
        if self._merging:
            self._merge()
        options = self._options
        half_full = self._half_full
        credit = self._credit + records * (2.0 if half_full else 1.5)
        self._credit = min(credit, 20.0 * options.batch_records)
        settler = self._settler
        if not settler.idle:
            return
        if settler.round is None:
            if not self._committed.rows or not self._due():
                self._credit = min(self._credit, float(options.batch_records))
                return
            self._begin_round()
        if self._credit >= options.batch_records or half_full or self._hurry:
            self._credit = max(0.0, self._credit - options.batch_records)
            settler.step(self._committed.rows)

    def _due(self) -> bool:
        return self._hurry or self._committed.size > self._settle_from() or self._over_budget()

    def _settle_from(self) -> float:
        """Bytes that a layer has before it is worth settling, or syncing under `no`."""
        return self._options.settle_from * self._options.overlay_limit

    def _over_budget(self) -> bool:
        """Whether the log has grown past its budget since the checkpoint."""
        options = self._options
        return (
            self._log_bytes - self._freed_bytes > options.log_budget
            or self._log_records - self._freed_records > options.log_records
        )

    def _begin_round(self) -> None:
        layer = self._committed
        self._committed = Layer({}, 0, layer.last)
        self._settler.begin(layer, self._synced, self.clock, self.term)
        self._rounds.append((layer.last, self._log_bytes, self._log_records))
        self._arrange()

    @property
    def _size(self) -> int:
        """What the overlay costs in memory, in bytes."""
        size = self._written.size + self._committed.size
        for item in self._in_flight:
            size += item.size
        if self._syncing is not None:
            size += self._syncing.size
        if self._settler.round is not None:
            size += self._settler.round.size
        return size

    def _measure(self) -> None:
        """Derive from the overlay's size `slowdown`, `refusal` and whether settling hurries."""
        full = self._size / self._options.overlay_limit
        self._half_full = full > 0.5
        if not self._half_full:
            self.slowdown = 0.0
        elif full < 1.0:
            self.slowdown = 0.1 * (2.0 * full - 1.0) ** 2
        else:
            self.slowdown = FULL
        if self._disk_refuses:
            self.refusal = "free disk space is below min-free-disk"
        elif full >= 1.0 and (cause := self._settler.failed or self._log.failure):
            self.refusal = f"memory is full of records that cannot be stored: {cause}"
        elif self.refusal is not None:
            self.refusal = None

    def tick(self, now: float) -> None:
        """Do what time asks for; about ten times a second, `now` in seconds, monotone."""
        if self._closed:
            return
        self._now = now
        options = self._options
        free = self._directory.free_bytes()
        floor = options.min_free_disk
        if self._disk_refuses:
            self._disk_refuses = free < floor + floor // 4
        else:
            self._disk_refuses = free < floor
        if self._frames != self._frames_seen:
            self._frames_seen = self._frames
            self._busy_at = now
        self._hurry = now - self._busy_at >= options.idle_after
        self._tick_sync(now)
        if self._waiting:
            self._serve_waiting()
        settler = self._settler
        if settler.failed:
            settler.recover(now, free)
        else:
            settler.poll()
            frees = bool(self._rounds) and self._rounds[0][0] <= settler.settled
            if frees and self._over_budget() and not settler.checkpoint_pending:
                settler.request_checkpoint(now)
        self._keys.age()
        self._credit += 4.0 * options.batch_records
        self._on_progress()

    def _tick_sync(self, now: float) -> None:
        elapsed = now - self._synced_at
        if elapsed < self._options.sync_every:
            return
        if (
            self._policy != "no"
            or elapsed >= self._options.sync_no_later
            or self._written.size > self._settle_from()
            or self._hurry
        ):
            self._sync()

    def set_limit(self, name: str, size: int) -> None:
        """Change overlay_limit, log_budget or min_free_disk; the next tick applies it."""
        if name == "overlay_limit":
            self._options = replace(self._options, overlay_limit=size)
        elif name == "log_budget":
            self._options = replace(self._options, log_budget=size)
        else:
            self._options = replace(self._options, min_free_disk=size)

    # -- the end, and figures -------------------------------------------------------------

    def close(self, *, settle: bool = True) -> None:
        """Make everything durable and settle it, so that the next start replays nothing.

        The caller has sealed the last turn. With `settle` False (a hurried stop) the log keeps
        what is not settled. Blocks. Raises StoreError when acknowledged frames are not durable.
        """
        if self._closed:
            return
        failure: CommitError | LogError | None = None
        try:
            self._log.close()
        except (CommitError, LogError) as error:
            failure = error
        self._closed = True
        if failure is None:
            self.on_commit(self._log.committed)
            self._all_synced()
            if settle:
                self._settle_all()
        self._settler.close()
        self._directory.release()
        if failure is not None:
            raise StoreError(f"the last commits may not be durable: {failure}")

    def _settle_all(self) -> None:
        settler = self._settler
        settler.finish_round()
        if self._committed.rows and not settler.failed:
            self._begin_round()
            settler.finish_round()
        if not self._committed.rows:
            settler.finish_checkpoint(self._committed.last, self.clock, self.term)

    def stats(self) -> dict[str, int | float | str]:
        """Return the figures for INFO; sizes in bytes, times in seconds."""
        settler = self._settler
        settling = settler.round
        unsynced = len(self._written.rows)
        if self._syncing is not None and not self._merging:
            unsynced += len(self._syncing.rows)
        unsettled: Iterable[Layer] = [
            layer for layer in (self._committed, self._syncing, self._written, settling) if layer
        ]
        figures: dict[str, int | float | str] = {
            "policy": self._policy,
            "term": self.term,
            "index": self.durable,
            "synced_index": self._synced,
            "settled_index": settler.settled,
            "checkpoint_index": settler.checkpointed,
            "frames": self._frames,
            "frame_records_mean": self._frame_rows / self._frames if self._frames else 0.0,
            "frame_bytes_mean": self._frame_bytes / self._frames if self._frames else 0.0,
            "rollbacks": self._rollbacks,
            "frames_in_flight": len(self._in_flight),
            "unsynced_records": unsynced,
            "unsettled_records": sum(len(layer.rows) for layer in unsettled),
            "overlay_bytes": self._size,
            "overlay_limit": self._options.overlay_limit,
            "slowdown": self.slowdown,
            "refusal": self.refusal or "",
            "settle_batches": settler.stats.batches,
            "settled_records": settler.stats.records,
            "coalesced_records": settler.stats.coalesced,
            "stalls": settler.stats.stalls,
            "stall_longest": settler.stats.longest,
            "checkpoints": settler.stats.checkpoints,
            "leveldb_reopened": settler.stats.reopened,
            "leveldb_failure": settler.failed or "",
        }
        figures.update(self._log.stats())
        return figures

    def leveldb_stats(self) -> str:
        """Return LevelDB's own table of levels, a few lines."""
        return self._settler.leveldb_stats()
