"""CONFIG, and that options which may change while running are followed."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import Connect, StartServer
from tests.support.resp import ErrorReply, Wire
from tests.support.server import server_command


def one(wire: Wire, name: str) -> bytes:
    answer = wire.ok("CONFIG", "GET", name)
    value = answer[1] if isinstance(answer, list) else answer[name.encode()]
    assert isinstance(value, bytes)
    return value


def test_set_is_all_or_nothing(wire: Wire) -> None:
    before = one(wire, "slowlog-max-len")
    bad = wire.call("CONFIG", "SET", "slowlog-max-len", "7", "hz", "many")
    assert bad.code == "ERR"
    assert one(wire, "slowlog-max-len") == before


def test_every_live_option_takes_its_own_value(wire: Wire) -> None:
    """What CONFIG GET shows, CONFIG SET takes."""
    answer = wire.ok("CONFIG", "GET", "*")
    if isinstance(answer, list):
        answer = dict(zip(answer[::2], answer[1::2], strict=True))
    for name, value in answer.items():
        reply = wire.call("CONFIG", "SET", name, value)
        if isinstance(reply, ErrorReply):
            assert "immutable" in reply.text, (name, value, reply)


def test_live_options_are_followed(start_server: StartServer, connect: Connect) -> None:
    server = start_server()
    wire = connect(2, to=server)
    wire.ok("CONFIG", "SET", "maxclients", "2")
    second = connect(2, to=server)
    third = connect(2, to=server)
    assert third.read() == ErrorReply("ERR max number of clients reached")
    wire.ok("CONFIG", "SET", "maxclients", "100")
    wire.ok("CONFIG", "SET", "proto-max-bulk-len", "1mb")
    second.send(b"*1\r\n$1048577\r\n")
    assert second.read() == ErrorReply("ERR Protocol error: invalid bulk length")
    info = wire.ok("INFO", "norikv")
    assert b"overlay_limit:100663296" in info
    wire.ok("CONFIG", "SET", "overlay-size", "32mb", "cache-size", "5mb")
    info = wire.ok("INFO", "norikv")
    assert b"overlay_limit:33554432" in info
    assert b"cache_limit:5242880" in info
    wire.ok("CONFIG", "SET", "appendfsync", "everysec")
    assert b"durability:everysec" in wire.ok("INFO", "norikv")
    wire.ok("CONFIG", "SET", "min-free-disk", "8000000000gb")
    for _ in range(100):
        refused = wire.call("SET", "k", "v")
        if isinstance(refused, ErrorReply):
            break
    else:
        wire.pending(0.2)
        refused = wire.call("SET", "k", "v")
    assert refused.code == "MISCONF"
    assert wire.ok("GET", "nothing") is None


def test_more_clients_than_files_are_refused(wire: Wire) -> None:
    reply = wire.call("CONFIG", "SET", "maxclients", "100000000")
    assert reply.text.startswith(
        "ERR CONFIG SET failed (possibly related to argument 'maxclients')"
    )


def test_rewrite_keeps_users_and_comments(
    start_server: StartServer, connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "norikv.conf"
    path.write_text("# mine\ntimeout 7\nuser eve on nopass ~e:* +get\n")
    server = start_server(command=[*server_command(), str(path)])
    wire = connect(2, to=server)
    assert b"eve" in wire.ok("ACL", "USERS")
    wire.ok("CONFIG", "SET", "timeout", "9", "acllog-max-len", "3")
    wire.ok("ACL", "SETUSER", "adam", "on", "nopass", "~a:*", "+set")
    assert wire.ok("CONFIG", "REWRITE") == b"OK"
    text = path.read_text()
    assert "# mine" in text
    assert "timeout 9" in text
    assert "user adam" in text
    assert "user eve" in text
    assert "acllog-max-len 3" in text


def test_rewrite_without_a_file(wire: Wire) -> None:
    assert wire.call("CONFIG", "REWRITE") == ErrorReply(
        "ERR The server is running without a config file"
    )


def test_secrets_are_not_shown(start_server: StartServer, connect: Connect) -> None:
    server = start_server(slowlog_log_slower_than="0")
    wire, monitor = connect(2, to=server), connect(2, to=server)
    assert monitor.ok("MONITOR") == b"OK"
    wire.ok("CONFIG", "SET", "requirepass", "hush")
    wire.ok("AUTH", "hush")
    wire.ok("HELLO", "2", "AUTH", "default", "hush")
    wire.ok("CONFIG", "SET", "requirepass", "")
    log = wire.ok("SLOWLOG", "GET", "-1")
    assert all(b"hush" not in word for entry in log for word in entry[3])
    assert b"hush" not in monitor.pending(0.1)
