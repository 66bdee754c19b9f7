"""Leader election: a lease, and a fencing token for what a lease alone cannot prevent."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from norikv_resp.client import (
    ABSENT,
    InvalidArgumentError,
    NoriKVError,
    RetryExhaustedError,
    TransientError,
    Version,
)
from norikv_resp.client.timeouts import timeout
from norikv_resp.patterns.combining import Combiner

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient, Word

_log = logging.getLogger(__name__)

#: Called without arguments; may be a coroutine function.
Callback = Callable[[], Awaitable[None] | None]

#: The part of a lease in which a leader does not trust its own clock any more: clocks of two
#: machines do not run equally fast.
_MISTRUST = 0.02

#: The fractions of a lease after which a leader renews it, a follower looks at it at the latest,
#: and either tries again after an error.
_RENEW, _LOOK, _AGAIN = 1 / 3, 1 / 4, 1 / 20

#: PTTL of a key that does not exist.
_GONE = -2


#: Writes in one transaction at most.
_WRITES = 100


class FencedError(NoriKVError):
    """Another leader has been elected since: the write was refused and nothing was applied."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "FENCED")


class LeaderElection:
    """One candidate of an election: leads while it holds the lease ``leader:NAME``.

    The lease is taken in one transaction with the companion key ``leader:NAME:term``, which only
    an election writes: its version is the fencing token. The lease's expiry is the server's
    business; the leader renews it by compare-and-set three times a lease and stops believing in
    itself before the server does. A leader that was paused beyond its lease cannot know that:
    what it then writes with `write` is refused, because the companion key has moved on.

    Args:
        client: a connected client.
        name: the election.
        node_id: this candidate, as others see it in the lease.
        lease_ttl_ms: how long a lease lasts without renewal.
    """

    def __init__(
        self, client: NoriKVClient, name: str, node_id: str, lease_ttl_ms: int = 10_000
    ) -> None:
        if lease_ttl_ms < 10:
            raise InvalidArgumentError("lease_ttl_ms is at least 10")
        self._client = client
        self._ttl_ms = lease_ttl_ms
        self.node_id = node_id
        self.lease_key = f"leader:{name}"
        #: The companion key, for a CHECK against `fencing_token` in transactions of one's own.
        self.fencing_key = f"leader:{name}:term"
        #: The lease's version while it is held, and until when, by time.monotonic, the server
        #: cannot have let it expire.
        self._lease: str | bytes | None = None
        self._valid_until = 0.0
        self._token: Version | None = None
        #: The request whose answer is not known: its token, and when it was first sent.
        self._asked: tuple[str, float] | None = None
        self._running: asyncio.Task[Any] | None = None
        self._stopping = asyncio.Event()
        self._writes: Combiner[Version, Sequence[Sequence[Word]], list[Any]] = Combiner(
            self._write_together, _WRITES
        )

    # -- what a leader asks ------------------------------------------------------

    def get_is_leader(self) -> bool:
        """Whether this candidate holds the lease, by the most careful reckoning. No round trip."""
        return self._lease is not None and time.monotonic() < self._valid_until

    @property
    def fencing_token(self) -> Version | None:
        """The version of the companion key at this candidate's last election, None before it.

        Tokens grow from election to election. A resource that refuses tokens smaller than the
        largest it has seen is safe from leaders of the past; so is `write`.
        """
        return self._token

    async def get_leader(self) -> str | None:
        """Who holds the lease now, None if nobody does. One round trip."""
        held = await self._client.execute("GET", self.lease_key)
        return None if held is None else str(held, "utf-8")

    async def write(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Run *commands* as one transaction under the fencing token; their replies.

        Writes of several tasks at one moment travel together, as one larger transaction.

        Raises:
            FencedError: another leader has been elected, or this one never was.
            NoriKVError: a command was refused or failed, as with NoriKVClient.transaction.
        """
        if self._token is None:
            raise FencedError(f"{self.node_id} has never been the leader")
        return await self._writes.submit(self._token, commands)

    async def _write_together(
        self, token: Version, writes: list[Sequence[Sequence[Word]]]
    ) -> list[list[Any] | Exception]:
        """One transaction for all *writes*; the replies, or the error, of each."""
        try:
            replies = await self._client.transaction(
                [command for write in writes for command in write],
                {self.fencing_key: token},
                errors_in_place=True,
            )
        except (TransientError, RetryExhaustedError):
            raise
        except NoriKVError as error:
            if len(writes) == 1:
                return [error]
            replies = None
        if replies is None and len(writes) > 1:
            # Nothing has been applied; each write has to answer for itself.
            return [(await self._write_together(token, [write]))[0] for write in writes]
        if replies is None:
            return [FencedError(f"{self.node_id} is no longer the leader")]
        remaining = iter(replies)
        results = [[next(remaining) for _ in write] for write in writes]
        return [_failure(result) or result for result in results]

    # -- the campaign ------------------------------------------------------------

    async def start(
        self,
        on_became_leader: Callback | None = None,
        on_lost_leadership: Callback | None = None,
    ) -> None:
        """Stand for election, and lead when elected, until `stop`.

        Errors that may pass are waited out. Cancelling this is a crash: renewal ends and the
        lease is left to expire.

        Args:
            on_became_leader: the leader's work. It runs beside the renewals and is cancelled when
                the leadership ends; what it raises ends the campaign.
            on_lost_leadership: called when the leadership has ended, by `stop` too; in that case
                before the lease is released.
        """
        if self._running is not None:
            raise InvalidArgumentError("this candidate is standing for election already")
        self._running = asyncio.current_task()
        self._stopping.clear()
        leadership = _Leadership(on_became_leader, on_lost_leadership)
        try:
            try:
                while not self._stopping.is_set():
                    pause = await self._turn()
                    await leadership.follow(self.get_is_leader())
                    await self._sleep(pause)
            except asyncio.CancelledError:
                self._lease = None
                leadership.abandon()
                raise
            finally:
                lease, self._lease = self._lease, None
                await leadership.follow(False)
                await self._release(lease)
        finally:
            self._running = None

    async def stop(self) -> None:
        """End `start`: leadership is given up and its own lease, no other's, released."""
        self._stopping.set()
        if self._running is not None:
            await asyncio.wait({self._running})

    async def _turn(self) -> float:
        """Do what is due; seconds until something is due again."""
        lease = self._ttl_ms / 1000
        left = lease if self._lease is None else self._valid_until - time.monotonic()
        if left <= 0:
            self._lease = self._asked = None
            return 0.0
        try:
            async with timeout(left):
                return await (self._stand() if self._lease is None else self._renew())
        except (TransientError, RetryExhaustedError, asyncio.TimeoutError) as error:
            _log.warning("%s: cannot reach the lease: %s", self.node_id, error)
            return lease * _AGAIN

    async def _stand(self) -> float:
        """Take the lease if it is free."""
        if self._asked is None:
            left: int = await self._client.execute("PTTL", self.lease_key)
            if left != _GONE:
                return min(left + 1, self._ttl_ms * _LOOK) / 1000
        token, sent = self._request()
        replies = await self._client.transaction(
            [
                ("SETVER", self.lease_key, self.node_id, "PX", self._ttl_ms),
                ("SETVER", self.fencing_key, self.node_id),
            ],
            {self.lease_key: None},
            token,
        )
        self._asked = None
        if replies is None:
            return 0.0
        self._lease = replies[0]
        self._token = Version.parse(replies[1])
        return self._believe(sent)

    async def _renew(self) -> float:
        """Extend the lease, if it is still this candidate's."""
        token, sent = self._request()
        done, version, _ = await self._client.execute(
            *("IDEM", token, "TTL", 2 * self._ttl_ms),
            *("CAS", self.lease_key, self._lease or ABSENT, self.node_id, "PX", self._ttl_ms),
        )
        self._asked = None
        self._lease = version if done else None
        return self._believe(sent) if done else 0.0

    def _request(self) -> tuple[str, float]:
        """The token of the request to send, and when it was first sent.

        An answer that was lost is asked for again under the same token: what was done is told,
        not done again, and counts from the moment of the first attempt.
        """
        if self._asked is None:
            self._asked = (uuid.uuid4().hex, time.monotonic())
        return self._asked

    def _believe(self, sent: float) -> float:
        """Hold the lease that was asked for at *sent*; seconds until it is to be renewed."""
        lease = self._ttl_ms / 1000
        self._valid_until = sent + lease * (1 - _MISTRUST)
        return max(0.0, sent + lease * _RENEW - time.monotonic())

    async def _release(self, lease: str | bytes | None) -> None:
        """Delete the lease if it still has this version; if that fails it expires by itself."""
        if lease is not None:
            with suppress(NoriKVError, asyncio.TimeoutError):
                async with timeout(self._ttl_ms / 1000):
                    await self._client.execute("DELEX", self.lease_key, "VER", lease)

    async def _sleep(self, seconds: float) -> None:
        """Sleep, unless `stop` is called."""
        with suppress(asyncio.TimeoutError):
            async with timeout(seconds):
                await self._stopping.wait()


class _Leadership:
    """Tells the user's callbacks when leadership begins and ends."""

    def __init__(self, became: Callback | None, lost: Callback | None) -> None:
        self._became = became
        self._lost = lost
        self._leading = False
        self._work: asyncio.Task[None] | None = None

    async def follow(self, leading: bool) -> None:
        """Note whether the candidate leads now. Raises what the leader's work has raised."""
        if leading and not self._leading:
            self._leading = True
            if self._became is not None:
                self._work = asyncio.create_task(_call(self._became))
        elif self._leading and not leading:
            self._leading = False
            await self._end_work()
            if self._lost is not None:
                await _call(self._lost)
        elif self._work is not None and self._work.done():
            work, self._work = self._work, None
            work.result()

    async def _end_work(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            work.cancel()
            await asyncio.wait({work})
            if not work.cancelled() and work.exception() is not None:
                _log.error("the leader's work failed as it ended", exc_info=work.exception())

    def abandon(self) -> None:
        """Forget everything, as a crash does."""
        self._leading = False
        if self._work is not None:
            self._work.cancel()


def _failure(replies: list[Any]) -> NoriKVError | None:
    return next((reply for reply in replies if isinstance(reply, NoriKVError)), None)


async def _call(callback: Callback) -> None:
    result = callback()
    if result is not None:
        await result
