"""The same random sequences to this server and to a peer: equal replies, equal final state."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.oracle.sequences import TIMES, UNORDERED, Command, Sequences
from tests.support.effort import examples, patience
from tests.support.resp import Reply, Wire
from tests.support.server import ServerProcess

DATABASES = (0, 1, 15)

#: Errors in MULTI whose words, and whether they abort it, changed between versions.
NOT_NESTED = (b"MULTI", b"WATCH")


class Pair:
    """Two clients on each of two servers, all doing the same."""

    def __init__(self, ours: ServerProcess, peer: ServerProcess, resp: int) -> None:
        self.wires = [(ours.wire(resp), peer.wire(resp)) for _ in range(2)]
        self.queues: list[list[Command] | None] = [None, None]
        self.log: list[str] = []
        for wire in self.wires[0]:
            wire.ok("FLUSHALL")

    def close(self) -> None:
        for wires in self.wires:
            for wire in wires:
                wire.close()

    def play(self, client: int, command: Command) -> None:
        if self.queues[client] is not None and command[0].upper() in NOT_NESTED:
            return
        mine, theirs = (wire.reply(*command) for wire in self.wires[client])
        text = " ".join(repr(arg)[1:] for arg in command)
        self.log.append(f"{client}> {text}\n     peer {theirs.raw!r}\n     ours {mine.raw!r}")
        queue = self.queues[client]
        name = command[0].upper()
        same = agrees(command, theirs, mine)
        if name == b"EXEC" and queue is not None and theirs.kind == "*" == mine.kind:
            same = len(theirs.items) == len(mine.items) == len(queue) and all(
                agrees(*parts) for parts in zip(queue, theirs.items, mine.items, strict=True)
            )
        if not same:
            raise AssertionError("the replies differ; the steps:\n" + "\n".join(self.log))
        self._follow(client, name, command, theirs)

    def _follow(self, client: int, name: bytes, command: Command, reply: Reply) -> None:
        queue = self.queues[client]
        if name in (b"EXEC", b"DISCARD") and not reply.data.startswith(b"ERR wrong number"):
            self.queues[client] = None
        elif name == b"MULTI" and reply.raw == b"+OK\r\n":
            self.queues[client] = []
        elif queue is not None and reply.raw == b"+QUEUED\r\n":
            queue.append(command)

    def compare_state(self) -> None:
        for client, queue in enumerate(self.queues):
            if queue is not None:
                self.play(client, (b"DISCARD",))
        for database in DATABASES:
            self.play(0, (b"SELECT", b"%d" % database))
            self.play(0, (b"KEYS", b"*"))
            for key in sorted(self.wires[0][1].ok("KEYS", "*")):
                for name in (b"TYPE", b"GET", b"PTTL"):
                    self.play(0, (name, key))


def agrees(command: Command, theirs: Reply, mine: Reply) -> bool:
    """Equal replies, but for the order of listed keys and the passing of time."""
    if theirs.raw == mine.raw:
        return True
    name = command[0].upper()
    if theirs.kind != mine.kind:
        return False
    if name in TIMES and theirs.kind == ":":
        a, b = int(theirs.data), int(mine.data)
        return a > 0 and b > 0 and abs(a - b) <= TIMES[name]
    if name in UNORDERED and theirs.kind == "*":
        return _bag(theirs.items) == _bag(mine.items)
    return False


def _bag(items: Sequence[Reply]) -> list[bytes]:
    """The items in an order of their own; a list among them (SCAN's keys) in its own order too."""
    return sorted(b"".join(_bag(item.items)) if item.items else item.raw for item in items)


@pytest.mark.limit(patience(150))
@examples(200)
@given(
    rng=st.randoms(use_true_random=False), steps=st.integers(1, 50), resp=st.sampled_from([2, 3])
)
def test_replies_and_state_equal_the_peers(
    shared_server: ServerProcess,
    peer_process: ServerProcess,
    rng: random.Random,
    steps: int,
    resp: int,
) -> None:
    pair = Pair(shared_server, peer_process, resp)
    sequences = Sequences(rng)
    try:
        for _ in range(steps):
            pair.play(rng.choice((0, 0, 0, 1)), sequences.command())
        pair.compare_state()
    finally:
        pair.close()


def test_values_move_between_servers(server: ServerProcess, peer: ServerProcess) -> None:
    """DUMP here, RESTORE there, and back: the payload is Redis's own."""
    values = [b"", b"x", b"12345", b"-1", b"\x00\xff" * 50, b"a" * 1000, os.urandom(70_000)]
    with server.wire() as ours, peer.wire() as theirs:
        for number, value in enumerate(values):
            for here, there in ((ours, theirs), (theirs, ours)):
                _move(here, there, b"dump:%d" % number, value)


def _move(here: Wire, there: Wire, key: bytes, value: bytes) -> None:
    here.ok("SET", key, value)
    payload = here.ok("DUMP", key)
    restored = there.call("RESTORE", key, 0, payload, "REPLACE")
    if restored != b"OK" and b"payload version" not in repr(restored).encode():
        raise AssertionError(f"RESTORE of {value[:20]!r}: {restored!r}")
    if restored == b"OK":
        assert there.ok("GET", key) == value
