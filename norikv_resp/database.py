"""One numbered database: records by key, versions, deadlines, and the cache of decoded records.

What changes a key is here and nowhere else; its rows go to the store's open layer under the
index that the keyspace has given to the running command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from norikv_resp import longstrings
from norikv_resp.elements import Elements
from norikv_resp.encoding import (
    CHUNK,
    CURSOR_EXPIRY,
    PLAIN,
    PRESENT,
    RECLAIM_COLLECTION,
    RECLAIM_IDEM,
    RECLAIM_NAMESPACE,
    STRING,
    Chunks,
    Collection,
    DatabaseRecord,
    Record,
    database_row,
    decode_database,
    decode_record,
    element_prefix,
    encode_database,
    encode_record,
    expiry_row,
    namespace_prefix,
    pack_head,
    peek_record,
    prefix_end,
    reclaim_row,
)
from norikv_resp.errors import WrongType
from norikv_resp.seen import SeenKeys

if TYPE_CHECKING:
    from norikv_resp.keyspace import Keyspace

#: What is kept of a key: of a plain string its row's value, which the overlay holds as well, of
#: everything else the decoded record. Records are tuples that the collector walks over, and take
#: three objects instead of one.
Cached = bytes | Record

#: What a cached key costs beside itself and its value, in bytes (measured with tracemalloc).
PLAIN_OVERHEAD, RECORD_OVERHEAD = 140, 320

#: Rows that one merged read of a scan fetches, and bytes after which a scan stops early.
PAGE_ROWS, PAGE_BYTES = 256, 4 << 20

#: How many strings are remembered as built piece by piece (OBJECT ENCODING raw).
RAW_REMEMBERED = 10_000


class Database:
    """One numbered database. Handlers reach it as ``ctx.keys``."""

    __slots__ = (
        "epoch",
        "expires",
        "floor",
        "idem_epoch",
        "keys",
        "keyspace",
        "number",
        "older",
        "prefix",
        "row",
        "seen",
        "young",
    )

    def __init__(self, keyspace: Keyspace, number: int) -> None:
        self.keyspace = keyspace
        self.number = number
        self.row = database_row(number)
        # What the database row stores.
        self.epoch = 0
        self.idem_epoch = 0
        self.floor = (0, 0)
        #: Keys stored, those included whose deadline has passed and that wait for the sweeper.
        self.keys = 0
        self.expires = 0
        # Derived, and the cache.
        self.prefix = namespace_prefix(0)
        self.young: dict[bytes, Cached] = {}
        self.older: dict[bytes, Cached] = {}
        #: Every key stored since the database was known to be empty; None if it never was.
        self.seen: SeenKeys | None = None

    # ---- the database row

    def load(self) -> None:
        """Take the stored state, or begin as an empty database."""
        raw = self.keyspace.store.get(self.row)
        if raw is None:
            record = DatabaseRecord(2 * self.number, 2 * self.number + 1, 0, 0, 0, 0)
        else:
            record = decode_database(raw)
        if record.ns != self.epoch:
            self.young, self.older = {}, {}
            self.seen = None
        self.epoch, self.idem_epoch = record.ns, record.idem_epoch
        self.floor = (record.floor_term, record.floor_index)
        self.keys, self.expires = record.keys, record.expires
        self.prefix = namespace_prefix(self.epoch)

    def encode(self) -> bytes:
        """The value of the database row."""
        return encode_database(
            DatabaseRecord(self.epoch, self.idem_epoch, *self.floor, self.keys, self.expires)
        )

    def flush(self) -> None:
        """Begin new epochs for keys and idempotency records, queue the old ones. O(watched)."""
        keyspace = self.keyspace
        for number, key in list(keyspace.watched):
            if number == self.number and self.get(key) is not None:
                keyspace.key_changed(self, key)
        rows = keyspace.store.open
        index = keyspace.index
        rows[reclaim_row(index, RECLAIM_NAMESPACE, self.epoch)] = PRESENT
        rows[reclaim_row(index, RECLAIM_IDEM, self.idem_epoch)] = PRESENT
        self.epoch, self.idem_epoch = keyspace.new_epoch(), keyspace.new_epoch()
        self.prefix = namespace_prefix(self.epoch)
        self.keys = self.expires = 0
        self.young, self.older = {}, {}
        self.seen = SeenKeys()
        keyspace.mark_dirty(self)

    def swap(self, other: Database) -> None:
        """Exchange keys with *other*; idempotency records stay with the number."""
        keyspace = self.keyspace
        for name in ("epoch", "prefix", "keys", "expires", "young", "older", "seen"):
            mine = getattr(self, name)
            setattr(self, name, getattr(other, name))
            setattr(other, name, mine)
        self.floor = other.floor = (keyspace.term, keyspace.index)
        # At once and not by mark_dirty: a swap stages no other row that would bring a frame about.
        for database in (self, other):
            keyspace.store.open[database.row] = database.encode()

    # ---- reading

    def get(self, key: bytes) -> Record | None:
        """The record of a key that exists; None if there is none or its deadline has passed."""
        record = self._record(key)
        if record is None:
            return None
        keyspace = self.keyspace
        if record[2] > keyspace.need:
            keyspace.need = record[2]
        if record[3] and record[3] <= keyspace.now:
            return None
        return record

    def lookup(self, key: bytes) -> Record | None:
        """As ``get``, for commands that only read: counted as a hit or a miss."""
        record = self.get(key)
        if record is None:
            self.keyspace.misses += 1
        else:
            self.keyspace.hits += 1
        return record

    def get_typed(self, key: bytes, type_: int) -> Record | None:
        """As ``get``; WrongType if the key holds another type."""
        record = self.get(key)
        if record is not None and record.type != type_:
            raise WrongType
        return record

    def get_string(self, key: bytes) -> bytes | None:
        """The whole value of a string key, None if there is no such key, WrongType else. O(n)."""
        record = self.get(key)
        if record is None:
            return None
        if record.type != STRING:
            raise WrongType
        return self.string_value(record)

    def string_value(self, record: Record) -> bytes:
        """The value of a string record. O(n) for one that is stored in chunks."""
        value = record.value
        if type(value) is bytes:
            return value
        assert isinstance(value, Chunks)
        return longstrings.read(self.keyspace.store, value, 0, value.length)

    def string_slice(self, record: Record, start: int, end: int) -> bytes:
        """Bytes *start* to *end* (exclusive) of a string; reads only the chunks concerned."""
        value = record.value
        if type(value) is bytes:
            return value[start:end]
        assert isinstance(value, Chunks)
        return longstrings.read(self.keyspace.store, value, start, end)

    def string_length(self, record: Record) -> int:
        """The length of a string in bytes. O(1)."""
        value = record.value
        return len(value) if type(value) is bytes else value.length  # type: ignore[union-attr]

    def version(self, record: Record) -> tuple[int, int]:
        """A key's version as it is shown: never below the database's floor."""
        version = (record.term, record.index)
        return version if version > self.floor else self.floor

    def _record(self, key: bytes) -> Record | None:
        """The stored record, expired or not, through the cache."""
        cached = self.young.get(key)
        if cached is None:
            return self._find(key)
        return decode_record(cached) if isinstance(cached, bytes) else cached

    def _find(self, key: bytes) -> Record | None:
        """The stored record, expired or not, from the older generation, memory or LevelDB."""
        cached = self.older.get(key)
        if cached is not None:
            record = decode_record(cached) if isinstance(cached, bytes) else cached
        elif self.seen is not None and not self.seen.may_hold(key):
            return None
        else:
            keyspace = self.keyspace
            store = keyspace.store
            row = self.prefix + key
            raw = store.get(row)
            if raw is None:
                if keyspace.index > store.durable and store.is_pending(row):
                    keyspace.depend_on_all()  # an absence that can still be taken back
                return None
            record = decode_record(raw)
            cached = raw if raw.startswith(PLAIN) else record
        self._cache(key, cached)
        return record

    def _cache(self, key: bytes, cached: Cached) -> None:
        """Keep something in the younger generation, instead of what it may have of the key."""
        keyspace = self.keyspace
        before = self.young.get(key)
        if before is not None:
            keyspace.cache_bytes -= _cached_size(key, before)
        keyspace.cache_bytes += _cached_size(key, cached)
        if keyspace.cache_bytes > keyspace.cache_size // 2:
            keyspace.make_room()
            keyspace.cache_bytes = _cached_size(key, cached)
        self.young[key] = cached

    def forget(self, key: bytes) -> None:
        """Drop a key from the cache."""
        before = self.young.pop(key, None)
        if before is not None:
            self.keyspace.cache_bytes -= _cached_size(key, before)
        self.older.pop(key, None)

    # ---- writing

    def put(self, key: bytes, value: bytes, expire_at: int = 0) -> None:
        """Make *key* a string, whatever it was. *expire_at* in Unix ms, 0 for never."""
        keyspace = self.keyspace
        old = self.young.get(key)
        if type(old) is not bytes or expire_at or len(value) > CHUNK:
            record = self._record(key)
            old = self.young.get(key)
            if expire_at or len(value) > CHUNK or (record is not None and type(old) is not bytes):
                self._put_with_care(key, record, value, expire_at)
                return
        # The hot path: a plain string over nothing or its like.
        row = pack_head(STRING, 0, keyspace.term, keyspace.index) + value
        if type(old) is bytes:
            keyspace.cache_bytes += len(row) - len(old)
        else:
            self._count_new(key)
            keyspace.cache_bytes += PLAIN_OVERHEAD + len(key) + len(row)
        self.young[key] = keyspace.store.open[self.prefix + key] = row
        keyspace.need = keyspace.index
        keyspace.changes += 1
        if keyspace.cache_bytes > keyspace.cache_size // 2:
            keyspace.make_room()
        if keyspace.watched or keyspace.observer is not None:
            keyspace.key_changed(self, key)

    def _count_new(self, key: bytes) -> None:
        """A key is stored that was not there."""
        self.keys += 1
        self.keyspace.mark_dirty(self)
        if self.seen is not None:
            self.seen.add(key)

    def _put_with_care(self, key: bytes, old: Record | None, value: bytes, expire_at: int) -> None:
        if old is not None:
            self._release_body(old)
        body: bytes | Chunks = value
        if len(value) > CHUNK:
            body = longstrings.write(self.keyspace, value)
        self.put_record(key, STRING, body, expire_at)

    def put_record(
        self,
        key: bytes,
        type_: int,
        value: bytes | Chunks | Collection,
        expire_at: int = 0,
    ) -> None:
        """Stage a key's metadata under the running command's version.

        What an earlier value kept elsewhere (chunks, elements) stays: the
        caller either carries it over in *value* or has released it.
        """
        keyspace = self.keyspace
        old = self._record(key)
        if old is None:
            self._count_new(key)
        else:
            self._tell_lapsed(key, old)
        row_at = self._index_deadline(key, old, expire_at)
        record = Record(type_, keyspace.term, keyspace.index, expire_at, row_at, value)
        row = keyspace.store.open[self.prefix + key] = encode_record(record)
        self._cache(key, row if row.startswith(PLAIN) else record)
        self._staged(key)

    def _staged(self, key: bytes) -> None:
        keyspace = self.keyspace
        keyspace.need = keyspace.index
        keyspace.changes += 1
        if keyspace.watched or keyspace.observer is not None:
            keyspace.key_changed(self, key)

    def _index_deadline(self, key: bytes, old: Record | None, expire_at: int) -> int:
        """Keep at most one expiry row per key, never later than its deadline.

        A deadline that moves back keeps the row it has: the sweeper meets it
        early, looks at the key and writes the row anew.
        """
        keyspace = self.keyspace
        rows = keyspace.store.open
        row_at = old.row_at if old is not None else 0
        if not expire_at:
            if row_at:
                rows[expiry_row(row_at, self.epoch, key)] = b""
                self.expires -= 1
                keyspace.mark_dirty(self)
            return 0
        if row_at and row_at <= expire_at:
            return row_at
        if row_at:
            rows[expiry_row(row_at, self.epoch, key)] = b""
        else:
            self.expires += 1
            keyspace.mark_dirty(self)
        row = expiry_row(expire_at, self.epoch, key)
        rows[row] = PRESENT
        if row < keyspace.expiry_cursor:  # a deadline in the past: the sweeper has to go back
            keyspace.expiry_cursor = rows[CURSOR_EXPIRY] = row
        return expire_at

    def set_deadline(self, key: bytes, record: Record, expire_at: int) -> None:
        """Change when a key expires; 0 for never. The value stays where it is."""
        if self.built_in_place(key, record):
            self.remember_raw(key)
        self.put_record(key, record.type, record.value, expire_at)

    def move_row(self, key: bytes, record: Record) -> None:
        """Sweeper: the deadline has moved, write the expiry row at its new time.

        Bookkeeping: the key's version stays.
        """
        rows = self.keyspace.store.open
        rows[expiry_row(record.row_at, self.epoch, key)] = b""
        rows[expiry_row(record.expire_at, self.epoch, key)] = PRESENT
        moved = record._replace(row_at=record.expire_at)
        rows[self.prefix + key] = encode_record(moved)
        if key in self.young:
            self.young[key] = moved
        self.older.pop(key, None)

    def delete(self, key: bytes) -> bool:
        """Remove a key; False if it does not exist. O(1), elements are reclaimed later."""
        if self.get(key) is None:
            return False
        self.remove(key)
        return True

    def remove(self, key: bytes) -> None:
        """Remove a key that is stored, expired or not."""
        old = self.stored(key)
        assert old is not None
        keyspace = self.keyspace
        self.forget(key)
        self._tell_lapsed(key, old)
        self._index_deadline(key, old, 0)
        self._release_body(old)
        keyspace.store.open[self.prefix + key] = b""
        self.keys -= 1
        keyspace.mark_dirty(self)
        self._staged(key)

    def move_body(self, key: bytes, target: Database, new_key: bytes) -> None:
        """Rename or move: the value goes over as it is, under the running command's version.

        *new_key* must not be stored in *target* any more.
        """
        old = self.get(key)
        assert old is not None
        self.forget(key)
        self._index_deadline(key, old, 0)
        self.keyspace.store.open[self.prefix + key] = b""
        self.keys -= 1
        self.keyspace.mark_dirty(self)
        self._staged(key)
        target.put_record(new_key, old.type, old.value, old.expire_at)

    def stored(self, key: bytes) -> Record | None:
        """The record of a key, expired or not, without touching the cache."""
        cached = self.young.get(key) or self.older.get(key)
        if cached is None:
            cached = self.keyspace.store.get(self.prefix + key)
        return decode_record(cached) if isinstance(cached, bytes) else cached

    def reclaim(self, key: bytes, record: Record) -> None:
        """Sweeper: remove the rows of a key whose deadline has passed.

        The key did not exist any more, so its version and watchers stay; who
        caches keys is told.
        """
        keyspace = self.keyspace
        self.forget(key)
        rows = keyspace.store.open
        rows[expiry_row(record.row_at, self.epoch, key)] = b""
        rows[self.prefix + key] = b""
        self._release_body(record)
        self.keys -= 1
        self.expires -= 1
        keyspace.mark_dirty(self)
        self._tell_lapsed(key, record)
        if keyspace.observer is not None:
            keyspace.observer(self, key)

    def copy_value(self, record: Record) -> bytes | Chunks | Collection:
        """The value of a record for another key: elements get rows of their own. O(elements)."""
        value = record.value
        if type(value) is bytes:
            return value
        assert isinstance(value, (Chunks, Collection))
        keyspace = self.keyspace
        rows = keyspace.store.open
        cid = keyspace.new_cid()
        source, target = element_prefix(value.cid), element_prefix(cid)
        low, high = source, prefix_end(source)
        while found := keyspace.store.range(low, high, limit=PAGE_ROWS):
            for row, element in found:
                rows[target + row[len(source) :]] = element
            low = found[-1][0] + b"\0"
        return value._replace(cid=cid)

    def _tell_lapsed(self, key: bytes, old: Record) -> None:
        """Tell that *old* had expired, when a write comes before the sweeper."""
        keyspace = self.keyspace
        if old.expire_at and old.expire_at <= keyspace.now and keyspace.lapsed is not None:
            keyspace.lapsed(self, key)

    def splice(self, key: bytes, record: Record, offset: int, data: bytes) -> int:
        """Overwrite part of a string from *offset*, padding with zeros; the new length.

        Rewrites only the chunks concerned. The deadline stays. *data* must not be empty.
        """
        self.remember_raw(key)
        end = offset + len(data)
        length = self.string_length(record)
        if max(end, length) <= CHUNK:
            value = self.string_value(record)
            value = value[:offset].ljust(offset, b"\0") + data + value[end:]
            self.put(key, value, record.expire_at)
            return len(value)
        chunks = record.value
        if type(chunks) is bytes:
            chunks = longstrings.write(self.keyspace, chunks)
        assert isinstance(chunks, Chunks)
        chunks = longstrings.overwrite(self.keyspace, chunks, offset, data)
        self.put_record(key, STRING, chunks, record.expire_at)
        return chunks.length

    def _release_body(self, record: Record) -> None:
        """Queue what a record keeps outside its metadata for reclamation."""
        value = record.value
        if type(value) is not bytes:
            assert isinstance(value, (Chunks, Collection))
            keyspace = self.keyspace
            row = reclaim_row(keyspace.index, RECLAIM_COLLECTION, value.cid)
            keyspace.store.open[row] = PRESENT

    # ---- elements and ranges

    def elements(self, cid: int) -> Elements:
        """The element rows of one collection."""
        return Elements(self.keyspace.store, cid)

    def page(
        self, start: bytes, limit: int, begins: bytes = b""
    ) -> tuple[list[tuple[bytes, int]], bytes | None]:
        """The keys that exist, with their types, among the next *limit* stored ones in byte order.

        Those from *start* on that begin with *begins*; second, where to go on, None at the
        end. Stops early when large values had to be read over. The running command then
        depends on everything staged. O(limit).
        """
        keyspace = self.keyspace
        keyspace.depend_on_all()
        now = keyspace.now
        low = self.prefix + max(begins, start)
        high = prefix_end(self.prefix + begins)
        found: list[tuple[bytes, int]] = []
        passed = 0
        while limit > 0 and passed < PAGE_BYTES:
            want = min(limit, PAGE_ROWS)
            rows = keyspace.store.range(low, high, limit=want)
            for row, raw in rows:
                passed += len(raw)
                type_, expire_at = peek_record(raw)
                if not expire_at or expire_at > now:
                    found.append((row[5:], type_))
            if len(rows) < want:
                return found, None
            limit -= want
            low = rows[-1][0] + b"\0"
        return found, low[5:]

    def edge_key(
        self, begins: bytes = b"", *, beyond: bytes | None = None, last: bool = False
    ) -> bytes | None:
        """The least (or the greatest) stored key that begins so and is greater than *beyond*.

        Expired or not; None for none.
        """
        low = self.prefix + (begins if beyond is None else beyond + b"\0")
        high = prefix_end(self.prefix + begins)
        rows = self.keyspace.store.range(low, high, reverse=last, limit=1)
        return rows[0][0][5:] if rows else None

    # ---- what Redis's tools look at

    def remember_raw(self, key: bytes) -> None:
        """The running command has built this string in place, which Redis shows as ``raw``.

        As in Redis, a restart forgets it.
        """
        raw_strings = self.keyspace.raw_strings
        if len(raw_strings) >= RAW_REMEMBERED:
            del raw_strings[next(iter(raw_strings))]
        raw_strings[self.epoch, key] = self.keyspace.index

    def built_in_place(self, key: bytes, record: Record) -> bool:
        """Whether the value was last changed by a command that called ``remember_raw``."""
        return self.keyspace.raw_strings.get((self.epoch, key)) == record.index

    # ---- events

    def notify(self, kind: str, event: bytes, key: bytes) -> None:
        """Announce a keyspace event of class *kind* (``$ g x …``), sent after the commit."""
        events = self.keyspace.events
        if events is not None:
            events(self, kind, event, key)


def _cached_size(key: bytes, cached: Cached) -> int:
    """What a cached key costs, about, in bytes."""
    if type(cached) is bytes:
        return PLAIN_OVERHEAD + len(key) + len(cached)
    value = cached[5]
    return RECORD_OVERHEAD + len(key) + (len(value) if type(value) is bytes else 0)
