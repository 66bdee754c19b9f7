"""What docs/patterns.md says that each pattern costs, when nobody disturbs it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from norikv_resp.client import NoriKVClient
from norikv_resp.patterns import (
    BankAccountAggregate,
    DocumentDeduplicator,
    EventStore,
    RecommendationEngine,
    SemanticSearchEngine,
    TenantManager,
)
from tests.patterns.conftest import Run
from tests.patterns.workers_search import EMBEDDER

pytestmark = pytest.mark.norikv


class Meter:
    """Counts the round trips of a client."""

    def __init__(self, client: NoriKVClient) -> None:
        self._count = 0
        run = client._run

        async def counted(*args: Any, **more: Any) -> Any:
            self._count += 1
            return await run(*args, **more)

        client._run = counted  # type: ignore[method-assign]

    async def of(self, work: Awaitable[Any]) -> int:
        """The round trips of *work*."""
        self._count = 0
        await work
        return self._count


async def warm(client: NoriKVClient) -> Meter:
    """A meter of a client that has asked the server what its commands are."""
    await client.execute("MGETVER", "x")
    await client.execute("CAS", "x", "1-1", "x")
    for command in ("GETVER", "GET", "MGET", "VER", "VSEARCH", "VADD"):
        try:
            await client.execute(command, "x")
        except Exception:
            continue
    return Meter(client)


def test_events_and_accounts(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        meter = await warm(client)
        store = EventStore(client)
        assert await meter.of(store.append("a", "X", {})) == 2
        assert await meter.of(store.append("a", "X", {})) == 1
        assert await meter.of(store.get_events("a")) == 1
        account = BankAccountAggregate(EventStore(client), "b")
        await account.open_account()
        assert await meter.of(account.deposit(100)) == 1
        assert await meter.of(account.withdraw(5, event_id="x")) == 1
        assert await meter.of(account.load()) == 2

    run(scene)


def test_tenants(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        meter = await warm(client)
        manager = TenantManager(client)
        assert await meter.of(manager.create("acme", "Acme", "pro")) == 1
        assert await meter.of(manager.get_client("acme")) == 1
        tenant = await manager.get_client("acme")
        assert await meter.of(tenant.put("k", b"v")) == 2
        many = asyncio.gather(*(tenant.put(f"{n}", b"v") for n in range(100)))
        assert await meter.of(many) == 2
        assert await meter.of(tenant.get("k")) == 1
        assert await meter.of(tenant.delete("k")) == 2
        assert await meter.of(tenant.delete("k")) == 1
        assert await meter.of(tenant.usage()) == 1

    run(scene)


def test_vectors(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        meter = await warm(client)
        engine = SemanticSearchEngine(client, EMBEDDER)
        assert await meter.of(engine.initialize()) == 1
        assert await meter.of(engine.index_document("d", "Bread", "Flour")) == 1
        assert await meter.of(engine.search("bread", 3)) == 2

        shop = RecommendationEngine(client, EMBEDDER)
        await shop.initialize()
        for name in ("p1", "p2"):
            assert await meter.of(shop.index_product(name, name, "thing", "things")) == 1
        assert await meter.of(shop.record_interaction("ann", "p1")) == 2
        assert await meter.of(shop.get_recommendations("ann", 1)) == 3
        assert await meter.of(shop.get_similar_products("p1", 1)) == 2

        board = DocumentDeduplicator(client, EMBEDDER, 0.9)
        await board.initialize()
        assert await meter.of(board.check_and_store("a", "flour and water")) == 3
        assert await meter.of(board.check_and_store("b", "oil and chains")) == 2
        assert await meter.of(board.check_and_store("c", "oil and chains")) == 1

    run(scene)
