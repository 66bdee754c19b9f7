"""The sweeper against a dict, and what its steps cost."""

from __future__ import annotations

import random

import pytest

from norikv_resp.encoding import (
    CURSOR_EXPIRY,
    PRESENT,
    STRING,
    IdempotencyRecord,
    decode_record,
    encode_idempotency,
    idem_expiry_row,
    idem_row,
    reclaim_row,
    split_expiry_row,
    split_reclaim_row,
)
from norikv_resp.expiry import GROUP, Sweeper
from tests.unit.keyspace_fakes import Host


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def sweeper(host: Host, monkeypatch: pytest.MonkeyPatch) -> Sweeper:
    """Its steps end by their budget of rows alone, however slow the machine is."""
    monkeypatch.setattr("norikv_resp.expiry.STEP_SECONDS", 60.0)
    return Sweeper(host)


def sweep(host: Host, sweeper: Sweeper, most: int = 10_000) -> int:
    """Step until nothing is left to do; how many steps it took."""
    for steps in range(1, most):
        more = sweeper.step()
        host.turn()
        if not more:
            return steps
    raise AssertionError("sweeping does not end")


def check(host: Host) -> None:
    """Every derived row has its primary one, counts are right, no key has two expiry rows."""
    keyspace = host.keyspace
    for database in keyspace.databases:
        records = {
            row[5:]: decode_record(value)
            for row, value in host.store.live(b"m").items()
            if row[:5] == database.prefix
        }
        assert database.keys == len(records)
        assert database.expires == sum(bool(record.expire_at) for record in records.values())
        rows = [split_expiry_row(row) for row in host.store.live(b"x")]
        mine = sorted((key, at) for at, epoch, key in rows if epoch == database.epoch)
        assert mine == sorted(
            (key, record.row_at) for key, record in records.items() if record.row_at
        )
    assert all(row >= keyspace.expiry_cursor for row in host.store.live(b"x"))
    assert host.idempotency.records == len(host.store.live(b"i"))


def test_expired_keys_are_reclaimed_and_counted(host: Host, sweeper: Sweeper) -> None:
    events: list[tuple[str, bytes, bytes]] = []
    host.keyspace.events = lambda database, kind, event, key: events.append((kind, event, key))
    keys = host.write().databases[0]
    keys.put(b"a", b"1", host.clock.time + 10)
    keys.put(b"b", b"2", host.clock.time + 20)
    keys.put(b"c", b"3")
    host.turn()
    host.clock.time += 10
    host.keyspace.begin_batch()
    assert sweeper.due(keys) == 1
    sweep(host, sweeper)
    assert sweeper.due(keys) == 0
    assert keys.keys == 2
    assert host.stats.expired_keys == 1
    assert events == [("x", b"expired", b"a")]
    assert keys.get(b"a") is None
    assert keys.get(b"b") is not None
    check(host)


def test_an_expired_key_that_is_overwritten_was_expired_too(host: Host, sweeper: Sweeper) -> None:
    events: list[tuple[bytes, bytes]] = []
    host.keyspace.events = lambda database, kind, event, key: events.append((event, key))
    keys = host.write().databases[0]
    for key in (b"a", b"b", b"c"):
        keys.put(key, b"1", host.clock.time + 10)
    host.turn()
    host.clock.time += 10
    host.write()
    keys.put(b"a", b"2")
    keys.put(b"a", b"3", host.clock.time + 10)
    keys.remove(b"b")
    host.turn()
    assert sweeper.due(keys) == 1
    sweep(host, sweeper)
    assert sorted(events) == [(b"expired", b"a"), (b"expired", b"b"), (b"expired", b"c")]
    assert host.stats.expired_keys == 3
    check(host)


def test_reclaiming_touches_neither_watchers_nor_other_versions(
    host: Host, sweeper: Sweeper
) -> None:
    class Watcher:
        fired = False

        def key_changed(self) -> None:
            self.fired = True

    watcher = Watcher()
    keys = host.write().databases[0]
    keys.put(b"a", b"1", host.clock.time + 10)
    keys.put(b"b", b"1")
    host.turn()
    host.clock.time += 10
    host.keyspace.begin_batch()
    host.keyspace.watch(keys, b"a", watcher)
    record = keys.get(b"b")
    assert record is not None
    before = keys.version(record)
    sweep(host, sweeper)
    assert not watcher.fired
    record = keys.get(b"b")
    assert record is not None
    assert keys.version(record) == before


def test_a_deadline_that_moved_back_moves_its_row_and_keeps_the_version(
    host: Host, sweeper: Sweeper
) -> None:
    keys = host.write().databases[0]
    keys.put(b"a", b"1", host.clock.time + 10)
    host.turn()
    for later in (100, 1000, 5000):
        record = keys.get(b"a")
        assert record is not None
        host.write()
        keys.set_deadline(b"a", record, host.clock.time + later)
        host.turn()
    assert len(host.store.live(b"x")) == 1
    record = keys.get(b"a")
    assert record is not None
    version = keys.version(record)
    host.clock.time += 10
    host.keyspace.begin_batch()
    assert sweeper.due(keys) == 0
    sweep(host, sweeper)
    record = keys.get(b"a")
    assert record is not None
    assert keys.version(record) == version
    assert record.row_at == record.expire_at
    check(host)
    host.clock.time += 5000
    sweep(host, sweeper)
    assert keys.keys == 0
    check(host)


def test_a_deadline_in_the_past_sends_the_cursor_back(host: Host, sweeper: Sweeper) -> None:
    keys = host.write().databases[0]
    keys.put(b"a", b"1", host.clock.time + 10)
    host.turn()
    host.clock.time += 1000
    sweep(host, sweeper)
    keys = host.write().databases[0]
    keys.put(b"late", b"1", host.clock.time - 500)
    host.turn()
    assert keys.get(b"late") is None
    again = Sweeper(host)  # a restart finds the stored cursor
    sweep(host, again)
    assert keys.keys == 0
    check(host)


def test_a_restart_goes_on_at_the_stored_cursor(host: Host, sweeper: Sweeper) -> None:
    keys = host.write().databases[0]
    for number in range(1000):
        keys.put(b"%d" % number, b"", host.clock.time + 1)
    host.turn()
    host.clock.time += 1
    assert sweeper.step()
    host.turn()
    stored = host.store.get(CURSOR_EXPIRY)
    assert stored == host.keyspace.expiry_cursor
    other = Host()
    other.store.rows = host.store.rows
    assert type(host.keyspace)(other.store, 2, 1 << 20).expiry_cursor == stored  # type: ignore[arg-type]


def test_a_failed_commit_undoes_a_step(host: Host, sweeper: Sweeper) -> None:
    keys = host.write().databases[0]
    big = b"x" * 200_000
    for number in range(100):
        keys.put(b"%d" % number, big if number % 10 == 0 else b"", host.clock.time + 1)
    host.turn()
    host.clock.time += 1
    chance = random.Random(5)
    for _ in range(1000):
        more = sweeper.step(20)
        host.keyspace.seal()
        if chance.random() < 0.3:
            host.keyspace.rolled_back(host.store.fail())
        elif chance.random() < 0.5:
            host.store.commit()
        if not more and not host.store.flight and not host.store.live(b"r"):
            break
    else:
        raise AssertionError("sweeping does not end")
    host.turn()
    assert keys.keys == 0
    assert not host.store.live(b"e")
    check(host)


def test_sweeping_rests_while_writes_are_refused(host: Host, sweeper: Sweeper) -> None:
    host.write().databases[0].put(b"a", b"1", host.clock.time + 1)
    host.turn()
    host.clock.time += 1
    host.store.refusal = "the disk is full"
    assert not sweeper.step()
    assert not host.store.open
    assert sweeper.turn(0.1) == 0.1


def test_an_idle_server_writes_nothing(host: Host, sweeper: Sweeper) -> None:
    host.write().databases[0].put(b"a", b"1")
    host.turn()
    sweep(host, sweeper)
    frames = len(host.store.frames)
    for _ in range(500):
        host.clock.time += 1000
        sweeper.step()
        host.turn()
    assert len(host.store.frames) <= frames + 1


# -- flushed databases and deleted values ------------------------------------


def test_a_flushed_database_is_reclaimed_whole(host: Host, sweeper: Sweeper) -> None:
    keys = host.write().databases[0]
    for number in range(500):
        keys.put(b"%d" % number, b"v", host.clock.time + 5 if number % 2 else 0)
    keys.put(b"big", b"x" * 300_000)
    keys.put(b"", b"the empty name")
    host.write().databases[1].put(b"stays", b"v")
    scope = b"s" * 16
    rows = host.store.open
    rows[idem_row(keys.idem_epoch, scope)] = encode_idempotency(
        IdempotencyRecord(host.clock.time + 100, b"f" * 16, b"r")
    )
    rows[idem_expiry_row(host.clock.time + 100, keys.idem_epoch, scope)] = PRESENT
    host.idempotency.records = 1
    host.turn()
    host.write().flush([keys])
    host.turn()
    host.write()
    keys.put(b"new", b"v", host.clock.time + 5)
    host.turn()
    sweep(host, sweeper)
    assert {row[5:] for row in host.store.live(b"m")} == {b"stays", b"new"}
    assert len(host.store.live(b"x")) == 1
    for family in (b"e", b"r", b"i", b"j"):
        assert not host.store.live(family)
    check(host)


def test_a_queue_row_goes_in_a_later_frame_than_what_it_stands_for(
    host: Host, sweeper: Sweeper
) -> None:
    keys = host.write().databases[0]
    for number in range(300):
        keys.put(b"%d" % number, b"x" * 70_000)
    host.turn()
    for number in range(300):
        host.write()
        keys.delete(b"%d" % number)
    host.turn()
    sweep(host, sweeper)
    last_delete: dict[int, int] = {}
    queue_row: dict[int, int] = {}
    for at, frame in enumerate(host.store.frames):
        for row, value in frame.items():
            if row[:1] == b"e" and not value:
                last_delete[int.from_bytes(row[1:9], "big")] = at
            if row[:1] == b"r" and not value:
                queue_row[split_reclaim_row(row)[2]] = at
    assert len(queue_row) == 300
    assert all(queue_row[cid] > last_delete[cid] for cid in queue_row)


def test_a_huge_value_goes_in_steps_that_remember_their_place(host: Host, sweeper: Sweeper) -> None:
    keys = host.write().databases[0]
    keys.put(b"big", b"x" * (65536 * 400))
    host.turn()
    host.write()
    keys.delete(b"big")
    host.turn()
    (row,) = host.store.live(b"r")
    assert sweeper.step(50)
    host.turn()
    resume = host.store.live(b"r")[row]
    assert len(resume) == 1 + 4
    again = Sweeper(host)
    host.store.most_seeks_over = 0
    sweep(host, again)
    assert host.store.most_seeks_over <= GROUP
    assert not host.store.live(b"e")
    assert not host.store.live(b"r")


def test_an_unknown_kind_of_queue_row_does_not_stop_the_rest(host: Host, sweeper: Sweeper) -> None:
    host.write()
    host.store.open[reclaim_row(host.keyspace.index, 9, 1)] = PRESENT
    host.turn()
    keys = host.write().databases[0]
    keys.put(b"big", b"x" * 100_000)
    keys.delete(b"big")
    host.turn()
    sweep(host, sweeper)
    assert not host.store.live(b"e")


def test_idempotency_records_go_when_their_time_has_come(host: Host, sweeper: Sweeper) -> None:
    host.write()
    epoch = host.keyspace.databases[0].idem_epoch
    for number in range(300):
        at = host.clock.time + number
        scope = number.to_bytes(16, "big")
        record = IdempotencyRecord(at, b"f" * 16, b"reply")
        host.store.open[idem_row(epoch, scope)] = encode_idempotency(record)
        host.store.open[idem_expiry_row(at, epoch, scope)] = PRESENT
    host.idempotency.records = 300
    host.turn()
    host.clock.time += 99
    sweep(host, sweeper)
    assert host.idempotency.records == 200
    assert host.store.get(b"!idem") == (200).to_bytes(8, "little")
    assert host.stats.expired_idempotency == 100
    check(host)
    host.clock.time += 1000
    sweep(host, sweeper)
    assert not host.store.live(b"j")
    check(host)


# -- against a model ---------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_random_lives_equal_a_dict(seed: int) -> None:
    chance = random.Random(seed)
    host = Host()
    sweeper = Sweeper(host)
    model: list[dict[bytes, tuple[bytes, int]]] = [{}, {}]
    names = [b"%d" % number for number in range(40)]

    def alive(number: int) -> dict[bytes, tuple[bytes, int]]:
        now = host.clock.time
        return {key: pair for key, pair in model[number].items() if not pair[1] or pair[1] > now}

    for _ in range(3000):
        host.clock.time += chance.choice((0, 0, 0, 1, 1, 5, 40))
        number = chance.randrange(2)
        keys = host.write().databases[number]
        key = chance.choice(names)
        deadline = chance.choice((0, host.clock.time + chance.randrange(-3, 60)))
        what = chance.random()
        if what < 0.4:
            value = b"x" * (70_000 if chance.random() < 0.05 else chance.randrange(5))
            keys.put(key, value, deadline)
            model[number][key] = value, deadline
        elif what < 0.6:
            record = keys.get(key)
            assert (record is not None) == (key in alive(number))
            if record is not None:
                keys.set_deadline(key, record, deadline)
                model[number][key] = model[number][key][0], deadline
        elif what < 0.7:
            assert keys.delete(key) == (key in alive(number))
            model[number].pop(key, None)
        elif what < 0.71:
            host.keyspace.flush([keys])
            model[number] = {}
        elif what < 0.72:
            host.keyspace.swap(*host.keyspace.databases)
            model.reverse()
        else:
            sweeper.step(chance.choice((1, 10, 200)))
        if chance.random() < 0.5:
            host.turn()
        for place, database in enumerate(host.keyspace.databases):
            assert database.keys - sweeper.due(database) == len(alive(place))
            expected = alive(place)
            found, _ = database.page(b"", 1000)
            assert found == [(name, STRING) for name in sorted(expected)]
    for place, database in enumerate(host.keyspace.databases):
        for name, (value, _) in alive(place).items():
            assert database.get_string(name) == value
    host.turn()
    sweep(host, sweeper)
    check(host)
    assert not host.store.live(b"r")
    host.clock.time += 1000
    sweep(host, sweeper)
    check(host)
    kept = sum(not pair[1] for each in model for pair in each.values())
    assert sum(database.keys for database in host.keyspace.databases) == kept


# -- cost --------------------------------------------------------------------


def test_expiries_and_refreshes_cost_the_same_at_the_end_as_at_the_beginning() -> None:
    """The first and the last steps of a long sweep meet no tombstones of their own making."""
    host = Host()
    sweeper = Sweeper(host)
    keys = host.write().databases[0]
    count = 20_000
    for number in range(count):
        keys.put(b"%d" % number, b"v", host.clock.time + 1 + number // 100)
    host.turn()
    for number in range(0, count, 2):
        record = keys.get(b"%d" % number)
        assert record is not None
        host.write()
        keys.set_deadline(b"%d" % number, record, host.clock.time + 100_000)
    host.turn()
    assert len(host.store.live(b"x")) == count
    host.clock.time += 1 + count
    host.store.most_seeks_over = 0
    sweep(host, sweeper)
    assert host.store.most_seeks_over <= GROUP
    assert host.stats.expired_keys == count // 2
    assert len(host.store.live(b"x")) == count // 2
    check(host)
