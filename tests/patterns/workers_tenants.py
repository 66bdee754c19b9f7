"""Attacks on the limits and the deletion of tenants."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from norikv_resp.client import DeleteOptions, NoriKVClient, PutOptions
from norikv_resp.patterns.tenants import (
    PLANS,
    Plan,
    QuotaExceededError,
    TenantClient,
    TenantManager,
    TenantNotFoundError,
)
from tests.patterns.crew import Report, worker

Options = dict[str, Any]

#: A plan that is full after a moment's work.
TINY = PLANS["tiny"] = Plan(60, 2_000)


@worker
async def count_then_put(client: NoriKVClient, options: Options, report: Report) -> None:
    """Compare with what is counted, write, count."""
    for number in range(options["times"]):
        used = int(await client.execute("GET", "used") or 0)
        if used < 60:
            await client.put(f"naive:{options['number']}:{number}", b"x")
            await client.put("used", str(used + 1))
        report(number)


@worker
async def write_as_tenant(client: NoriKVClient, options: Options, report: Report) -> None:
    """Put, replace and delete keys that all writers share, each write sent twice.

    Of the option *ttls* one is taken for each put.
    """
    dice = random.Random(options["number"])
    tenant = await TenantManager(client).get_client("acme")
    for number in range(options["times"]):
        key, token = f"key{dice.randrange(90)}", f"{options['number']}-{number}"
        value = None if dice.random() < 0.25 else b"v" * dice.randrange(80)
        ttl = dice.choice(options["ttls"])
        with contextlib.suppress(QuotaExceededError):
            first = await _write(tenant, key, value, token, ttl)
            if first is not None:  # what changed nothing is not remembered
                assert await _write(tenant, key, value, token, ttl) == first
        usage = await tenant.usage()
        assert usage.keys <= 60 and usage.bytes <= 2_000
        report(number)


async def _write(
    tenant: TenantClient, key: str, value: bytes | None, token: str, ttl: int | None
) -> Any:
    """A put, or a delete when there is no value. None when a delete has found nothing."""
    if value is None:
        return await tenant.delete(key, DeleteOptions(idempotency_key=token)) or None
    return await tenant.put(key, value, PutOptions(idempotency_key=token, ttl_ms=ttl))


@worker
async def write_until_gone(client: NoriKVClient, options: Options, report: Report) -> None:
    tenant = await TenantManager(client).get_client("acme")
    with contextlib.suppress(TenantNotFoundError):
        for number in range(10_000):
            await tenant.put(f"{options['number']}:{number}", b"x" * 20)
            report(number)


@worker
async def delete_tenant(client: NoriKVClient, options: Options, report: Report) -> None:
    report("deleting")
    await TenantManager(client).delete("acme")
