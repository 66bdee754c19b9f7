"""Patterns beside what is usual on redis-server: python -m tests.bench.patterns [--quick] …

Operations a second of each pattern with 1, 8 and 64 workers, tasks of one process that share a
client as the handlers of a web application do, and of the same thing by Lua or by WATCH on
redis-server; both durable (appendfsync always). Only one server is up at any time, the two of a
row one after the other, and a ratio is this server's rate by the peer's of the same round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from statistics import median

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import WatchError

from norikv_resp.client import NoriKVClient
from norikv_resp.patterns import (
    CachedClient,
    DistributedCounter,
    InventoryManager,
    LeaderElection,
    RateLimitConfig,
    RateLimiter,
    SessionManager,
    ShardedCounter,
)
from tests.bench.__main__ import machine
from tests.bench.measure import main_thread_seconds, start_server
from tests.support.server import ServerProcess
from tests.support.tools import peer_binary, why_missing

WORKERS = (1, 8, 64)

#: The ratio to reach.
GOAL = 1.0

Operation = Callable[[int], Awaitable[object]]

#: Seconds since some moment, of whatever kind.
Clock = Callable[[], float]


# -- the patterns ------------------------------------------------------------------


async def our_counter(client: NoriKVClient) -> Operation:
    counter = DistributedCounter(client, "counter")
    return lambda _: counter.increment()


async def our_token_counter(client: NoriKVClient) -> Operation:
    counter = DistributedCounter(client, "counter")
    return lambda _: counter.increment_by(1, uuid.uuid4().hex)


async def our_shards(client: NoriKVClient) -> Operation:
    counter = ShardedCounter(client, "counter")
    await counter.increment()
    return lambda _: counter.increment()


async def our_sessions(client: NoriKVClient) -> Operation:
    sessions = SessionManager(client)
    ids = [await sessions.create(f"u{number}", "", []) for number in range(100)]
    return lambda number: sessions.get(ids[number % 100])


async def our_inventory(client: NoriKVClient) -> Operation:
    inventory = InventoryManager(client)
    await inventory.create_item("lamp", 10_000_000)

    async def buy(_: int) -> None:
        await inventory.commit(await inventory.reserve("lamp", 1))

    return buy


async def our_cache(client: NoriKVClient) -> Operation:
    cached = CachedClient(client, 60_000, 1000)
    for number in range(50):
        await client.put(f"k{number}", b"0")

    async def use(number: int) -> None:
        key = f"k{random.randrange(50)}"
        if number % 10:
            await cached.get(key, int)
        else:
            await cached.put(key, number, lambda value: b"%d" % value)

    return use


async def our_limiter(client: NoriKVClient) -> Operation:
    limiter, config = RateLimiter(client), RateLimitConfig(1_000_000, 1000, slices=10)
    return lambda _: limiter.check_limit("someone", config)


async def our_fenced_write(client: NoriKVClient) -> Operation:
    election = LeaderElection(client, "boss", "me", 60_000)
    campaign = asyncio.create_task(election.start())
    while not election.get_is_leader():
        await asyncio.sleep(0.01)
    campaign.cancel()
    return lambda number: election.write([("SET", "resource", number)])


# -- the usual way -------------------------------------------------------------------

COUNT_ONCE = """
local seen = redis.call('GET', KEYS[2])
if seen then return tonumber(seen) end
local n = redis.call('INCRBY', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], n, 'PX', 300000)
return n
"""

TOUCH = """
if redis.call('EXISTS', KEYS[1]) == 0 then return nil end
redis.call('HSET', KEYS[1], 'last', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('HGETALL', KEYS[1])
"""

RESERVE = """
local n = tonumber(ARGV[1])
if tonumber(redis.call('HGET', KEYS[1], 'available')) < n then return 0 end
redis.call('HINCRBY', KEYS[1], 'available', -n)
redis.call('HSET', KEYS[2], 'quantity', n, 'state', 'held')
redis.call('ZADD', KEYS[3], ARGV[2], KEYS[2])
return 1
"""

COMMIT = """
if redis.call('HGET', KEYS[2], 'state') ~= 'held' then return 0 end
redis.call('HSET', KEYS[2], 'state', 'committed')
redis.call('PEXPIRE', KEYS[2], 86400000)
redis.call('ZREM', KEYS[3], KEYS[2])
return 1
"""

LIMIT = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
if redis.call('ZCARD', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZADD', KEYS[1], now, ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

FENCED = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""


async def their_counter(redis: Redis) -> Operation:
    """The loop that redis-py documents: WATCH, GET, MULTI, SET, EXEC."""

    async def increment(_: int) -> None:
        async with redis.pipeline() as pipe:
            while True:
                try:
                    await pipe.watch("counter")
                    number = int(await pipe.get("counter") or 0)
                    pipe.multi()
                    pipe.set("counter", number + 1)
                    await pipe.execute()
                    return
                except WatchError:
                    continue

    return increment


async def their_token_counter(redis: Redis) -> Operation:
    script = redis.register_script(COUNT_ONCE)
    return lambda _: script(keys=["counter", f"token:{uuid.uuid4().hex}"], args=[1])


async def their_shards(redis: Redis) -> Operation:
    return lambda number: redis.incr(f"counter:{number % 10}")


async def their_sessions(redis: Redis) -> Operation:
    script = redis.register_script(TOUCH)
    for number in range(100):
        await redis.hset(f"session:{number}", mapping={"user": number, "roles": "[]"})

    def touch(number: int) -> Awaitable[object]:
        return script(keys=[f"session:{number % 100}"], args=[time.time_ns(), 3_600_000])

    return touch


async def their_inventory(redis: Redis) -> Operation:
    reserve, commit = redis.register_script(RESERVE), redis.register_script(COMMIT)
    await redis.hset("lamp", "available", 10_000_000)

    async def buy(_: int) -> None:
        keys = ["lamp", f"reservation:{uuid.uuid4().hex}", "holds"]
        await reserve(keys=keys, args=[1, time.time() + 600])
        await commit(keys=keys)

    return buy


async def their_cache(redis: Redis) -> Operation:
    """No cache in the process: a get is a request, and so is never old."""

    for number in range(50):
        await redis.set(f"k{number}", 0)

    async def use(number: int) -> None:
        key = f"k{random.randrange(50)}"
        if number % 10:
            int(await redis.get(key) or 0)
        else:
            await redis.set(key, number)

    return use


async def their_limiter(redis: Redis) -> Operation:
    script = redis.register_script(LIMIT)
    return lambda number: script(keys=["limit"], args=[1_000_000, 1000, uuid.uuid4().hex])


async def their_fenced_write(redis: Redis) -> Operation:
    script = redis.register_script(FENCED)
    await redis.set("boss:term", "7")
    return lambda number: script(keys=["boss:term", "resource"], args=["7", number])


@dataclass(frozen=True)
class Row:
    """A pattern and the usual way of the same thing."""

    name: str
    usual: str
    ours: Callable[[NoriKVClient], Awaitable[Operation]]
    theirs: Callable[[Redis], Awaitable[Operation]]


ROWS = (
    Row("counter", "WATCH", our_counter, their_counter),
    Row("counter by token", "Lua", our_token_counter, their_token_counter),
    Row("sharded counter", "INCR", our_shards, their_shards),
    Row("session get", "Lua", our_sessions, their_sessions),
    Row("reserve and commit", "Lua, twice", our_inventory, their_inventory),
    Row("cache, 9 of 10 reads", "GET, SET", our_cache, their_cache),
    Row("rate limit", "Lua", our_limiter, their_limiter),
    Row("fenced write", "Lua", our_fenced_write, their_fenced_write),
)


# -- measuring -----------------------------------------------------------------------


async def rate(operation: Operation, workers: int, seconds: float, clock: Clock) -> float:
    """Operations a second of *clock*, after a fifth of the time to warm up."""
    done = 0
    number = iter(range(1 << 60))

    async def work(end: float) -> int:
        count = 0
        while time.perf_counter() < end:
            await operation(next(number))
            count += 1
        return count

    for share in (0.2, 1.0):
        began = clock()
        end = time.perf_counter() + seconds * share
        done = sum(await asyncio.gather(*(work(end) for _ in range(workers))))
    return done / (clock() - began)


async def measured(
    row: Row, peer: bool, server: ServerProcess, seconds: float, by_cpu: bool
) -> list[float]:
    """The rates of one row on the server that is up, by number of workers."""

    def cpu() -> float:
        """Seconds used by this process and by the thread that runs the server's commands."""
        return time.process_time() + main_thread_seconds(server)

    rates = []
    clock = cpu if by_cpu else time.perf_counter
    for workers in WORKERS:
        url = f"redis://127.0.0.1:{server.port}"
        if peer:
            pool = BlockingConnectionPool.from_url(url, max_connections=64, timeout=None)
            async with Redis.from_pool(pool) as redis:
                await redis.flushall()
                rates.append(await rate(await row.theirs(redis), workers, seconds, clock))
        else:
            async with NoriKVClient.from_url(url, max_connections=64) as client:
                await client.redis.flushall()
                rates.append(await rate(await row.ours(client), workers, seconds, clock))
    return rates


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print the table; 1 if it could not be measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.patterns")
    parser.add_argument("--rounds", type=int, help="rounds (5)")
    parser.add_argument("--quick", action="store_true", help="1 round of short runs")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="rows with this in the name"
    )
    parser.add_argument(
        "--cpu", action="store_true", help="count per second of CPU time of client and server"
    )
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    args = parser.parse_args(argv)
    if peer_binary() is None:
        print(f"bench: {why_missing('peer')}", file=sys.stderr)
        return 1
    rows = [row for row in ROWS if not args.only or any(word in row.name for word in args.only)]
    seconds = 0.6 if args.quick else 2.0
    rounds = args.rounds or (1 if args.quick else 5)
    facts = machine()
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), flush=True)
    figures: dict[str, dict[bool, list[list[float]]]] = {
        row.name: {False: [], True: []} for row in rows
    }
    for number in range(rounds):
        for row in rows:
            for peer in (False, True) if number % 2 else (True, False):
                with start_server(peer, durable=True) as server:
                    found = asyncio.run(measured(row, peer, server, seconds, args.cpu))
                figures[row.name][peer].append(found)
    unit = "CPU second" if args.cpu else "second"
    print(f"\noperations a {unit} (median), and ours / theirs: median [min, max]")
    for row in rows:
        for at, workers in enumerate(WORKERS):
            ours = [each[at] for each in figures[row.name][False]]
            theirs = [each[at] for each in figures[row.name][True]]
            ratios = [one / other for one, other in zip(ours, theirs, strict=True)]
            met = "yes" if median(ratios) >= GOAL else "no"
            print(
                f"{row.name:<21}{row.usual:<11}{workers:>3} workers"
                f"{median(ours):>9.0f}{median(theirs):>9.0f}"
                f"{median(ratios):>7.2f} [{min(ratios):.2f}, {max(ratios):.2f}] ≥ {GOAL}: {met}"
            )
    if args.json:
        with open(args.json, "w", encoding="utf-8") as file:
            json.dump({"machine": facts, "figures": figures}, file, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
