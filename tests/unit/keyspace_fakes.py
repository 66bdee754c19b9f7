"""A store in memory and a host for the sweeper, for tests without disk, loop or server."""

from __future__ import annotations

import struct
from bisect import bisect_left, insort
from typing import Any

from norikv_resp.keyspace import Keyspace
from norikv_resp.stats import Stats


class MemoryStore:
    """What the keyspace uses of a store: frames are kept until ``commit`` or ``fail``.

    ``seeks_over`` counts tombstones that the last range met, as LevelDB's iterator would.
    """

    def __init__(self) -> None:
        self.open: dict[bytes, bytes] = {}
        self.flight: list[tuple[int, dict[bytes, bytes]]] = []
        self.rows: dict[bytes, bytes] = {}
        self.order: list[bytes] = []  # every row key ever written: tombstones stay, as in LevelDB
        self.frames: list[dict[bytes, bytes]] = []
        self.durable = self.staged = 0
        self.clock = 0
        self.term = 1
        self.refusal: str | None = None
        self.slowdown = 0.0
        self.seeks_over = self.most_seeks_over = 0

    def get(self, row: bytes) -> bytes | None:
        for layer in (self.open, *(rows for _, rows in reversed(self.flight)), self.rows):
            value = layer.get(row)
            if value is not None:
                return value or None
        return None

    def is_pending(self, row: bytes) -> bool:
        return row in self.open or any(row in rows for _, rows in self.flight)

    def range(
        self, start: bytes, stop: bytes, *, reverse: bool = False, limit: int | None = None
    ) -> list[tuple[bytes, bytes]]:
        for layer in (self.open, *(rows for _, rows in self.flight)):
            self._remember(layer)
        low, high = bisect_left(self.order, start), bisect_left(self.order, stop)
        places = range(high - 1, low - 1, -1) if reverse else range(low, high)
        found: list[tuple[bytes, bytes]] = []
        self.seeks_over = 0
        for place in places:
            if limit is not None and len(found) == limit:
                break
            value = self.get(self.order[place])
            if value is None:
                self.seeks_over += 1
            else:
                found.append((self.order[place], value))
        self.most_seeks_over = max(self.most_seeks_over, self.seeks_over)
        return found

    def _remember(self, rows: dict[bytes, bytes]) -> None:
        for row in rows:
            place = bisect_left(self.order, row)
            if place == len(self.order) or self.order[place] != row:
                insort(self.order, row)

    def seal(self, last: int, clock: int) -> None:
        if self.open:
            self.staged = last
            self.frames.append(self.open)
            self.flight.append((last, self.open))
            self.open = {}

    def commit(self) -> None:
        for last, rows in self.flight:
            self._remember(rows)
            self.rows.update(rows)
            self.durable = last
        self.flight.clear()

    def fail(self) -> set[bytes]:
        """Drop everything that is not committed; the rows concerned."""
        dropped = set(self.open).union(*(rows for _, rows in self.flight))
        self.open = {}
        self.flight.clear()
        return dropped

    def live(self, family: bytes) -> dict[bytes, bytes]:
        """The rows of a family, by what the latest layer says."""
        names = {row for layer in (self.open, self.rows) for row in layer}
        names |= {row for _, rows in self.flight for row in rows}
        found = {row: self.get(row) for row in names if row[:1] == family}
        return {row: value for row, value in found.items() if value is not None}


class ManualClock:
    """Time that stands until a test moves it."""

    def __init__(self, now: int = 1_000_000) -> None:
        self.time = now

    def now(self) -> int:
        return self.time


class FakeIdempotency:
    """The count that sweeps keep."""

    def __init__(self) -> None:
        self.records = 0

    def stage_count(self, rows: dict[bytes, bytes]) -> None:
        rows[b"!idem"] = struct.pack("<Q", self.records)


class Host:
    """Stands for the server: a keyspace over a store in memory, and time in hand."""

    def __init__(self, databases: int = 2) -> None:
        self.store = MemoryStore()
        self.keyspace = Keyspace(self.store, databases, 1 << 20)  # type: ignore[arg-type]
        self.clock = ManualClock()
        self.keyspace.clock = self.clock  # type: ignore[assignment]
        self.keyspace.begin_batch()
        self.idempotency: Any = FakeIdempotency()
        self.stats = Stats()
        self.seals = 0
        #: Collections of which no row is left, in order.
        self.reclaimed: list[int] = []

    def schedule_seal(self) -> None:
        self.seals += 1

    def collection_reclaimed(self, cid: int) -> None:
        self.reclaimed.append(cid)

    def write(self) -> Keyspace:
        """Begin a write command."""
        self.keyspace.begin_batch()
        self.keyspace.index += 1
        return self.keyspace

    def turn(self) -> None:
        """End the loop turn and commit its frame."""
        self.keyspace.seal()
        self.store.commit()
