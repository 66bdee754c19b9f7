"""A cache in each process: fast reads, and nobody sees an old value once it was told."""

from __future__ import annotations

import asyncio
import time

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import Progress, table
from norikv_resp.patterns.cache import CachedClient

READERS = 4
READS = 2000
WRITES = 100
KEY = "demo:cache"


async def reader(cached: CachedClient, end: asyncio.Event) -> tuple[int, int, int]:
    """Read until the writer is done; reads, steps back in time, and the last number."""
    reads = back = newest = 0
    while not end.is_set() or reads < READS:
        number = await cached.get(KEY, int) or 0
        back += number < newest
        newest = max(newest, number)
        reads += 1
        if not reads % 50:
            await asyncio.sleep(0.001)
    return reads, back, newest


async def run(url: str) -> bool:
    """One writes, others read through caches; True when all saw the numbers only grow."""
    print(f"one writer changes a key {WRITES} times, {READERS} readers have a cache each")
    async with NoriKVClient.from_url(url) as client:
        began = time.perf_counter()
        for _ in range(200):
            await client.execute("GET", KEY)
        plain = 200 / (time.perf_counter() - began)
        caches = [CachedClient(client, 60_000, 100) for _ in range(READERS + 1)]
        await caches[0].put(KEY, 0, lambda number: b"%d" % number)
        end = asyncio.Event()
        began = time.perf_counter()
        readers = [asyncio.create_task(reader(each, end)) for each in caches[1:]]
        with Progress("writing", WRITES) as bar:
            for number in range(1, WRITES + 1):
                await caches[0].put(KEY, number, lambda number: b"%d" % number)
                await asyncio.sleep(0.005)
                bar.step()
        # What the last write tells the readers is under way for a moment.
        await asyncio.sleep(0.1)
        end.set()
        found = await asyncio.gather(*readers)
        seconds = time.perf_counter() - began
        rows: list[tuple[object, ...]] = []
        for number, ((reads, back, newest), cached) in enumerate(
            zip(found, caches[1:], strict=True), 1
        ):
            stats = cached.get_stats()
            rows.append((number, reads, stats.hit_rate * 100, stats.invalidations, back, newest))
        table(("reader", "reads", "hits %", "told", "steps back", "last"), rows)
        rate = sum(reads for reads, _, _ in found) / seconds
        print(f"  {rate:.0f} reads a second with the caches, {plain:.0f} without one")
        last = [await cached.get(KEY, int) for cached in caches]
        for cached in caches:
            await cached.close()
        await client.delete(KEY)
    return not any(back for _, back, _ in found) and last == [WRITES] * (READERS + 1)
