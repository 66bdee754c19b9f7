"""A bank account made of events: several tills pay out of one account at the same time."""

from __future__ import annotations

import asyncio
import random

from norikv_resp.client import NoriKVClient
from norikv_resp.demos.show import table
from norikv_resp.demos.wipe import wipe
from norikv_resp.patterns.bank import BankAccountAggregate, InsufficientFundsError
from norikv_resp.patterns.events import EventStore

TILLS = 6
BALANCE = 1_000
AMOUNT = 30
PREFIX = "demo:bank"
NAIVE = f"{PREFIX}:naive"


async def naive(client: NoriKVClient) -> int:
    """Read the balance, and write it back less the amount while there is enough."""
    paid = 0
    while True:
        balance = int((await client.get(NAIVE)).value)
        if balance < AMOUNT:
            return paid
        await client.put(NAIVE, str(balance - AMOUNT))
        paid += AMOUNT


async def careful(url: str, till: int) -> int:
    """Withdraw until the account refuses; every fifth withdrawal is repeated under its id."""
    paid = 0
    async with NoriKVClient.from_url(url) as client:
        account = BankAccountAggregate(EventStore(client, PREFIX), "account-1", snapshot_every=10)
        while True:
            token = f"till {till}, payment {paid}"
            try:
                await account.withdraw(AMOUNT, event_id=token)
                if random.random() < 0.2:
                    await account.withdraw(AMOUNT, event_id=token)
            except InsufficientFundsError as refusal:
                print(f"  till {till} has paid {paid:>4} and stops: {refusal.balance} are left")
                return paid
            paid += AMOUNT
            await asyncio.sleep(random.uniform(0, 0.005))


async def run(url: str) -> bool:
    """Empty an account from several tills; True when not a cent too much is paid."""
    print(f"{TILLS} tills pay {AMOUNT} at a time out of one account with {BALANCE}")
    async with NoriKVClient.from_url(url, max_connections=TILLS + 1) as client:
        await wipe(client, PREFIX)
        await client.put(NAIVE, str(BALANCE))
        overpaid = sum(await asyncio.gather(*(naive(client) for _ in range(TILLS))))
        print(f"  get, then put: the tills have paid {overpaid} together")

        store = EventStore(client, PREFIX)
        account = BankAccountAggregate(store, "account-1")
        await account.open_account()
        await account.deposit(BALANCE)
        paid = sum(await asyncio.gather(*(careful(url, till) for till in range(TILLS))))
        await account.load()
        events = await store.get_events("account-1")
        snapshot = await store.load_snapshot("account-1")
        assert snapshot is not None
        after = await store.get_events_after("account-1", snapshot.version)
        print(
            f"  {len(events)} events; a load takes the snapshot after event {snapshot.version}"
            f" and {len(after)} more"
        )
        table(
            ("version", "paid in", "paid out", "balance"),
            [
                ("get, then put", BALANCE, overpaid, int((await client.get(NAIVE)).value)),
                ("BankAccountAggregate", BALANCE, paid, account.get_balance()),
            ],
        )
        await wipe(client, PREFIX)
    replayed = sum(event.data["amount"] for event in events if event.type == "MoneyWithdrawn")
    return (
        paid == replayed == BALANCE - account.get_balance() and 0 <= account.get_balance() < AMOUNT
    )
