"""Verifying a stopped server's rows: each against the grammar, the derived against the primary.

Derived are the expiry indexes, the counts, the queues and the cursors; docs/storage-format.md
says from what. One pass over each family, in memory that grows with the number of collections
only (16 bytes each) and with what is found.
"""

from __future__ import annotations

import sys
import time
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from norikv_resp import encoding as enc
from norikv_resp.check_report import Report, name_of, one_line, shorten
from norikv_resp.encoding import (
    CHUNK,
    FIRST_EPOCH,
    PRESENT,
    RECLAIM_COLLECTION,
    RECLAIM_IDEM,
    RECLAIM_NAMESPACE,
    Chunks,
    Collection,
    CorruptRecord,
    DatabaseRecord,
    IdempotencyRecord,
    Record,
    prefix_end,
)
from norikv_resp.protocol import thaw
from norikv_resp.store import (
    Offline,
    ReadFailed,
)
from norikv_resp.vector_rows import decode_extra
from norikv_resp.verify_vectors import VectorReader

#: Seconds between two looks at the progress on a terminal.
PROGRESS_SECONDS = 0.5

_FAMILIES = (
    enc.ROW_SYSTEM,
    enc.ROW_DATABASE,
    enc.ROW_ELEMENT,
    enc.ROW_IDEM,
    enc.ROW_IDEM_EXPIRY,
    enc.ROW_KEY,
    enc.ROW_RECLAIM,
    enc.ROW_SWEEP,
    enc.ROW_EXPIRY,
)
_STORE_ROWS = (b"!format", b"!mark")
_CURSOR_FAMILIES = {
    enc.CURSOR_EXPIRY: enc.ROW_EXPIRY,
    enc.CURSOR_IDEM: enc.ROW_IDEM_EXPIRY,
    enc.CURSOR_RECLAIM: enc.ROW_RECLAIM,
}


class Progress:
    """Shows on a terminal how far a long check is."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._rows = 0

    def count(self, what: str) -> None:
        """Another 4096 rows were read."""
        self._rows += 4096
        if self._shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + PROGRESS_SECONDS
            print(f"\r  {what}: {self._rows:,} rows read ", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave a clean line."""
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class Round:
    """One pass over all rows of a directory, family by family."""

    def __init__(self, offline: Offline, report: Report, progress: Progress) -> None:
        self.offline = offline
        self.report = report
        self.progress = progress
        self.last = max(offline.replayed.layer.last, offline.mark.contained)
        # What the small families say.
        self.next_cid, self.next_epoch = 1, FIRST_EPOCH
        self.databases: dict[int, DatabaseRecord] = {}
        self.damaged_databases: list[int] = []
        self.queued: dict[int, set[int]] = {
            kind: set() for kind in (RECLAIM_COLLECTION, RECLAIM_NAMESPACE, RECLAIM_IDEM)
        }
        self.queue_rows: dict[tuple[int, int], bytes] = {}
        self.cursors: dict[bytes, bytes] = {}
        # What the keys say: collection ids with the lengths of those that are chunks.
        self.keys: Counter[int] = Counter()
        self.expires: Counter[int] = Counter()
        self.cids, self.lengths = array("Q"), array("Q")
        self.vector_sets: dict[int, Collection] = {}
        #: What the records of collections should say.
        self.recounted: dict[int, Collection] = {}
        self.highest_cid = self.highest_epoch = 0

    def run(self) -> None:
        """Read everything; what is found goes to the report. Ends early when that is full."""
        for look in (
            self._unknown,
            self._system,
            self._databases,
            self._sweep_cursors,
            self._queue,
            self._keys,
            self._elements,
            self._replies,
            self._reply_expiries,
            self._expiries,
            self._counts,
            self._ids,
        ):
            look()
            if self.report.full:
                return

    # ---- reading

    def _rows(self, start: bytes, stop: bytes, what: str) -> Iterator[tuple[bytes, bytes]]:
        rows = self.offline.rows(start, stop, self._unreadable)
        for number, item in enumerate(rows, 1):
            yield item
            if not number & 4095:
                self.progress.count(what)

    def _family(self, family: bytes, what: str) -> Iterator[tuple[bytes, bytes]]:
        return self._rows(family, prefix_end(family), what)

    def _unreadable(self, start: bytes, following: bytes | None, reason: str) -> None:
        self.report.tables_damaged = True
        until = "the end" if following is None else name_of(following)
        self.report.damage(
            "unreadable rows", f"LevelDB, from {name_of(start)} to {until}: {one_line(reason)}"
        )

    def _get(self, row: bytes) -> bytes | None:
        """A row as the repairs so far leave it; PRESENT where LevelDB cannot read it."""
        changed = self.report.rows.get(row)
        if changed is not None:
            return changed or None
        try:
            return self.offline.get(row)
        except ReadFailed:
            return PRESENT  # Already reported by the pass over its family.

    # ---- families that say what the others should hold

    def _unknown(self) -> None:
        low = b""
        for family in _FAMILIES:
            self._unknown_between(low, family)
            low = prefix_end(family)
        self._unknown_between(low, b"\xff" * 32)

    def _unknown_between(self, low: bytes, high: bytes) -> None:
        for row, value in self._rows(low, high, "other rows"):
            self.report.damage("unknown row", name_of(row))
            self.report.give_up(row, value)

    def _system(self) -> None:
        for row, value in self._family(enc.ROW_SYSTEM, "system rows"):
            if row in _STORE_ROWS:
                continue  # Judged when the store was opened.
            try:
                if row == enc.IDS_ROW:
                    self.next_cid, self.next_epoch = enc.decode_ids(value)
                elif row == enc.IDEM_COUNT_ROW:
                    enc.decode_count(value)
                else:
                    self.report.damage("unknown row", name_of(row))
                    self.report.give_up(row, value)
            except CorruptRecord as error:
                self.report.damage("malformed row", f"{name_of(row)}: {error}")
                self.report.give_up(row, value)

    def _databases(self) -> None:
        for row, value in self._family(enc.ROW_DATABASE, "databases"):
            try:
                if len(row) != 3:
                    raise CorruptRecord(f"a key of {len(row)} bytes")
                record = enc.decode_database(value)
            except CorruptRecord as error:
                self.report.damage("malformed row", f"{name_of(row)}: {error}")
                self.report.give_up(row, value)
                if len(row) == 3:
                    self.damaged_databases.append(int.from_bytes(row[1:], "big"))
                continue
            number = int.from_bytes(row[1:], "big")
            for other, known in self.databases.items():
                if record.ns == known.ns or record.idem_epoch == known.idem_epoch:
                    text = f"databases {other} and {number} claim the same rows"
                    self.report.damage("shared epoch", f"{text}; they are database {other}'s")
                    self.report.give_up(row, value)
                    self.damaged_databases.append(number)
                    break
            else:
                self.databases[number] = record
        for record in self.databases.values():
            self.highest_epoch = max(self.highest_epoch, record.ns, record.idem_epoch)

    def _sweep_cursors(self) -> None:
        for row, value in self._family(enc.ROW_SWEEP, "cursors"):
            family = _CURSOR_FAMILIES.get(row)
            if family is None:
                self.report.damage("unknown row", name_of(row))
                self.report.give_up(row, value)
            elif value[:1] != family:
                self.report.damage("malformed row", f"{name_of(row)} points to {name_of(value)}")
                self.report.give_up(row, value)
            else:
                self.cursors[family] = value

    def _below_cursor(self, family: bytes, row: bytes) -> None:
        """A queue row that no sweep would meet: the first one found says where to go back to."""
        if row < self.cursors.get(family, b""):
            name = next(name for name, known in _CURSOR_FAMILIES.items() if known == family)
            text = f"the sweep has passed {name_of(row)} and would never meet it"
            self.report.damage("row behind the sweep", text)
            self.report.rows[name] = self.cursors[family] = row

    def _queue(self) -> None:
        live = {
            RECLAIM_NAMESPACE: {record.ns for record in self.databases.values()},
            RECLAIM_IDEM: {record.idem_epoch for record in self.databases.values()},
        }
        for row, value in self._family(enc.ROW_RECLAIM, "reclamation queue"):
            try:
                _, kind, number = enc.split_reclaim_row(row)
                if value[:1] != PRESENT:
                    raise CorruptRecord("its value is malformed")
            except CorruptRecord as error:
                self.report.damage("malformed row", f"{name_of(row)}: {error}")
                self.report.give_up(row, value)
                continue
            if number in live.get(kind, ()):
                self.report.damage("queued but alive", f"{name_of(row)} would remove a database")
                self.report.give_up(row, value)
                continue
            self.queued[kind].add(number)
            self.queue_rows[kind, number] = row
            if kind == RECLAIM_COLLECTION:
                self.highest_cid = max(self.highest_cid, number)
            else:
                self.highest_epoch = max(self.highest_epoch, number)
            self._below_cursor(enc.ROW_RECLAIM, row)

    # ---- keys

    def _keys(self) -> None:
        live = {record.ns: number for number, record in self.databases.items()}
        queued = self.queued[RECLAIM_NAMESPACE]
        homeless: Counter[int] = Counter()
        strings = 0
        for row, value in self._family(enc.ROW_KEY, "keys"):
            if self.report.full:
                return
            epoch = int.from_bytes(row[1:5], "big")
            try:
                if len(row) < 5:
                    raise CorruptRecord(f"a key of {len(row)} bytes")
                record = enc.decode_record(value)
                if type(record.value) is bytes and len(record.value) > CHUNK:
                    raise CorruptRecord(f"a string of {len(record.value)} bytes in one piece")
                if record.type == enc.VECTORSET and isinstance(record.value, Collection):
                    decode_extra(record.value.extra)
                    self.vector_sets[record.value.cid] = record.value
            except CorruptRecord as error:
                self.report.damage("malformed record", f"{self._key(row)}: {error}")
                self.report.give_up(row, value)
                continue
            if record.type == enc.STRING:
                strings += 1
            if not isinstance(record.value, bytes):
                self.cids.append(record.value.cid)
                chunked = isinstance(record.value, Chunks)
                self.lengths.append(record.value[1] if chunked else 0)
            if epoch not in live:
                if epoch not in queued:
                    homeless[epoch] += 1
                continue
            self.keys[epoch] += 1
            if record.row_at:
                self.expires[epoch] += 1
                self._expects_row(row, epoch, record)
            if record.index > self.last:
                text = f"{self._key(row)} has index {record.index}, the data ends at {self.last}"
                self.report.damage("version from the future", text)
                self.report.least_index = max(self.report.least_index, record.index)
                self.report.rows[row] = value  # A frame of a higher index has to follow.
        self._homeless(homeless)
        self.report.facts.append(
            f"{sum(self.keys.values()):,} keys in {sum(map(bool, self.keys.values()))} databases, "
            f"{sum(self.expires.values()):,} with a deadline; {strings:,} strings, "
            f"{len(self.cids):,} values with rows of their own"
        )

    def _expects_row(self, row: bytes, epoch: int, record: Record) -> None:
        expected = enc.expiry_row(record.row_at, epoch, row[5:])
        if self._get(expected) != PRESENT:
            self.report.damage("missing expiry row", f"{self._key(row)} would never be swept")
            self.report.rows[expected] = PRESENT

    def _homeless(self, homeless: Counter[int]) -> None:
        """Keys under an epoch of no database: a database's whose row is lost, or left over."""
        for epoch, count in sorted(homeless.items()):
            self.highest_epoch = max(self.highest_epoch, epoch)
            if epoch < FIRST_EPOCH and epoch // 2 not in self.databases:
                number = epoch // 2
            elif self.damaged_databases:
                number = self.damaged_databases.pop(0)
            else:
                number = next(n for n in range(FIRST_EPOCH // 2) if n not in self.databases)
            self.report.damage(
                "missing database row",
                f"{count:,} keys of epoch {epoch} are of no database; they become {number}'s",
            )
            idem_epoch = 2 * number + 1
            if idem_epoch in self.queued[RECLAIM_IDEM]:
                self.highest_epoch = max(self.highest_epoch, self.next_epoch) + 1
                idem_epoch = self.highest_epoch
            record = DatabaseRecord(epoch, idem_epoch, 0, 0, count, 0)
            self.databases[number] = record
            self.keys[epoch] = count
            self.report.rows[enc.database_row(number)] = enc.encode_database(record)

    # ---- elements

    def _elements(self) -> None:
        """Each collection's rows against the one key that has its id."""
        order = sorted(range(len(self.cids)), key=self.cids.__getitem__)
        cids = array("Q", (self.cids[i] for i in order))
        lengths = array("Q", (self.lengths[i] for i in order))
        self.highest_cid = max(self.highest_cid, cids[-1] if cids else 0)
        seen = bytearray(len(cids))
        wrong: dict[int, str] = {}
        for at in range(1, len(cids)):
            if cids[at] == cids[at - 1]:
                wrong[cids[at]] = "shared"
                seen[at] = 1
        current, place = -1, -1
        reader: ChunkReader | VectorReader | None = None
        for row, value in self._family(enc.ROW_ELEMENT, "elements"):
            if self.report.full:
                return
            if len(row) < 9:
                self.report.damage("malformed row", f"{name_of(row)}: a key of {len(row)} bytes")
                self.report.give_up(row, value)
                continue
            cid = int.from_bytes(row[1:9], "big")
            if cid != current:
                self._end_reader(reader, wrong)
                current, reader = cid, None
                self.highest_cid = max(self.highest_cid, cid)
                place = bisect_left(cids, cid)
                if place == len(cids) or cids[place] != cid:
                    if cid not in self.queued[RECLAIM_COLLECTION]:
                        text = f"the elements of collection {cid} belong to no key"
                        self.report.damage("rows without an owner", text)
                        self.report.reclaim.add((RECLAIM_COLLECTION, cid))
                elif lengths[place]:
                    reader = ChunkReader(cid, lengths[place], self.report)
                    seen[place] = 1
                else:
                    seen[place] = 1
                    if cid in self.vector_sets:
                        reader = self._vector_reader(cid)
            if reader is not None:
                reader.take(row, value)
        self._end_reader(reader, wrong)
        for at, cid in enumerate(cids):
            if not seen[at] and lengths[at]:
                wrong[cid] = "torn"
            elif not seen[at] and cid in self.vector_sets:
                self._end_reader(self._vector_reader(cid), wrong)
            if cid in self.queued[RECLAIM_COLLECTION]:
                text = f"the value of a key, collection {cid}, would be removed"
                self.report.damage("queued but alive", text)
                queue_row = self.queue_rows[RECLAIM_COLLECTION, cid]
                self.report.give_up(queue_row, PRESENT)
        if wrong:
            self._name_collections(wrong)

    def _vector_reader(self, cid: int) -> VectorReader:
        return VectorReader(self.vector_sets[cid], self._get, self.report)

    def _end_reader(self, reader: ChunkReader | VectorReader | None, wrong: dict[int, str]) -> None:
        if isinstance(reader, ChunkReader):
            if not reader.complete():
                wrong[reader.cid] = "torn"
        elif reader is not None and (recounted := reader.complete()) is not None:
            wrong.setdefault(reader.cid, "miscounted")
            self.recounted[reader.cid] = recounted

    def _name_collections(self, wrong: dict[int, str]) -> None:
        """Find the keys of collections that are not as they should be."""
        first: set[int] = set()
        for row, raw in self._family(enc.ROW_KEY, "keys"):
            try:
                record = enc.decode_record(raw)
            except CorruptRecord:
                continue
            if isinstance(record.value, bytes) or record.value.cid not in wrong:
                continue
            cid = record.value.cid
            if wrong[cid] == "shared":
                if cid in first:
                    text = f"{self._key(row)} has collection {cid} in common with another key"
                    self.report.damage("shared collection", text)
                    self.report.copies.add(row)
                first.add(cid)
                continue
            if wrong[cid] == "miscounted":
                text = f"{self._key(row)} does not say what there is of its elements"
                self.report.damage("wrong count", text)
                counted = record._replace(value=self.recounted[cid])
                self.report.rows[row] = enc.encode_record(counted)
                self.report.restamp.add(row)
                continue
            text = f"{self._key(row)}: zeros will stand in place of what is missing"
            self.report.damage("incomplete string", text)
            self.report.restamp.add(row)
            assert isinstance(record.value, Chunks)
            for number in range(-(-record.value.length // CHUNK)):
                size = min(CHUNK, record.value.length - number * CHUNK)
                chunk = enc.chunk_row(cid, number)
                stored = self._get(chunk) or b""
                if len(stored) != size:
                    self.report.rows[chunk] = stored[:size].ljust(size, b"\0")

    # ---- idempotency records

    def _replies(self) -> None:
        live = {record.idem_epoch for record in self.databases.values()}
        live |= {2 * n + 1 for n in range(FIRST_EPOCH // 2) if n not in self.databases}
        queued = self.queued[RECLAIM_IDEM]
        count = 0
        for row, value in self._family(enc.ROW_IDEM, "stored replies"):
            if self.report.full:
                return
            epoch = int.from_bytes(row[1:5], "big")
            self.highest_epoch = max(self.highest_epoch, epoch)
            try:
                if len(row) != 21:
                    raise CorruptRecord(f"a key of {len(row)} bytes")
                record = enc.decode_idempotency(value)
                thaw(record.reply)
            except (CorruptRecord, ValueError) as error:
                self.report.damage("malformed record", f"{name_of(row)}: {error}")
                self.report.give_up(row, value)
                continue
            if epoch not in live and epoch not in queued:
                self.report.damage("rows without an owner", f"{name_of(row)}: of no database")
                self.report.give_up(row, value)
                continue
            count += 1
            expected = enc.idem_expiry_row(record.expire_at, epoch, row[5:])
            if self._get(expected) != PRESENT:
                self.report.damage("missing expiry row", f"{name_of(row)} would never be swept")
                self.report.rows[expected] = PRESENT
        raw = self._get(enc.IDEM_COUNT_ROW)
        counted = int.from_bytes(raw, "little") if raw is not None else 0
        if counted != count:
            text = f"{counted:,} idempotency records are counted, there are {count:,}"
            self.report.damage("wrong count", text)
            self.report.rows[enc.IDEM_COUNT_ROW] = enc.encode_count(count)
        self.report.facts.append(f"{count:,} idempotency records")

    def _reply_expiries(self) -> None:
        for row, value in self._family(enc.ROW_IDEM_EXPIRY, "expiry of stored replies"):
            if self.report.full:
                return
            self._below_cursor(enc.ROW_IDEM_EXPIRY, row)
            record: IdempotencyRecord | None = None
            try:
                at, epoch, scope = enc.split_idem_expiry_row(row)
                raw = self._get(enc.idem_row(epoch, scope))
                record = enc.decode_idempotency(raw) if raw and raw != PRESENT else None
            except CorruptRecord as error:
                self.report.damage("malformed row", f"{name_of(row)}: {error}")
                self.report.give_up(row, value)
                continue
            if raw is None or (record is not None and record.expire_at != at):
                self.report.damage("extra expiry row", f"{name_of(row)} is of no record")
                self.report.rows[row] = b""

    # ---- the expiry index

    def _expiries(self) -> None:
        live = {record.ns for record in self.databases.values()}
        queued = self.queued[RECLAIM_NAMESPACE]
        for row, value in self._family(enc.ROW_EXPIRY, "expiry index"):
            if self.report.full:
                return
            self._below_cursor(enc.ROW_EXPIRY, row)
            try:
                at, epoch, key = enc.split_expiry_row(row)
            except CorruptRecord as error:
                self.report.damage("malformed row", f"{name_of(row)}: {error}")
                self.report.give_up(row, value)
                continue
            if epoch in queued:
                continue
            raw = self._get(enc.namespace_prefix(epoch) + key) if epoch in live else None
            if raw == PRESENT:
                continue
            try:
                wanted = raw is not None and enc.decode_record(raw).row_at == at
            except CorruptRecord:
                wanted = False
            if not wanted:
                self.report.damage("extra expiry row", f"{name_of(row)} is of no key's deadline")
                self.report.rows[row] = b""
            elif value != PRESENT:
                self.report.damage("malformed row", f"{name_of(row)}: its value is not 01")
                self.report.rows[row] = PRESENT

    # ---- counts

    def _counts(self) -> None:
        for number, record in self.databases.items():
            keys, expires = self.keys[record.ns], self.expires[record.ns]
            if (record.keys, record.expires) != (keys, expires):
                self.report.damage(
                    "wrong count",
                    f"database {number} counts {record.keys:,} keys, {record.expires:,} with a "
                    f"deadline; there are {keys:,} and {expires:,}",
                )
                fixed = record._replace(keys=keys, expires=expires)
                self.report.rows[enc.database_row(number)] = enc.encode_database(fixed)

    def _ids(self) -> None:
        next_cid = max(self.next_cid, self.highest_cid + 1)
        next_epoch = max(self.next_epoch, self.highest_epoch + 1)
        if (next_cid, next_epoch) != (self.next_cid, self.next_epoch):
            self.report.damage(
                "ids in use",
                f"the next collection would be {self.next_cid} and the next epoch "
                f"{self.next_epoch}, but {self.highest_cid} and {self.highest_epoch} exist",
            )
            self.report.rows[enc.IDS_ROW] = enc.encode_ids(next_cid, next_epoch)

    def _key(self, row: bytes) -> str:
        """A key's name for people."""
        epoch = int.from_bytes(row[1:5], "big")
        for number, record in self.databases.items():
            if record.ns == epoch:
                return f"key {shorten(row[5:])} of database {number}"
        return f"key {shorten(row[5:])} of epoch {epoch}"


class ChunkReader:
    """Follows the chunk rows of one long string."""

    def __init__(self, cid: int, length: int, report: Report) -> None:
        self.cid = cid
        self._report = report
        self._length = length
        self._next = 0
        self._whole = True

    def take(self, row: bytes, value: bytes) -> None:
        """The next row of the collection."""
        number = int.from_bytes(row[9:], "big")
        size = min(CHUNK, self._length - number * CHUNK)
        if len(row) != 13 or size <= 0:
            text = f"{name_of(row)} is behind its string's end"
            self._report.damage("rows without an owner", text)
            self._report.give_up(row, value)
            return
        if number != self._next or len(value) != size:
            self._whole = False
        self._next = number + 1

    def complete(self) -> bool:
        """Whether every chunk was there."""
        return self._whole and self._next == -(-self._length // CHUNK)
