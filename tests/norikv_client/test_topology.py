"""The cluster view as it changes, and the client's figures."""

from __future__ import annotations

import asyncio
import logging

import pytest

from norikv_resp.client import (
    ClientConfig,
    ClusterView,
    InvalidArgumentError,
    LeaderChange,
    NoriKVClient,
    PutOptions,
    RequestStats,
    RetryConfig,
    RetryExhaustedError,
    TopologyChangeEvent,
    Version,
)
from norikv_resp.client.topology import Topology
from tests.conftest import StartServer
from tests.norikv_client.conftest import QUICK, MakeClient
from tests.norikv_client.test_nodes import node
from tests.support.cutting_proxy import Cut, CuttingProxy
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv


def led_by(view: ClusterView) -> str | None:
    """The address that leads every shard of *view*, by its nodes and by its shards."""
    (leader,) = {
        next((replica.node_id for replica in shard.replicas if replica.leader), None)
        for shard in view.shards
    }
    assert [each.addr for each in view.nodes if each.role == "leader"] == [leader] * bool(leader)
    return leader


# -- the view ------------------------------------------------------------------


def test_a_lost_node_leads_nothing_until_it_answers() -> None:
    topology = Topology(["a", "b"], 3)
    events: list[TopologyChangeEvent] = []
    unsubscribe = topology.subscribe(events.append)
    assert (led_by(topology.view()), topology.stats().cached_leaders) == ("a", 3)
    topology.report("a", frozenset())
    assert events == []

    topology.report("b", frozenset("a"))
    moved = {shard: LeaderChange("a", "b") for shard in range(3)}
    assert events.pop() == TopologyChangeEvent(1, 2, [], ["a"], moved)
    topology.report("b", frozenset("ab"))
    assert (led_by(topology.view()), topology.stats().cached_leaders) == (None, 0)
    assert events.pop().leader_changes[2] == LeaderChange("b", None)
    topology.report("a", frozenset("ab"))  # another one that does not answer: nothing to tell
    assert events == []
    topology.report("a", frozenset("b"))
    gained = {shard: LeaderChange(None, "a") for shard in range(3)}
    assert events.pop() == TopologyChangeEvent(3, 4, ["a"], [], gained)
    topology.report("a", frozenset())
    assert events.pop() == TopologyChangeEvent(4, 5, ["b"], [], {})

    unsubscribe()
    unsubscribe()
    topology.report("b", frozenset())
    assert (events, topology.epoch) == ([], 6)


def test_a_server_that_was_started_anew_has_a_higher_term() -> None:
    topology = Topology(["a"], 1)
    events: list[TopologyChangeEvent] = []
    topology.subscribe(events.append)
    for term in (4, 4, 5, 4, 5):  # the second 4 is a write that is told once more
        topology.wrote(Version(term, 1))
    assert events == [TopologyChangeEvent(1, 2, [], [], {})]


def test_a_listener_that_fails_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def broken(event: TopologyChangeEvent) -> None:
        raise RuntimeError(f"cannot digest {event.current_epoch}")

    topology = Topology(["a"], 1)
    events: list[TopologyChangeEvent] = []
    for listener in (broken, events.append, events.append):
        topology.subscribe(listener)
    with caplog.at_level(logging.ERROR, "norikv_resp.client"):
        topology.report("a", frozenset("a"))
    assert len(events) == 2 and topology.stats().listener_count == 3
    assert "cannot digest 2" in caplog.text


def test_a_listener_may_end_its_subscription_itself() -> None:
    topology = Topology(["a"], 1)
    heard = []

    def once(event: TopologyChangeEvent) -> None:
        heard.append(event.current_epoch)
        unsubscribe()

    unsubscribe = topology.subscribe(once)
    topology.report("a", frozenset("a"))
    topology.report("a", frozenset())
    assert heard == [2]


def test_a_server_that_goes_and_comes_back(start_server: StartServer) -> None:
    server = start_server()
    address = f"127.0.0.1:{server.port}"

    async def main() -> None:
        events: list[TopologyChangeEvent] = []
        async with NoriKVClient(ClientConfig([address], total_shards=2, retry=QUICK)) as client:
            client.on_topology_change(events.append)
            await client.put("k", b"1")
            assert events == []
            await asyncio.to_thread(server.kill9)
            for _ in range(2):
                with pytest.raises(RetryExhaustedError):
                    await client.get("k")
            (gone,) = events
            assert (gone.removed_nodes, gone.added_nodes) == ([address], [])
            assert gone.leader_changes == {0: (address, None), 1: (address, None)}
            assert client.get_cluster_view().epoch == gone.current_epoch == 2
            assert led_by(client.get_cluster_view()) is None

            await asyncio.to_thread(server.start)
            assert (await client.get("k")).value == b"1"
            back = events[1]
            assert (back.previous_epoch, back.added_nodes) == (2, [address])
            assert led_by(client.get_cluster_view()) == address
            await client.put("k", b"2")  # its version tells that this is another start
            assert [event.current_epoch for event in events] == [2, 3, 4]
            await client.put("k", b"3")
        assert len(events) == 3  # that the client closes is no loss

    asyncio.run(main())


def test_a_restart_that_no_request_met_is_told_by_the_next_write(
    start_server: StartServer,
) -> None:
    server = start_server()

    async def main() -> None:
        events: list[TopologyChangeEvent] = []
        async with NoriKVClient.from_url(f"redis://127.0.0.1:{server.port}") as client:
            client.on_topology_change(events.append)
            options = PutOptions(idempotency_key="t")
            first = await client.put("k", b"1", options)
            await asyncio.to_thread(server.restart, clean=False)
            before = len(events)
            assert await client.put("k", b"1", options) == first  # as it was answered then
            assert len(events) == before
            await client.put("k", b"2")
            assert len(events) == before + 1

    asyncio.run(main())


def test_a_connection_that_is_cut_is_a_loss_and_its_repetition_the_way_back(
    server: ServerProcess,
) -> None:
    async def main() -> None:
        async with CuttingProxy(server.port) as proxy:
            address = f"127.0.0.1:{proxy.port}"
            events: list[TopologyChangeEvent] = []
            async with NoriKVClient(ClientConfig([address], retry=QUICK)) as client:
                client.on_topology_change(events.append)
                proxy.arm(Cut(request=5))
                await client.put("k", b"v")
                assert proxy.cuts == 1
        assert [each.removed_nodes for each in events] == [[address], []]
        assert [each.added_nodes for each in events] == [[], [address]]

    asyncio.run(main())


def test_a_node_that_is_merely_slow_or_loading_is_not_lost(server: ServerProcess) -> None:
    async def main() -> None:
        for answer in (None, b"-LOADING Redis is loading the dataset in memory\r\n"):
            async with node(lambda name, answer=answer: answer) as first:  # type: ignore[misc]
                nodes = [first, f"127.0.0.1:{server.port}"]
                events: list[TopologyChangeEvent] = []
                client = NoriKVClient(ClientConfig(nodes, 1, retry=QUICK, timeout_ms=200))
                client.on_topology_change(events.append)
                await client.put("k", b"v")
                await client.close()
                moved = {0: LeaderChange(*nodes)}
                assert events == [TopologyChangeEvent(1, 2, [], [], moved)]

    asyncio.run(main())


# -- figures -------------------------------------------------------------------


def test_the_figures_of_a_client(make_client: MakeClient) -> None:
    async def main() -> None:
        client = make_client(total_shards=16, max_connections_per_node=3)
        fresh = client.get_stats()
        assert (fresh.requests, fresh.closed) == (RequestStats(0, 0, 0, 0, {}), False)
        assert fresh.pool.active_connections == 0
        await client.connect()
        pinged = client.get_stats()
        assert pinged.requests.total == 1
        assert (pinged.pool.active_connections, pinged.pool.in_use) == (1, 0)

        puts = [asyncio.create_task(client.put(f"k{n}", b"v")) for n in range(9)]
        while not client.get_stats().pool.in_use:
            await asyncio.sleep(0)
        busy = client.get_stats()
        assert busy.requests.in_progress == 9 and 1 <= busy.pool.in_use <= 3
        await asyncio.gather(*puts)
        with pytest.raises(InvalidArgumentError):
            await client.put("k", b"v", PutOptions(ttl_ms=-1))
        assert await client.delete("nope") is False

        unsubscribe = client.on_topology_change(print)
        stats = client.get_stats()
        assert stats.requests == RequestStats(12, 0, 0, 1, {"INVALID_ARGUMENT": 1})
        assert 1 <= stats.pool.active_connections <= stats.pool.max_connections_per_node == 3
        assert (stats.router.total_nodes, stats.router.total_shards) == (1, 16)
        assert stats.router.cached_leaders == stats.topology.cached_leaders == 16
        assert stats.router.cache_hit_ratio == 1
        assert (stats.topology.current_epoch, stats.topology.listener_count) == (1, 1)
        unsubscribe()
        await client.close()
        last = client.get_stats()
        assert last.closed and last.pool.closed
        assert (last.pool.active_connections, last.topology.listener_count) == (0, 0)

    asyncio.run(main())


def test_retries_and_what_failed_in_the_end_are_counted() -> None:
    async def main() -> None:
        retry = RetryConfig(max_attempts=3, initial_delay_ms=1, jitter_ms=0)
        client = NoriKVClient(ClientConfig(["127.0.0.1:1"], retry=retry))
        for _ in range(2):
            with pytest.raises(RetryExhaustedError):
                await client.get("k")
        task = asyncio.create_task(client.get("k"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        stats = client.get_stats()
        assert (stats.requests.retries, stats.requests.failed) == (4, 2)
        assert stats.requests.errors == {"RETRY_EXHAUSTED": 2}
        assert (stats.requests.total, stats.requests.in_progress) == (3, 0)
        assert (stats.router.cached_leaders, stats.router.cache_hit_ratio) == (0, 0)
        await client.close()

    asyncio.run(main())
