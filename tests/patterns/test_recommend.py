"""Recommendations: every interaction counts, and what was seen is not recommended again."""

from __future__ import annotations

import asyncio

import pytest

from norikv_resp.client import NoriKVClient
from norikv_resp.embedders.ngrams import NGramEmbedder
from norikv_resp.patterns.recommend import Preference, RecommendationEngine
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.patterns.workers_search import EMBEDDER, PRODUCTS
from tests.support.effort import scaled
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

TIMES = scaled(30)


def attack(server: ServerProcess, worker: str) -> list[list[str]]:
    with shaky(server.port, every=20_000) as url, Crew(worker, url, 3, times=TIMES) as crew:
        crew.wait_for(TIMES)
        crew.kill(0)
        server.restart(clean=False)
        return [report for reports in crew.finish() for report in reports]


def test_every_interaction_counts_once(own_server: ServerProcess) -> None:
    url = f"redis://127.0.0.1:{own_server.port}"

    async def prepare() -> None:
        async with stubborn(url) as client:
            engine = RecommendationEngine(client, EMBEDDER)
            await engine.initialize()
            for name in PRODUCTS:
                await engine.index_product(name, name, f"A {name} for the mountains", "outdoor")

    async def judge(clicks: list[list[str]]) -> None:
        async with stubborn(url) as client:
            preference = await RecommendationEngine(client, EMBEDDER).get_preference("user")
            assert preference is not None
            seen = await client.execute("MGET", *(f"products:user:user:seen:{p}" for p in PRODUCTS))
            assert sum(map(int, seen)) == preference.interactions
            # The one under way when a client was killed may have counted.
            assert len(clicks) <= preference.interactions <= len(clicks) + 1
            vectors = [await client.vector_get("products:vectors", name) for name in PRODUCTS]
            for at, component in enumerate(preference.vector):
                wanted = sum(int(n) * v[at] for n, v in zip(seen, vectors, strict=True) if v)
                assert component == pytest.approx(wanted / preference.interactions, abs=1e-4)

    asyncio.run(prepare())
    asyncio.run(judge(attack(own_server, "click")))


def test_get_then_put_loses_interactions_under_the_same_attack(own_server: ServerProcess) -> None:
    clicks = attack(own_server, "click_naively")
    assert int(own_server.ask("GET", "naive")) < len(clicks)


# -- the interface -------------------------------------------------------------


async def shop(client: NoriKVClient, memory: int = 20) -> RecommendationEngine:
    engine = RecommendationEngine(client, NGramEmbedder(256), memory=memory)
    await engine.initialize()
    for number in range(12):
        category = ("shoes", "lamps", "pots")[number % 3]
        await engine.index_product(
            f"p{number}", f"{category} model {number}", f"Good {category}", category
        )
    return engine


def test_recommendations_have_names_and_leave_out_what_was_seen(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await shop(client)
        assert await engine.get_recommendations("ann", 3) == []
        assert await engine.record_interaction("ann", "p0")
        assert not await engine.record_interaction("ann", "nothing")
        best = await engine.get_recommendations("ann", 3)
        assert [each.category for each in best] == ["shoes"] * 3
        assert {each.product_id for each in best} == {"p3", "p6", "p9"}
        assert all(each.name == f"shoes model {each.product_id[1:]}" for each in best)
        assert best[0].score >= best[1].score >= best[2].score
        again = await engine.get_recommendations("ann", 1, exclude_seen=False)
        assert again[0].product_id == "p0"
        # However many have been seen, the rest is found.
        for number in range(11):
            await engine.record_interaction("ann", f"p{number}")
        left = await engine.get_recommendations("ann", 3)
        assert [each.product_id for each in left] == ["p11"]
        lamps = await engine.get_recommendations("ann", 9, False, '.category == "lamps"')
        assert {each.category for each in lamps} == {"lamps"} and len(lamps) == 4
        assert await engine.get_recommendations("bob", 3) == []

    run(scene)


def test_many_seen_products_do_not_hide_the_rest(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = RecommendationEngine(client, NGramEmbedder(64))
        await engine.initialize()
        for number in range(120):
            await engine.index_product(f"p{number}", f"thing {number}", "thing", "things")
        await asyncio.gather(*(engine.record_interaction("a", f"p{n}") for n in range(110)))
        left = await engine.get_recommendations("a", 20)
        assert {each.product_id for each in left} == {f"p{n}" for n in range(110, 120)}

    run(scene)


def test_similar_products_without_the_product_itself(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await shop(client)
        similar = await engine.get_similar_products("p1", 3)
        assert {each.product_id for each in similar} == {"p4", "p7", "p10"}
        assert await engine.get_similar_products("nothing", 3) == []
        assert await engine.remove_product("p4")
        assert not await engine.remove_product("p4")
        similar = await engine.get_similar_products("p1", 2)
        assert {each.product_id for each in similar} == {"p7", "p10"}

    run(scene)


def test_the_average_moves(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await shop(client, memory=4)
        for _ in range(10):
            await engine.record_interaction("ann", "p0")
        assert (await engine.get_recommendations("ann", 1))[0].category == "shoes"
        for _ in range(8):  # what was liked long ago fades
            await engine.record_interaction("ann", "p1")
        assert (await engine.get_recommendations("ann", 1))[0].category == "lamps"
        preference = await engine.get_preference("ann")
        assert preference is not None and preference.interactions == 18

    run(scene)


def test_an_event_id_counts_once(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await shop(client)
        outcomes = await asyncio.gather(
            *(engine.record_interaction("ann", "p0", "click") for _ in range(5)),
            engine.record_interaction("bob", "p0", "click"),
        )
        assert all(outcomes)
        assert await engine.remove_product("p0")
        assert await engine.record_interaction("ann", "p0", "click"), "it was recorded before"
        for user in ("ann", "bob"):
            preference = await engine.get_preference(user)
            assert preference is not None and preference.interactions == 1

    run(scene)


@pytest.mark.parametrize("user", ["", "a:seen:p0", "*", "ä\n"])
def test_names_of_users_do_not_meet(run: Run, user: str) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await shop(client)
        await engine.record_interaction("a", "p0", "x")
        assert await engine.get_preference(user) is None
        await engine.record_interaction(user, "p1", "x")
        assert (await engine.get_recommendations(user, 1))[0].category == "lamps"
        assert (await engine.get_recommendations("a", 1))[0].category == "shoes"

    run(scene)


def test_a_preference_reads_as_it_was_written() -> None:
    preference = Preference(3, (0.5, -1.0, 2.0))
    assert preference.encode() == (
        b"\x03\0\0\0\0\0\0\0" + b"\0\0\0\x3f" + b"\0\0\x80\xbf" + b"\0\0\0\x40"
    )
    assert Preference.decode(preference.encode()) == preference
