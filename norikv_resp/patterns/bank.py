"""A bank account made of events: what event sourcing looks like in an application.

The account's state is what its events add up to. A command (deposit, withdraw) is decided on the
state after event n and appended on condition that n is still the last one; if it is not, the newer
events are read and the command is decided again. So two withdrawals at the same moment never both
see the same money.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from norikv_resp.patterns.events import Event, EventConflictError, EventStore
from norikv_resp.patterns.retry import Attempts

__all__ = [
    "AccountError",
    "AccountNotOpenError",
    "AlreadyOpenError",
    "BankAccountAggregate",
    "InsufficientFundsError",
]

#: Events between two snapshots: what a load has to replay at most, give or take a few.
SNAPSHOT_EVERY = 100


class AccountError(ValueError):
    """The account does not allow this; nothing has changed."""


class AlreadyOpenError(AccountError):
    """The account has been opened before."""


class AccountNotOpenError(AccountError):
    """The account has not been opened yet."""


class InsufficientFundsError(AccountError):
    """The balance is smaller than what is to be withdrawn; ``balance`` says how much it is."""

    def __init__(self, account_id: str, balance: int, amount: int) -> None:
        super().__init__(f"insufficient funds in {account_id}: {balance}, not {amount}")
        self.balance = balance


class BankAccountAggregate:
    """One account. Amounts are whole numbers of the smallest unit (cents).

    Commands take an ``event_id``: repeated with the same one, after a crash or a lost connection,
    they happen once.
    """

    def __init__(
        self, store: EventStore, account_id: str, snapshot_every: int = SNAPSHOT_EVERY
    ) -> None:
        self._store = store
        self._id = account_id
        self._snapshot_every = snapshot_every
        #: Events that the state below is made of.
        self.version = 0
        self.is_open = False
        self._balance = 0

    async def load(self) -> None:
        """Bring the state up to date: two round trips for up to 32 events since the snapshot."""
        snapshot = await self._store.load_snapshot(self._id)
        if snapshot is not None and snapshot.version > self.version:
            self.version = snapshot.version
            self.is_open = snapshot.state["is_open"]
            self._balance = snapshot.state["balance"]
        await self._catch_up()

    def get_balance(self) -> int:
        """The balance after the events that this object has seen."""
        return self._balance

    async def open_account(self, event_id: str | None = None) -> None:
        """Open the account; AlreadyOpenError if it is."""

        def judge() -> None:
            if self.is_open:
                raise AlreadyOpenError(f"account {self._id} is open")

        await self._decide(judge, "AccountOpened", {}, event_id)

    async def deposit(self, amount: int, event_id: str | None = None) -> None:
        """Add *amount*; AccountNotOpenError, or ValueError for an amount that is not positive."""
        _judge_amount(amount)
        await self._decide(self._judge_open, "MoneyDeposited", {"amount": amount}, event_id)

    async def withdraw(self, amount: int, event_id: str | None = None) -> None:
        """Take *amount* away; InsufficientFundsError when the balance is smaller."""
        _judge_amount(amount)

        def judge() -> None:
            self._judge_open()
            if self._balance < amount:
                raise InsufficientFundsError(self._id, self._balance, amount)

        await self._decide(judge, "MoneyWithdrawn", {"amount": amount}, event_id)

    def _judge_open(self) -> None:
        if not self.is_open:
            raise AccountNotOpenError(f"account {self._id} is not open")

    async def _decide(
        self,
        judge: Callable[[], None],
        type: str,  # noqa: A002 (the event's field)
        data: dict[str, Any],
        event_id: str | None,
    ) -> None:
        """Append the event that *judge*, which raises an AccountError, has nothing against."""
        attempts = Attempts()
        while True:
            await anext(attempts)
            try:
                judge()
            except AccountError:
                # Judged on what this object knew, which may be old: only the newest state refuses.
                if event_id is not None and await self._store.find(self._id, event_id) is not None:
                    await self._catch_up()
                    return
                if not await self._catch_up():
                    raise
                continue
            try:
                event = await self._store.append(self._id, type, data, self.version, event_id)
            except EventConflictError:
                await self._catch_up()
                continue
            if event.version == self.version + 1:
                self._apply(event)
            else:  # an earlier call with this event_id has appended it
                await self._catch_up()
            await self._keep_snapshot()
            return

    async def _catch_up(self) -> bool:
        """Apply the events that this object has not seen; False if there were none."""
        before = self.version
        for event in await self._store.get_events_after(self._id, self.version):
            self._apply(event)
        return self.version > before

    def _apply(self, event: Event) -> None:
        if event.version <= self.version:
            return  # another task of this process has applied it while this one was reading
        if event.type == "AccountOpened":
            self.is_open = True
        elif event.type == "MoneyDeposited":
            self._balance += event.data["amount"]
        elif event.type == "MoneyWithdrawn":
            self._balance -= event.data["amount"]
        self.version = event.version

    async def _keep_snapshot(self) -> None:
        if self.version % self._snapshot_every == 0:
            state = {"is_open": self.is_open, "balance": self._balance}
            await self._store.save_snapshot(self._id, self.version, state)


def _judge_amount(amount: int) -> None:
    if amount <= 0:
        raise ValueError(f"an amount is a positive whole number, not {amount!r}")
