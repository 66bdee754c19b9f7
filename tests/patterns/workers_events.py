"""Attacks on event stores and accounts."""

from __future__ import annotations

import contextlib
from typing import Any

from norikv_resp.client import NoriKVClient
from norikv_resp.patterns.bank import BankAccountAggregate, InsufficientFundsError
from norikv_resp.patterns.events import EventConflictError, EventStore
from tests.patterns.crew import Report, worker

Options = dict[str, Any]

#: A name that would meet other keys if it were not written carefully.
AGGREGATE = "account 7:head"


@worker
async def append_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Read the number of the last event, write the next event, write the new number."""
    for number in range(options["times"]):
        name = f"{options['number']}-{number}"
        head = int(await client.execute("GET", "naive:head") or 0)
        await client.put(f"naive:{head + 1}", name)
        await client.put("naive:head", str(head + 1))
        report(name)


@worker
async def append(client: NoriKVClient, options: Options, report: Report) -> None:
    """Append each event, and once more as a caller does who has not seen the answer."""
    store = EventStore(client)
    for number in range(options["times"]):
        name = f"{options['number']}-{number}"
        first = await store.append(AGGREGATE, "Happened", {"name": name}, event_id=name)
        report(name)
        again = await store.append(AGGREGATE, "Happened", {"name": name}, event_id=name)
        assert first == again


@worker
async def append_at(client: NoriKVClient, options: Options, report: Report) -> None:
    """Try to be the one that writes version 1, 2, 3 …"""
    store = EventStore(client)
    for version in range(options["times"]):
        with contextlib.suppress(EventConflictError):
            event = await store.append("race", "Won", options["number"], version)
            report(event.version, event.data)


@worker
async def withdraw_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    amount = options["amount"]
    for key in options["accounts"]:
        while (balance := int(await client.execute("GET", key))) >= amount:
            await client.put(key, str(balance - amount))
            report(key)


@worker
async def withdraw(client: NoriKVClient, options: Options, report: Report) -> None:
    """Empty one account after the other, asking for every payment twice."""
    for name in options["accounts"]:
        account = BankAccountAggregate(EventStore(client), name, snapshot_every=3)
        with contextlib.suppress(InsufficientFundsError):
            for number in range(1000):
                token = f"{options['number']}-{number}"
                await account.withdraw(options["amount"], event_id=token)
                report(name)
                await account.withdraw(options["amount"], event_id=token)
