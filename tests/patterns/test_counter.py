"""Counters: the sum is exact, whoever dies and whatever is sent twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from norikv_resp.client import IdempotencyMismatchError, InvalidArgumentError, NoriKVClient
from norikv_resp.patterns import DistributedCounter, ShardedCounter
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

SIZE, TIMES = 3, 100


def test_reading_and_writing_loses_increments(server: ServerProcess, url: str) -> None:
    with Crew("count_naively", url, SIZE, times=TIMES) as crew:
        assert sum(map(len, crew.finish())) == SIZE * TIMES
    assert int(server.ask("GET", "counter")) < SIZE * TIMES


def test_no_increment_is_lost_or_doubled(own_server: ServerProcess) -> None:
    """Connections break all the time, a client dies, the server dies."""
    with shaky(own_server.port) as url, Crew("count", url, SIZE, times=TIMES) as crew:
        crew.wait_for(SIZE * TIMES // 5)
        own_server.restart(clean=False)
        crew.wait_for(SIZE * TIMES // 2)
        crew.kill(0)
        answered = sum(map(len, crew.finish()))
    # The one that was killed may have counted once without hearing of it.
    assert answered <= int(own_server.ask("GET", "counter")) <= answered + 1
    assert len(crew.reports[1]) == len(crew.reports[2]) == TIMES


def test_increments_under_tokens_are_exact_also_after_a_crash(own_server: ServerProcess) -> None:
    """Every increment is sent twice; a killed process begins again from its first one."""
    with shaky(own_server.port) as url:
        with Crew("count_with_tokens", url, SIZE, times=TIMES) as crew:
            crew.wait_for(SIZE * TIMES // 5)
            own_server.restart(clean=False)
            crew.wait_for(SIZE * TIMES // 2)
            crew.kill(0)
            crew.finish()
        with Crew("count_with_tokens", url, 1, times=TIMES) as again:
            again.finish()
    assert int(own_server.ask("GET", "counter")) == SIZE * TIMES


def test_shards_lose_nothing_whatever_each_process_thinks_of_their_number(
    server: ServerProcess, url: str, run: Run
) -> None:
    with shaky(server.port) as cut, Crew("count_in_shards", cut, SIZE, times=TIMES) as crew:
        crew.finish()

    async def totals(client: NoriKVClient) -> list[int]:
        return [await ShardedCounter(client, "counter", number).get() for number in (1, 4, 20)]

    assert run(totals) == [SIZE * TIMES] * 3


def test_first_increments_of_a_shard_all_count(run: Run) -> None:
    async def race(client: NoriKVClient) -> int:
        counters = [ShardedCounter(client, "fresh", 1) for _ in range(20)]
        await asyncio.gather(*(counter.increment() for counter in counters))
        return await counters[0].get()

    assert run(race) == 20


def test_increments_by_tasks_of_one_object_get_different_numbers(run: Run) -> None:
    async def together(client: NoriKVClient) -> list[int]:
        counter = DistributedCounter(client, "counter")
        await counter.initialize()
        return await asyncio.gather(*(counter.increment() for _ in range(50)))

    assert run(together) == list(range(1, 51))


def test_increments_of_a_process_go_to_one_shard_together(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def steps(client: NoriKVClient) -> None:
        counter = ShardedCounter(client, "likes", num_shards=4)
        await counter.increment()
        rounds = []
        execute = client.execute

        async def counted(*command: Any, **options: Any) -> Any:
            answer = await execute(*command, **options)
            if command[0] == "CAS" and answer[0]:
                rounds.append(command[1])
            return answer

        monkeypatch.setattr(client, "execute", counted)
        await asyncio.gather(*(counter.increment() for _ in range(50)))
        assert await counter.get() == 51
        assert 1 <= len(rounds) <= 2  # those that come while the first is on its way share one

    run(steps)


def test_increments_by_token_travel_together_and_only_the_wrong_one_fails(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        counter = DistributedCounter(client, "counter")
        await counter.increment_by(5, "used")
        wishes = [(1, f"t{number}") for number in range(10)] + [(6, "used"), (5, "used")]
        for _ in range(2):
            results = await asyncio.gather(
                *(counter.increment_by(n, token) for n, token in wishes), return_exceptions=True
            )
            assert results[:10] == list(range(6, 16)) and results[11] == 5
            assert isinstance(results[10], IdempotencyMismatchError)
        assert await counter.get() == 15

    run(steps)


def test_a_counter_keeps_what_is_there(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.execute("SET", "counter", "40", "PX", "60000")
        counter = DistributedCounter(client, "counter")
        await counter.initialize()
        assert await counter.increment_by(3) == 43
        await client.execute("INCRBY", "counter", "-1")
        assert await counter.increment_by(-2) == await counter.get() == 40
        assert await client.execute("PTTL", "counter") > 50_000
        await client.execute("SET", "counter", "words")
        for attempt in (counter.increment, counter.get, counter.initialize):
            with pytest.raises(InvalidArgumentError):
                await attempt()
        await client.execute("SET", "counter", 2**63 - 1)
        with pytest.raises(InvalidArgumentError):
            await counter.increment()

    run(steps)
