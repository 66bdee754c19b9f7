"""Leader election: never two leaders, and none of the past can write."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise
from typing import Any

import pytest

from norikv_resp.client import InvalidArgumentError, NoriKVClient, Version
from norikv_resp.patterns import FencedError, LeaderElection
from norikv_resp.patterns.requests import server_time
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

LEASE_MS = 600


def test_reading_and_writing_elects_two(url: str, run: Run) -> None:
    start = run(server_time) + 2500
    with Crew("lead_naively", url, 3, elections=30, start=start) as crew:
        assert sum(map(len, crew.finish())) > 30


def spans(reports: list[list[Any]]) -> list[tuple[int, int, int, str]]:
    """(from, until, who, token): between these times of the server a node certainly led.

    A claim was true at some moment between the times before and after it; a term of leadership
    lasted from the end of its first claim's bracket to the begin of its last one's.
    """
    found: dict[tuple[int, str], list[tuple[int, int]]] = {}
    for who, facts in enumerate(reports):
        for what, *rest in facts:
            if what == "leads":
                before, after, token = rest
                found.setdefault((who, token), []).append((before, after))
    terms = [
        (claims[0][1], claims[-1][0], who, token)
        for (who, token), claims in found.items()
        if claims[0][1] <= claims[-1][0]
    ]
    return sorted(terms)


def test_there_is_one_leader_at_most_and_the_old_one_cannot_write(
    own_server: ServerProcess,
) -> None:
    """A leader is killed, the next one paused, connections break, the server is killed."""

    def leader_other_than(*others: int) -> int:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            held = own_server.ask("GET", "leader:boss")
            if held is not None and int(held) not in others:
                return int(held)
            time.sleep(0.005)
        raise AssertionError("nobody is elected")

    with (
        shaky(own_server.port, every=20_000) as url,
        Crew("lead", url, 4, lease_ms=LEASE_MS) as crew,
    ):
        first = leader_other_than()
        time.sleep(LEASE_MS / 1000)
        crew.kill(first)
        killed = time.monotonic()
        second = leader_other_than(first)
        gap = time.monotonic() - killed
        time.sleep(LEASE_MS / 1000)
        crew.pause(second)
        third = leader_other_than(first, second)
        time.sleep(LEASE_MS / 1000 * 1.5)
        crew.resume(second)
        time.sleep(LEASE_MS / 1000)
        own_server.restart(clean=False)
        leader_other_than()
        time.sleep(LEASE_MS / 1000)
        own_server.ask("SET", "over", "1")
        reports = crew.finish()
        written = own_server.ask("GET", "written").decode().rstrip(",").split(",")
    assert third not in (first, second)
    # One and a half leases; a busy machine gets another second.
    assert gap < LEASE_MS / 1000 * 1.5 + 1
    terms = spans(reports)
    assert len(terms) >= 3
    for (_, until, *_), (begin, *_) in pairwise(terms):
        assert until <= begin
    # Who wakes up late tries to write, and is refused.
    assert any(what == "fenced" for what, *_ in reports[second])
    tokens = [Version.parse(each.split()[1]) for each in written]
    assert tokens == sorted(tokens)


def test_the_life_of_a_leader(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        told: list[str] = []

        async def work() -> None:
            told.append("became")
            try:
                await asyncio.sleep(60)
            finally:
                told.append("work ended")

        one, other = (LeaderElection(client, "e", name, LEASE_MS) for name in ("one", "other"))
        assert one.fencing_token is None and not one.get_is_leader()
        with pytest.raises(FencedError):
            await one.write([("SET", "k", "v")])
        campaign = asyncio.create_task(one.start(work, lambda: told.append("lost")))
        await eventually(one.get_is_leader)
        assert await one.get_leader() == "one"
        with pytest.raises(InvalidArgumentError):
            await one.start()
        token = one.fencing_token
        rival = asyncio.create_task(other.start())
        await asyncio.sleep(LEASE_MS / 1000 * 1.2)
        # Renewals move the lease's version, not the token.
        assert one.get_is_leader() and not other.get_is_leader()
        assert one.fencing_token == token
        assert await one.write([("SET", "k", "v"), ("INCR", "n")]) == [b"OK", 1]
        await one.stop()
        assert campaign.done() and told == ["became", "work ended", "lost"]
        await eventually(other.get_is_leader)
        assert token is not None and other.fencing_token is not None
        assert other.fencing_token > token
        with pytest.raises(FencedError):
            await one.write([("SET", "k", "old")])
        assert await client.execute("GET", "k") == b"v"
        await one.stop()
        await other.stop()
        await rival
        assert await other.get_leader() is None

    run(steps)


def test_fenced_writes_travel_together_and_each_answers_for_itself(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        election = LeaderElection(client, "e", "one", 60_000)
        campaign = asyncio.create_task(election.start())
        await eventually(election.get_is_leader)
        await client.execute("SET", "text", "words")

        async def write(*writes: list[tuple[str, ...]]) -> list[Any]:
            return await asyncio.gather(*map(election.write, writes), return_exceptions=True)

        one = [("INCR", "n")]
        found = await write(one, [("INCR", "text"), ("INCR", "m")], one, [("SET", "k", "v"), *one])
        assert found[0] == [1] and found[2] == [2] and found[3] == [b"OK", 3]
        assert isinstance(found[1], InvalidArgumentError)
        assert await client.execute("MGET", "n", "m") == [b"3", b"1"]  # as EXEC: it has run
        # One that the server refuses to queue keeps none of the others from being written once.
        *found, refused = await write(one, one, one, [("INCR",)])
        assert found == [[4], [5], [6]] and isinstance(refused, InvalidArgumentError)
        versions = await asyncio.gather(*(election.write([("SETVER", "v", "x")]) for _ in range(9)))
        assert len({version for (version,) in versions}) == 1  # of one transaction
        await client.execute("SETVER", election.fencing_key, "another")
        assert all(isinstance(each, FencedError) for each in await write(one, one, one))
        assert await client.execute("GET", "n") == b"6"
        await election.stop()
        await campaign

    run(steps)


def test_cancelling_is_a_crash_and_stop_releases_no_lease_but_its_own(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        told: list[str] = []
        one = LeaderElection(client, "e", "one", LEASE_MS)
        campaign = asyncio.create_task(one.start(None, lambda: told.append("lost")))
        await eventually(one.get_is_leader)
        campaign.cancel()
        await asyncio.wait({campaign})
        assert campaign.cancelled() and not told and not one.get_is_leader()
        assert 0 < await client.execute("PTTL", one.lease_key) <= LEASE_MS
        await one.stop()
        assert await one.get_leader() == "one"
        other = LeaderElection(client, "e", "other", LEASE_MS)
        campaign = asyncio.create_task(other.start())
        await eventually(other.get_is_leader)
        # Somebody takes the lease away: there is nothing for stop to release.
        await client.execute("SET", other.lease_key, "usurper")
        await other.stop()
        await campaign
        assert await other.get_leader() == "usurper"

    run(steps)


def test_work_that_fails_ends_the_campaign_and_gives_the_lease_up(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        def work() -> None:
            raise ZeroDivisionError

        one = LeaderElection(client, "e", "one", LEASE_MS)
        with pytest.raises(ZeroDivisionError):
            await one.start(work)
        assert await one.get_leader() is None

    run(steps)


def test_a_leader_that_cannot_reach_the_server_steps_down_in_time(
    own_server: ServerProcess,
) -> None:
    async def steps() -> None:
        url = f"redis://127.0.0.1:{own_server.port}"
        async with NoriKVClient.from_url(url) as client:
            lost = asyncio.Event()
            one = LeaderElection(client, "e", "one", LEASE_MS)
            campaign = asyncio.create_task(one.start(None, lost.set))
            await eventually(one.get_is_leader)
            own_server.kill9()
            await asyncio.wait_for(lost.wait(), LEASE_MS / 1000 + 2)
            assert not one.get_is_leader()
            own_server.start()
            await eventually(one.get_is_leader)
            await one.stop()
            await campaign

    asyncio.run(steps())


async def eventually(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
