"""Counters under concurrency: what is lost by reading and writing, and what is not by patterns."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import table
from norikv_resp.demos.wipe import wipe
from norikv_resp.patterns.counter import DistributedCounter, ShardedCounter

WORKERS = 8
INCREMENTS = 60
KEY = "demo:counter"


async def naive(client: NoriKVClient) -> None:
    """Get, add one, put: two workers that read the same number lose an increment."""
    for _ in range(INCREMENTS):
        number = int(await client.execute("GET", KEY) or 0)
        await client.put(KEY, str(number + 1))


async def with_cas(client: NoriKVClient) -> None:
    """Compare-and-set, as often as it takes."""
    counter = DistributedCounter(client, KEY)
    for _ in range(INCREMENTS):
        await counter.increment()


async def with_tokens(client: NoriKVClient) -> None:
    """Every increment is sent twice, as after a lost connection; the token makes it count once."""
    counter = DistributedCounter(client, KEY)
    for _ in range(INCREMENTS):
        token = uuid.uuid4().hex
        first = await counter.increment_by(1, token)
        assert await counter.increment_by(1, token) == first


async def in_shards(client: NoriKVClient) -> None:
    """Workers that are spread over keys race less."""
    counter = ShardedCounter(client, KEY)
    for _ in range(INCREMENTS):
        await counter.increment()


#: Name, method, whether the counter is sharded, whether nothing may be lost.
METHODS: tuple[tuple[str, Callable[[NoriKVClient], Awaitable[None]], bool, bool], ...] = (
    ("get, then put", naive, False, False),
    ("DistributedCounter", with_cas, False, True),
    ("the same by token, all sent twice", with_tokens, False, True),
    ("ShardedCounter", in_shards, True, True),
)


async def run(url: str) -> bool:
    """Count with each method; True when the safe ones lose nothing."""
    expected = WORKERS * INCREMENTS
    print(f"{WORKERS} workers, {INCREMENTS} increments each: {expected} expected")
    passed = True
    rows = []
    # Each worker has a client of its own, as processes would have.
    clients = [NoriKVClient.from_url(url) for _ in range(WORKERS)]
    for name, method, sharded, safe in METHODS:
        await wipe(clients[0], KEY)
        began = time.perf_counter()
        await asyncio.gather(*(method(client) for client in clients))
        rate = int(expected / (time.perf_counter() - began))
        counter = (ShardedCounter if sharded else DistributedCounter)(clients[0], KEY)
        total = await counter.get()
        print(f"  {name}: {total}")
        rows.append((name, total, expected - total, rate))
        passed = passed and (total == expected or not safe)
    table(("method", "counted", "lost", "a second"), rows)
    await wipe(clients[0], KEY)
    for client in clients:
        await client.close()
    return passed
