"""A program as a user writes it: it has to pass mypy --strict, and to run."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from redis.asyncio import Redis

from norikv_resp.client import (
    ClientConfig,
    ClientStats,
    ClusterView,
    ConsistencyLevel,
    DeleteOptions,
    GetOptions,
    GetResult,
    KeyNotFoundError,
    NoriKVClient,
    PutOptions,
    RetryConfig,
    TopologyChangeEvent,
    Version,
    VersionMismatchError,
    as_client,
    create_ephemeral,
)


async def increment(client: NoriKVClient, key: str) -> int:
    while True:
        current: GetResult = await client.get(
            key, GetOptions(consistency=ConsistencyLevel.LINEARIZABLE)
        )
        total = int(current.value.decode()) + 1
        try:
            await client.put(key, str(total), PutOptions(if_match_version=current.version))
        except VersionMismatchError as lost:
            seen: Version | None = lost.actual_version
            print("lost against", seen)
            continue
        return total


def on_topology_change(event: TopologyChangeEvent) -> None:
    added: list[str] = event.added_nodes
    print(f"{event.previous_epoch} to {event.current_epoch}: {added}, {event.removed_nodes}")


async def main(url: str) -> None:
    config = ClientConfig(nodes=[url], total_shards=1024, retry=RetryConfig(max_attempts=5))
    async with NoriKVClient(config) as client:
        version: Version = await client.put("n", b"0", PutOptions(ttl_ms=60_000))
        totals: list[int] = await asyncio.gather(*(increment(client, "n") for _ in range(5)))
        assert sorted(totals) == [1, 2, 3, 4, 5]
        try:
            await client.delete("n", DeleteOptions(if_match_version=version))
        except VersionMismatchError as error:
            key: bytes = error.key
            print(key, "had changed since", error.expected_version)
        try:
            await client.get("nope")
        except KeyNotFoundError:
            pass
        unsubscribe = client.on_topology_change(on_topology_change)
        unsubscribe()
        stats: ClientStats = client.get_stats()
        assert (stats.pool.active_connections > 0, stats.router.total_nodes) == (True, 1)
        assert stats.topology.cached_leaders == 1024
        view: ClusterView = client.get_cluster_view()
        replies: list[Any] | None = await client.transaction([["GET", "n"]], {"n": version})
        assert replies is None and len(view.nodes) == 1
        # What is wrong has to be seen: an ignore that nothing needs is an error to mypy.
        if len(view.nodes) > 1:
            await client.put("n", 5)  # type: ignore[arg-type]
            await client.get("n", PutOptions())  # type: ignore[arg-type]
    redis: Redis = Redis.from_url(url)
    deleted: bool = await as_client(redis).delete("n")
    assert deleted
    await redis.aclose()
    async with create_ephemeral(total_shards=16) as cluster, cluster.get_client() as mine:
        await mine.put("k", "v")
        value: bytes = (await mine.get("k")).value
        assert value == b"v"


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
