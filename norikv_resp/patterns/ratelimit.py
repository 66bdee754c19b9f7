"""A rate limit that many processes share, exact by the server's clock.

The key holds the times of the requests that still count. Times are the server's: a client's clock
plays no part. The one difficulty is the request being granted, whose time is not known before the
server has granted it. Its time is therefore not in the value that grants it but in the key's
expiry, which the server sets at that moment; whoever writes next reads it from there and notes it
down. So no pause of a client, however long, lets a request count as older than it is.
"""

from __future__ import annotations

import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from norikv_resp.client import InvalidArgumentError, RetryExhaustedError, TransientError
from norikv_resp.patterns.combining import Combiner, Memo
from norikv_resp.patterns.requests import milliseconds, together
from norikv_resp.patterns.retry import Attempts, deadline

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RateLimitConfig:
    """How many requests in how much time.

    Attributes:
        max_requests: requests that any window of the length *window_ms* may hold.
        window_ms: the window's length.
        slices: None keeps the time of each request: exact, memory for *max_requests* times.
            A number keeps one counter per that fraction of the window: memory for so many
            counters, and a request counts up to ``window_ms / slices`` longer than the window.
            Either way no window ever holds more than *max_requests*.
    """

    max_requests: int
    window_ms: int
    slices: int | None = None

    def __post_init__(self) -> None:
        if self.max_requests < 0 or self.window_ms < 1:
            raise InvalidArgumentError("a limit needs max_requests >= 0 and window_ms >= 1")
        if self.slices is not None and self.slices < 1:
            raise InvalidArgumentError("a window has at least one slice")

    @property
    def grain(self) -> int:
        """Milliseconds that times are rounded up to."""
        return 1 if self.slices is None else max(1, -(-self.window_ms // self.slices))


@dataclass(frozen=True)
class RateLimitResult:
    """Whether a request may go ahead. ``result["allowed"]`` works as ``result.allowed`` does.

    Attributes:
        allowed: whether it may.
        remaining: how many more would be allowed at this moment.
        reset_at: when *remaining* grows next, in the server's Unix milliseconds; for a refused
            request, when the next one will be allowed.
        server_now: the server's time of the decision: ``reset_at - server_now`` is how long to
            wait, whatever the clock here says.
    """

    allowed: bool
    remaining: int
    reset_at: int
    server_now: int

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self, name)
        except AttributeError:
            raise KeyError(name) from None


@dataclass(frozen=True)
class _State:
    """What a key was seen to hold.

    Attributes:
        version: the key's version, "0" if there is none.
        now: the server's time when it was seen; the server's clock never goes back, so what has
            left the window by then has left it for good.
        horizon: milliseconds that the last writer keeps the key for.
        times: ``(time, how many)`` of the requests that were granted, in order.
    """

    version: str | bytes
    now: int
    horizon: int
    times: list[tuple[int, int]]

    @classmethod
    def read(cls, value: bytes | None, version: str | bytes, expires: int, now: int) -> _State:
        """The state that a key's value, version and expiry stand for."""
        if value is None:
            return cls("0", now, 0, [])
        horizon, granted, *flat = json.loads(value)
        times = list(zip(flat[::2], flat[1::2], strict=True))
        return cls(version, now, horizon, [*times, (expires - horizon, granted)])

    def counting(self, window_ms: int) -> list[tuple[int, int]]:
        """The times whose requests count in a window that ends now."""
        return [pair for pair in self.times if pair[0] + window_ms > self.now]

    def written(self, horizon: int, granted: int, grain: int) -> str:
        """The value that grants so many more requests."""
        counts: dict[int, int] = {}
        for at, count in self.counting(horizon):
            rounded = -(-at // grain) * grain
            counts[rounded] = counts.get(rounded, 0) + count
        flat = [number for pair in counts.items() for number in pair]
        return json.dumps([horizon, granted, *flat], separators=(",", ":"))


class RateLimiter:
    """Allows at most ``max_requests`` in any window, whatever the number of processes that ask.

    A granted request is one compare-and-set, in one round trip as long as nobody else writes; a
    refused one is a read. Tasks that ask for one identifier at the same moment share both. The
    key, ``ratelimit:IDENTIFIER``, expires by itself when its last request leaves the window.

    Args:
        client: a connected client.
        fail_open: what to answer while the server cannot be asked: True allows, False refuses.
        timeout_ms: how long a decision may take before the server counts as unreachable.
    """

    def __init__(
        self, client: NoriKVClient, *, fail_open: bool = False, timeout_ms: int = 2000
    ) -> None:
        self._client = client
        self._fail_open = fail_open
        self._timeout_ms = timeout_ms
        self._seen: Memo[str, _State] = Memo()
        self._combiner: Combiner[str, RateLimitConfig, RateLimitResult] = Combiner(self._decide)

    async def check_limit(self, identifier: str, config: RateLimitConfig) -> RateLimitResult:
        """Ask for one request of *identifier*; it counts if the result allows it."""
        try:
            with deadline(self._timeout_ms):
                return await self._combiner.submit(identifier, config)
        except (TransientError, RetryExhaustedError) as error:
            _log.warning("no decision about %r, failing %s: %s", identifier, self._policy, error)
            now = time.time_ns() // 1_000_000
            return RateLimitResult(self._fail_open, 0, now + config.window_ms, now)

    async def reset(self, identifier: str) -> None:
        """Forget what was granted to *identifier*. One round trip."""
        self._seen.drop(identifier)
        await self._client.execute("DEL", self._key(identifier))

    @property
    def _policy(self) -> str:
        return "open" if self._fail_open else "closed"

    async def _decide(self, identifier: str, asked: list[RateLimitConfig]) -> list[RateLimitResult]:
        """One decision for everybody who asks for *identifier* at the moment."""
        key = self._key(identifier)
        state = self._seen.get(identifier)
        async for _ in Attempts(self._timeout_ms):
            if state is None or not all(_allowed(state, asked)):
                # Only what the server says now can refuse a request.
                state = await self._read(key)
            allowed = _allowed(state, asked)
            granted = sum(allowed)
            if granted:
                won, state = await self._grant(key, state, asked, granted)
                if not won:
                    continue
            self._seen.put(identifier, state)
            return _results(state, asked, allowed)
        raise AssertionError("Attempts ends with an error")

    async def _read(self, key: str) -> _State:
        found, expires, now = await together(
            self._client, ("GETVER", key), ("PEXPIRETIME", key), ("TIME",)
        )
        value, version = found if found is not None else (None, "0")
        return _State.read(value, version, expires, milliseconds(now))

    async def _grant(
        self, key: str, state: _State, asked: list[RateLimitConfig], granted: int
    ) -> tuple[bool, _State]:
        """Whether so many requests were granted on top of *state*, and the state now."""
        horizon = max(state.horizon, *(config.window_ms for config in asked))
        wanted = state.written(horizon, granted, max(config.grain for config in asked))
        (done, version, held), expires, now = await together(
            self._client,
            ("CAS", key, state.version, wanted, "PX", horizon),
            ("PEXPIRETIME", key),
            ("TIME",),
        )
        value = wanted.encode() if done else held
        return bool(done), _State.read(value, version, expires, milliseconds(now))

    @staticmethod
    def _key(identifier: str) -> str:
        return f"ratelimit:{identifier}"


def _allowed(state: _State, asked: list[RateLimitConfig]) -> list[bool]:
    """Which of the requests fit into their windows, in the order in which they were asked."""
    used = {config.window_ms: 0 for config in asked}
    for window_ms in used:
        used[window_ms] = sum(count for _, count in state.counting(window_ms))
    granted = 0
    allowed = []
    for config in asked:
        fits = used[config.window_ms] + granted < config.max_requests
        granted += fits
        allowed.append(fits)
    return allowed


def _results(
    state: _State, asked: list[RateLimitConfig], allowed: list[bool]
) -> list[RateLimitResult]:
    """What to answer, *state* being that after the requests were granted."""
    after = sum(allowed)
    results = []
    for config, fits in zip(asked, allowed, strict=True):
        counting = state.counting(config.window_ms)
        after -= fits
        # Those of this round that come after this request are not its business.
        used = sum(count for _, count in counting) - after
        reset_at = _grows_at(counting, max(0, used - config.max_requests), state.now)
        remaining = max(0, config.max_requests - used)
        results.append(RateLimitResult(fits, remaining, reset_at + config.window_ms, state.now))
    return results


def _grows_at(counting: list[tuple[int, int]], ahead: int, now: int) -> int:
    """The time of the request at position *ahead* among those that count; *now* without any."""
    for at, count in counting:
        if count > ahead:
            return at
        ahead -= count
    return now
