"""Defects of commands, each test named after what a client saw."""

from __future__ import annotations

import pytest

from tests.conftest import Connect, StartServer
from tests.support.resp import ErrorReply, Wire


@pytest.mark.norikv
def test_a_pause_never_ended_when_its_timer_rang_a_moment_early(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server()
    pauser, other = connect(2, to=server), connect(2, to=server)
    for milliseconds in range(1, 60):
        pauser.ok("CLIENT", "PAUSE", str(milliseconds))
        assert other.ok("PING") == b"PONG"


def test_expire_judged_the_number_before_the_options(wire: Wire) -> None:
    for command in ("EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"):
        refused = wire.call(command, "k", "abc", "NX", "LT")
        assert isinstance(refused, ErrorReply)
        assert refused.text.startswith("ERR NX and XX, GT or LT options")
        refused = wire.call(command, "k", "abc", "NX")
        assert isinstance(refused, ErrorReply)
        assert refused.text == "ERR value is not an integer or out of range"
