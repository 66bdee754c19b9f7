"""SLOWLOG, LATENCY, MEMORY, MONITOR and DEBUG."""

from __future__ import annotations

from tests.conftest import Connect, StartServer
from tests.support.resp import ErrorReply, Wire


def test_slowlog_keeps_slow_commands(start_server: StartServer, connect: Connect) -> None:
    wire = connect(2, to=start_server(enable_debug_command="local"))
    wire.ok("CLIENT", "SETNAME", "me")
    wire.ok("SET", "k", "v")
    wire.ok("DEBUG", "SLEEP", "0.02")
    (entry,) = wire.ok("SLOWLOG", "GET")
    assert entry[2] >= 20000
    assert entry[3] == [b"DEBUG", b"SLEEP", b"0.02"]
    assert entry[4].startswith(b"127.0.0.1:")
    assert entry[5] == b"me"
    wire.ok("CONFIG", "SET", "slowlog-max-len", "0")
    assert wire.ok("SLOWLOG", "LEN") == 0


def test_latency_events(start_server: StartServer, connect: Connect) -> None:
    server = start_server(enable_debug_command="yes", latency_monitor_threshold="10")
    wire = connect(2, to=server)
    wire.ok("DEBUG", "SLEEP", "0.03")
    ((event, _, latest, most),) = wire.ok("LATENCY", "LATEST")
    assert event == b"command"
    assert 30 <= latest == most
    assert wire.ok("LATENCY", "HISTORY", "command")[0][1] == latest
    assert b"#" in wire.ok("LATENCY", "GRAPH", "command")
    assert b"command" in wire.ok("LATENCY", "DOCTOR")
    name, histogram = wire.ok("LATENCY", "HISTOGRAM", "debug")
    assert name == b"debug"
    assert histogram[1] == 1
    assert wire.ok("LATENCY", "RESET") == 1
    assert wire.ok("LATENCY", "LATEST") == []


def test_memory_usage_grows_with_the_value(wire: Wire) -> None:
    wire.ok("SET", "small", "x")
    wire.ok("SET", "large", "x" * 200_000)
    small, large = wire.ok("MEMORY", "USAGE", "small"), wire.ok("MEMORY", "USAGE", "large")
    assert 20 < small < 100
    assert 200_000 < large < 210_000
    assert wire.ok("MEMORY", "PURGE") == b"OK"
    assert wire.ok("GET", "small") == b"x"
    assert b"MB" in wire.ok("MEMORY", "DOCTOR")
    assert wire.ok("MEMORY", "MALLOC-STATS")


def test_monitor_shows_other_clients(connect: Connect) -> None:
    monitor, wire = connect(2), connect(2)
    assert monitor.ok("MONITOR") == b"OK"
    wire.ok("SET", "k", 'a "b"\n')
    wire.ok("CONFIG", "GET", "port")
    wire.ok("GET", "k")
    first, second = monitor.read(), monitor.read()
    assert b'"SET" "k" "a \\"b\\"\\n"' in first
    assert b'"GET" "k"' in second
    assert b"[0 127.0.0.1:" in first
    assert b'"RESET"' in monitor.ok("RESET")
    assert monitor.read() == b"RESET"
    wire.ok("GET", "k")
    assert monitor.pending(0.05) == b""


def test_debug_is_off_unless_allowed(wire: Wire) -> None:
    assert wire.call("DEBUG", "JMAP").text.startswith("ERR DEBUG command not allowed.")


def test_debug_subcommands(start_server: StartServer, connect: Connect) -> None:
    wire = connect(3, to=start_server(enable_debug_command="yes"))
    assert wire.ok("DEBUG", "JMAP") == b"OK"
    assert wire.ok("SET", "k", "12") == b"OK"
    assert b"encoding:int" in wire.ok("DEBUG", "OBJECT", "k")
    assert wire.call("DEBUG", "OBJECT", "nope") == ErrorReply("ERR no such key")
    assert wire.ok("DEBUG", "PROTOCOL", "double") == 3.141
    assert wire.call("DEBUG", "ERROR", "MYERR text") == ErrorReply("MYERR text")
    assert wire.ok("DEBUG", "RELOAD") == b"OK"
    assert wire.ok("GET", "k") == b"12"
    assert wire.call("DEBUG", "NOSUCH").text == (
        "ERR unknown subcommand or wrong number of arguments for 'NOSUCH'. Try DEBUG HELP."
    )
    wire.ok("DEBUG", "SET-ACTIVE-EXPIRE", "0")
    wire.ok("SET", "gone", "v", "PX", "1")
    wire.pending(0.05)
    assert wire.ok("GET", "gone") is None
    wire.ok("DEBUG", "SET-ACTIVE-EXPIRE", "1")
