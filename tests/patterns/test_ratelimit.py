"""The rate limit: no window holds too many, by the server's clock."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from norikv_resp.client import InvalidArgumentError, NoriKVClient
from norikv_resp.patterns import RateLimitConfig, RateLimiter
from norikv_resp.patterns.requests import server_time
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

LIMIT, WINDOW_MS = 15, 300


def fullest(granted: list[list[int]], window_ms: int) -> int:
    """Requests that one window certainly holds: each was granted between two known times."""
    return max(
        sum(1 for before, after in granted if start <= before and after < start + window_ms)
        for start, _ in granted
    )


def grants(crew: Crew) -> list[list[int]]:
    return [each for reports in crew.finish() for each in reports]


def test_reading_and_writing_lets_too_many_through(url: str) -> None:
    options = {"max_requests": LIMIT, "window_ms": WINDOW_MS, "seconds": 1.0}
    with Crew("ask_naively", url, 3, **options) as crew:
        assert fullest(grants(crew), WINDOW_MS) > LIMIT


@pytest.mark.parametrize("slices", [None, 8], ids=["exact", "counters"])
def test_no_window_holds_too_many(own_server: ServerProcess, slices: int | None) -> None:
    """Three processes ask as fast as they can; connections break, and the server is killed."""
    options = {"max_requests": LIMIT, "window_ms": WINDOW_MS, "slices": slices, "seconds": 2.5}
    with shaky(own_server.port, every=20_000) as url, Crew("ask", url, 3, **options) as crew:
        crew.wait_for(LIMIT * 2)
        own_server.restart(clean=False)
        crew.wait_for(LIMIT * 3)
        crew.kill(0)
        granted = grants(crew)
    assert fullest(granted, WINDOW_MS) <= LIMIT
    assert len(granted) > LIMIT * 3


class SlowClient:
    """A client whose first write is held back until it is told to go."""

    def __init__(self, client: NoriKVClient) -> None:
        self._client = client
        self.waits = asyncio.Event()
        self.go = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    async def transaction(self, commands: Any, *more: Any) -> Any:
        if commands[0][0] == "CAS" and not self.waits.is_set():
            self.waits.set()
            await self.go.wait()
        return await self._client.transaction(commands, *more)


def test_a_request_counts_from_when_it_was_granted_not_from_when_it_was_decided(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        config = RateLimitConfig(3, 1000)
        slow = SlowClient(client)
        paused = asyncio.create_task(RateLimiter(slow).check_limit("u", config))  # type: ignore[arg-type]
        await slow.waits.wait()
        await asyncio.sleep(0.8)
        slow.go.set()
        first = await paused
        assert first.allowed
        limiter = RateLimiter(client)
        await asyncio.sleep(0.3)
        # More than a window after the decision, less than one after the grant.
        answers = [(await limiter.check_limit("u", config)).allowed for _ in range(4)]
        assert await server_time(client) < first.server_now + 1000
        assert answers == [True, True, False, False]

    run(steps)


@pytest.mark.parametrize("slices", [None, 10], ids=["exact", "counters"])
def test_remaining_and_reset_are_right(run: Run, slices: int | None) -> None:
    async def steps(client: NoriKVClient) -> None:
        limiter, config = RateLimiter(client), RateLimitConfig(4, 1200, slices)
        results = []
        for _ in range(3):
            results.append(await limiter.check_limit("u", config))
            await asyncio.sleep(0.06)
        results += await asyncio.gather(*(limiter.check_limit("u", config) for _ in range(3)))
        assert [each.allowed for each in results] == [True] * 4 + [False] * 2
        assert [each.remaining for each in results] == [3, 2, 1, 0, 0, 0]
        # All wait for the first one to leave the window.
        resets = {each.reset_at for each in results[1:]}
        assert len(resets) == 1
        reset_at = resets.pop()
        assert 1200 - 1 <= reset_at - results[0].server_now <= 1200 + config.grain
        other = RateLimiter(client)
        last = await other.check_limit("u", config)
        while not last.allowed:
            assert last.reset_at == reset_at
            await asyncio.sleep(0.005)
            last = await other.check_limit("u", config)
        assert last.server_now >= reset_at
        assert last["reset_at"] == last.reset_at > reset_at

    run(steps)


def test_reset_forgets_and_other_identifiers_do_not_matter(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        one, other, config = RateLimiter(client), RateLimiter(client), RateLimitConfig(1, 60_000)
        assert (await one.check_limit("u", config)).allowed
        assert not (await other.check_limit("u", config)).allowed
        assert (await other.check_limit("v", config)).allowed
        await other.reset("u")
        assert (await one.check_limit("u", config)).allowed
        assert not (await one.check_limit("u", RateLimitConfig(0, 10))).allowed

    run(steps)


def test_a_wider_window_sees_what_a_narrower_one_allowed(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        limiter = RateLimiter(client)
        narrow, wide = RateLimitConfig(2, 300), RateLimitConfig(3, 60_000)
        assert (await limiter.check_limit("u", wide)).remaining == 2
        assert (await limiter.check_limit("u", narrow)).remaining == 0
        await asyncio.sleep(0.32)
        assert (await limiter.check_limit("u", narrow)).remaining == 1
        assert not (await limiter.check_limit("u", wide)).allowed

    run(steps)


def test_counters_take_little_memory(run: Run) -> None:
    async def steps(client: NoriKVClient) -> list[int]:
        limiter = RateLimiter(client)
        sizes = []
        for slices in (None, 10):
            config = RateLimitConfig(1000, 60_000, slices)
            for _ in range(60):
                await limiter.check_limit(f"u{slices}", config)
                await asyncio.sleep(0.001)
            sizes.append(await client.execute("STRLEN", f"ratelimit:u{slices}"))
        return sizes

    exact, counters = run(steps)
    assert counters < 60 < exact


@pytest.mark.parametrize("fail_open", [True, False])
def test_without_a_server_it_fails_as_configured(url: str, fail_open: bool) -> None:
    async def steps() -> bool:
        unreachable = stubborn("redis://127.0.0.1:1")
        limiter = RateLimiter(unreachable, fail_open=fail_open, timeout_ms=200)
        result = await asyncio.wait_for(limiter.check_limit("u", RateLimitConfig(5, 1000)), 10)
        await unreachable.close()
        return result.allowed

    assert asyncio.run(steps()) is fail_open


def test_a_limit_has_to_make_sense() -> None:
    for wrong in ((-1, 1000, None), (1, 0, None), (1, 1000, 0)):
        with pytest.raises(InvalidArgumentError):
            RateLimitConfig(*wrong)
