"""PING, AUTH, HELLO, RESET, QUIT, and what a login changes."""

from __future__ import annotations

from tests.conftest import Connect, StartServer
from tests.support.resp import ErrorReply, Wire


def test_login_by_auth_and_hello(start_server: StartServer, connect: Connect) -> None:
    server = start_server("--user", "alice", "on", ">sesame", "~*", "&*", "+@all")
    wire = connect(2, to=server)
    assert wire.call("AUTH", "alice", "wrong") == ErrorReply(
        "WRONGPASS invalid username-password pair or user is disabled."
    )
    assert wire.ok("AUTH", "alice", "sesame") == b"OK"
    assert wire.ok("ACL", "WHOAMI") == b"alice"
    other = connect(2, to=server)
    hello = other.ok("HELLO", "3", "AUTH", "alice", "sesame", "SETNAME", "me")
    assert hello[b"proto"] == 3
    assert other.ok("ACL", "WHOAMI") == b"alice"
    assert other.ok("CLIENT", "GETNAME") == b"me"
    (entry,) = wire.ok("ACL", "LOG")
    assert b"auth" in entry
    assert b"alice" in entry


def test_requirepass_set_at_run_time_binds_new_connections(
    start_server: StartServer, connect: Connect
) -> None:
    server = start_server()
    inside = connect(2, to=server)
    assert inside.ok("CONFIG", "SET", "requirepass", "secret") == b"OK"
    assert inside.ok("PING") == b"PONG"
    outside = connect(2, to=server)
    assert outside.call("GET", "k") == ErrorReply("NOAUTH Authentication required.")
    assert outside.call("HELLO", "3").code == "NOAUTH"
    assert outside.ok("AUTH", "secret") == b"OK"
    assert outside.ok("GET", "k") is None
    # RESET logs out again.
    assert outside.ok("RESET") == b"RESET"
    assert outside.call("GET", "k") == ErrorReply("NOAUTH Authentication required.")
    assert inside.ok("CONFIG", "SET", "requirepass", "") == b"OK"


def test_before_login_requests_are_small(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    inside = connect(2, to=server)
    inside.ok("CONFIG", "SET", "requirepass", "secret")
    outside = connect(2, to=server)
    outside.send(b"*11\r\n")
    assert outside.read() == ErrorReply("ERR Protocol error: unauthenticated multibulk length")
    big = connect(2, to=server)
    big.ok("AUTH", "secret")
    assert big.ok("MGET", *["k"] * 100) == [None] * 100
    inside.ok("CONFIG", "SET", "requirepass", "")


def test_ping_answers_subscribers_as_a_message(connect: Connect) -> None:
    wire = connect(2)
    wire.ok("SUBSCRIBE", "news")
    assert wire.ok("PING") == [b"pong", b""]
    assert wire.ok("PING", "x") == [b"pong", b"x"]
    assert wire.call("GET", "k").code == "ERR"
    assert wire.ok("RESET") == b"RESET"
    assert wire.ok("GET", "k") is None


def test_quit_answers_what_came_before(connect: Connect) -> None:
    wire = connect(2)
    wire.send(b"SET k v\r\nGET k\r\nQUIT\r\nGET k\r\n")
    assert [wire.read() for _ in range(3)] == [b"OK", b"v", b"OK"]
    assert wire.closed_by_server()


def test_hello_names_the_compatibility_and_the_modules(wire: Wire) -> None:
    hello = wire.ok("HELLO")
    if isinstance(hello, list):
        hello = dict(zip(hello[::2], hello[1::2], strict=True))
    assert hello[b"server"] == b"redis"
    assert hello[b"version"] == b"8.8.0"
    assert hello[b"role"] == b"master"
    assert hello[b"modules"]
