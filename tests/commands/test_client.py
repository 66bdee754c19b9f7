"""CLIENT: LIST, KILL, PAUSE, REPLY, UNBLOCK."""

from __future__ import annotations

import time

from tests.conftest import Connect, StartServer
from tests.support.resp import ErrorReply, Wire


def listed(wire: Wire, *filters: str) -> dict[int, dict[str, str]]:
    """CLIENT LIST as fields by client id."""
    lines = wire.ok("CLIENT", "LIST", *filters).decode().splitlines()
    clients = [dict(field.split("=", 1) for field in line.split(" ")) for line in lines]
    return {int(client["id"]): client for client in clients}


def test_list_shows_state(connect: Connect) -> None:
    wire, other = connect(2), connect(3)
    other.ok("CLIENT", "SETNAME", "other")
    other.ok("CLIENT", "SETINFO", "LIB-NAME", "lib")
    other.ok("SELECT", "2")
    other.ok("WATCH", "k")
    other.ok("MULTI")
    other.ok("GET", "k")
    ident = int(listed(wire)[max(listed(wire))]["id"])
    shown = listed(wire, "ID", str(ident))[ident]
    assert shown["name"] == "other"
    assert shown["lib-name"] == "lib"
    assert (shown["db"], shown["multi"], shown["watch"], shown["resp"]) == ("2", "1", "1", "3")
    assert shown["flags"] == "x"
    assert shown["cmd"] == "multi"
    assert shown["user"] == "default"
    own = wire.ok("CLIENT", "INFO").decode()
    assert f"id={wire.ok('CLIENT', 'ID')} " in own
    assert "cmd=client|info" in own


def test_list_by_type(connect: Connect) -> None:
    wire, subscriber = connect(2), connect(2)
    ident = subscriber.ok("CLIENT", "ID")
    subscriber.ok("SUBSCRIBE", "news")
    assert set(listed(wire, "TYPE", "pubsub")) == {ident}
    assert ident not in listed(wire, "TYPE", "normal")
    assert listed(wire, "TYPE", "replica") == {}


def test_idle_is_real(connect: Connect) -> None:
    wire, other = connect(2), connect(2)
    ident = other.ok("CLIENT", "ID")
    time.sleep(1.1)
    shown = listed(wire)
    assert shown[ident]["idle"] == "1"
    assert shown[wire.ok("CLIENT", "ID")]["idle"] == "0"


def test_kill_by_each_filter(connect: Connect) -> None:
    wire = connect(2)
    wire.ok("ACL", "SETUSER", "bob", "on", "nopass", "+@all", "~*", "&*")
    own = wire.ok("CLIENT", "ID")
    for filters in (
        lambda client: ("ID", client["id"]),
        lambda client: ("ADDR", client["addr"]),
        lambda client: ("USER", "bob"),
        lambda client: ("USER", "bob", "LADDR", client["laddr"], "TYPE", "normal"),
        lambda client: (client["addr"],),
    ):
        victim = connect(2)
        victim.ok("AUTH", "bob", "x")
        client = listed(wire)[victim.ok("CLIENT", "ID")]
        killed = wire.ok("CLIENT", "KILL", *filters(client))
        assert killed in (1, b"OK")
        assert victim.closed_by_server()
        assert own in listed(wire)
    assert wire.ok("CLIENT", "KILL", "MAXAGE", "1000") == 0
    assert wire.call("CLIENT", "KILL", "USER", "nobody") == ErrorReply("ERR No such user 'nobody'")
    wire.ok("ACL", "DELUSER", "bob")


def test_killing_oneself_answers_first(connect: Connect) -> None:
    wire = connect(2)
    ident = wire.ok("CLIENT", "ID")
    assert wire.ok("CLIENT", "KILL", "ID", str(ident)) == 0
    assert wire.ok("CLIENT", "KILL", "ID", str(ident), "SKIPME", "no") == 1
    assert wire.closed_by_server()


def test_reply_skip_skips_exactly_one(connect: Connect) -> None:
    wire = connect(2)
    wire.send(b"CLIENT REPLY SKIP\r\nSET k 1\r\nGET k\r\n")
    assert wire.read() == b"1"
    wire.send(b"CLIENT REPLY OFF\r\nSET k 2\r\nCLIENT REPLY SKIP\r\nGET k\r\n")
    assert wire.pending(0.05) == b""
    assert wire.ok("CLIENT", "REPLY", "ON") == b"OK"
    assert wire.ok("GET", "k") == b"2"


def test_pause_holds_writes_and_lets_reads_pass(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server()
    wire, writer = connect(2, to=server), connect(2, to=server)
    wire.ok("CLIENT", "PAUSE", "100000", "WRITE")
    assert wire.ok("GET", "k") is None
    writer.send(b"SET k v\r\n")
    assert writer.pending(0.1) == b""
    assert wire.ok("CLIENT", "UNPAUSE") == b"OK"
    assert writer.read() == b"OK"
    started = time.monotonic()
    wire.ok("CLIENT", "PAUSE", "200")
    assert writer.ok("GET", "k") == b"v"
    assert time.monotonic() - started > 0.15


def test_unblock_ends_what_waits(start_server: StartServer, connect: Connect) -> None:
    """Nothing blocks on data yet: a client that waits for no one is not unblocked."""
    server = start_server()
    wire, other = connect(2, to=server), connect(2, to=server)
    assert wire.ok("CLIENT", "UNBLOCK", str(other.ok("CLIENT", "ID"))) == 0
