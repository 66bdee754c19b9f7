"""redis-py, sync and asyncio, in both protocols, used as applications use it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from tests.support.server import ServerProcess


def test_strings_keys_and_expiry(redis_client: Any) -> None:
    client = redis_client
    assert client.set("k", "v") is True
    assert client.set("k", "w", nx=True) is None
    assert client.set("k", "w", xx=True, get=True) == b"v"
    assert client.get("k") == b"w"
    assert client.getset("k", "x") == b"w"
    assert client.mset({"a": 1, "b": 2}) is True
    assert client.mget("a", "b", "nope") == [b"1", b"2", None]
    assert client.incrby("a", 9) == 10
    assert client.incrbyfloat("a", 0.5) == 10.5
    assert client.append("k", "yz") == 3
    assert client.getrange("k", 0, 1) == b"xy"
    assert client.expire("k", 100) is True
    assert 0 < client.ttl("k") <= 100
    assert client.persist("k") is True
    assert client.type("k") == b"string"
    assert client.copy("k", "k2") is True
    assert client.rename("k2", "k3") is True
    assert client.delete("k", "k3", "nope") == 2
    assert client.exists("k", "a") == 1
    assert client.dbsize() == 2
    assert sorted(client.keys("*")) == [b"a", b"b"]
    with pytest.raises(redis.ResponseError, match="not an integer"):
        client.incr("a")


def test_scan_iter_finds_every_key_once(redis_client: Any) -> None:
    redis_client.mset({f"key:{n}": n for n in range(500)} | {"other": 1})
    found = list(redis_client.scan_iter(match="key:*", count=37))
    assert len(found) == 500
    assert set(found) == {b"key:%d" % n for n in range(500)}


def test_pipeline_without_transaction(redis_client: Any) -> None:
    pipe = redis_client.pipeline(transaction=False)
    for number in range(1000):
        pipe.set(f"p{number}", number)
        pipe.get(f"p{number}")
    replies = pipe.execute()
    assert replies[::2] == [True] * 1000
    assert replies[1::2] == [b"%d" % n for n in range(1000)]


def test_pipeline_with_errors_inside(redis_client: Any) -> None:
    redis_client.set("word", "abc")
    pipe = redis_client.pipeline(transaction=True)
    replies = pipe.set("a", 1).incr("word").incr("a").execute(raise_on_error=False)
    assert replies[0] is True
    assert isinstance(replies[1], redis.ResponseError)
    assert replies[2] == 2


def test_watch_loops_of_many_threads_lose_no_increment(server: ServerProcess, resp: int) -> None:
    def work() -> None:
        with redis.Redis(port=server.port, protocol=resp) as client:
            for _ in range(20):
                client.transaction(_increment, "counter")

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50.0)
    assert server.ask("GET", "counter") == b"120"


def _increment(pipe: Any) -> None:
    value = int(pipe.get("counter") or 0)
    pipe.multi()
    pipe.set("counter", value + 1)


def test_watched_key_that_changes_raises(redis_client: Any) -> None:
    with redis_client.pipeline() as pipe:
        pipe.watch("k")
        redis_client.set("k", "elsewhere")
        pipe.multi()
        pipe.set("k", "here")
        with pytest.raises(redis.WatchError):
            pipe.execute()
    assert redis_client.get("k") == b"elsewhere"


def test_client_and_server_facts(redis_client: Any) -> None:
    client = redis_client
    assert client.client_setname("tester") is True
    assert client.client_getname() in (b"tester", "tester")
    assert client.client_id() > 0
    assert any(row["name"] == "tester" for row in client.client_list())
    info = client.info()
    assert info["redis_version"]
    assert info["tcp_port"] == client.connection_pool.connection_kwargs["port"]
    assert client.config_get("maxmemory*")
    assert client.command_count() > 50
    assert client.time()[0] > 1_600_000_000
    assert client.echo("text") == b"text"


@pytest.mark.norikv
def test_norikv_commands_through_execute_command(redis_client: Any) -> None:
    call = redis_client.execute_command
    version = call("SETVER", "k", "v1")
    assert call("GETVER", "k") == [b"v1", version]
    assert call("CAS", "k", "1-1", "v2")[0] == 0
    done, newer, nothing = call("CAS", "k", version, "v2")
    assert (done, nothing) == (1, None)
    assert call("VER", "k") == newer
    assert call("IDEM", "token", "INCR", "n") == call("IDEM", "token", "INCR", "n") == 1
    assert call("MGETVER", "k", "nope") == [[b"v2", newer], None]
    pipe = redis_client.pipeline(transaction=True)
    pipe.execute_command("CHECK", "k", newer)
    pipe.execute_command("SETVER", "k", "v3")
    pipe.execute_command("SETVER", "other", "v3")
    checked, first, second = pipe.execute()
    assert checked == 1
    assert first == second
    pipe.execute_command("CHECK", "k", newer)
    pipe.set("k", "v4")
    with pytest.raises(redis.WatchError):
        pipe.execute()
    assert redis_client.get("k") == b"v3"


def test_publish_and_subscribe(redis_client: Any) -> None:
    with redis_client.pubsub() as listener:
        listener.subscribe("news")
        listener.psubscribe("n*")
        kinds = [_message(listener)["type"] for _ in range(2)]
        assert kinds == ["subscribe", "psubscribe"]
        assert redis_client.publish("news", "hello") == 2
        messages = [_message(listener) for _ in range(2)]
        assert [m["type"] for m in messages] == ["message", "pmessage"]
        assert all(m["data"] == b"hello" for m in messages)


def _message(listener: Any) -> dict[str, Any]:
    for _ in range(20):
        message = listener.get_message(timeout=1.0)
        if message is not None:
            found: dict[str, Any] = message
            return found
    raise AssertionError("no message came")


def test_unix_socket(server: ServerProcess, resp: int) -> None:
    with redis.Redis(unix_socket_path=server.socket_path, protocol=resp) as client:
        assert client.set("via", "socket") is True
        assert client.get("via") == b"socket"


# -- asyncio --------------------------------------------------------------------------


def with_client(server: ServerProcess, resp: int, work: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        async with redis.asyncio.Redis(port=server.port, protocol=resp) as client:
            await work(client)

    asyncio.run(main())


def test_asyncio_many_tasks_at_once(server: ServerProcess, resp: int) -> None:
    async def work(client: Any) -> None:
        async def one(number: int) -> None:
            assert await client.set(f"a{number}", number) is True
            assert await client.get(f"a{number}") == b"%d" % number
            await client.incr("total")

        await asyncio.gather(*(one(number) for number in range(60)))
        assert await client.get("total") == b"60"

    with_client(server, resp, work)


def test_asyncio_pipeline_and_watch(server: ServerProcess, resp: int) -> None:
    async def work(client: Any) -> None:
        async with client.pipeline(transaction=True) as pipe:
            assert await pipe.set("a", 1).incr("a").get("a").execute() == [True, 2, b"2"]
        async with client.pipeline(transaction=True) as pipe:
            await pipe.watch("a")
            await client.set("a", 10)
            pipe.multi()
            pipe.set("a", 3)
            with pytest.raises(redis.WatchError):
                await pipe.execute()

    with_client(server, resp, work)


def test_asyncio_publish_and_subscribe(server: ServerProcess, resp: int) -> None:
    async def work(client: Any) -> None:
        async with client.pubsub() as listener:
            await listener.subscribe("news")
            assert (await listener.get_message(timeout=5.0))["type"] == "subscribe"
            assert await client.publish("news", "x") == 1
            message = None
            for _ in range(10):
                message = message or await listener.get_message(timeout=0.5)
            assert message is not None
            assert message["data"] == b"x"

    with_client(server, resp, work)
