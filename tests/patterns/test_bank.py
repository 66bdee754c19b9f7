"""An account that is never overdrawn, whoever pays out of it at the same time."""

from __future__ import annotations

import asyncio

import pytest

from norikv_resp.client import NoriKVClient
from norikv_resp.patterns.bank import (
    AccountNotOpenError,
    AlreadyOpenError,
    BankAccountAggregate,
    InsufficientFundsError,
)
from norikv_resp.patterns.events import EventStore
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.support.effort import scaled
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

BALANCE = 130
AMOUNT = 30

#: Emptied one after the other: it is the end of the money that tills fight for.
ACCOUNTS = [f"account-{number}" for number in range(scaled(16))]


async def opened(client: NoriKVClient, name: str, balance: int) -> BankAccountAggregate:
    account = BankAccountAggregate(EventStore(client), name)
    await account.open_account()
    await account.deposit(balance)
    return account


def attack(server: ServerProcess, worker: str) -> list[str]:
    """Several tills pay out; one is killed, and the server. From where they say they have paid."""
    with (
        shaky(server.port, every=20_000) as url,
        Crew(worker, url, 3, amount=AMOUNT, accounts=ACCOUNTS) as crew,
    ):
        crew.wait_for(len(ACCOUNTS))
        crew.kill(0)
        server.restart(clean=False)
        return [name for reports in crew.finish() for (name,) in reports]


def test_withdrawals_never_overdraw(own_server: ServerProcess) -> None:
    url = f"redis://127.0.0.1:{own_server.port}"

    async def prepare() -> None:
        async with stubborn(url) as client:
            for name in ACCOUNTS:
                await opened(client, name, BALANCE)

    async def judge(promised: list[str]) -> None:
        unpromised = 0
        async with stubborn(url) as client:
            for name in ACCOUNTS:
                account = BankAccountAggregate(EventStore(client), name)
                await account.load()
                events = await EventStore(client).get_events(name)
                paid = [event.data["amount"] for event in events if event.type == "MoneyWithdrawn"]
                assert account.get_balance() == BALANCE - sum(paid) == BALANCE % AMOUNT
                assert account.version == len(events)
                unpromised += len(paid) - promised.count(name)
        # A payment that was under way when its till was killed may have gone through.
        assert 0 <= unpromised <= 1

    asyncio.run(prepare())
    asyncio.run(judge(attack(own_server, "withdraw")))


def test_get_then_put_overdraws_under_the_same_attack(own_server: ServerProcess) -> None:
    for name in ACCOUNTS:
        own_server.ask("SET", name, BALANCE)
    assert len(attack(own_server, "withdraw_naively")) > len(ACCOUNTS) * (BALANCE // AMOUNT)


def test_commands_are_judged_on_the_newest_state(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        stranger = BankAccountAggregate(EventStore(client), "a")
        with pytest.raises(AccountNotOpenError):
            await stranger.deposit(5)
        account = await opened(client, "a", 100)
        # The stranger has never loaded: it finds out by itself.
        await stranger.withdraw(60)
        assert (stranger.get_balance(), stranger.version) == (40, 3)
        with pytest.raises(InsufficientFundsError) as caught:
            await account.withdraw(60)
        assert caught.value.balance == account.get_balance() == 40
        with pytest.raises(AlreadyOpenError):
            await BankAccountAggregate(EventStore(client), "a").open_account()
        await stranger.deposit(30)
        await account.withdraw(70)
        assert account.get_balance() == 0
        for amount in (0, -5):
            with pytest.raises(ValueError):
                await account.deposit(amount)
            with pytest.raises(ValueError):
                await account.withdraw(amount)
        assert len(await EventStore(client).get_events("a")) == 5

    run(scene)


def test_a_payment_repeated_after_a_crash_happens_once(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        account = await opened(client, "a", 100)
        await account.withdraw(100, event_id="rent")
        # The money is gone by now: the repeat must not be refused for that.
        again = BankAccountAggregate(EventStore(client), "a")
        await again.withdraw(100, event_id="rent")
        await account.withdraw(100, event_id="rent")
        assert again.get_balance() == account.get_balance() == 0
        with pytest.raises(InsufficientFundsError):
            await again.withdraw(1, event_id="other")

    run(scene)


def test_a_load_starts_from_the_snapshot(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        store = EventStore(client)
        account = BankAccountAggregate(store, "a", snapshot_every=10)
        await account.open_account()
        for _ in range(24):
            await account.deposit(1)
        snapshot = await store.load_snapshot("a")
        assert snapshot is not None
        assert (snapshot.version, snapshot.state["balance"]) == (20, 19)
        # What the snapshot covers is not read any more.
        await client.execute("DEL", *(f"events:a:{n}" for n in range(1, 21)))
        late = BankAccountAggregate(store, "a")
        await late.load()
        assert (late.get_balance(), late.version, late.is_open) == (24, 25, True)

    run(scene)


def test_tasks_that_share_one_account_object(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        account = await opened(client, "a", 100)
        outcomes = await asyncio.gather(
            *(account.withdraw(9) for _ in range(20)), return_exceptions=True
        )
        assert sum(outcome is None for outcome in outcomes) == 11
        assert account.get_balance() == 1

    run(scene)
