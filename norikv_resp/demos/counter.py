"""A counter under concurrency: what is lost without versions, and what is not with them."""

from __future__ import annotations

import asyncio
import random
import uuid

from norikv_resp.demos.client import Client

WORKERS = 8
INCREMENTS = 50
KEY = "demo:counter"


async def naive(client: Client) -> None:
    """GET, add one, SET: two workers that read the same number lose an increment."""
    for _ in range(INCREMENTS):
        number = int(await client.send("GET", KEY) or 0)
        await client.send("SET", KEY, number + 1)


async def with_cas(client: Client) -> None:
    """CAS: a lost race answers with the current value and version, so a retry is one round trip."""
    found = await client.send("GETVER", KEY)
    value, version = found if found else (b"0", b"0")
    for _ in range(INCREMENTS):
        while True:
            done, now, held = await client.send("CAS", KEY, version, int(value) + 1)
            if done:
                value, version = b"%d" % (int(value) + 1), now
                break
            value, version = held if held is not None else b"0", now
            await asyncio.sleep(random.uniform(0, 0.002))


async def with_tokens(client: Client) -> None:
    """Every increment is sent twice, as after a lost connection; the token makes it count once."""
    for _ in range(INCREMENTS):
        token = uuid.uuid4().hex
        first = await client.send("IDEM", token, "INCR", KEY)
        again = await client.send("IDEM", token, "INCR", KEY)
        assert first == again


async def run(url: str) -> bool:
    """Count with each method; True when the two safe ones lose nothing."""
    expected = WORKERS * INCREMENTS
    passed = True
    print(f"{WORKERS} workers, {INCREMENTS} increments each: {expected} expected")
    for name, method, safe in (
        ("GET, SET", naive, False),
        ("CAS", with_cas, True),
        ("IDEM INCR, all sent twice", with_tokens, True),
    ):
        clients = [Client(url) for _ in range(WORKERS)]
        await clients[0].send("DEL", KEY)
        await asyncio.gather(*(method(client) for client in clients))
        total = int(await clients[0].send("GET", KEY) or 0)
        lost = expected - total
        print(f"  {name:<28} {total:>6}  {'exact' if lost == 0 else f'{lost} lost'}")
        passed = passed and (lost == 0 or not safe)
        await clients[0].send("DEL", KEY)
        for client in clients:
            await client.close()
    return passed
