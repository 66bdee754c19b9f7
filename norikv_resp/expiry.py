"""The sweeper: reclaims what has expired, what was flushed and what deleted keys have left.

Three queues are rows of their own, ordered by when their turn comes: the
expiry index of keys, that of idempotency records, and the reclamation queue.
Each sweep goes on from a cursor that travels in the frames with its work. It
never seeks from the head of a queue: there it would walk over the tombstones
of everything it has removed before.

Nothing here changes what a client sees: an expired key is gone at its
millisecond whether or not its rows still are.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from norikv_resp.encoding import (
    CURSOR_EXPIRY,
    CURSOR_IDEM,
    CURSOR_RECLAIM,
    PRESENT,
    RECLAIM_COLLECTION,
    RECLAIM_IDEM,
    RECLAIM_NAMESPACE,
    ROW_RECLAIM,
    CorruptRecord,
    decode_idempotency,
    decode_record,
    element_prefix,
    expiry_bound,
    expiry_row,
    idem_expiry_bound,
    idem_expiry_row,
    idem_prefix,
    idem_row,
    namespace_prefix,
    prefix_end,
    reclaim_bound,
    reclaim_row,
    split_expiry_row,
    split_idem_expiry_row,
    split_reclaim_row,
)
from norikv_resp.logs import log
from norikv_resp.store import StoreError

if TYPE_CHECKING:
    from norikv_resp.database import Database
    from norikv_resp.idempotency import Idempotency
    from norikv_resp.keyspace import Keyspace
    from norikv_resp.stats import Stats

#: What one step may do: rows met, and seconds after which it ends early.
STEP_ROWS, STEP_SECONDS = 200, 0.001

#: Rows fetched by one merged read; the clock is looked at in between.
GROUP = 32

#: With a backlog, a step of t seconds is followed by a pause of this many times t.
REST = 2

#: Seconds after which a sweep that met unreadable rows is tried again.
RETRY_SECONDS = 10.0

#: A cursor that only passed over deleted rows is written at most this often, in ms.
PERSIST_EVERY = 60_000

_PREFIX_OF_KIND: dict[int, Callable[[int], bytes]] = {
    RECLAIM_COLLECTION: element_prefix,
    RECLAIM_NAMESPACE: namespace_prefix,
    RECLAIM_IDEM: idem_prefix,
}


class Host(Protocol):
    """The part of the server that the sweeper works with."""

    @property
    def keyspace(self) -> Keyspace: ...

    @property
    def idempotency(self) -> Idempotency: ...

    @property
    def stats(self) -> Stats: ...

    def schedule_seal(self) -> None: ...

    def collection_reclaimed(self, cid: int) -> None: ...


class Sweeper:
    """Sweeps all databases; one per server, on the loop's thread.

    Every step is staged under an index of its own and goes the way of every
    write. A step that a failed commit has undone is done again.
    """

    def __init__(self, host: Host) -> None:
        # For the life of the server.
        self._host = host
        self._keyspace = host.keyspace
        self._sweeps: deque[Callable[[], bool]] = deque(
            (self._sweep_keys, self._sweep_replies, self._reclaim)
        )

        self._keyspace.lapsed = self._lapsed

        # Where each sweep goes on; the keys' cursor is the keyspace's, which writes rows too.
        self._idem_cursor = self._reclaim_cursor = b""
        self._persisted_at, self._persisted_index = self._keyspace.now, self._keyspace.index
        #: Queue rows whose last element row is gone, with the frame that holds its deletion.
        self._emptied: deque[tuple[bytes, dict[bytes, bytes] | None]] = deque()
        self._last_deletes: dict[bytes, bytes] | None = None
        self._rollbacks = 0
        #: Sweeps that could not read, with when they are tried again.
        self._resting: dict[Callable[[], bool], float] = {}
        self._load()

        # The running step.
        self._left = 0
        self._until = 0.0
        self._staging = False
        self._records = host.idempotency.records

    def _load(self) -> None:
        """Take the stored cursors: at start, and when a failed commit has undone steps."""
        get = self._keyspace.store.get
        self._idem_cursor = get(CURSOR_IDEM) or idem_expiry_bound(0)
        self._reclaim_cursor = get(CURSOR_RECLAIM) or ROW_RECLAIM
        self._emptied.clear()
        self._last_deletes = None
        self._rollbacks = self._keyspace.rollbacks

    # ---- driving

    def turn(self, interval: float) -> float:
        """Do one step and have it sealed; the seconds until the next call.

        *interval* is the rhythm without a backlog (1/hz). With one, the
        sweeper takes about a third of the loop, less while writers are slowed.
        """
        keyspace = self._keyspace
        started = time.perf_counter()
        try:
            more = self.step()
        except Exception:
            log.exception("sweeping has failed, it goes on in ten seconds")
            return 10.0
        finally:
            if keyspace.store.open:
                self._host.schedule_seal()
        if not more:
            return interval
        took = time.perf_counter() - started
        return max(REST * took, 0.001, keyspace.store.slowdown)

    def step(self, budget: int = STEP_ROWS) -> bool:
        """Sweep about *budget* rows, for about a millisecond; whether there is more to do.

        Nothing while the store refuses writes. The rows are staged, the
        caller seals them.
        """
        keyspace = self._keyspace
        if keyspace.store.refusal is not None:
            return False
        keyspace.begin_batch()
        if keyspace.rollbacks != self._rollbacks:
            self._load()
        self._left = budget
        self._until = time.perf_counter() + STEP_SECONDS
        self._staging = False
        self._records = self._host.idempotency.records
        more = False
        now = time.monotonic()
        for sweep in self._sweeps:
            if self._resting.get(sweep, 0.0) <= now:
                more = self._attempt(sweep) or more
        # Each has the first claim on the budget in turn, so that none starves.
        self._sweeps.rotate(-1)
        if self._host.idempotency.records != self._records:
            self._host.idempotency.stage_count(self._rows())
        self._persist()
        return more

    def _attempt(self, sweep: Callable[[], bool]) -> bool:
        """Do a part of one sweep; one that meets unreadable rows must not stop the others."""
        try:
            return self._spent() or sweep()
        except StoreError as error:
            self._resting[sweep] = time.monotonic() + RETRY_SECONDS
            log.critical("sweeping cannot go on, run norikv-resp check: %s", error)
            return False

    def _spent(self) -> bool:
        return self._left <= 0 or time.perf_counter() > self._until

    def _rows(self) -> dict[bytes, bytes]:
        """Where the step stages; its first use gives the step its index."""
        if not self._staging:
            self._staging = True
            self._keyspace.index += 1
        return self._keyspace.store.open

    def _persist(self) -> None:
        """Write the cursors with what was staged, and now and then when they only moved on.

        Between frames of others only: an idle server writes nothing.
        """
        keyspace = self._keyspace
        idle = keyspace.index == self._persisted_index
        if not self._staging and (idle or keyspace.now - self._persisted_at < PERSIST_EVERY):
            return
        rows = self._rows()
        rows[CURSOR_EXPIRY] = keyspace.expiry_cursor
        rows[CURSOR_IDEM] = self._idem_cursor
        self._persisted_at, self._persisted_index = keyspace.now, keyspace.index

    # ---- keys

    def _lapsed(self, database: Database, key: bytes) -> None:
        """An expired key gives way, to a sweep or to a write."""
        self._host.stats.expired_keys += 1
        database.notify("x", b"expired", key)

    def due(self, database: Database) -> int:
        """How many stored keys of *database* have expired at the batch's time. O(due keys)."""
        keyspace = self._keyspace
        low, stop = keyspace.expiry_cursor, expiry_bound(keyspace.now + 1)
        count = 0
        while found := keyspace.store.range(low, stop, limit=512):
            for row, _ in found:
                _, epoch, key = split_expiry_row(row)
                if epoch == database.epoch:
                    record = database.stored(key)
                    if record is not None and record.expire_at <= keyspace.now:
                        count += 1
            if len(found) < 512:
                break
            low = found[-1][0] + b"\0"
        return count

    def backlog_exceeds(self, rows: int) -> bool:
        """Whether more than *rows* rows of the expiry index are due. O(rows)."""
        keyspace = self._keyspace
        stop = expiry_bound(keyspace.now + 1)
        return len(keyspace.store.range(keyspace.expiry_cursor, stop, limit=rows + 1)) > rows

    def _sweep_keys(self) -> bool:
        keyspace = self._keyspace
        stop = expiry_bound(keyspace.now + 1)
        by_epoch = {database.epoch: database for database in keyspace.databases}
        keyspace.expiry_cursor, more = self._sweep_rows(
            keyspace.expiry_cursor, stop, lambda row: self._sweep_key(by_epoch, row)
        )
        return more

    def _sweep_rows(
        self, low: bytes, stop: bytes, sweep: Callable[[bytes], None]
    ) -> tuple[bytes, bool]:
        """Sweep the rows of an index from *low* to *stop* while the budget lasts.

        Returns where to go on, and whether there may be more before *stop*.
        """
        while not self._spent():
            found = self._keyspace.store.range(low, stop, limit=GROUP)
            for row, _ in found:
                try:
                    sweep(row)
                except CorruptRecord as error:
                    log.critical("sweeping met a damaged record, run norikv-resp check: %s", error)
            self._left -= len(found)
            if len(found) < GROUP:
                # Also over rows deleted by others, which the next seek need not meet again.
                return max(low, stop), False
            low = found[-1][0] + b"\0"
        return low, True

    def _sweep_key(self, by_epoch: dict[int, Database], row: bytes) -> None:
        at, epoch, key = split_expiry_row(row)
        database = by_epoch.get(epoch)
        record = database.stored(key) if database is not None else None
        rows = self._rows()
        if database is None:  # flushed
            rows[row] = b""
            return
        if record is None or record.row_at != at:
            rows[row] = b""
        elif record.expire_at <= self._keyspace.now:
            database.reclaim(key, record)
        else:
            database.move_row(key, record)

    # ---- idempotency records

    def _sweep_replies(self) -> bool:
        stop = idem_expiry_bound(self._keyspace.now + 1)
        self._idem_cursor, more = self._sweep_rows(self._idem_cursor, stop, self._sweep_reply)
        return more

    def _sweep_reply(self, row: bytes) -> None:
        _, epoch, scope = split_idem_expiry_row(row)
        target = idem_row(epoch, scope)
        raw = self._keyspace.store.get(target)
        expired = raw is not None and decode_idempotency(raw).expire_at <= self._keyspace.now
        rows = self._rows()
        rows[row] = b""
        if expired:
            rows[target] = b""
            self._host.idempotency.records -= 1
            self._host.stats.expired_idempotency += 1

    # ---- the reclamation queue

    def _reclaim(self) -> bool:
        """Empty what is queued, the oldest first; drop queue rows a frame after their contents."""
        store = self._keyspace.store
        self._drop_emptied()
        while not self._spent():
            # Not what this step queues itself: more may come in front of it.
            stop = reclaim_bound(self._keyspace.index + (not self._staging))
            found = store.range(self._reclaim_cursor, stop, limit=GROUP)
            for row, value in found:
                if not self._empty(row, value):
                    return True
                self._left -= 1
                deletes = self._last_deletes if self._last_deletes is store.open else None
                self._emptied.append((row, deletes))
                self._reclaim_cursor = row + b"\0"
                if self._spent():
                    return True
            if len(found) < GROUP:
                return bool(self._emptied)
        return True

    def _drop_emptied(self) -> None:
        emptied = self._emptied
        frame = self._keyspace.store.open
        last = b""
        while emptied and emptied[0][1] is not frame:
            last = emptied.popleft()[0]
            self._rows()[last] = b""
            self._tell_reclaimed(last)
        if last:
            self._rows()[CURSOR_RECLAIM] = last + b"\0"

    def _tell_reclaimed(self, row: bytes) -> None:
        try:
            _, kind, number = split_reclaim_row(row)
        except CorruptRecord:
            return
        if kind == RECLAIM_COLLECTION:
            self._host.collection_reclaimed(number)

    def _empty(self, row: bytes, value: bytes) -> bool:
        """Remove the rows that a queue row stands for; False when the step's budget ends first.

        Then the queue row remembers the last row removed.
        """
        try:
            _, kind, number = split_reclaim_row(row)
        except CorruptRecord as error:
            log.critical("reclaiming met a damaged row, run norikv-resp check: %s", error)
            return True
        prefix = _PREFIX_OF_KIND[kind](number)
        removed = value[len(PRESENT) :]
        low = prefix + removed + b"\0" if removed else prefix
        high = prefix_end(prefix)
        store = self._keyspace.store
        limit = 4
        while True:
            found = store.range(low, high, limit=limit)
            if found:
                rows = self._rows()
                for element, raw in found:
                    rows[element] = b""
                    if kind != RECLAIM_COLLECTION:
                        self._discard(kind, number, element[len(prefix) :], raw)
                self._last_deletes = rows
                self._left -= len(found)
                self._host.stats.reclaimed_rows += len(found)
            if len(found) < limit:
                return True
            low = found[-1][0] + b"\0"
            if self._spent():
                self._rows()[row] = PRESENT + found[-1][0][len(prefix) :]
                return False
            # Small at first: the chunks of a string are 64 KiB each.
            limit = min(2 * limit, GROUP)

    def _discard(self, kind: int, number: int, name: bytes, raw: bytes) -> None:
        """Remove what belongs to a record of a flushed database beside its own row."""
        rows = self._rows()
        try:
            if kind == RECLAIM_IDEM:
                rows[idem_expiry_row(decode_idempotency(raw).expire_at, number, name)] = b""
                self._host.idempotency.records -= 1
                return
            record = decode_record(raw)
        except CorruptRecord as error:
            log.critical("reclaiming met a damaged record, run norikv-resp check: %s", error)
            return
        if record.row_at:
            rows[expiry_row(record.row_at, number, name)] = b""
        if not isinstance(record.value, bytes):
            cid = record.value.cid
            rows[reclaim_row(self._keyspace.index, RECLAIM_COLLECTION, cid)] = PRESENT
