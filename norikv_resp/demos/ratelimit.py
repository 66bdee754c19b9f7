"""A sliding-window rate limit that several workers share.

The key holds the times of the last granted requests. A worker reads them with
their version, decides, and writes back by CAS: of two workers that decide on
the same state one loses and decides again. The key expires by itself.
"""

from __future__ import annotations

import asyncio
import struct

from norikv_resp.demos.client import Client

LIMIT = 20
WINDOW_MS = 500
WORKERS = 6
SECONDS = 2.0
KEY = "demo:ratelimit"


async def allow(client: Client) -> int | None:
    """The server's time in ms at which a request was granted, None when it is refused."""
    while True:
        found = await client.send("GETVER", KEY)
        value, version = found if found else (b"", b"0")
        seconds, micros = map(int, await client.send("TIME"))
        now = seconds * 1000 + micros // 1000
        granted = [at for (at,) in struct.iter_unpack("<Q", value) if at > now - WINDOW_MS]
        if len(granted) >= LIMIT:
            return None
        granted.append(max([now, *granted]))
        packed = struct.pack(f"<{len(granted)}Q", *granted)
        done, _, _ = await client.send("CAS", KEY, version, packed, "PX", 2 * WINDOW_MS)
        if done:
            return int(granted[-1])


async def worker(url: str, granted: list[int], refused: list[int]) -> None:
    """Ask as fast as it goes, for a while."""
    client = Client(url)
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    while loop.time() < end:
        at = await allow(client)
        if at is None:
            refused.append(1)
            await asyncio.sleep(0.002)
        else:
            granted.append(at)
    await client.close()


async def run(url: str) -> bool:
    """Let workers race for the limit; True when no window has more than it allows."""
    print(f"{WORKERS} workers share {LIMIT} requests in {WINDOW_MS} ms, for {SECONDS:.0f} s")
    granted: list[int] = []
    refused: list[int] = []
    client = Client(url)
    await client.send("DEL", KEY)
    await asyncio.gather(*(worker(url, granted, refused) for _ in range(WORKERS)))
    await client.send("DEL", KEY)
    await client.close()
    granted.sort()
    most = max(
        sum(1 for other in granted[first:] if other < at + WINDOW_MS)
        for first, at in enumerate(granted)
    )
    print(f"  {len(granted)} granted, {len(refused)} refused")
    print(f"  the fullest window of {WINDOW_MS} ms holds {most}")
    return most <= LIMIT and len(granted) > LIMIT
