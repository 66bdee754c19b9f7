"""Many clients race for few keys through crashes; their history must be possible."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.conftest import StartServer
from tests.crash.history import Attempt, Seen, check
from tests.support.effort import patience, scaled, seeded
from tests.support.load import ConnectionLostError, LoadClient
from tests.support.resp import ErrorReply
from tests.support.server import ServerProcess
from tests.support.versions import MISSING, Version

pytestmark = pytest.mark.norikv

CLIENTS = 20
KILLS = 8
KEYS = ("r1", "r2", "r3")


@dataclass
class Record:
    """What all clients together sent and saw."""

    attempts: list[Attempt] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    counted: dict[str, int] = field(default_factory=dict)  # token → INCR's reply
    stop: bool = False


class Racer:
    """One client. It retries under IDEM what a crash left open, and notes what it learns."""

    def __init__(self, number: int, address: tuple[str, int], record: Record, seed: float) -> None:
        self.number = number
        self.client = LoadClient(address)
        self.record = record
        self.rng = random.Random(seed)
        self.steps = 0

    async def run(self) -> None:
        try:
            await self.client.connect_when_up()
            moves = (self.cas, self.cas_once, self.set_if_version, self.transaction, self.count)
            while not self.record.stop:
                self.steps += 1
                try:
                    await self.rng.choice(moves)(f"{self.number}/{self.steps}")
                except ConnectionLostError:
                    await self.client.connect_when_up()
        finally:
            self.client.close()

    async def look(self, key: str) -> Version:
        invoked = time.monotonic()
        reply = await self.client.call("GETVER", key)
        return self._saw(key, reply, invoked)

    def _saw(self, key: str, reply: list[bytes] | None, invoked: float) -> Version:
        value, version = (reply[0].decode(), Version.parse(reply[1])) if reply else (None, MISSING)
        self.record.seen.append(Seen(key, version, value, invoked, time.monotonic()))
        return version

    async def until_settled(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Ask again after each crash: under a token, that is safe."""
        while True:
            try:
                reply = await ask()
            except ConnectionLostError:
                await self.client.connect_when_up()
                continue
            assert not isinstance(reply, ErrorReply), reply
            return reply

    def attempted(
        self,
        token: str,
        expected: list[tuple[str, Version]],
        invoked: float,
        won: bytes | None,
        settled: bool = True,
    ) -> None:
        version = Version.parse(won) if won is not None else None
        self.record.attempts.append(
            Attempt(token, tuple(expected), invoked, time.monotonic(), version, settled)
        )

    # -- moves -----------------------------------------------------------------

    async def cas(self, token: str) -> None:
        key = self.rng.choice(KEYS)
        version = await self.look(key)
        invoked = time.monotonic()
        ask = ("CAS", key, str(version), token, "IDEM", token)
        reply = await self.until_settled(lambda: self.client.call(*ask))
        self._took_cas(key, version, token, invoked, reply)

    async def cas_once(self, token: str) -> None:
        """Without a token: what a crash leaves open stays open."""
        key = self.rng.choice(KEYS)
        version = await self.look(key)
        invoked = time.monotonic()
        try:
            reply = await self.client.call("CAS", key, str(version), token)
        except ConnectionLostError:
            self.attempted(token, [(key, version)], invoked, None, settled=False)
            raise
        self._took_cas(key, version, token, invoked, reply)

    def _took_cas(
        self, key: str, version: Version, token: str, invoked: float, reply: list[Any]
    ) -> None:
        done, shown, value = reply
        self.attempted(token, [(key, version)], invoked, shown if done else None)
        if not done:
            assert Version.parse(shown) != version, f"CAS refused the current version {version}"
            self._saw(key, None if value is None else [value, shown], invoked)

    async def set_if_version(self, token: str) -> None:
        key = self.rng.choice(KEYS)
        version = await self.look(key)
        invoked = time.monotonic()
        ask = ("SETVER", key, token, "VER", str(version), "IDEM", token)
        reply = await self.until_settled(lambda: self.client.call(*ask))
        self.attempted(token, [(key, version)], invoked, reply)

    async def transaction(self, token: str) -> None:
        """Two keys at once, guarded by CHECK, the whole of it under one token."""
        keys = self.rng.sample(KEYS, 2)
        expected = [(key, await self.look(key)) for key in keys]
        invoked = time.monotonic()
        queue: list[tuple[Any, ...]] = [("CHECK", key, str(version)) for key, version in expected]
        queue += [("SETVER", key, token) for key in keys]
        commands = [("MULTI",), *queue, ("IDEM", token, "EXEC")]

        async def ask() -> Any:
            return (await self.client.pipeline(commands))[-1]

        reply = await self.until_settled(ask)
        if reply is not None:
            assert reply[2] == reply[3], f"two versions in one transaction: {reply}"
        self.attempted(token, expected, invoked, reply[2] if reply is not None else None)

    async def count(self, token: str) -> None:
        ask = ("IDEM", token, "INCR", "total")
        self.record.counted[token] = await self.until_settled(lambda: self.client.call(*ask))


async def race(server: ServerProcess, record: Record, rng: random.Random, kills: int) -> None:
    racers = [Racer(n, server.address, record, rng.random()) for n in range(CLIENTS)]
    tasks = [asyncio.create_task(racer.run()) for racer in racers]
    for _ in range(kills):
        await asyncio.sleep(rng.uniform(0.2, 0.8))
        assert not [task for task in tasks if task.done()], "a client gave up"
        server.kill9()
        await asyncio.to_thread(server.start)
    await asyncio.sleep(0.5)
    record.stop = True
    await asyncio.wait_for(asyncio.gather(*tasks), 60.0)


@pytest.mark.slow
@pytest.mark.limit(patience(150))
def test_races_have_one_winner_and_tokens_run_once(start_server: StartServer) -> None:
    rng = seeded()
    server = start_server()
    record = Record()
    asyncio.run(race(server, record, rng, scaled(KILLS)))
    with server.wire() as wire:
        for key in KEYS:
            invoked = time.monotonic()
            value, version = wire.ok("GETVER", key)
            now = time.monotonic()
            sight = Seen(key, Version.parse(version), value.decode(), invoked, now)
            record.seen.append(sight)
        total = int(wire.ok("GET", "total"))
    check(record.attempts, record.seen)
    assert sorted(record.counted.values()) == list(range(1, total + 1)), "a token ran twice"
    won = sum(attempt.won is not None for attempt in record.attempts)
    terms = {attempt.won.term for attempt in record.attempts if attempt.won is not None}
    print(f"{len(record.attempts)} attempts, {won} won, over {len(terms)} terms, {total} counted")
    assert won > 50
    assert len(terms) > scaled(KILLS) // 2
