"""Inventory: never oversold, and what is not bought comes back."""

from __future__ import annotations

import asyncio
import json
from collections import Counter

import pytest

from norikv_resp.client import AlreadyExistsError, KeyNotFoundError, NoriKVClient
from norikv_resp.patterns import InsufficientStockError, InventoryManager, ReservationError
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv


def test_reading_and_writing_sells_more_than_there_is(server: ServerProcess, url: str) -> None:
    server.ask("SET", "stock", 100)
    with Crew("sell_naively", url, 3) as crew:
        assert sum(map(len, crew.finish())) > 100


def test_nothing_is_oversold_and_holds_return(own_server: ServerProcess) -> None:
    """Buyers die and forget, connections break, the server is killed."""
    stock, direct = 60, f"redis://127.0.0.1:{own_server.port}"

    async def with_inventory(action: str) -> int | None:
        async with NoriKVClient.from_url(direct) as client:
            inventory = InventoryManager(client)
            if action == "create":
                return await inventory.create_item("lamp", stock)
            return await inventory.get_available("lamp")

    asyncio.run(with_inventory("create"))
    with shaky(own_server.port, every=8000) as url, Crew("sell", url, 3, hold_ms=400) as crew:
        crew.wait_for(stock // 2)
        own_server.restart(clean=False)
        crew.wait_for(stock)
        crew.kill(0)
        reports = [each for reports in crew.finish() for each in reports]
    told = Counter(what for what, _ in reports)
    with own_server.wire() as wire:
        kept = [json.loads(wire.ok("GET", key)) for key in wire.ok("KEYS", "inventory:res*")]
    states = Counter(each["state"] for each in kept)
    # What was told is so; one that was killed may not have heard of its last commit.
    assert told["committed"] <= states["committed"] <= told["committed"] + 1
    assert states["committed"] <= stock < told["reserved"]
    assert asyncio.run(with_inventory("look")) == stock - states["committed"]
    assert states["held"] == 0


def test_of_commit_and_release_one_wins_for_everybody(
    server: ServerProcess, url: str, run: Run
) -> None:
    async def reserve(client: NoriKVClient) -> list[str]:
        inventory = InventoryManager(client)
        await inventory.create_item("lamp", 50)
        return [await inventory.reserve("lamp", 1) for _ in range(30)]

    async def look(client: NoriKVClient) -> int:
        return await InventoryManager(client).get_available("lamp")

    reservations = run(reserve)
    with (
        shaky(server.port, every=8000) as cut,
        Crew("settle", cut, 4, reservations=reservations) as crew,
    ):
        reports = crew.finish()
    outcomes = [dict(map(tuple, each)) for each in reports]
    assert all(each == outcomes[0] for each in outcomes)
    committed = Counter(outcomes[0].values())["committed"]
    assert len(outcomes[0]) == 30
    assert run(look) == 50 - committed


def test_an_expired_hold_cannot_be_committed_after_others_got_the_stock(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        one, other = InventoryManager(client), InventoryManager(client)
        await one.create_item("lamp", 1)
        late = await one.reserve("lamp", 1, hold_ms=100)
        with pytest.raises(InsufficientStockError) as refused:
            await other.reserve("lamp", 1)
        assert (refused.value.requested, refused.value.available) == (1, 0)
        await asyncio.sleep(0.12)
        # Nobody has told the first one: what it remembers says that the hold is its own.
        sold = await other.reserve("lamp", 1)
        with pytest.raises(ReservationError) as expired:
            await one.commit(late)
        assert expired.value.state == "expired"
        await one.release(late)
        await other.commit(sold)
        assert await one.get_available("lamp") == 0

    run(steps)


def test_a_commit_at_the_moment_of_expiry_never_doubles_stock(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        one, other = InventoryManager(client), InventoryManager(client)
        await one.create_item("lamp", 1000)
        sold = 0
        for moment in range(25):
            reservation = await one.reserve("lamp", 1, hold_ms=20)
            await asyncio.sleep(0.015 + moment / 5000)
            results = await asyncio.gather(
                one.commit(reservation), other.commit(reservation), return_exceptions=True
            )
            assert {type(each) for each in results} <= {type(None), ReservationError}
            # Once it is said to be expired, nobody may commit it; so all agree in the end.
            try:
                await other.commit(reservation)
                sold += 1
            except ReservationError:
                assert ReservationError in map(type, results)
        await asyncio.sleep(0.03)
        assert await one.get_available("lamp") == 1000 - sold

    run(steps)


def test_holding_commits_or_releases(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        inventory = InventoryManager(client)
        await inventory.create_item("a:b", 5)
        async with inventory.holding("a:b", 2) as reservation:
            assert await inventory.get_available("a:b") == 3
        await inventory.commit(reservation)
        with pytest.raises(ZeroDivisionError):
            async with inventory.holding("a:b", 2):
                raise ZeroDivisionError
        assert await inventory.get_available("a:b") == 3

    run(steps)


def test_what_is_refused(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        inventory = InventoryManager(client)
        await inventory.create_item("lamp", 5)
        with pytest.raises(AlreadyExistsError):
            await inventory.create_item("lamp", 9)
        for attempt in (inventory.get_available("desk"), inventory.reserve("desk", 1)):
            with pytest.raises(KeyNotFoundError):
                await attempt
        for nonsense in ("nonsense", "0:lamp"):
            with pytest.raises(ReservationError):
                await inventory.commit(nonsense)
        with pytest.raises(InsufficientStockError):
            await inventory.reserve("lamp", 6)
        assert await inventory.get_available("lamp") == 5

    run(steps)


def test_an_item_stays_small_however_many_reservations_it_has(run: Run) -> None:
    async def steps(client: NoriKVClient) -> int:
        inventory = InventoryManager(client)
        await inventory.create_item("lamp", 10_000)
        for _ in range(40):
            await asyncio.gather(*(inventory.reserve("lamp", 1) for _ in range(25)))
        assert await inventory.get_available("lamp") == 9000
        size: int = await client.execute("STRLEN", "inventory:item:lamp")
        return size

    assert run(steps) < 2000
