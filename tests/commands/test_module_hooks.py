"""What the server tells modules, and CONTEXT.brake, seen through a module made for it."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.resp import Wire
from tests.support.server import ServerProcess

PACKAGE = """
from . import commands
NAME = "follower"
API_VERSION = 1


def load(api):
    api.commands(commands)
    commands.follow(api)
"""

COMMANDS = """
from pathlib import Path

from norikv_resp.command import READONLY, WRITE, Bytes, Float, Key, command
from norikv_resp.encoding import SET, Collection

seen = {"opened": 0, "committed": 0, "rolled_back": 0}
reclaimed = []


def opened(server):
    if server.config.maxclients == 77:
        raise RuntimeError("no seats")
    seen["opened"] += 1
    seen["server"] = server.run_id
    seen["store"] = server.store
    seen["path"] = Path(server.config.dir) / "stopped"


def committed(last):
    seen["committed"] = last
    if last == 3:
        raise RuntimeError("three")


async def stopping():
    seen["path"].write_text(f"{seen['store'].durable}")


def follow(api):
    api.when_opened(opened)
    api.when_committed(committed)
    api.when_rolled_back(lambda: None)
    api.when_reclaimed(reclaimed.append)
    api.when_stopping(stopping)
    api.info("Follower", lambda: {"committed": seen["committed"], "share": 0.5, "word": "yes"})


@command("F.SEEN", flags=READONLY)
def seen_(ctx):
    return [seen["opened"], seen["committed"], list(reclaimed)]


@command("F.ADD", group="set", flags=WRITE, args=(Key(access="RW"), Bytes("member")))
def add(ctx, key, member):
    record = ctx.keys.get_typed(key, SET)
    held = record.value if record else Collection(ctx.keys.keyspace.new_cid(), 0)
    ctx.keys.elements(held.cid).put(member, b"1")
    ctx.keys.put_record(key, SET, held._replace(count=held.count + 1))
    return held.cid


@command("F.BRAKE", flags=READONLY, args=(Float("seconds"),))
def brake(ctx, seconds):
    ctx.brake(seconds)
    return 1
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    folder = tmp_path / "follower"
    folder.mkdir()
    (folder / "__init__.py").write_text(PACKAGE)
    (folder / "commands.py").write_text(COMMANDS)
    return folder


@pytest.fixture
def server(start_server: StartServer, module: Path) -> ServerProcess:
    return start_server("--loadmodule", str(module), "--hz", "100")


def test_commits_are_told_whatever_a_hook_raises(server: ServerProcess) -> None:
    with server.wire() as wire:
        for number in range(5):
            wire.ok("SET", "k", str(number))
        opened, committed, _ = wire.call("F.SEEN")
        assert opened == 1
        assert committed >= 5
        lines = wire.ok("INFO", "follower").decode().splitlines()
    assert lines == ["# Follower", f"committed:{committed}", "share:0.5", "word:yes"]


def test_a_deleted_collection_is_told_when_its_rows_are_gone(server: ServerProcess) -> None:
    with server.wire() as wire:
        cid = wire.call("F.ADD", "s", "a")
        assert wire.call("F.ADD", "s", "b") == cid
        wire.ok("DEL", "s")
        deadline = time.monotonic() + 20
        while wire.call("F.SEEN")[2] != [cid]:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_stop_waits_for_modules(server: ServerProcess) -> None:
    server.ask("SET", "k", "v")
    assert server.terminate() == 0
    assert int((server.data / "stopped").read_text()) >= 1


def test_a_module_may_refuse_the_start(start_server: StartServer, module: Path) -> None:
    with pytest.raises(Exception, match="a module cannot start: RuntimeError: no seats"):
        start_server("--loadmodule", str(module), "--maxclients", "77")


def timed(wire: Wire, *requests: tuple[str, ...]) -> float:
    """Seconds from the first of several pipelined requests to the last reply."""
    started = time.monotonic()
    wire.pipeline(requests)
    return time.monotonic() - started


def test_a_brake_holds_only_what_comes_after_it(server: ServerProcess) -> None:
    with server.wire() as wire, server.wire() as other:
        wire.call("PING")
        other.call("PING")
        held = timed(wire, ("F.BRAKE", "0.1"), ("F.BRAKE", "0"), ("PING",))
        assert held >= 0.09
        assert wire.call("F.BRAKE", "5") == 1  # its own reply does not wait
        assert timed(other, ("PING",)) < 4


def test_of_several_brakes_in_a_transaction_the_longest_counts(server: ServerProcess) -> None:
    with server.wire() as wire:
        wire.call("PING")
        brakes = [("F.BRAKE", seconds) for seconds in ("0.02", "0.3", "0.1")]
        assert timed(wire, ("MULTI",), *brakes, ("EXEC",), ("PING",)) >= 0.29
