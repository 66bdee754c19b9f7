"""Event sourcing: no event lost, doubled or written over, whoever is killed and when."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from norikv_resp.client import KeyNotFoundError, NoriKVClient
from norikv_resp.patterns.events import Event, EventConflictError, EventStore
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.patterns.workers_events import AGGREGATE
from tests.support.effort import scaled
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

TIMES = scaled(40)


# -- the attack ----------------------------------------------------------------


def attack(server: ServerProcess, worker: str) -> list[str]:
    """Connections break all the time, a client and the server are killed. What was promised."""
    with shaky(server.port) as url, Crew(worker, url, 3, times=TIMES) as crew:
        crew.wait_for(TIMES // 2)
        crew.kill(0)
        crew.wait_for(TIMES)
        server.restart(clean=False)
        return [name for reports in crew.finish() for (name,) in reports]


def test_no_event_is_lost_doubled_or_written_over(own_server: ServerProcess) -> None:
    promised = attack(own_server, "append")

    async def judge() -> None:
        async with stubborn(f"redis://127.0.0.1:{own_server.port}") as client:
            events = await EventStore(client).get_events(AGGREGATE)
            names = [event.data["name"] for event in events]
            assert [event.version for event in events] == list(range(1, len(events) + 1))
            assert len(set(names)) == len(names), "an event is there twice"
            assert set(promised) <= set(names), "a promised event is lost"
            # What was under way when a client was killed may be there, once.
            assert len(names) <= len(promised) + 1

    asyncio.run(judge())


def test_get_then_put_loses_events_under_the_same_attack(own_server: ServerProcess) -> None:
    promised = attack(own_server, "append_naively")
    head = int(own_server.ask("GET", "naive:head"))
    kept = own_server.ask("MGET", *(f"naive:{number}" for number in range(1, head + 1)))
    assert set(promised) - {name.decode() for name in kept if name is not None}


def test_an_expected_version_is_met_by_one_process_only(url: str, run: Run) -> None:
    with Crew("append_at", url, 3, times=TIMES) as crew:
        won = sorted(tuple(report) for reports in crew.finish() for report in reports)

    async def judge(client: NoriKVClient) -> None:
        events = await EventStore(client).get_events("race")
        assert won == [(event.version, event.data) for event in events]
        assert len(events) == TIMES

    run(judge)


def test_a_subscriber_sees_everything_once_through_a_restart(own_server: ServerProcess) -> None:
    async def scene() -> None:
        async with stubborn(f"redis://127.0.0.1:{own_server.port}") as client:
            store = EventStore(client)
            seen: list[int] = []

            async def follow() -> None:
                async with contextlib.aclosing(store.subscribe("s", after=1)) as stream:
                    async for event in stream:
                        seen.append(event.version)
                        if event.version == 60:
                            return

            await store.append("s", "First", {})
            follower = asyncio.create_task(follow())
            for number in range(2, 61):
                await store.append("s", "Next", {"number": number})
                if number == 30:
                    await asyncio.to_thread(own_server.restart, False)
            await asyncio.wait_for(follower, 20)
            assert seen == list(range(2, 61))

    asyncio.run(scene())


def test_a_subscriber_needs_no_message_and_minds_no_strange_one(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        async with contextlib.aclosing(store.subscribe("s")) as stream:
            await store.append("s", "First", 1)
            assert (await anext(stream)).version == 1
            for message in ("", "x", "-5", "1", "99999999999999999999"):
                await client.redis.publish("events:s", message)
            # Written by somebody who publishes nothing.
            await client.execute("SET", "events:s:2", (await _raw(client, "events:s:1", 2)))
            await client.execute("SET", "events:s:head", "2")
            assert (await asyncio.wait_for(anext(stream), 10)).version == 2

    run(scene)


async def _raw(client: NoriKVClient, key: str, version: int) -> str:
    event = json.loads((await client.get(key)).value)
    return json.dumps({**event, "version": version})


# -- the interface -------------------------------------------------------------


class Counting:
    """Counts what a client sends."""

    def __init__(self, client: NoriKVClient) -> None:
        self.sent: list[str] = []
        for name in ("execute", "transaction"):
            setattr(client, name, self._counted(getattr(client, name)))

    def _counted(self, method: Any) -> Any:
        async def call(*args: Any, **more: Any) -> Any:
            self.sent.append(args[0] if isinstance(args[0], str) else "EXEC")
            return await method(*args, **more)

        return call


def test_round_trips_of_reading_and_appending(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        counting = Counting(client)
        await asyncio.gather(*(store.append("a", "X", n) for n in range(600)))
        assert counting.sent == ["MGETVER", "EXEC"], "concurrent ones travel together"

        counting.sent.clear()
        await store.append("a", "X", 600)
        assert counting.sent == ["EXEC"], "the head is remembered"

        counting.sent.clear()
        tail = await store.get_events_after("a", 590)
        assert [event.data for event in tail] == list(range(590, 601))
        assert counting.sent == ["MGETVER"]

        counting.sent.clear()
        assert len(await store.get_events("a")) == 601
        assert len(counting.sent) == 1 + 3  # 32 with the head, then 256 at a time

        counting.sent.clear()
        assert await store.get_events_after("a", 601) == []
        assert await store.get_events_after("a", 9999) == []
        assert await store.get_events("nobody") == []
        assert counting.sent == ["MGETVER"] * 3

    run(scene)


def test_append_returns_the_event_and_judges_the_version(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store, other = EventStore(client), EventStore(client)
        first = await store.append("a", "Opened", {"by": "ann"}, expected_version=0)
        assert first == Event(first.id, "a", "Opened", {"by": "ann"}, first.timestamp, 1)
        assert await other.get_events("a") == [first]
        with pytest.raises(EventConflictError) as caught:
            await store.append("a", "Opened", {}, expected_version=0)
        assert (caught.value.expected, caught.value.actual) == (0, 1)
        with pytest.raises(EventConflictError):
            await store.append("a", "Opened", {}, expected_version=5)
        # What this store remembers of the head is old now; that must not matter.
        await other.append("a", "Changed", {})
        assert (await store.append("a", "Changed", {}, expected_version=2)).version == 3
        assert (await other.append("a", "Changed", {})).version == 4

    run(scene)


def test_an_event_id_counts_once_whatever_else_has_happened(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        first = await store.append("a", "Paid", 1, expected_version=0, event_id="x")
        await store.append("a", "Paid", 2)
        assert await store.append("a", "Paid", 1, expected_version=0, event_id="x") == first
        assert await EventStore(client).append("a", "Paid", 1, event_id="x") == first
        assert await store.find("a", "x") == first
        assert await store.find("a", "y") is None
        # Two callers with one id at the same moment, and the same id elsewhere.
        both = await asyncio.gather(*(store.append("a", "Paid", 3, event_id="y") for _ in range(2)))
        assert both[0] == both[1]
        assert (await store.append("b", "Paid", 1, event_id="x")).version == 1
        assert len(await store.get_events("a")) == 3

    run(scene)


@pytest.mark.parametrize("name", ["", "a:1", "a:head", "*", "ä\n\0", "a:id:x", "%3A"])
def test_names_of_aggregates_do_not_meet(run: Run, name: str) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        await store.append("a", "X", "a", event_id="x")
        await store.append(name, "X", name, event_id="x")
        await store.save_snapshot("a", 1, "a")
        assert [event.data for event in await store.get_events("a")] == ["a"]
        assert [event.data for event in await store.get_events(name)] == [name]
        assert await store.load_snapshot(name) is None

    run(scene)


def test_a_late_snapshot_replaces_no_later_one(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        assert await store.load_snapshot("a") is None
        order = [5, 3, 9, 1, 8, 9]
        outcomes = await asyncio.gather(*(store.save_snapshot("a", n, {"n": n}) for n in order))
        assert any(outcomes)
        snapshot = await store.load_snapshot("a")
        assert snapshot is not None
        assert (snapshot.version, snapshot.state) == (9, {"n": 9})
        assert not await store.save_snapshot("a", 9, {"n": "again"})

    run(scene)


def test_an_event_that_somebody_deleted_is_told(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        for number in range(3):
            await store.append("a", "X", number)
        await client.delete("events:a:2")
        with pytest.raises(KeyNotFoundError) as caught:
            await store.get_events("a")
        assert caught.value.key == b"events:a:2"
        assert len(await store.get_events_after("a", 2)) == 1

    run(scene)


def test_data_that_json_cannot_write_changes_nothing(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        with pytest.raises(TypeError):
            await store.append("a", "X", object())
        assert await store.get_events("a") == []

    run(scene)
