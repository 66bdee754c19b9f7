"""Bugs of the storage, each named after its symptom."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from norikv_resp import check
from norikv_resp.commitlog import SegmentLog
from norikv_resp.database import Database
from norikv_resp.expiry import Sweeper
from norikv_resp.store import ReadFailed
from tests.conftest import StartServer
from tests.support.data import Data
from tests.support.server import ServerDiedError
from tests.unit.keyspace_fakes import Host

pytestmark = pytest.mark.norikv


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = SegmentLog.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "segment_size", 1 << 20)


def test_the_count_of_stored_replies_fell_behind_after_idem_flushdb_with_an_old_token(
    small_segments: None, tmp_path: Path
) -> None:
    with Data(tmp_path) as data:

        def change(db: Database) -> None:
            def run() -> bytes:
                data.keyspace.flush([db])
                return b"OK"

            data.idempotency.run(db, None, b"token", 1, b"print".ljust(16), run)

        data.write(change)
        time.sleep(0.01)  # The first record has expired and was not swept.
        data.write(change)
        assert data.idempotency.records == 2
    assert check.main([str(tmp_path)]) == 0


def test_keys_of_a_database_beyond_the_configured_number_lost_their_expiry_rows(
    start_server: StartServer,
) -> None:
    server = start_server(databases=12)
    with server.wire() as wire:
        wire.ok("SELECT", "11")
        wire.ok("SET", "k", "v", "PX", "100")
        wire.ok("SET", "stays", "v")
    assert server.terminate() == 0
    server.options["databases"] = 4
    with pytest.raises(ServerDiedError, match=r"database 11 holds \d keys, but databases is 4"):
        server.start()
    assert "Traceback" not in server.log_text()
    server.options["databases"] = 12
    server.start()
    assert server.terminate() == 0
    assert check.main([str(server.data)]) == 0


def test_one_unreadable_row_stopped_every_sweep(caplog: pytest.LogCaptureFixture) -> None:
    host = Host()
    sweeper = Sweeper(host)
    keys = host.write().databases[0]
    keys.put(b"k", b"v" * 100_000, host.clock.time + 10)
    host.turn()
    host.write()
    keys.delete(b"k")
    keys.put(b"other", b"v", host.clock.time + 10)
    host.turn()
    host.clock.time += 100
    healthy = host.store.range

    def damaged(start: bytes, stop: bytes, **more: Any) -> list[tuple[bytes, bytes]]:
        if start[:1] == b"x":
            raise ReadFailed("block checksum mismatch")
        return healthy(start, stop, **more)

    host.store.range = damaged  # type: ignore[method-assign]
    for _ in range(20):
        sweeper.step()
        host.turn()
    assert not host.store.live(b"e")
    assert not host.store.live(b"r")
    assert caplog.text.count("block checksum mismatch") == 1
    host.store.range = healthy  # type: ignore[method-assign]
    sweeper._resting.clear()
    sweeper.step()
    host.turn()
    assert not host.store.live(b"x")


def test_the_count_of_keys_forgot_long_strings_copies_and_renames_over_a_restart(
    small_segments: None, tmp_path: Path
) -> None:
    with Data(tmp_path) as data:
        data.put(b"long", b"v" * 100_000)
    with Data(tmp_path) as data:
        assert data.keyspace.databases[0].keys == 1
        target = data.keyspace.databases[1]
        data.write(lambda db: db.move_body(b"long", target, b"long"))
    with Data(tmp_path) as data:
        assert [database.keys for database in data.keyspace.databases] == [0, 1, 0, 0]
    assert check.main([str(tmp_path)]) == 0


def test_values_of_a_flushed_database_stayed_on_disk_when_a_sweep_met_an_expired_one() -> None:
    host = Host()
    sweeper = Sweeper(host)
    first, second = host.write().databases
    first.put(b"flushed", b"v" * 100_000)  # the smaller collection id
    second.put(b"expired", b"v" * 100_000, host.clock.time + 10)
    host.turn()
    host.write().flush([first])
    host.turn()
    host.clock.time += 100
    for _ in range(20):
        sweeper.step()
        host.turn()
    assert not host.store.live(b"r")
    assert not host.store.live(b"e")
