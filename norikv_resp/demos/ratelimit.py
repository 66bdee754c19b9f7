"""A sliding-window rate limit that several workers share."""

from __future__ import annotations

import asyncio

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import Progress, table
from norikv_resp.patterns.ratelimit import RateLimitConfig, RateLimiter
from norikv_resp.patterns.requests import server_time

LIMIT = 20
WINDOW_MS = 500
WORKERS = 6
SECONDS = 2.0
NAME = "demo"


async def worker(
    url: str, config: RateLimitConfig, granted: list[tuple[int, int]], refused: list[int]
) -> None:
    """Ask as fast as it goes, for a while; note between which times a request was granted."""
    async with NoriKVClient.from_url(url) as client:
        limiter = RateLimiter(client)
        loop = asyncio.get_running_loop()
        end = loop.time() + SECONDS
        while loop.time() < end:
            before = await server_time(client)
            result = await limiter.check_limit(NAME, config)
            if result.allowed:
                granted.append((before, result.server_now))
            else:
                refused.append(result.reset_at)
                await asyncio.sleep(min(0.02, (result.reset_at - result.server_now) / 1000))


def fullest(granted: list[tuple[int, int]]) -> int:
    """Requests that one window certainly holds."""
    return max(
        sum(1 for before, after in granted if start <= before and after < start + WINDOW_MS)
        for start, _ in granted
    )


async def run(url: str) -> bool:
    """Let workers race for the limit; True when no window has more than it allows."""
    print(f"{WORKERS} workers share {LIMIT} requests in {WINDOW_MS} ms, for {SECONDS:.0f} s each")
    passed = True
    rows = []
    async with NoriKVClient.from_url(url) as client:
        with Progress("asking", 2) as bar:
            for name, slices in (("each request's time", None), ("10 counters", 10)):
                await RateLimiter(client).reset(NAME)
                config = RateLimitConfig(LIMIT, WINDOW_MS, slices)
                granted: list[tuple[int, int]] = []
                refused: list[int] = []
                await asyncio.gather(
                    *(worker(url, config, granted, refused) for _ in range(WORKERS))
                )
                most = fullest(granted)
                print(f"  {name}: {len(granted)} granted, the fullest window holds {most}")
                rows.append((name, len(granted), len(refused), most, LIMIT))
                passed = passed and most <= LIMIT < len(granted)
                bar.step()
        await RateLimiter(client).reset(NAME)
    table(("memory", "granted", "refused", "fullest window", "limit"), rows)
    return passed
