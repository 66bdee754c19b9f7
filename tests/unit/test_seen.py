"""The filter of keys that a database may hold never hides one."""

from __future__ import annotations

import random

from norikv_resp.database import Database
from norikv_resp.seen import SeenKeys
from tests.unit.keyspace_fakes import Host


def key(number: int) -> bytes:
    return b"key:%012d" % number


def test_what_was_noted_is_always_found_and_most_else_is_not() -> None:
    seen = SeenKeys()
    assert not seen.may_hold(key(0))
    for number in range(200_000):  # grows three times
        seen.add(key(number))
    assert all(seen.may_hold(key(number)) for number in range(200_000))
    assert sum(seen.may_hold(b"other" + key(number)) for number in range(10_000)) < 2000


def written(host: Host, database: Database, name: bytes, value: bytes) -> None:
    host.write()
    database.put(name, value)


def committed(host: Host) -> None:
    host.keyspace.seal()
    host.store.commit()


def forget_cached(database: Database) -> None:
    database.young, database.older = {}, {}


def rolled_back(host: Host) -> None:
    host.keyspace.rolled_back(host.store.fail())
    for database in host.keyspace.databases:
        forget_cached(database)


def test_a_database_with_a_past_asks_for_every_key() -> None:
    host = Host()
    written(host, host.keyspace.databases[0], b"k", b"v")
    committed(host)
    again = Host()
    again.store = host.store
    again.keyspace.__init__(host.store, 2, 1 << 20)  # type: ignore[misc]
    first, second = again.keyspace.databases
    assert first.seen is None and second.seen is None
    assert first.get_string(b"k") == b"v"


def test_a_failed_flush_brings_the_keys_back() -> None:
    host = Host()
    database = host.keyspace.databases[0]
    written(host, database, b"k", b"v")
    committed(host)
    host.write().flush([database])
    assert database.get(b"k") is None
    rolled_back(host)
    assert database.get_string(b"k") == b"v"


def test_random_writes_flushes_swaps_and_failures_lose_no_key() -> None:
    pick = random.Random(7)
    for _ in range(30):
        host = Host()
        model: list[dict[bytes, bytes]] = [{}, {}]
        safe = [dict(each) for each in model]
        for _ in range(60):
            number = pick.randrange(2)
            database = host.keyspace.databases[number]
            action = pick.random()
            if action < 0.6:
                name, value = key(pick.randrange(20)), b"%d" % pick.randrange(100)
                written(host, database, name, value)
                model[number][name] = value
            elif action < 0.7:
                name = key(pick.randrange(20))
                host.write()
                assert database.delete(name) == (model[number].pop(name, None) is not None)
            elif action < 0.75:
                host.write().flush([database])
                model[number] = {}
            elif action < 0.8:
                host.write().swap(*host.keyspace.databases)
                model.reverse()
            elif action < 0.9:
                committed(host)
                safe = [dict(each) for each in model]
            else:
                rolled_back(host)
                model = [dict(each) for each in safe]
            if pick.random() < 0.5:
                forget_cached(database)
            for each, expected in zip(host.keyspace.databases, model, strict=True):
                for n in range(20):
                    assert each.get_string(key(n)) == expected.get(key(n))
