"""Tenants with limits: writers in a hurry, a name that tries to break out, a user of its own."""

from __future__ import annotations

import asyncio

import redis.exceptions
from redis.asyncio import Redis

from norikv_resp.client import KeyNotFoundError, NoriKVClient
from norikv_resp.demos.show import Progress, table
from norikv_resp.demos.wipe import wipe
from norikv_resp.patterns.tenants import QuotaExceededError, TenantManager

WRITERS = 6
EACH = 220
PREFIX = "demo:tenants"
NAMES = ("acme", "acme:evil", "*")


async def naive(client: NoriKVClient, writer: int, limit: int) -> None:
    """Count, compare, write: the count is old by the time of the writing."""
    for number in range(EACH):
        try:
            used = int((await client.get(f"{PREFIX}:naive:used")).value)
        except KeyNotFoundError:
            used = 0
        if used < limit:
            await client.put(f"{PREFIX}:naive:{writer}:{number}", b"x" * 100)
            await client.put(f"{PREFIX}:naive:used", str(used + 1))


async def fill(url: str, writer: int, bar: Progress) -> int:
    """Put keys as if there were no limit; how many the tenant was refused."""
    refused = 0
    async with NoriKVClient.from_url(url) as client:
        tenant = await TenantManager(client, PREFIX).get_client("acme")
        for start in range(0, EACH, 20):
            puts = (tenant.put(f"{writer}:{n}", b"x" * 100) for n in range(start, start + 20))
            for outcome in await asyncio.gather(*puts, return_exceptions=True):
                if isinstance(outcome, QuotaExceededError):
                    refused += 1
                elif isinstance(outcome, BaseException):
                    raise outcome
                bar.step()
    return refused


async def peeks(client: NoriKVClient, url: str, manager: TenantManager) -> tuple[bool, bool]:
    """Whether a tenant's user can read its own key, and another tenant's."""
    user = await manager.create_user("acme")
    own, other = await manager.get("acme"), await manager.get("acme:evil")
    assert own is not None and other is not None
    async with Redis.from_url(url, username=user.username, password=user.password) as tenant:
        mine = await tenant.get(manager.key_prefix(own) + b"0:0") is not None
        try:
            theirs = await tenant.get(manager.key_prefix(other) + b"secret") is not None
        except redis.exceptions.NoPermissionError as refusal:
            print(f"  its user reads its own key; of another tenant's the server says: {refusal}")
            theirs = False
    return mine, theirs


async def run(url: str) -> bool:
    """Fill a tenant from several processes' worth of writers; True when the limits hold."""
    async with NoriKVClient.from_url(url, max_connections=WRITERS + 1) as client:
        await wipe(client, PREFIX)
        manager = TenantManager(client, PREFIX)
        for name in NAMES:
            await manager.create(name, name.title(), "free")
            await (await manager.get_client(name)).put("secret", name)
        limit = (await manager.get_client("acme")).limits.max_keys
        assert limit is not None
        total = WRITERS * EACH
        print(f"{WRITERS} writers put {total} keys for a tenant that may have {limit:,}")

        await asyncio.gather(*(naive(client, writer, limit) for writer in range(WRITERS)))
        _, keys = await client.execute(
            "SCAN", 0, "MATCH", f"{PREFIX}:naive:*:*", "COUNT", 10 * total
        )
        counted = int((await client.get(f"{PREFIX}:naive:used")).value)
        print(f"  count, then put: {len(keys)} keys, of which {counted} were counted")

        with Progress("putting", total) as bar:
            refused = sum(await asyncio.gather(*(fill(url, w, bar) for w in range(WRITERS))))
        usage = await manager.usage("acme")
        there = {key async for key in (await manager.get_client("acme")).scan()}
        print(f"  TenantClient: {len(there)} keys, {usage.keys} counted, {refused} refused")
        mine, theirs = await peeks(client, url, manager)

        secrets = [(await (await manager.get_client(n)).get("secret")).value for n in NAMES]
        await manager.delete("acme")
        left = [name for name in NAMES if await manager.get(name) is not None]
        print(f"  after deleting acme there are: {', '.join(left)}")
        table(
            ("version", "limit", "keys", "counted"),
            [
                ("count, then put", limit, len(keys), counted),
                ("TenantClient", limit, len(there), usage.keys),
            ],
        )
        for name in NAMES:
            await manager.delete(name)
        await wipe(client, PREFIX)
    isolated = mine and not theirs and secrets == [name.encode() for name in NAMES]
    return isolated and len(there) == usage.keys == limit and left == [*NAMES[1:]]
