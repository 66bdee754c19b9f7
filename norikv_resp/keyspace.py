"""The only door to keys: the commit order, watchers, and what the running batch depends on.

A write is staged in the store's open layer under the index of the command
that makes it; nothing here waits. ``Keyspace.need`` collects the highest
index that the running batch has seen, so that the connection can hold the
batch's replies until that index is durable. What is in a database is the
business of `database`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol

from norikv_resp.clock import Clock
from norikv_resp.config import StartupError
from norikv_resp.database import Database
from norikv_resp.encoding import (
    CURSOR_EXPIRY,
    FIRST_EPOCH,
    IDS_ROW,
    ROW_DATABASE,
    database_row,
    decode_database,
    decode_ids,
    encode_ids,
    expiry_bound,
    prefix_end,
)
from norikv_resp.seen import SeenKeys

if TYPE_CHECKING:
    from norikv_resp.store import Store


class Watcher(Protocol):
    """A connection that has watched a key (WATCH)."""

    def key_changed(self) -> None: ...


Observer = Callable[["Database", bytes], None]
EventSink = Callable[["Database", str, bytes, bytes], None]


class Keyspace:
    """All databases, the commit order's next index, and what the running batch depends on."""

    def __init__(self, store: Store, databases: int, cache_size: int) -> None:
        # For the life of the server.
        self.store = store
        self.clock = Clock(store.clock)
        self.term = store.term
        self.cache_size = cache_size
        self.databases = [Database(self, number) for number in range(databases)]

        # The commit order.
        #: The index of the running write command, or of the last one.
        self.index = store.staged
        #: Counts staged changes, so that a caller can tell whether a command changed anything.
        self.changes = 0
        #: How often commands that read found their key, and how often not.
        self.hits = self.misses = 0
        self._next_cid, self._next_epoch = 1, FIRST_EPOCH
        self._dirty: set[Database] = set()
        #: Counts failed commits, for those who remember what they have staged.
        self.rollbacks = 0

        # The expiry index.
        #: No row of the index is less than this one: the sweeper's way goes on here.
        self.expiry_cursor = expiry_bound(0)
        #: Told about every key that gives way because its deadline has passed.
        self.lapsed: Callable[[Database, bytes], None] | None = None

        # The running batch.
        self.now = self.clock.now()
        #: The highest index that the batch has seen or staged.
        self.need = 0
        #: The last index of a frame, committed or not.
        self.sealed = self.index
        #: Everything after a flush or a swap depends on this index.
        self.barrier = 0

        # Who follows changes.
        self.watched: dict[tuple[int, bytes], set[Watcher]] = {}
        self.observer: Observer | None = None
        self.events: EventSink | None = None

        # The cache: two generations, of which the older is dropped when the younger is full.
        self.cache_bytes = 0
        #: Strings that Redis would hold unshared after APPEND and SETRANGE: epoch and key to index.
        self.raw_strings: dict[tuple[int, bytes], int] = {}
        self._load()

    def _load(self) -> None:
        ids = self.store.get(IDS_ROW)
        if ids is not None:
            self._next_cid, self._next_epoch = decode_ids(ids)
        self._load_expiry_cursor()
        for database in self.databases:
            database.load()
            if not self.store.staged:  # A new data directory.
                database.seen = SeenKeys()
        self._refuse_hidden_keys()

    def _refuse_hidden_keys(self) -> None:
        """Keys beyond the configured number of databases would neither be seen nor swept."""
        low = database_row(len(self.databases))
        for row, raw in self.store.range(low, prefix_end(ROW_DATABASE)):
            keys = decode_database(raw).keys
            if keys:
                number = int.from_bytes(row[1:], "big")
                self.store.close()
                raise StartupError(
                    f"database {number} holds {keys} keys, but databases is "
                    f"{len(self.databases)}: set it to {number + 1} or more"
                )

    def _load_expiry_cursor(self) -> None:
        self.expiry_cursor = self.store.get(CURSOR_EXPIRY) or expiry_bound(0)

    # ---- the batch

    def begin_batch(self) -> None:
        """Read the clock and forget what earlier batches depended on."""
        self.now = self.clock.now()
        self.need = 0

    def depend_on_all(self) -> None:
        """The running command has seen more than single keys: a range, a count.

        Not simply the last index: a write command that changed nothing has
        taken one for which no frame will come.
        """
        self.need = max(self.need, self.index if self.store.open else self.sealed)

    def seal(self) -> None:
        """End of a loop turn: everything staged becomes one frame."""
        store = self.store
        for database in self._dirty:
            store.open[database.row] = database.encode()
        self._dirty.clear()
        if store.open:
            self.sealed = self.index
            store.seal(self.index, self.now)

    # ---- allocation

    def new_cid(self) -> int:
        """A collection id that was never used."""
        cid = self._next_cid
        self._next_cid += 1
        self._stage_ids()
        return cid

    def new_epoch(self) -> int:
        """A number for a database's keys or idempotency records that was never used."""
        epoch = self._next_epoch
        self._next_epoch += 1
        self._stage_ids()
        return epoch

    def _stage_ids(self) -> None:
        self.store.open[IDS_ROW] = encode_ids(self._next_cid, self._next_epoch)

    def mark_dirty(self, database: Database) -> None:
        """The database's row has to be in the next frame."""
        self._dirty.add(database)

    # ---- whole databases

    def flush(self, databases: Iterable[Database]) -> None:
        """Empty databases in O(1) each; their rows are reclaimed in the background."""
        for database in databases:
            database.flush()
        self.barrier = self.need = self.index
        self.changes += 1

    def swap(self, first: Database, second: Database) -> None:
        """Exchange the contents of two databases. Both get this command's version as a floor."""
        for number, other in ((first, second), (second, first)):
            self._touch_watched(number, other)
        first.swap(second)
        self.barrier = self.need = self.index
        self.changes += 1

    def _touch_watched(self, database: Database, other: Database) -> None:
        """Watchers see a swap of a key that exists on either side."""
        for number, key in list(self.watched):
            if number == database.number and (
                database.get(key) is not None or other.get(key) is not None
            ):
                self.key_changed(database, key)

    # ---- watchers

    def watch(self, database: Database, key: bytes, watcher: Watcher) -> None:
        """Tell *watcher* about the next change of a key."""
        self.watched.setdefault((database.number, key), set()).add(watcher)

    def unwatch(self, keys: Iterable[tuple[int, bytes]], watcher: Watcher) -> None:
        """Forget what *watcher* watches."""
        for watched_key in keys:
            watchers = self.watched.get(watched_key)
            if watchers is not None:
                watchers.discard(watcher)
                if not watchers:
                    del self.watched[watched_key]

    def key_changed(self, database: Database, key: bytes) -> None:
        """Called for every staged change while anybody watches or tracks."""
        watchers = self.watched.get((database.number, key))
        if watchers:
            for watcher in watchers:
                watcher.key_changed()
        if self.observer is not None:
            self.observer(database, key)

    # ---- failed commits

    def rolled_back(self, rows: Iterable[bytes]) -> None:
        """The store has dropped staged *rows*: forget what was derived from them."""
        self.rollbacks += 1
        self.sealed = self.store.durable
        self._dirty.clear()
        self._load_expiry_cursor()
        for database in self.databases:
            database.load()
        by_prefix = {database.prefix: database for database in self.databases}
        for row in rows:
            owner = by_prefix.get(row[:5])
            if owner is not None:
                owner.forget(row[5:])
                self.key_changed(owner, row[5:])
        self.barrier = min(self.barrier, self.store.durable)

    # ---- the cache

    def make_room(self) -> None:
        """Drop the older generation: O(databases), called when the younger one is full."""
        for database in self.databases:
            database.older = database.young
            database.young = {}
        self.cache_bytes = 0
