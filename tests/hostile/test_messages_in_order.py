"""Messages neither overtake replies nor speak of what was not committed; lost rights end them."""

from __future__ import annotations

import pytest

from tests.support.resp import encode
from tests.support.server import ServerProcess


def test_a_message_follows_the_confirmation_of_its_subscription(server: ServerProcess) -> None:
    with server.wire(resp=3) as wire:
        requests = [("SET", "k", "v"), ("SUBSCRIBE", "c1", "c2"), ("PUBLISH", "c1", "x")]
        wire.send(b"".join(encode(*request) for request in [*requests, ("SET", "k", "w")]))
        kinds = [wire.read_reply() for _ in range(6)]
        assert [reply.kind for reply in kinds] == ["+", ">", ">", ":", "+", ">"]
        assert kinds[-1].items[0].data == b"message"


def test_events_and_messages_of_a_transaction_come_in_its_order(server: ServerProcess) -> None:
    with server.wire() as listener, server.wire() as wire:
        wire.ok("CONFIG", "SET", "notify-keyspace-events", "K$")
        try:
            listener.ok("PSUBSCRIBE", "*")
            for request in (
                ("MULTI",),
                ("SET", "a", "1"),
                ("PUBLISH", "p", "m"),
                ("SET", "b", "2"),
            ):
                wire.ok(*request)
            assert wire.ok("EXEC") == [b"OK", 1, b"OK"]
            heard = [listener.read_reply().items[2].data for _ in range(3)]
            assert heard == [b"__keyspace@0__:a", b"p", b"__keyspace@0__:b"]
        finally:
            wire.ok("CONFIG", "SET", "notify-keyspace-events", "")


def test_taken_rights_end_what_they_allowed(server: ServerProcess) -> None:
    with server.wire() as admin:
        admin.ok("ACL", "SETUSER", "bob", "reset", "on", "nopass", "~*", "&*", "+@all")
        with server.wire() as kept, server.wire() as cut, server.wire() as queued:
            for wire in (kept, cut, queued):
                wire.ok("AUTH", "bob", "any")
            kept.ok("SUBSCRIBE", "news")
            cut.ok("PSUBSCRIBE", "n*")
            queued.ok("MULTI")
            queued.ok("GET", "k")
            admin.ok("ACL", "SETUSER", "bob", "resetchannels", "&news", "-get")
            with pytest.raises((EOFError, ConnectionError)):
                cut.read_reply()
            (reply,) = queued.reply("EXEC").items
            assert reply.data.startswith(b"NOPERM ACLs rules changed between the moment")
            admin.ok("PUBLISH", "news", "m")
            assert kept.read_reply().items[2].data == b"m"
            assert admin.ok("ACL", "DELUSER", "bob") == 1
            with pytest.raises((EOFError, ConnectionError)):
                kept.read_reply()
