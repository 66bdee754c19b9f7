"""COMMAND over the wire: clients of both protocols understand it."""

from __future__ import annotations

import redis

from tests.support.resp import ErrorReply, Wire


def test_command_and_command_info_agree(wire: Wire) -> None:
    everything = wire.ok("COMMAND")
    assert len(everything) == wire.ok("COMMAND", "COUNT") == len(wire.ok("COMMAND", "LIST"))
    names = [entry[0] for entry in everything]
    assert len(set(names)) == len(names)
    assert wire.ok("COMMAND", "INFO") == everything
    assert wire.ok("COMMAND", "INFO", "get", "config|get")[1][0] == b"config|get"


def test_docs_have_what_redis_cli_reads(wire: Wire) -> None:
    docs = wire.ok("COMMAND", "DOCS", "set", "config")
    if isinstance(docs, list):
        docs = dict(zip(docs[::2], docs[1::2], strict=True))
        docs = {k: dict(zip(v[::2], v[1::2], strict=True)) for k, v in docs.items()}
    assert docs[b"set"][b"group"] == b"string"
    assert docs[b"set"][b"arguments"]
    assert b"subcommands" in docs[b"config"]


def test_getkeys_of_a_wrapped_command(wire: Wire) -> None:
    assert wire.ok("COMMAND", "GETKEYS", "IDEM", "t", "MSET", "a", "1", "b", "2") == [b"a", b"b"]
    assert wire.ok("COMMAND", "GETKEYS", "CAS", "k", "0", "v") == [b"k"]
    assert wire.ok("COMMAND", "GETKEYS", "MIGRATE", "h", "1", "k", "0", "10") == [b"k"]
    assert wire.call("COMMAND", "GETKEYS", "NOSUCH") == ErrorReply("ERR Invalid command specified")


def test_list_of_a_module(wire: Wire) -> None:
    names = wire.ok("COMMAND", "LIST", "FILTERBY", "MODULE", "string")
    assert b"get" in names
    assert b"ping" not in names


def test_every_container_has_help(wire: Wire) -> None:
    for entry in wire.ok("COMMAND"):
        if entry[9] and any(sub[0].endswith(b"|help") for sub in entry[9]):
            lines = wire.ok(entry[0], "HELP")
            assert lines[0].startswith(entry[0].upper() + b" <subcommand>")
            assert lines[-2].startswith(b"HELP")


def test_redis_py_reads_the_table(redis_client: redis.Redis) -> None:
    commands = redis_client.command()
    assert commands["get"]["arity"] == 2
    assert "readonly" in commands["get"]["flags"]
