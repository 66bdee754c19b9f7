"""An account that is never overdrawn, whoever pays out of it at the same time."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from norikv_resp.client import NoriKVClient
from norikv_resp.patterns.bank import (
    AccountNotOpenError,
    AlreadyOpenError,
    BankAccountAggregate,
    InsufficientFundsError,
)
from norikv_resp.patterns.events import EventStore
from tests.conftest import StartServer
from tests.patterns.crowd import Crowd, Told, patient, run, url_of
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

BALANCE = 2_000
AMOUNT = 30


async def naive_till(told: Told) -> None:
    async with patient(told.url) as client:
        while (balance := int((await client.get("balance")).value)) >= AMOUNT:
            await client.put("balance", str(balance - AMOUNT))
            told.tell(AMOUNT)


async def till(told: Told) -> None:
    """Pay until the account refuses, asking for every payment twice."""
    async with patient(told.url) as client:
        account = BankAccountAggregate(EventStore(client), "a", snapshot_every=7)
        with contextlib.suppress(InsufficientFundsError):
            for number in range(BALANCE):
                token = f"{told.number}-{number}"
                await account.withdraw(AMOUNT, event_id=token)
                told.tell(AMOUNT)
                await account.withdraw(AMOUNT, event_id=token)


async def opened(client: NoriKVClient, name: str, balance: int) -> BankAccountAggregate:
    account = BankAccountAggregate(EventStore(client), name)
    await account.open_account()
    await account.deposit(balance)
    return account


@pytest.mark.limit(90)
def test_withdrawals_never_overdraw(start_server: StartServer) -> None:
    server = start_server()

    async def prepare() -> None:
        async with patient(url_of(server)) as client:
            await opened(client, "a", BALANCE)

    async def judge(promised: int) -> None:
        async with patient(url_of(server)) as client:
            account = BankAccountAggregate(EventStore(client), "a")
            await account.load()
            events = await EventStore(client).get_events("a")
            balance = 0
            for event in events[1:]:
                sign = 1 if event.type == "MoneyDeposited" else -1
                balance += sign * event.data["amount"]
                assert balance >= 0
            assert account.get_balance() == balance < AMOUNT
            assert account.version == len(events)
            # A payment that was under way when its till was killed may have gone through.
            assert promised <= BALANCE - balance <= promised + 2 * AMOUNT

    run(prepare())
    with Crowd(url_of(server)) as crowd:
        crowd.join(till, 4)
        crowd.watch(20.0, until=10)
        crowd.kill9(1)
        server.restart(clean=False)
        crowd.watch(20.0, until=30)
        crowd.kill9(1)
        promised = sum(crowd.finish())
    run(judge(promised))


@pytest.mark.limit(60)
def test_get_then_put_overdraws_under_the_same_attack(server: ServerProcess) -> None:
    server.ask("SET", "balance", BALANCE)
    with Crowd(url_of(server)) as crowd:
        crowd.join(naive_till, 4)
        assert sum(crowd.finish()) > BALANCE


def test_commands_are_judged_on_the_newest_state(server: ServerProcess) -> None:
    async def scene() -> None:
        async with patient(url_of(server)) as client:
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

    run(scene())


def test_a_payment_repeated_after_a_crash_happens_once(server: ServerProcess) -> None:
    async def scene() -> None:
        async with patient(url_of(server)) as client:
            account = await opened(client, "a", 100)
            await account.withdraw(100, event_id="rent")
            # The money is gone by now: the repeat must not be refused for that.
            again = BankAccountAggregate(EventStore(client), "a")
            await again.withdraw(100, event_id="rent")
            await account.withdraw(100, event_id="rent")
            assert again.get_balance() == account.get_balance() == 0
            with pytest.raises(InsufficientFundsError):
                await again.withdraw(1, event_id="other")

    run(scene())


def test_a_load_starts_from_the_snapshot(server: ServerProcess) -> None:
    async def scene() -> None:
        async with patient(url_of(server)) as client:
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

    run(scene())


def test_tasks_that_share_one_account_object(server: ServerProcess) -> None:
    async def scene() -> None:
        async with patient(url_of(server)) as client:
            account = await opened(client, "a", 100)
            outcomes = await asyncio.gather(
                *(account.withdraw(9) for _ in range(20)), return_exceptions=True
            )
            assert sum(outcome is None for outcome in outcomes) == 11
            assert account.get_balance() == 1

    run(scene())
