"""Stock that is reserved, then sold or given back, and never sold twice.

An item is one key: how much there is, and how much of that is held until when. Each reservation
is another, which the server lets expire at the very moment until which the item counts the hold.
Both change in one transaction, guarded by CHECK on both, so they never disagree: a reservation
that is there is counted, one that is gone is not. Nobody has to sweep: whoever reads an item
leaves out the holds whose time has passed by the server's clock.

Holds are counted by deadline, and deadlines are rounded up to a sixty-fourth of the hold: the
item stays small however many reservations there are.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from norikv_resp.client import (
    AlreadyExistsError,
    InvalidArgumentError,
    KeyNotFoundError,
    NoriKVError,
)
from norikv_resp.patterns.combining import Combiner, Memo
from norikv_resp.patterns.requests import milliseconds, together
from norikv_resp.patterns.retry import Attempts

if TYPE_CHECKING:
    from norikv_resp.client import Key, NoriKVClient, Version, Word

#: Milliseconds for which a committed or released reservation is remembered, so that repeating
#: either has the same answer.
REMEMBERED_MS = 86_400_000

#: Deadlines of holds are rounded up to this part of the hold.
_GRAINS = 64

HELD, COMMITTED, RELEASED, EXPIRED = "held", "committed", "released", "expired"


class InsufficientStockError(NoriKVError):
    """There is less to be had than was asked for; nothing was reserved."""

    def __init__(self, sku: str, requested: int, available: int) -> None:
        super().__init__(f"{sku}: {requested} wanted, {available} available", "INSUFFICIENT_STOCK")
        self.sku = sku
        self.requested = requested
        self.available = available


class ReservationError(NoriKVError):
    """What was wanted of the reservation cannot be any more; ``state`` says what it is."""

    def __init__(self, reservation_id: str, state: str) -> None:
        super().__init__(f"reservation {reservation_id} is {state}", "RESERVATION")
        self.reservation_id = reservation_id
        self.state = state


@dataclass(frozen=True)
class _Reservation:
    """A reservation as its key has it; *version* is "0" for one that does not exist."""

    version: str | bytes
    quantity: int = 0
    until: int = 0
    state: str = EXPIRED

    @classmethod
    def read(cls, found: list[bytes] | None) -> _Reservation:
        return cls("0") if found is None else cls(found[1], **json.loads(found[0]))

    def written(self) -> str:
        return json.dumps({"quantity": self.quantity, "until": self.until, "state": self.state})


@dataclass(frozen=True)
class _Item:
    """An item as it was seen.

    Attributes:
        version: the key's version.
        quantity: what is on the shelf, held or not.
        held: how much is held, by deadline.
        now: the server's time of the look; later it is at least that.
        seen: this process's time of the look, by time.monotonic.
    """

    version: str | bytes
    quantity: int
    held: dict[int, int]
    now: int
    seen: float

    @classmethod
    def read(cls, found: list[bytes], now: int) -> _Item:
        stored = json.loads(found[0])
        held = {int(until): count for until, count in stored["held"].items()}
        return cls("0", stored["quantity"], held, 0, 0.0).at(found[1], now)

    def at(self, version: str | bytes, now: int) -> _Item:
        """The item as it is under *version* at the server's time *now*: what has expired is not."""
        held = {until: count for until, count in self.held.items() if until > now}
        return _Item(version, self.quantity, held, now, time.monotonic())

    def written(self) -> str:
        return json.dumps({"quantity": self.quantity, "held": self.held})

    @property
    def available(self) -> int:
        return self.quantity - sum(self.held.values())

    def deadline(self, hold_ms: int) -> int:
        """When a hold that begins about now ends. A wrong guess changes its length, no more."""
        grain = max(1, hold_ms // _GRAINS)
        end = self.now + int((time.monotonic() - self.seen) * 1000) + hold_ms
        return -(-end // grain) * grain

    def holding(self, until: int, change: int) -> _Item:
        """The item with *change* more held until then."""
        held = {**self.held, until: self.held.get(until, 0) + change}
        if not held[until]:
            del held[until]
        return replace(self, held=held)


class _Plan:
    """The changes of one round: what the item and its reservations become."""

    def __init__(self, item: _Item, reservations: dict[str, _Reservation]) -> None:
        self.item = item
        self.reservations = dict(reservations)
        self.changed: set[str] = set()
        #: Whether anything was refused or done already: only a fresh look may say so.
        self.refused = False

    def put(self, reservation_id: str, reservation: _Reservation) -> None:
        self.reservations[reservation_id] = reservation
        self.changed.add(reservation_id)


#: Changes the plan and returns its result, or the error to raise.
_Step = Callable[[_Plan], "str | Exception | None"]


@dataclass(frozen=True)
class _Wish:
    """What a caller wants of an item; *settles* is the reservation that it needs to know."""

    step: _Step
    settles: str | None = None


class InventoryManager:
    """Items and their reservations, for any number of processes.

    A reservation, a commit or a release is one transaction, in one round trip while nobody else
    changes the item; a lost race costs two more. Tasks that want the same item at the same moment
    share a transaction.

    Args:
        client: a connected client.
    """

    def __init__(self, client: NoriKVClient) -> None:
        self._client = client
        self._items: Memo[str, _Item] = Memo()
        self._reservations: Memo[str, _Reservation] = Memo()
        self._combiner: Combiner[str, _Wish, str | None] = Combiner(self._round)

    async def create_item(self, sku: str, quantity: int) -> None:
        """Put *quantity* of a new item on the shelf. One round trip.

        Raises:
            AlreadyExistsError: there is such an item.
        """
        if quantity < 0:
            raise InvalidArgumentError("a quantity is not negative")
        key = _item_key(sku)
        value = json.dumps({"quantity": quantity, "held": {}})
        if await self._client.execute("SETVER", key, value, "NX") is None:
            raise AlreadyExistsError(f"the item exists: {sku}", key.encode())

    async def reserve(self, sku: str, n: int, hold_ms: int = 600_000) -> str:
        """Hold *n* of an item; the reservation's id.

        Unless it is committed within *hold_ms* (up to a sixty-fourth more), the stock is there
        for others again, without anybody doing anything.

        Raises:
            InsufficientStockError: not that much is available.
            KeyNotFoundError: there is no such item.
        """
        if n < 1 or hold_ms < 1:
            raise InvalidArgumentError("a reservation needs n >= 1 and hold_ms >= 1")
        reservation_id = f"{uuid.uuid4().hex}:{sku}"

        def step(plan: _Plan) -> str | Exception:
            if plan.item.available < n:
                plan.refused = True
                return InsufficientStockError(sku, n, plan.item.available)
            until = plan.item.deadline(hold_ms)
            plan.item = plan.item.holding(until, n)
            plan.put(reservation_id, _Reservation("0", n, until, HELD))
            return reservation_id

        reserved = await self._combiner.submit(sku, _Wish(step))
        assert reserved is not None
        return reserved

    async def commit(self, reservation_id: str) -> None:
        """Take what was reserved off the shelf for good. Repeating it changes nothing.

        Raises:
            ReservationError: it is released, or expired (or there was never such a reservation).
        """
        await self._settle(reservation_id, COMMITTED)

    async def release(self, reservation_id: str) -> None:
        """Give back what was reserved. Repeating it, or releasing an expired one, changes nothing.

        Raises:
            ReservationError: it is committed.
        """
        await self._settle(reservation_id, RELEASED)

    @asynccontextmanager
    async def holding(self, sku: str, n: int, hold_ms: int = 600_000) -> AsyncIterator[str]:
        """Reserve for the block: committed at its end, released when it raises."""
        reservation_id = await self.reserve(sku, n, hold_ms)
        try:
            yield reservation_id
        except BaseException:
            await self.release(reservation_id)
            raise
        await self.commit(reservation_id)

    async def get_available(self, sku: str) -> int:
        """How much can be reserved now. One round trip.

        Raises:
            KeyNotFoundError: there is no such item.
        """
        return (await self._read(sku, [])).item.available

    async def _settle(self, reservation_id: str, wanted: str) -> None:
        _, colon, sku = reservation_id.partition(":")
        if not colon:
            raise ReservationError(reservation_id, EXPIRED)

        def step(plan: _Plan) -> Exception | None:
            reservation = plan.reservations[reservation_id]
            if reservation.state == HELD and reservation.until in plan.item.held:
                plan.item = plan.item.holding(reservation.until, -reservation.quantity)
                if wanted == COMMITTED:
                    left = plan.item.quantity - reservation.quantity
                    plan.item = replace(plan.item, quantity=left)
                plan.put(reservation_id, replace(reservation, state=wanted))
                return None
            plan.refused = True
            state = EXPIRED if reservation.state == HELD else reservation.state
            if state == wanted or (wanted == RELEASED and state == EXPIRED):
                return None
            return ReservationError(reservation_id, state)

        await self._combiner.submit(sku, _Wish(step, reservation_id))

    # -- rounds --------------------------------------------------------------------

    async def _round(self, sku: str, wishes: list[_Wish]) -> list[str | Exception | None]:
        """Carry out everything that is wanted of an item at the moment, in one transaction."""
        async for attempt in Attempts():
            plan, results = await self._planned(sku, wishes, trusting=not attempt)
            if not plan.changed or await self._write(sku, plan):
                return results
        raise AssertionError("Attempts ends with an error")

    async def _planned(
        self, sku: str, wishes: list[_Wish], trusting: bool
    ) -> tuple[_Plan, list[str | Exception | None]]:
        """The changes to make and each wish's result, from memory if that grants all wishes."""
        ids = [wish.settles for wish in wishes if wish.settles is not None]
        known = self._remembered(sku, ids) if trusting else None
        if known is not None:
            results = [wish.step(known) for wish in wishes]
            if not known.refused:
                return known, results
        plan = await self._read(sku, ids)
        return plan, [wish.step(plan) for wish in wishes]

    def _remembered(self, sku: str, ids: list[str]) -> _Plan | None:
        item = self._items.get(sku)
        found = {each: self._reservations.get(each) for each in ids}
        reservations = {each: seen for each, seen in found.items() if seen is not None}
        if item is None or len(reservations) < len(found):
            return None
        return _Plan(item, reservations)

    async def _read(self, sku: str, ids: list[str]) -> _Plan:
        keys = [_item_key(sku), *map(_reservation_key, ids)]
        (item, *found), now = await together(self._client, ("MGETVER", *keys), ("TIME",))
        if item is None:
            raise KeyNotFoundError(keys[0].encode())
        reservations = zip(ids, map(_Reservation.read, found), strict=True)
        return _Plan(_Item.read(item, milliseconds(now)), dict(reservations))

    async def _write(self, sku: str, plan: _Plan) -> bool:
        """Whether the plan's changes were made: nobody else has changed what they stand on."""
        checks: dict[Key, Version | str | bytes | None] = {_item_key(sku): plan.item.version}
        commands: list[Sequence[Word]] = [("SETVER", _item_key(sku), plan.item.written())]
        for each in plan.changed:
            key, reservation = _reservation_key(each), plan.reservations[each]
            checks[key] = reservation.version
            expiry = (
                ("PXAT", reservation.until) if reservation.state == HELD else ("PX", REMEMBERED_MS)
            )
            commands.append(("SETVER", key, reservation.written(), *expiry))
        replies = await self._client.transaction([*commands, ("TIME",)], checks)
        if replies is None:
            self._items.drop(sku)
            return False
        # All writes of a transaction share one version.
        version, now = replies[0], milliseconds(replies[-1])
        self._items.put(sku, plan.item.at(version, now))
        for each in plan.changed:
            self._reservations.put(each, replace(plan.reservations[each], version=version))
        return True


def _item_key(sku: str) -> str:
    return f"inventory:item:{sku}"


def _reservation_key(reservation_id: str) -> str:
    return f"inventory:reservation:{reservation_id}"
