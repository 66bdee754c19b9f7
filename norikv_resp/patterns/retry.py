"""Best practices as helpers: deadlines, backoff with jitter, and no retry of what must not be.

Three things are worth repeating and nothing else is:

* a compare-and-set that lost, on the state that it lost to (`cas_retry`, `Attempts`),
* a request that failed in a way that may pass, under the same idempotency token (`idempotent`),
* neither of them longer than the caller can wait (`deadline`).

A version mismatch that the caller asked for, a wrong type, a refused permission, a token that was
used for something else: all those end at once, whatever the deadline.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from norikv_resp.client import (
    DeadlineExceededError,
    GetResult,
    RetryExhaustedError,
    TransientError,
    Version,
)
from norikv_resp.client.timeouts import timeout

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient

T = TypeVar("T")

#: What an update function of `cas_retry` is: the value, None if there is none, to the new value,
#: None to leave everything as it is. It may be called several times and must change nothing else.
Update = Callable[[bytes | None], bytes | None]

#: Milliseconds that a helper takes at most, unless the caller says otherwise.
DEADLINE_MS = 10_000

#: When the block of the innermost `deadline` ends, by time.monotonic; None outside of any.
_ends_at: ContextVar[float | None] = ContextVar("norikv_deadline", default=None)


@contextmanager
def deadline(ms: float) -> Iterator[None]:
    """Let nothing of this package that the block awaits take longer than *ms* in all.

    Blocks nest; the earliest end counts. What is cut off raises DeadlineExceededError with
    ``outcome_unknown`` set: repeat it under the same token, or read what became of it.
    """
    end = time.monotonic() + ms / 1000
    outer = _ends_at.get()
    mark = _ends_at.set(end if outer is None else min(end, outer))
    try:
        yield
    finally:
        _ends_at.reset(mark)


@contextmanager
def no_deadline() -> Iterator[None]:
    """Forget the caller's deadline: for work done on behalf of several callers."""
    mark = _ends_at.set(None)
    try:
        yield
    finally:
        _ends_at.reset(mark)


def remaining() -> float | None:
    """Seconds until the innermost deadline, negative when it has passed; None without one."""
    end = _ends_at.get()
    return None if end is None else end - time.monotonic()


async def bounded(work: Awaitable[T]) -> T:
    """Await *work*, but not longer than the deadline allows (DeadlineExceededError)."""
    left = remaining()
    if left is None:
        return await work
    try:
        async with timeout(max(left, 0.0)):
            return await work
    except asyncio.TimeoutError as cause:
        error = DeadlineExceededError("the deadline has passed", 0)
        error.outcome_unknown = True
        raise error from cause


@dataclass(frozen=True)
class Backoff:
    """Pauses between attempts: exponential, with full jitter.

    The pause after attempt n (from 0) is drawn evenly between 0 and
    ``min(limit_ms, first_ms * 2 ** n)``: contenders that met once do not meet again in step.
    """

    first_ms: float = 1.0
    limit_ms: float = 100.0

    def seconds(self, attempt: int) -> float:
        """The pause after *attempt*, drawn anew each time."""
        longest = min(self.limit_ms, self.first_ms * 2.0 ** min(attempt, 64))
        return random.uniform(0.0, longest) / 1000


#: For races that are over within a round trip: the loser knows the state that it lost to, and a
#: long pause only makes that old.
CONTENTION = Backoff(0.5, 8.0)

#: For a server that has to come back.
OUTAGE = Backoff(20.0, 1000.0)


class Attempts:
    """``async for attempt in Attempts(): …``: numbers from 0, with a pause before each but one.

    Leave the loop when the attempt has succeeded. RetryExhaustedError once *deadline_ms*, or the
    deadline around it, leaves no time for another.
    """

    def __init__(self, deadline_ms: float = DEADLINE_MS, backoff: Backoff = CONTENTION) -> None:
        left = remaining()
        seconds = deadline_ms / 1000 if left is None else min(deadline_ms / 1000, left)
        self._end = time.monotonic() + seconds
        self._backoff = backoff
        self._next = 0
        #: What the last attempt failed with, if the loop's body says so; RetryExhaustedError
        #: carries it, and the token.
        self.last_error: Exception | None = None
        self.token: str | None = None

    def __aiter__(self) -> Attempts:
        return self

    async def __anext__(self) -> int:
        number = self._next
        self._next += 1
        if number:
            pause = self._backoff.seconds(number - 1)
            if time.monotonic() + pause >= self._end:
                raise self.exhausted(number) from self.last_error
            await asyncio.sleep(pause)
        return number

    def exhausted(self, attempts: int | None = None) -> RetryExhaustedError:
        """The error that says so; *attempts* is how many there were, by default all so far."""
        count = self._next if attempts is None else attempts
        error = RetryExhaustedError(
            f"no success in {count} attempts", count, self.last_error, self.token
        )
        error.outcome_unknown = getattr(self.last_error, "outcome_unknown", False)
        return error


async def cas_retry(
    client: NoriKVClient,
    key: str | bytes,
    update: Update,
    *,
    ttl_ms: int | None = None,
    deadline_ms: float = DEADLINE_MS,
    backoff: Backoff = CONTENTION,
) -> GetResult | None:
    """Change *key* to ``update(value)`` by compare-and-set, as often as it takes.

    Costs one round trip for the read and one for each attempt: a lost race answers with what it
    lost to. The key keeps its time to live; *ttl_ms* gives it another, 0 takes it away. Each
    attempt carries a token of its own, so a broken connection does not apply it twice.

    Returns:
        What the key holds now; None if it is absent and *update* left it so.

    Raises:
        RetryExhaustedError: the race was lost until the deadline.
        Exception: whatever *update* raises, at once; nothing has changed then.
    """
    with deadline(deadline_ms):
        found = await bounded(client.execute("GETVER", key))
        value, version = found if found is not None else (None, b"0")
        expiry = ("KEEPTTL",) if ttl_ms is None else ("TTL", ttl_ms)
        async for _ in Attempts(deadline_ms, backoff):
            wanted = update(value)
            if wanted is None:
                break
            done, version, held = await bounded(
                client.execute("CAS", key, version, wanted, *expiry)
            )
            if done:
                value = wanted
                break
            value = held
        return None if value is None else GetResult(value, Version.parse(version))


async def idempotent(
    operation: Callable[[str], Awaitable[T]],
    *,
    token: str | None = None,
    deadline_ms: float = DEADLINE_MS,
    backoff: Backoff = OUTAGE,
) -> T:
    """Await ``operation(token)`` until it succeeds, always with the same token.

    The operation passes the token on as its idempotency key, so that however often it is sent it
    happens once, also across a restart of the server. Give a token that outlives this process
    (an order's number, a request's Idempotency-Key) to make its repetition safe elsewhere too.

    Raises:
        RetryExhaustedError: still failing at the deadline; ``idempotency_key`` is the token under
            which it may be tried again later.
        Exception: whatever is not transient, at once.
    """
    token = uuid.uuid4().hex if token is None else token
    with deadline(deadline_ms):
        attempts = Attempts(deadline_ms, backoff)
        attempts.token = token
        async for _ in attempts:
            try:
                return await bounded(operation(token))
            except DeadlineExceededError as error:
                attempts.last_error = error
                if (remaining() or 0.0) <= 0:
                    break
            except (TransientError, RetryExhaustedError) as error:
                attempts.last_error = error
        raise attempts.exhausted() from attempts.last_error
