"""Cut connections, a killed server, cancelled calls: a write happens once or not, never twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

from norikv_resp.client import (
    AlreadyExistsError,
    ClientConfig,
    DeleteOptions,
    NoriKVClient,
    PutOptions,
    RetryConfig,
    RetryExhaustedError,
    TransientError,
    Version,
    VersionMismatchError,
    as_client,
    errors,
)
from tests.conftest import StartServer
from tests.norikv_client.conftest import QUICK
from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.effort import EFFORT, scaled, seeded
from tests.support.faulty_server import FaultyServer
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv


class Write(NamedTuple):
    """A write of the key ``k``.

    *prepare* makes the state before and returns what *make* needs to know of it; *is_right* judges
    what *make* returned together with the value and the version after.
    """

    prepare: Callable[[NoriKVClient], Awaitable[Any]]
    make: Callable[[NoriKVClient, Any], Awaitable[Any]]
    is_right: Callable[[Any, bytes | None, bytes | None], bool]
    changes: int = 1


async def nothing(client: NoriKVClient) -> None:
    await client.delete("k")


async def one(client: NoriKVClient) -> Version:
    await client.delete("k")
    return await client.put("k", b"1")


async def put(client: NoriKVClient, before: Any) -> bytes:
    return str(await client.put("k", b"x")).encode()


async def put_over(client: NoriKVClient, before: Version) -> bytes:
    return str(await client.put("k", b"x", PutOptions(if_match_version=before))).encode()


async def put_new(client: NoriKVClient, before: Any) -> bytes:
    return str(await client.put("k", b"x", PutOptions(if_not_exists=True))).encode()


async def delete(client: NoriKVClient, before: Version) -> bool:
    return await client.delete("k")


async def delete_version(client: NoriKVClient, before: Version) -> bool:
    return await client.delete("k", DeleteOptions(if_match_version=before))


async def increment(client: NoriKVClient, before: Any) -> Any:
    return await client.execute("INCR", "k")


async def append(client: NoriKVClient, before: Any) -> Any:
    return await client.execute("APPEND", "k", "xyz")


async def cas(client: NoriKVClient, before: Version) -> Any:
    return await client.execute("CAS", "k", before, "2")


async def transact(client: NoriKVClient, before: Version) -> Any:
    return await client.transaction([["INCR", "k"], ["APPEND", "k", "5"]], {"k": before})


WRITES = {
    "put": Write(one, put, lambda reply, value, version: value == b"x" and reply == version),
    "put over a version": Write(
        one, put_over, lambda reply, value, version: value == b"x" and reply == version
    ),
    "put if not exists": Write(
        nothing, put_new, lambda reply, value, version: value == b"x" and reply == version
    ),
    "delete": Write(one, delete, lambda reply, value, version: reply and version is None),
    "delete of a version": Write(
        one, delete_version, lambda reply, value, version: reply and version is None
    ),
    "INCR": Write(one, increment, lambda reply, value, version: (reply, value) == (2, b"2")),
    "APPEND": Write(one, append, lambda reply, value, version: (reply, value) == (4, b"1xyz")),
    "CAS": Write(
        one, cas, lambda reply, value, version: value == b"2" and reply == [1, version, None]
    ),
    "transaction": Write(
        one, transact, lambda reply, value, version: (reply, value) == ([2, 2], b"25"), changes=2
    ),
}


#: Writes that are cut at every byte of the request, whatever the effort.
EVERY_BYTE = {"put over a version", "INCR", "transaction"}


class Witness:
    """Counts the changes of ``k`` by its keyspace events, over connections of its own."""

    def __init__(self, port: int) -> None:
        self.redis = Redis(port=port, socket_timeout=10.0)
        self._events = self.redis.pubsub(ignore_subscribe_messages=True)
        self._marks = 0

    async def __aenter__(self) -> Witness:
        await self.redis.config_set("notify-keyspace-events", "KA")
        await self._events.subscribe("__keyspace@0__:k", "mark")
        await self.changes()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.redis.config_set("notify-keyspace-events", "")
        await self._events.aclose()
        await self.redis.aclose()

    async def changes(self) -> int:
        """How many there were since the last call."""
        self._marks += 1
        mark = str(self._marks).encode()
        while not await self.redis.publish("mark", mark):
            await asyncio.sleep(0.001)
        seen = 0
        while True:
            message = await self._events.get_message(timeout=10)
            if message is None:
                continue
            if message["data"] == mark:
                return seen
            seen += message["channel"] != b"mark"


def proxied(proxy: CuttingProxy, retry: RetryConfig = QUICK) -> NoriKVClient:
    return NoriKVClient(ClientConfig(nodes=[f"127.0.0.1:{proxy.port}"], retry=retry))


def places(requested: int, replied: int) -> list[Cut]:
    """Every byte of the request and of the reply."""
    cuts = [Cut(request=at) for at in range(1, requested + 1)]
    return cuts + [Cut(reply=at) for at in range(1, replied + 1)]


class Stage(NamedTuple):
    """A client behind a proxy, one that is not, and a witness."""

    proxy: CuttingProxy
    client: NoriKVClient
    direct: NoriKVClient
    witness: Witness

    async def places(self, write: Write) -> list[Cut]:
        """Every place at which *write* can be cut."""
        for _ in range(2):  # once for the client to learn the command's kind
            before = await write.prepare(self.direct)
            self.proxy.arm()
            await write.make(self.client, before)
        assert self.proxy.requested > 20 and self.proxy.replied >= 4
        return places(self.proxy.requested, self.proxy.replied)

    async def prepared(self, write: Write) -> Any:
        """What *write* needs; the client's connection is open and no change is uncounted."""
        before = await write.prepare(self.direct)
        await self.client.execute("PING")
        await self.witness.changes()
        return before

    async def found(self) -> list[Any]:
        """The value and the version."""
        return [await self.direct.execute(command, "k") for command in ("GET", "VER")]


@asynccontextmanager
async def staged(server: ServerProcess, retry: RetryConfig = QUICK) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(CuttingProxy(server.port))
        client = await stack.enter_async_context(proxied(proxy, retry))
        url = f"redis://127.0.0.1:{server.port}"
        direct = await stack.enter_async_context(NoriKVClient.from_url(url))
        witness = await stack.enter_async_context(Witness(server.port))
        yield Stage(proxy, client, direct, witness)


@pytest.mark.limit(120)
@pytest.mark.parametrize("name", WRITES)
def test_a_write_whose_connection_is_cut_anywhere_happens_once(
    server: ServerProcess, name: str
) -> None:
    write = WRITES[name]

    async def main() -> None:
        async with staged(server) as stage:
            cuts = await stage.places(write)
            if name not in EVERY_BYTE and EFFORT <= 1:
                # Half a request is half a request: some of its bytes, and where it is whole.
                cuts = [cut for cut in cuts if cut.reply or (cut.request or 0) % 6 == 1] + [
                    Cut(request=stage.proxy.requested)
                ]
            for cut in cuts:
                before = await stage.prepared(write)
                times = 3 if 1 in (cut.request, cut.reply) else 1
                stage.proxy.arm(cut, times)
                reply = await write.make(stage.client, before)
                assert stage.proxy.cuts == times, cut
                stage.proxy.arm()
                value, version = await stage.found()
                assert write.is_right(reply, value, version), (cut, reply, value, version)
                assert await stage.witness.changes() == write.changes, cut

    asyncio.run(main())


@pytest.mark.parametrize("name", WRITES)
def test_without_retries_a_cut_is_an_error_and_happens_once_at_most(
    server: ServerProcess, name: str
) -> None:
    write = WRITES[name]

    async def main() -> None:
        async with staged(server, RetryConfig(max_attempts=1)) as stage:
            cuts = await stage.places(write)
            for cut in cuts[:: max(1, round(3 / EFFORT))]:
                before = await stage.prepared(write)
                stage.proxy.arm(cut)
                try:
                    reply = await write.make(stage.client, before)
                except errors.ConnectionError as error:
                    unknown = error.outcome_unknown
                    reply = None
                stage.proxy.arm()
                changes = await stage.witness.changes()
                if reply is None:
                    assert unknown and changes in (0, write.changes), cut
                else:
                    assert cut == cuts[-1] and changes == write.changes

    asyncio.run(main())


def test_exhausted_retries_can_be_taken_up_later_under_the_same_key(server: ServerProcess) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(server.port))
            client = await stack.enter_async_context(proxied(proxy))
            await client.execute("INCR", "k")
            proxy.arm(Cut(reply=1), times=QUICK.max_attempts)
            with pytest.raises(RetryExhaustedError) as caught:
                await client.execute("INCR", "k")
            error = caught.value
            assert error.attempts == QUICK.max_attempts
            assert error.last_error is error.__cause__ is error.cause
            assert error.outcome_unknown
            assert error.idempotency_key is not None
            # The key's own words are part of what is repeated, its TTL is not.
            assert await client.execute("INCR", "k", token=error.idempotency_key) == 2
            assert await client.execute("GET", "k") == b"2"

    asyncio.run(main())


def test_a_read_is_repeated(server: ServerProcess) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(server.port))
            client = await stack.enter_async_context(proxied(proxy))
            await client.put("k", b"value")
            proxy.arm()
            await client.get("k")
            for cut in places(proxy.requested, proxy.replied):
                proxy.arm(cut)
                assert (await client.get("k")).value == b"value"
                assert proxy.cuts == 1

    asyncio.run(main())


def test_what_must_not_be_repeated_is_not(server: ServerProcess) -> None:
    """PUBLISH and blocking commands have no idempotency key: one attempt, then an error."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(server.port))
            client = await stack.enter_async_context(proxied(proxy))
            watcher = Redis(port=server.port, socket_timeout=5.0)
            stack.push_async_callback(watcher.aclose)
            listener = watcher.pubsub()
            stack.push_async_callback(listener.aclose)
            await listener.subscribe("news")
            await listener.get_message(timeout=5)
            assert await client.execute("PUBLISH", "news", "0") == 1
            await listener.get_message(timeout=5)
            proxy.arm(Cut(reply=1))
            with pytest.raises(TransientError) as caught:
                await client.execute("PUBLISH", "news", "1")
            assert caught.value.outcome_unknown
            await client.execute("PUBLISH", "news", "2")
            heard = [await listener.get_message(timeout=5) for _ in range(2)]
            assert [message["data"] for message in heard if message] == [b"1", b"2"]

    asyncio.run(main())


def test_what_was_never_sent_is_tried_again_whatever_it_is(start_server: StartServer) -> None:
    server = start_server()

    async def main() -> None:
        retry = RetryConfig(max_attempts=200, initial_delay_ms=20, max_delay_ms=50, jitter_ms=0)
        address = f"127.0.0.1:{server.port}"
        async with NoriKVClient(ClientConfig(nodes=[address], retry=retry)) as client:
            await client.execute("PUBLISH", "news", "0")
            await asyncio.to_thread(server.terminate)
            pending = asyncio.ensure_future(client.execute("PUBLISH", "news", "1"))
            await asyncio.sleep(0.1)
            assert not pending.done()
            await asyncio.to_thread(server.start)
            assert await pending == 0

    asyncio.run(main())


# -- the server dies ------------------------------------------------------------


@pytest.mark.limit(120)
def test_increments_are_exact_while_the_server_is_killed(start_server: StartServer) -> None:
    server = start_server()
    rng = seeded()
    workers, each = 8, 60

    async def main() -> None:
        retry = RetryConfig(
            max_attempts=10_000, initial_delay_ms=5, max_delay_ms=50, deadline_ms=60_000
        )
        config = ClientConfig(nodes=[f"127.0.0.1:{server.port}"], retry=retry)
        async with NoriKVClient(config) as client:
            seen: list[int] = []
            logged: list[int] = []

            async def work() -> None:
                for _ in range(each):
                    if rng.random() < 0.5:
                        seen.append(await client.execute("INCR", "n"))
                    else:
                        replies = await client.transaction([["INCR", "n"], ["APPEND", "log", "."]])
                        assert replies is not None
                        seen.append(replies[0])
                        logged.append(replies[1])
                    await asyncio.sleep(rng.uniform(0, 0.02))

            async def kill() -> None:
                for _ in range(scaled(2)):
                    await asyncio.sleep(rng.uniform(0.1, 0.3))
                    await asyncio.to_thread(server.restart, clean=False)

            await asyncio.gather(kill(), *(work() for _ in range(workers)))
            assert sorted(seen) == list(range(1, workers * each + 1))
            assert await client.execute("GET", "n") == str(workers * each).encode()
            assert sorted(logged) == list(range(1, len(logged) + 1))
            assert await client.execute("STRLEN", "log") == len(logged)

    asyncio.run(main())


def test_the_deadline_ends_the_retries(server: ServerProcess) -> None:
    async def main() -> None:
        retry = RetryConfig(max_attempts=10_000, initial_delay_ms=5, deadline_ms=200)
        client = NoriKVClient(ClientConfig(nodes=["127.0.0.1:1"], retry=retry))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(RetryExhaustedError) as caught:
            await client.get("k")
        assert loop.time() - begun < 5
        assert not caught.value.outcome_unknown
        await client.close()

    asyncio.run(main())


def test_a_server_that_does_not_answer(start_server: StartServer) -> None:
    server = start_server()

    async def main() -> None:
        config = ClientConfig(
            nodes=[f"127.0.0.1:{server.port}"], timeout_ms=100, retry=RetryConfig(max_attempts=2)
        )
        async with NoriKVClient(config) as client:
            await client.execute("INCR", "n")
            server.ask("CLIENT", "PAUSE", "30000", "WRITE")
            with pytest.raises(RetryExhaustedError) as caught:
                await client.execute("INCR", "n")
            assert caught.value.outcome_unknown
            assert getattr(caught.value.last_error, "timeout_ms", None) == 100
            key = caught.value.idempotency_key
            server.ask("CLIENT", "UNPAUSE")
            assert await client.execute("INCR", "n", token=key) == 2

    asyncio.run(main())


def test_calls_under_way_when_the_client_is_closed(server: ServerProcess) -> None:
    async def main() -> None:
        client = NoriKVClient.from_url(f"redis://127.0.0.1:{server.port}", max_connections=2)
        await client.execute("INCR", "n")
        server.ask("CLIENT", "PAUSE", "30000", "WRITE")
        calls = [asyncio.ensure_future(client.execute("INCR", "n")) for _ in range(4)]
        await asyncio.sleep(0.05)
        await client.close()
        done = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10)
        assert all(isinstance(each, errors.ConnectionError) for each in done), done
        assert not client.is_connected()

    try:
        asyncio.run(main())
    finally:
        server.ask("CLIENT", "UNPAUSE")


# -- the server's disk fails ----------------------------------------------------


@pytest.fixture
def faulty() -> Iterator[FaultyServer]:
    server = FaultyServer(appendfsync="always")
    try:
        yield server
    finally:
        server.close()


def test_a_commit_that_fails_is_repeated(faulty: FaultyServer) -> None:
    """MISCONF: whether it was applied or nobody knows, under its key it happens once."""
    faulty.start()

    async def main() -> None:
        async with NoriKVClient.from_url(f"redis://127.0.0.1:{faulty.port}") as client:
            for total, (operation, error) in enumerate(
                [("pwrite", "EIO"), ("fdatasync", "EIO"), ("pwrite", "ENOSPC")], start=1
            ):
                await asyncio.to_thread(faulty.tell, "arm", operation, 1, error)
                assert await client.execute("INCR", "n") == total
            assert await client.execute("GET", "n") == b"3"

    asyncio.run(main())


def test_a_full_disk_is_an_error_and_then_not(faulty: FaultyServer) -> None:
    faulty.start()

    async def main() -> None:
        address = f"127.0.0.1:{faulty.port}"
        async with NoriKVClient(ClientConfig(nodes=[address], retry=QUICK)) as client:
            await client.execute("INCR", "n")
            await asyncio.to_thread(faulty.tell, "fill", True)
            with pytest.raises(RetryExhaustedError) as caught:
                await client.execute("INCR", "n")
            assert isinstance(caught.value.last_error, errors.UnavailableError)
            assert await client.execute("GET", "n") == b"1"
            await asyncio.to_thread(faulty.tell, "fill", False)
        key = caught.value.idempotency_key
        patient = RetryConfig(max_attempts=1000, initial_delay_ms=50, max_delay_ms=50)
        async with NoriKVClient(ClientConfig(nodes=[address], retry=patient)) as client:
            for _ in range(2):
                assert await client.execute("INCR", "n", token=key) == 2

    asyncio.run(main())


# -- the call is cancelled ------------------------------------------------------


@pytest.mark.limit(120)
@pytest.mark.parametrize("wrapped", [False, True], ids=["own pool", "wrapped Redis"])
def test_cancelled_calls_leave_the_client_usable(server: ServerProcess, wrapped: bool) -> None:
    rng = seeded()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            if wrapped:
                redis = Redis(port=server.port, decode_responses=True)
                stack.push_async_callback(redis.aclose)
                client = as_client(redis)
            else:
                config = ClientConfig(
                    nodes=[f"127.0.0.1:{server.port}"], max_connections_per_node=3, retry=QUICK
                )
                client = await stack.enter_async_context(NoriKVClient(config))
            for number in range(20):
                await client.put(f"k:{number}", f"v:{number}")

            async def read(number: int) -> None:
                found = await client.get(f"k:{number}")
                assert found.value == f"v:{number}".encode()

            async def transact(number: int) -> None:
                replies = await client.transaction([["GET", f"k:{number}"], ["PING"]])
                assert replies == [f"v:{number}".encode(), b"PONG"]

            cancelled = 0
            for _ in range(scaled(60)):
                calls = [
                    asyncio.ensure_future(rng.choice([read, transact])(number))
                    for number in range(20)
                ]
                for call in calls:
                    if rng.random() < 0.5:
                        asyncio.get_running_loop().call_later(rng.uniform(0, 0.01), call.cancel)
                done = await asyncio.gather(*calls, return_exceptions=True)
                wrong = [each for each in done if isinstance(each, Exception)]
                assert not wrong, wrong
                cancelled += sum(isinstance(each, asyncio.CancelledError) for each in done)
            assert cancelled > 20
            await asyncio.wait_for(asyncio.gather(*(read(n % 20) for n in range(60))), 20)
            assert not client.redis.connection_pool._in_use_connections

    asyncio.run(main())


def test_a_timeout_around_a_call(server: ServerProcess) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(server.port))
            client = await stack.enter_async_context(proxied(proxy))
            await client.execute("INCR", "n")
            server.ask("CLIENT", "PAUSE", "30000", "WRITE")
            try:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(client.execute("INCR", "n"), 0.05)
            finally:
                server.ask("CLIENT", "UNPAUSE")
            assert await client.execute("GET", "n") in (b"1", b"2")
            assert await client.execute("INCR", "n") in (2, 3)

    asyncio.run(main())


# -- what a retry finds ---------------------------------------------------------


def test_a_lost_condition_stays_lost_after_a_retry(server: ServerProcess) -> None:
    """The reply to a refused put is lost; the retry is refused for the same reason."""

    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(server.port))
            client = await stack.enter_async_context(proxied(proxy))
            first = await client.put("k", b"1")
            second = await client.put("k", b"2")
            for options, expected in (
                (PutOptions(if_match_version=first), VersionMismatchError),
                (PutOptions(if_not_exists=True), AlreadyExistsError),
            ):
                proxy.arm(Cut(reply=1))
                with pytest.raises(expected):
                    await client.put("k", b"3", options)
            proxy.arm()
            assert (await client.get("k")).version == second

    asyncio.run(main())


def test_a_put_whose_reply_was_lost_is_not_a_mismatch_after_others_wrote(
    server: ServerProcess,
) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            proxy = await stack.enter_async_context(CuttingProxy(server.port))
            client = await stack.enter_async_context(
                proxied(proxy, RetryConfig(max_attempts=2, initial_delay_ms=0, jitter_ms=300))
            )
            direct = await stack.enter_async_context(
                NoriKVClient.from_url(f"redis://127.0.0.1:{server.port}")
            )
            before = await client.put("k", b"1")
            proxy.arm(Cut(reply=1))
            call = asyncio.ensure_future(client.put("k", b"2", PutOptions(if_match_version=before)))
            while not proxy.cuts:
                await asyncio.sleep(0.001)
            mine = (await direct.get("k")).version
            await direct.put("k", b"3")
            assert await call == mine
            assert (await direct.get("k")).value == b"3"

    asyncio.run(main())
