"""What the processes of an attack do: python -m tests.patterns.workers NAME URL OPTIONS.

For every pattern there is the obvious way beside it, read and then write, which the same attack
has to break: an attack that breaks nothing shows nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from typing import Any

from norikv_resp.client import NoriKVClient
from norikv_resp.patterns import (
    CachedClient,
    DistributedCounter,
    FencedError,
    InsufficientStockError,
    InventoryManager,
    LeaderElection,
    RateLimitConfig,
    RateLimiter,
    ReservationError,
    SessionManager,
    ShardedCounter,
)
from norikv_resp.patterns.requests import server_time
from tests.patterns import (  # noqa: F401 (they register)
    workers_events,
    workers_search,
    workers_tenants,
)
from tests.patterns.crew import Report, main, worker

Options = dict[str, Any]


# -- counters --------------------------------------------------------------------


@worker
async def count_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    for number in range(options["times"]):
        held = int(await client.execute("GET", "counter") or 0)
        await client.execute("SET", "counter", held + 1)
        report(number)


@worker
async def count(client: NoriKVClient, options: Options, report: Report) -> None:
    counter = DistributedCounter(client, "counter")
    await counter.initialize()
    for number in range(options["times"]):
        await counter.increment()
        report(number)


@worker
async def count_with_tokens(client: NoriKVClient, options: Options, report: Report) -> None:
    counter = DistributedCounter(client, "counter")
    for number in range(options["times"]):
        token = f"{options['number']}:{number}"
        first = await counter.increment_by(1, token)
        assert await counter.increment_by(1, token) == first
        report(number)


@worker
async def count_in_shards(client: NoriKVClient, options: Options, report: Report) -> None:
    # The processes do not agree on how many shards there are.
    counter = ShardedCounter(client, "counter", 1 + 3 * options["number"])
    for number in range(options["times"]):
        await counter.increment()
        report(number)


# -- sessions --------------------------------------------------------------------


@worker
async def touch_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Read the session, write it back with a new expiry."""
    for session_id in options["ids"]:
        key = f"session:{session_id}"
        while (held := await client.execute("GET", key)) is not None:
            await client.execute("SET", key, held, "PX", options["ttl_ms"])
        report(session_id)


@worker
async def touch(client: NoriKVClient, options: Options, report: Report) -> None:
    sessions = SessionManager(client, options["ttl_ms"])
    for session_id in options["ids"]:
        while await sessions.get(session_id) is not None:
            await sessions.update(session_id, lambda session: session.roles.append("again"))
        report(session_id)


@worker
async def touch_late(client: NoriKVClient, options: Options, report: Report) -> None:
    """Touch sessions just as they expire; once gone, a session has to stay gone."""
    sessions = SessionManager(client, options["ttl_ms"])
    for session_id in options["ids"]:
        while await sessions.get(session_id) is not None:
            await asyncio.sleep(options["ttl_ms"] / 1000 * random.uniform(0.9, 1.02))
        for _ in range(5):
            again = await sessions.update(session_id, lambda session: None)
            report(session_id, again or await sessions.validate(session_id))


@worker
async def grant_roles(client: NoriKVClient, options: Options, report: Report) -> None:
    sessions = SessionManager(client)
    for number in range(options["times"]):
        role = f"{options['number']}:{number}"
        await sessions.update(options["id"], lambda session, role=role: session.roles.append(role))
        report(role)


# -- inventory -------------------------------------------------------------------


@worker
async def sell_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    while True:
        stock = int(await client.execute("GET", "stock"))
        if not stock:
            return
        await client.execute("SET", "stock", stock - 1)
        report("sold")


@worker
async def sell(client: NoriKVClient, options: Options, report: Report) -> None:
    """Reserve; commit most, release some, forget some; until all is sold."""
    inventory = InventoryManager(client)
    empty_since: float | None = None
    while empty_since is None or time.monotonic() < empty_since + options["hold_ms"] / 1000 * 3:
        try:
            reservation = await inventory.reserve("lamp", 1, options["hold_ms"])
        except InsufficientStockError:
            empty_since = empty_since or time.monotonic()
            await asyncio.sleep(0.01)
            continue
        empty_since = None
        report("reserved", reservation)
        chance = random.random()
        try:
            if chance < 0.6:
                await inventory.commit(reservation)
                report("committed", reservation)
            elif chance < 0.8:
                await inventory.release(reservation)
                report("released", reservation)
        except ReservationError as error:
            if error.state != "expired":
                raise


@worker
async def settle(client: NoriKVClient, options: Options, report: Report) -> None:
    """Commit or release what others release or commit, each twice."""
    inventory = InventoryManager(client)
    wish = inventory.commit if options["number"] % 2 else inventory.release
    for reservation in options["reservations"]:
        outcomes = []
        for _ in range(2):
            try:
                await wish(reservation)
                outcomes.append("committed" if options["number"] % 2 else "released")
            except ReservationError as error:
                outcomes.append(error.state)
        assert len(set(outcomes)) == 1
        report(reservation, outcomes[0])


# -- the rate limit --------------------------------------------------------------


@worker
async def ask_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Read the times, decide, write the times."""

    async def decide() -> bool:
        now = await server_time(client)
        times = json.loads(await client.execute("GET", "times") or "[]")
        times = [at for at in times if at > now - options["window_ms"]]
        if len(times) < options["max_requests"]:
            await client.execute("SET", "times", json.dumps([*times, now]))
        return len(times) < options["max_requests"]

    await _ask(client, options, report, decide)


@worker
async def ask(client: NoriKVClient, options: Options, report: Report) -> None:
    limiter = RateLimiter(client, timeout_ms=20_000)
    config = RateLimitConfig(options["max_requests"], options["window_ms"], options["slices"])

    async def decide() -> bool:
        return (await limiter.check_limit("someone", config)).allowed

    await _ask(client, options, report, decide)


async def _ask(client: NoriKVClient, options: Options, report: Report, decide: Any) -> None:
    """Report for every granted request between which times of the server it was granted."""
    end = time.monotonic() + options["seconds"]
    while time.monotonic() < end:
        before = await server_time(client)
        if await decide():
            report(before, await server_time(client))
        else:
            await asyncio.sleep(0.005)


# -- leadership ------------------------------------------------------------------


@worker
async def lead_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Nobody there? Then I am the leader."""
    for election in range(options["elections"]):
        start = options["start"] + 40 * election
        await asyncio.sleep(max(0, start - await server_time(client)) / 1000)
        if await client.execute("GET", f"naive:{election}") is None:
            await client.execute("SET", f"naive:{election}", options["number"], "PX", 10_000)
            report(election)


@worker
async def lead(client: NoriKVClient, options: Options, report: Report) -> None:
    """Report when leadership was claimed, and what a write under the fencing token came to."""
    name = str(options["number"])
    election = LeaderElection(client, "boss", name, options["lease_ms"])
    campaign = asyncio.create_task(election.start())
    while not await client.execute("EXISTS", "over"):
        before = await server_time(client)
        if election.get_is_leader():
            report("leads", before, await server_time(client), str(election.fencing_token))
        if election.fencing_token is not None:
            try:
                await election.write([("APPEND", "written", f"{name} {election.fencing_token},")])
            except FencedError:
                report("fenced", str(election.fencing_token))
        await asyncio.sleep(0.01)
    await election.stop()
    await campaign


# -- the cache -------------------------------------------------------------------


class NaiveCache:
    """A dictionary in front of the server."""

    def __init__(self, client: NoriKVClient) -> None:
        self._client = client
        self._copies: dict[str, bytes] = {}

    async def get(self, key: str, parser: Any) -> Any:
        if key not in self._copies:
            self._copies[key] = await self._client.execute("GET", key)
        held = self._copies[key]
        return None if held is None else parser(held)

    async def put(self, key: str, value: Any, serializer: Any) -> None:
        await self._client.execute("SET", key, serializer(value))
        self._copies[key] = serializer(value)

    async def close(self) -> None:
        pass


@worker
async def cache(client: NoriKVClient, options: Options, report: Report) -> None:
    """Write growing numbers to one key, read everybody's; report what was seen to go back.

    At the end everybody has to see the last number of all.
    """
    cached: Any = NaiveCache(client) if options["naive"] else CachedClient(client, 60_000, 100)
    mine, keys = f"k{options['number']}", [f"k{each}" for each in range(options["keys"])]
    seen = dict.fromkeys(keys, 0)

    async def read(key: str) -> None:
        at_least = seen[key]
        number = await cached.get(key, int) or 0
        if number < at_least:
            report("back", key, at_least, number)
        seen[key] = max(seen[key], number)

    for number in range(1, options["times"] + 1):
        await asyncio.gather(*(read(random.choice(keys)) for _ in range(4)))
        await asyncio.gather(
            cached.put(mine, number, lambda value: b"%d" % value),
            *(read(random.choice(keys)) for _ in range(2)),
        )
        seen[mine] = number
        await read(mine)
    report("written", options["times"])
    await client.execute("INCR", "done")
    while int(await client.execute("GET", "done")) < options["keys"]:
        await asyncio.sleep(0.01)
    last = []
    for _ in range(100):
        last = [await cached.get(key, int) for key in keys]
        if last == [options["times"]] * len(keys):
            break
        await asyncio.sleep(0.01)
    report("last", last)
    await cached.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
