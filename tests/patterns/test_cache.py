"""The cache: nothing older than what this process has written or been told."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from norikv_resp.client import InvalidArgumentError, NoriKVClient, WrongTypeError
from norikv_resp.patterns import CachedClient, cache
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

TIMES = 60


def decimal(number: int) -> bytes:
    return b"%d" % number


def test_a_dictionary_serves_what_is_over(url: str) -> None:
    with Crew("cache", url, 3, keys=3, times=TIMES, naive=True) as crew:
        reports = crew.finish()
    last = [each[1] for facts in reports for each in facts if each[0] == "last"]
    assert any(each != [TIMES] * 3 for each in last)


def test_nobody_sees_time_go_back(own_server: ServerProcess) -> None:
    """Three processes write and read; connections break, and the server is killed."""
    with (
        shaky(own_server.port, every=10_000) as url,
        Crew("cache", url, 3, keys=3, times=TIMES, naive=False) as crew,
    ):
        own_server.restart(clean=False)
        reports = crew.finish()
    assert [each for facts in reports for each in facts if each[0] == "back"] == []
    last = [each[1] for facts in reports for each in facts if each[0] == "last"]
    assert last == [[TIMES] * 3] * 3


async def soon(cached: CachedClient, key: str, wanted: int | None) -> None:
    """Until the cache has been told."""
    for _ in range(500):
        if await cached.get(key, int) == wanted:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{await cached.get(key, int)} instead of {wanted}")


def test_what_others_do_to_a_key_is_heard(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        async with CachedClient(client, 60_000, 10) as one, CachedClient(client, 60_000, 10) as two:
            await one.put("k", 1, decimal)
            await two.put("k", 2, decimal)
            await soon(one, "k", 2)
            await client.put("k", b"3")
            await soon(one, "k", 3)
            await soon(two, "k", 3)
            await client.execute("INCR", "k")
            await soon(one, "k", 4)
            await two.delete("k")
            assert await two.get("k", int) is None
            await soon(one, "k", None)
            await one.put("k", 5, decimal)
            await client.execute("FLUSHALL")
            await soon(one, "k", None)
            await client.execute("SET", "k", "6", "PX", "100")
            await soon(one, "k", 6)
            await asyncio.sleep(0.11)
            assert await one.get("k", int) is None

    run(steps)


def test_a_put_is_served_without_asking_and_every_reader_has_its_own_copy(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        async with CachedClient(client, 60_000, 10) as cached:
            version = await cached.put("k", {"n": [1]}, lambda value: json.dumps(value).encode())
            assert (await client.get("k")).version == version
            mine = await cached.get("k", json.loads)
            assert mine is not None
            mine["n"].append(2)
            assert await cached.get("k", json.loads) == {"n": [1]}
            stats = cached.get_stats()
            assert (stats.hits, stats.misses, stats.size, stats.hit_rate) == (2, 0, 1, 1.0)

    run(steps)


def test_its_bounds_hold(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        async with CachedClient(client, 80, 3) as cached:
            for number in range(5):
                await cached.put(f"k{number}", number, decimal)
            stats = cached.get_stats()
            assert (stats.size, stats.evictions) == (3, 2)
            await cached.get("k2", int)
            await cached.put("k9", 9, decimal)
            # k3 was used least recently.
            before = cached.get_stats().misses
            assert await cached.get("k2", int) == 2 and cached.get_stats().misses == before
            assert await cached.get("k3", int) == 3 and cached.get_stats().misses == before + 1
            await asyncio.sleep(0.09)
            assert await cached.get("k3", int) == 3 and cached.get_stats().misses == before + 2
        for wrong in ((0, 1), (1, 0)):
            with pytest.raises(InvalidArgumentError):
                CachedClient(client, *wrong)

    run(steps)


def test_invalidate_asks_again(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        async with CachedClient(client, 60_000, 10) as cached:
            for number in range(3):
                await cached.put(f"k{number}", number, decimal)
            cached.invalidate("k1")
            cached.invalidate("unknown")
            assert cached.get_stats().size == 2
            cached.invalidate_all()
            assert (cached.get_stats().size, cached.get_stats().invalidations) == (0, 3)
            assert await cached.get("k1", int) == 1
            assert cached.get_stats().misses == 1

    run(steps)


def test_errors_of_the_server_reach_the_caller_alone(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.execute("SET", "good", "1")
        await client.vector_create_index("index", 2)
        async with CachedClient(client, 60_000, 10) as cached:
            good, bad = await asyncio.gather(
                cached.get("good", int), cached.get("index", int), return_exceptions=True
            )
            assert good == 1 and isinstance(bad, WrongTypeError)

    run(steps)


def test_a_reading_that_arrives_after_the_word_of_its_change_is_not_kept(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(client: NoriKVClient) -> None:
        exchange = cache._Link.exchange

        async def overtaken(link: cache._Link, commands: Any) -> list[Any]:
            replies = await exchange(link, commands)
            await client.put("k", b"2")
            while cached.get_stats().invalidations < 1 and cached._unchanged:
                await asyncio.sleep(0.005)
            return replies

        async with CachedClient(client, 60_000, 10) as cached:
            await client.put("k", b"1")
            monkeypatch.setattr(cache._Link, "exchange", overtaken)
            assert await asyncio.wait_for(cached.get("k", int), 10) == 1
            monkeypatch.undo()
            assert await cached.get("k", int) == 2

    run(steps)


def test_copies_go_when_the_connection_does(own_server: ServerProcess) -> None:
    async def steps() -> None:
        async with (
            NoriKVClient.from_url(f"redis://127.0.0.1:{own_server.port}") as client,
            CachedClient(client, 60_000, 10) as cached,
        ):
            await cached.put("k", 1, decimal)
            own_server.restart(clean=False)
            own_server.ask("SET", "k", "2")
            await soon(cached, "k", 2)
            assert await cached.get("k", int) == 2

    asyncio.run(steps())
