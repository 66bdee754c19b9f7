"""Every method, option and error of the client, against the real server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from norikv_resp.client import (
    AlreadyExistsError,
    ClientConfig,
    ConsistencyLevel,
    DeleteOptions,
    GetOptions,
    IdempotencyMismatchError,
    InvalidArgumentError,
    KeyNotFoundError,
    NoNodesAvailableError,
    NoriKVClient,
    NoriKVError,
    NotFoundError,
    PermissionDeniedError,
    PutOptions,
    RetryConfig,
    Version,
    VersionMismatchError,
    WrongTypeError,
    errors,
)
from tests.conftest import StartServer
from tests.norikv_client.conftest import QUICK, MakeClient
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

Steps = Callable[[NoriKVClient], Awaitable[None]]


@pytest.fixture
def run(make_client: MakeClient) -> Callable[[Steps], None]:
    """Runs steps with a connected client."""

    def run_steps(steps: Steps) -> None:
        async def main() -> None:
            async with make_client() as client:
                await steps(client)

        asyncio.run(main())

    return run_steps


Run = Callable[[Steps], None]

# -- put, get, delete ----------------------------------------------------------


def test_put_and_get(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        first = await client.put("k", b"\x00\xff")
        second = await client.put(b"k", "tëxt")
        assert second > first
        found = await client.get("k")
        assert (found.value, found.version, found.metadata) == ("tëxt".encode(), second, None)
        for value in (bytearray(b"a"), memoryview(b"a")):
            await client.put("k", value)
            assert (await client.get("k")).value == b"a"
        for level in (*ConsistencyLevel, "lease"):
            assert (await client.get("k", GetOptions(consistency=level))).value == b"a"

    run(steps)


def test_a_missing_key_is_an_error(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        with pytest.raises(KeyNotFoundError) as caught:
            await client.get("nope")
        assert caught.value.key == b"nope"
        assert caught.value.code == "NOT_FOUND"
        assert isinstance(caught.value, NotFoundError)
        assert await client.delete("nope") is False

    run(steps)


def test_ttl(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.put("k", b"v", PutOptions(ttl_ms=60_000))
        assert 0 < await client.execute("PTTL", "k") <= 60_000
        await client.put("k", b"v", PutOptions(ttl_ms=20))
        await asyncio.sleep(0.05)
        with pytest.raises(KeyNotFoundError):
            await client.get("k")
        for never in (0, None):
            await client.put("k", b"v", PutOptions(ttl_ms=never))
            assert await client.execute("PTTL", "k") == -1
        with pytest.raises(InvalidArgumentError):
            await client.put("k", b"v", PutOptions(ttl_ms=-1))

    run(steps)


def test_put_over_a_version(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        first = await client.put("k", b"1")
        second = await client.put("k", b"2", PutOptions(if_match_version=first))
        with pytest.raises(VersionMismatchError) as caught:
            await client.put("k", b"3", PutOptions(if_match_version=first))
        error = caught.value
        assert (error.key, error.expected_version, error.actual_version) == (b"k", first, second)
        assert error.code == "VERSION_MISMATCH"
        assert (await client.get("k")).value == b"2"

    run(steps)


def test_a_mismatch_on_a_key_that_has_vanished_is_a_mismatch(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        version = await client.put("k", b"1")
        assert await client.delete("k")
        with pytest.raises(VersionMismatchError) as caught:
            await client.put("k", b"2", PutOptions(if_match_version=version))
        assert caught.value.actual_version is None
        with pytest.raises(VersionMismatchError) as caught:
            await client.delete("k", DeleteOptions(if_match_version=version))
        assert (caught.value.expected_version, caught.value.actual_version) == (version, None)

    run(steps)


def test_put_if_not_exists(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        version = await client.put("k", b"1", PutOptions(if_not_exists=True))
        with pytest.raises(AlreadyExistsError) as caught:
            await client.put("k", b"2", PutOptions(if_not_exists=True))
        assert (caught.value.key, caught.value.code) == (b"k", "ALREADY_EXISTS")
        assert (await client.get("k")).version == version
        with pytest.raises(InvalidArgumentError):
            await client.put("k", b"", PutOptions(if_not_exists=True, if_match_version=version))

    run(steps)


def test_delete_of_a_version(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        first = await client.put("k", b"1")
        second = await client.put("k", b"2")
        with pytest.raises(VersionMismatchError) as caught:
            await client.delete("k", DeleteOptions(if_match_version=first))
        assert caught.value.actual_version == second
        assert await client.delete("k", DeleteOptions(if_match_version=second)) is True

    run(steps)


def test_the_same_idempotency_key_writes_once(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        options = PutOptions(idempotency_key="order-1")
        first = await client.put("k", b"1", options)
        await client.put("k", b"2")
        assert await client.put("k", b"1", options) == first
        assert (await client.get("k")).value == b"2"
        with pytest.raises(IdempotencyMismatchError) as caught:
            await client.put("k", b"another", options)
        assert caught.value.code == "IDEMPOTENCY_MISMATCH"
        once = DeleteOptions(idempotency_key="order-1-undone")
        assert await client.delete("k", once) is True
        await client.put("k", b"3")
        assert await client.delete("k", once) is True
        assert (await client.get("k")).value == b"3"

    run(steps)


def test_an_idempotency_key_survives_a_crash(start_server: StartServer) -> None:
    server = start_server()

    async def put() -> Version:
        async with NoriKVClient.from_url(f"redis://127.0.0.1:{server.port}") as client:
            return await client.put("k", b"v", PutOptions(idempotency_key="once"))

    first = asyncio.run(put())
    server.restart(clean=False)
    assert asyncio.run(put()) == first


def test_arguments_that_cannot_be_right(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        for call in (
            client.put(None, b"v"),  # type: ignore[arg-type]
            client.put("k", 5),  # type: ignore[arg-type]
            client.get(7),  # type: ignore[arg-type]
            client.execute(),
            client.execute("SET", "k", True),
            client.execute("GET", "k", token="t"),
            client.execute("SET", "k"),
            client.execute("NOSUCH"),
        ):
            with pytest.raises(InvalidArgumentError) as caught:
                await call
            assert caught.value.code == "INVALID_ARGUMENT"
            assert not caught.value.outcome_unknown

    run(steps)


def test_get_of_another_type(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        await client.execute("VADD", "k", "VALUES", 2, 1.0, 2.0, "element")
        with pytest.raises(WrongTypeError) as caught:
            await client.get("k")
        assert caught.value.code == "WRONGTYPE"
        await client.put("k", b"now a string")

    run(steps)


# -- execute and transaction ---------------------------------------------------


def test_execute_gives_replies_as_resp2_has_them(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        assert await client.execute("SET", "k", 7) == b"OK"
        assert await client.execute("INCRBYFLOAT", "k", 0.5) == b"7.5"
        assert await client.execute("get", "k") == b"7.5"
        assert await client.execute("GET", "nope") is None
        assert await client.execute("MGET", "k", "nope") == [b"7.5", None]
        assert await client.execute("CONFIG", "GET", "maxmemory") == [b"maxmemory", b"0"]
        assert await client.execute("PING") == b"PONG"

    run(steps)


def test_execute_under_a_token(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        for _ in range(3):
            assert await client.execute("INCR", "n", token="visit-1") == 1
            assert await client.execute("IDEM", "visit-2", "INCR", "n") == 2
        assert await client.execute("INCR", "n") == 3

    run(steps)


@pytest.mark.parametrize("command", ["MULTI", "WATCH k", "SUBSCRIBE c", "select 1", "CLIENT ID"])
def test_what_belongs_to_a_connection_is_refused(run: Run, command: str) -> None:
    async def steps(client: NoriKVClient) -> None:
        with pytest.raises(InvalidArgumentError, match="connection"):
            await client.execute(*command.split())

    run(steps)


def test_transaction(run: Run) -> None:
    async def steps(client: NoriKVClient) -> None:
        version = await client.put("a", b"1")
        commands = [["SET", "b", "2"], ["INCR", "n"], ["GET", "a"]]
        assert await client.transaction(commands) == [b"OK", 1, b"1"]
        checks = {"a": version, b"absent": None}
        assert await client.transaction(commands, checks) == [b"OK", 2, b"1"]
        await client.put("a", b"2")
        assert await client.transaction(commands, checks) is None
        assert await client.transaction(commands, {"b": None}) is None
        assert await client.execute("GET", "n") == b"2"
        for _ in range(2):
            assert await client.transaction([["INCR", "n"]], token="t") == [3]
        assert await client.transaction([], {"a": None}) is None
        assert await client.transaction([]) == []

    run(steps)


def test_a_pipeline_runs_each_command_for_itself(run: Callable[[Steps], None]) -> None:
    async def steps(client: NoriKVClient) -> None:
        assert await client.pipeline([]) == []
        await client.put("a", b"1")
        commands = [("GETEX", "a", "PX", 60_000), ("GET", "gone"), ("SET", "b", 2)]
        assert await client.pipeline(commands) == [b"1", None, b"OK"]
        with pytest.raises(InvalidArgumentError):
            await client.pipeline([("SET", "b"), ("SET", "b", 3)])
        assert (await client.get("b")).value == b"3"

    run(steps)


def test_a_transaction_tells_which_command_failed(run: Callable[[Steps], None]) -> None:
    async def steps(client: NoriKVClient) -> None:
        version = await client.put("k", b"v")
        commands = [["INCR", "k"], ["INCR", "n"]]
        found = await client.transaction(commands, {"k": version}, errors_in_place=True)
        assert found is not None and isinstance(found[0], InvalidArgumentError) and found[1] == 1
        with pytest.raises(InvalidArgumentError):
            await client.transaction([["INCR"], ["INCR", "n"]], errors_in_place=True)
        assert await client.execute("GET", "n") == b"1"
        assert await client.transaction(commands, {"k": None}, errors_in_place=True) is None

    run(steps)


def test_a_transaction_that_fails_leaves_the_connection_usable(make_client: MakeClient) -> None:
    async def main() -> None:
        async with make_client(max_connections_per_node=1) as client:
            with pytest.raises(InvalidArgumentError, match="number of arguments"):
                await client.transaction([["SET", "k", "v"], ["SET", "k"]])
            with pytest.raises(KeyNotFoundError):
                await client.get("k")
            with pytest.raises(InvalidArgumentError, match="not an integer"):
                await client.transaction([["SET", "k", "v"], ["INCR", "k"]])
            assert (await client.get("k")).value == b"v"  # as Redis: what could run has run
            await client.transaction([["INCR", "n"]], token="t")
            with pytest.raises(IdempotencyMismatchError):
                await client.transaction([["INCR", "m"]], token="t")
            assert await client.execute("INCR", "n") == 2

    asyncio.run(main())


# -- life ----------------------------------------------------------------------


def test_connecting_and_closing(make_client: MakeClient) -> None:
    async def main() -> None:
        client = make_client()
        assert not client.is_connected()
        await client.put("k", b"v")  # connects by itself
        assert client.is_connected()
        await client.connect()
        await client.close()
        assert not client.is_connected()
        with pytest.raises(errors.ConnectionError, match="closed"):
            await client.get("k")
        await client.connect()
        assert (await client.get("k")).value == b"v"
        await client.close()

    asyncio.run(main())


def test_connect_says_when_nobody_is_there(make_client: MakeClient) -> None:
    async def main() -> None:
        client = make_client(port=1)
        with pytest.raises(NoNodesAvailableError) as caught:
            await client.connect()
        assert isinstance(caught.value, errors.ConnectionError)
        assert not client.is_connected()
        await client.close()

    asyncio.run(main())


def test_the_next_node_serves_when_one_cannot_be_reached(server: ServerProcess) -> None:
    async def main() -> None:
        nodes = ["127.0.0.1:1", "127.0.0.1:2", f"127.0.0.1:{server.port}"]
        retry = RetryConfig(max_attempts=1)
        async with NoriKVClient(ClientConfig(nodes=nodes, retry=retry)) as client:
            await client.put("k", b"v")
            view = client.get_cluster_view()
            assert [node.role for node in view.nodes] == ["follower", "follower", "leader"]
            assert [node.addr for node in view.nodes] == nodes
            assert view.epoch == 3
            assert len(view.shards) == 1024
            assert view.shards[5].replicas[0].node_id == nodes[2]

    asyncio.run(main())


def test_addresses_of_all_kinds(server: ServerProcess) -> None:
    async def main() -> None:
        for address in (
            f"localhost:{server.port}",
            f"redis://localhost:{server.port}/0",
            f"unix://{server.socket_path}",
        ):
            async with NoriKVClient(ClientConfig(nodes=[address])) as client:
                await client.put("k", address)
                assert (await client.get("k")).value == address.encode()

    asyncio.run(main())
    for wrong in ("localhost", "localhost:", ":6379", "host:port", "host:99999", "http://host"):
        with pytest.raises(InvalidArgumentError):
            NoriKVClient(ClientConfig(nodes=[wrong]))
    with pytest.raises(InvalidArgumentError):
        NoriKVClient(ClientConfig(nodes=[]))


def test_passwords(start_server: StartServer) -> None:
    server = start_server(requirepass="secret")
    address = f"127.0.0.1:{server.port}"

    async def main() -> None:
        good = {"password": "secret"}
        async with NoriKVClient(ClientConfig([address], redis_options=good)) as client:
            await client.put("k", b"v")
        for options in ({}, {"password": "wrong"}):
            client = NoriKVClient(ClientConfig([address], redis_options=options, retry=QUICK))
            with pytest.raises(PermissionDeniedError):
                await client.connect()
            await client.close()

    asyncio.run(main())


def test_a_user_who_may_not_ask_for_the_command_table(start_server: StartServer) -> None:
    server = start_server()
    server.ask("ACL", "SETUSER", "u", "on", ">p", "~mine:*", "+@all", "-command")

    async def main() -> None:
        url = f"redis://u:p@127.0.0.1:{server.port}"
        async with NoriKVClient.from_url(url) as client:
            assert await client.execute("INCR", "mine:n") == 1
            for _ in range(2):
                assert await client.execute("INCR", "mine:n", token="t") == 2
            with pytest.raises(PermissionDeniedError):
                await client.execute("INCR", "yours:n")
            with pytest.raises(PermissionDeniedError):
                await client.transaction([["INCR", "mine:n"], ["INCR", "yours:n"]])
            assert await client.execute("GET", "mine:n") == b"2"

    asyncio.run(main())


def test_nori_kv_configuration_is_accepted(server: ServerProcess) -> None:
    async def main() -> None:
        config = ClientConfig(
            nodes=[f"127.0.0.1:{server.port}"],
            total_shards=16,
            timeout=2000,
            retry=RetryConfig(
                max_attempts=5,
                initial_delay_ms=100,
                max_delay_ms=2000,
                backoff_multiplier=1.5,
                jitter_ms=50,
                retry_on_not_leader=False,
            ),
            watch_cluster=False,
            max_connections_per_node=3,
        )
        assert config.attempt_seconds == 2
        async with NoriKVClient(config) as client:
            assert len(client.get_cluster_view().shards) == 16
            assert 0 <= client.get_shard_for_key("user:123") < 16

    asyncio.run(main())
    assert ClientConfig(["a:1"], timeout_ms=10).attempt_seconds == 0.01


def test_errors_share_a_base() -> None:
    error = NoriKVError("text", "CODE")
    assert (str(error), error.code, error.outcome_unknown) == ("text", "CODE", False)
    assert repr(error) == "NoriKVError(message='text', code='CODE')"


def test_a_cancelled_task_ends(run: Run) -> None:
    """A cancellation that met the end of a write was lost, and the task went on for ever."""

    async def steps(client: NoriKVClient) -> None:
        async def busy() -> None:
            while True:
                await client.transaction([("SET", "k", "v")])

        for number in range(150):
            task = asyncio.create_task(busy())
            await asyncio.sleep(number % 7 / 1000)
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=5)
            assert done, f"task {number} goes on after it was cancelled"

    run(steps)
