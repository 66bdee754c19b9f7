"""INFO shows real figures under Redis's names."""

from __future__ import annotations

import redis

from tests.conftest import Connect, StartServer
from tests.support.resp import Wire


def info(wire: Wire, *sections: str) -> dict[str, str]:
    lines = wire.ok("INFO", *sections).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if line and not line.startswith("#"))


def test_versions_and_sections(wire: Wire) -> None:
    everything = wire.ok("INFO", "everything").decode()
    headings = [line[2:] for line in everything.splitlines() if line.startswith("# ")]
    assert headings == [
        "Server",
        "Clients",
        "Memory",
        "Persistence",
        "Stats",
        "Replication",
        "CPU",
        "Modules",
        "Commandstats",
        "Errorstats",
        "Latencystats",
        "Cluster",
        "Keyspace",
        "NoriKV",
        "Vectors",
    ]
    assert info(wire, "server")["redis_version"] == "8.8.0"
    assert set(info(wire, "cpu", "cluster")) == {
        "used_cpu_sys",
        "used_cpu_user",
        "used_cpu_sys_children",
        "used_cpu_user_children",
        "cluster_enabled",
    }
    assert wire.ok("INFO", "nosuch") == b""


def test_keyspace_counts(wire: Wire) -> None:
    wire.ok("MSET", "a", "1", "b", "2")
    wire.ok("EXPIRE", "a", "1000")
    wire.ok("SELECT", "3")
    wire.ok("SET", "c", "3")
    found = info(wire, "keyspace")
    assert found["db0"] == "keys=2,expires=1,avg_ttl=0,subexpiry=0"
    assert found["db3"] == "keys=1,expires=0,avg_ttl=0,subexpiry=0"


def test_norikv_follows_writes(start_server: StartServer, connect: Connect) -> None:
    wire = connect(2, to=start_server())
    before = info(wire, "norikv")
    wire.ok("SET", "k", "v")
    wire.ok("SET", "k", "w", "IDEM", "t")
    after = info(wire, "norikv")
    version = wire.ok("VER", "k").decode()
    assert version == f"{after['term']}-{after['index']}"
    assert int(after["frames"]) >= int(before["frames"]) + 2
    assert after["durability"] == "always"
    assert after["idempotency_records"] == "1"
    assert after["synced_index"] == after["index"]


def test_statistics_count_hot_paths_and_are_reset(
    start_server: StartServer, connect: Connect
) -> None:
    wire = connect(2, to=start_server())
    wire.pipeline([("SET", f"k{n}", "v") for n in range(50)])
    wire.call("NOSUCH")
    wire.call("INCR", "k0")
    stats = info(wire, "stats", "commandstats", "errorstats", "latencystats")
    assert stats["cmdstat_set"].startswith("calls=50,")
    assert int(stats["total_commands_processed"]) >= 51
    assert stats["errorstat_ERR"] == "count=2"
    assert "failed_calls=1" in stats["cmdstat_incr"]
    assert "latency_percentiles_usec_incr" in stats
    assert wire.ok("CONFIG", "RESETSTAT") == b"OK"
    again = info(wire, "stats", "commandstats", "errorstats")
    assert "cmdstat_set" not in again
    assert "errorstat_ERR" not in again


def test_reads_count_as_hits_and_misses(start_server: StartServer, connect: Connect) -> None:
    wire = connect(2, to=start_server())

    def counted(*requests: tuple[str, ...]) -> tuple[int, int]:
        wire.ok("CONFIG", "RESETSTAT")
        for request in requests:
            wire.call(*request)
        stats = info(wire, "stats")
        return int(stats["keyspace_hits"]), int(stats["keyspace_misses"])

    wire.ok("SET", "here", "v")
    wire.ok("VADD", "vectors", "VALUES", "2", "1", "2", "e")
    assert counted(("GET", "here"), ("GET", "gone"), ("GETRANGE", "here", "0", "1")) == (2, 1)
    assert counted(("MGET", "here", "here", "gone"), ("MGET", "here", "here")) == (4, 1)
    assert counted(("EXISTS", "here", "gone"), ("TTL", "here"), ("TYPE", "gone")) == (2, 2)
    assert counted(("GETVER", "here"), ("VCARD", "vectors"), ("VCARD", "gone")) == (2, 1)
    assert counted(("SET", "here", "w"), ("DEL", "gone"), ("CAS", "here", "0", "x")) == (0, 0)
    assert counted(("SET", "here", "w", "GET"), ("GET", "vectors")) == (2, 0)


def test_redis_py_reads_it(redis_client: redis.Redis) -> None:
    redis_client.set("k", "v")
    found = redis_client.info()
    assert found["db0"]["keys"] == 1
    assert found["connected_clients"] >= 1
    assert found["used_memory"] > 0
    assert redis_client.client_list()[0]["db"] == "0"
    assert redis_client.config_get("databases") == {"databases": "16"}
