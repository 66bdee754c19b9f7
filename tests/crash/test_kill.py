"""kill -9 under load: what was acknowledged is there, whole and with its version."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from tests.conftest import StartServer
from tests.crash.ledger import Ledger, Operation
from tests.support.effort import patience, scaled, seeded
from tests.support.load import ConnectionLostError, LoadClient
from tests.support.server import LATE_LOG, SMALL_SIZES, ServerProcess
from tests.support.versions import Version

pytestmark = pytest.mark.norikv

CLIENTS = 16

POLICIES = ("always", "everysec", "no")


async def write_until_lost(client: LoadClient, ledger: Ledger, rng: random.Random) -> None:
    """Send operations, some of them pipelined, until the server is gone."""
    try:
        await client.connect_when_up()
        while True:
            batch = [ledger.operation(rng) for _ in range(rng.choice((1, 1, 2, 8)))]
            commands = [command for operation in batch for command in operation.commands]
            try:
                _take(ledger, batch, await client.pipeline(commands))
            except ConnectionLostError as lost:
                _take(ledger, batch, lost.replies)
                return
    finally:
        client.close()


def _take(ledger: Ledger, batch: list[Operation], replies: list[object]) -> None:
    """Credit each operation whose replies all came."""
    for operation in batch:
        mine, replies = replies[: len(operation.commands)], replies[len(operation.commands) :]
        if len(mine) < len(operation.commands):
            return
        ledger.answered(operation, mine)


async def load_then_kill(
    server: ServerProcess, ledgers: list[Ledger], rng: random.Random, seconds: float
) -> None:
    clients = [LoadClient(server.address) for _ in ledgers]
    writers = [
        asyncio.create_task(write_until_lost(client, ledger, random.Random(rng.random())))
        for client, ledger in zip(clients, ledgers, strict=True)
    ]
    done, _ = await asyncio.wait(writers, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    server.kill9()
    await asyncio.wait_for(asyncio.gather(*writers), 30.0)
    assert not done, "a client lost its connection before the kill"


@pytest.mark.slow
@pytest.mark.limit(patience(180))
def test_acknowledged_writes_survive_kill(start_server: StartServer) -> None:
    rng = seeded()
    ledgers = [Ledger(number) for number in range(CLIENTS)]
    server = start_server()
    term = 0
    kills = 0
    for number in range(scaled(14)):
        asyncio.run(load_then_kill(server, ledgers, rng, rng.uniform(0.1, 0.8)))
        kills += 1
        server.options = {"appendfsync": POLICIES[number % len(POLICIES)]}
        if number % 2:
            server.options.update(SMALL_SIZES)
        if number % 7 == 5:
            server.options["commit-log"] = LATE_LOG
        if number % 4 == 3:
            # Killed again while it recovers: recovery must not depend on being finished.
            server.start(wait=False)
            time.sleep(rng.uniform(0.0, 0.6))
            server.kill9()
            kills += 1
        server.start()
        with server.wire(timeout=30.0) as wire:
            for ledger in ledgers:
                ledger.check(wire)
            version = Version.parse(wire.ok("SETVER", "probe", number))
        newest = max(ledger.newest_version for ledger in ledgers)
        assert version > newest
        assert version.term > term, "the term did not grow"
        term = version.term
    total = sum(ledger.acknowledged for ledger in ledgers)
    print(f"{kills} kills, {total} operations of {CLIENTS} clients")
    assert total > scaled(100)


@pytest.mark.limit(60)
@pytest.mark.parametrize("policy", POLICIES)
def test_retry_after_kill_returns_the_stored_reply(start_server: StartServer, policy: str) -> None:
    """Each kind of write, acknowledged, then lost to the client, then asked again."""
    server = start_server(appendfsync=policy)
    with server.wire() as wire:
        wire.ok("SET", "old", "1")
        wire.ok("SETVER", "n", "5")
        asked = [
            ("IDEM", "t1", "SET", "a", "1"),
            ("SETVER", "b", "2", "IDEM", "t1"),
            ("CAS", "c", "0", "3", "IDEM", "t1"),
            ("DELEX", "old", "IDEM", "t1"),
            ("IDEM", "t1", "INCRBY", "n", "10"),
            ("IDEM", "t1", "MSET", "m1", "1", "m2", "2"),
            ("IDEM", "t1", "APPEND", "tail", "xyz"),
            ("IDEM", "t1", "GETDEL", "m1"),
            ("SET", "g", "new", "GET", "IDEM", "t1"),
        ]
        transaction = [("MULTI",), ("SETVER", "x", "1"), ("INCR", "y"), ("IDEM", "tx", "EXEC")]
        answers = wire.pipeline(asked)
        answer = wire.pipeline(transaction)[-1]
        state = wire.pipeline([("GETVER", key) for key in ("a", "b", "c", "n", "tail", "g", "y")])
    server.restart(clean=False)
    with server.wire() as wire:
        assert wire.pipeline(asked) == answers
        assert wire.pipeline(transaction)[-1] == answer
        again = wire.pipeline([("GETVER", key) for key in ("a", "b", "c", "n", "tail", "g", "y")])
        assert again == state
        assert wire.call("IDEM", "t1", "SET", "a", "2").code == "IDEMMISMATCH"
    with server.wire(3) as wire:
        assert wire.ok(*asked[2])[0] == 1
