"""`norikv-resp check` on real directories: what it says, what a repair keeps, what a start says."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from norikv_resp import check
from norikv_resp import encoding as enc
from norikv_resp.commitlog import SegmentLog, decode_rows
from norikv_resp.store import inspect_store
from tests.conftest import StartServer
from tests.support.data import SMALL, Data
from tests.support.effort import seeded
from tests.support.resp import ErrorReply
from tests.support.server import SMALL_SIZES, ServerDiedError, ServerProcess

pytestmark = pytest.mark.norikv

Said = pytest.CaptureFixture[str]


@pytest.fixture(scope="module", autouse=True)
def small_segments() -> Iterator[None]:
    """Segments that take no time to fill, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SegmentLog.__init__.__kwdefaults__, "segment_size", 1 << 20)
        yield


@pytest.fixture(scope="module")
def template(small_segments: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("template") / "data"
    with Data(path) as data:
        data.some_of_everything()
    return path


@pytest.fixture
def path(template: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "data"
    shutil.copytree(template, copy)
    return copy


def rows_of(path: Path) -> dict[bytes, bytes]:
    with inspect_store(path, options=SMALL) as offline:
        return dict(offline.rows())


def database_of(rows: dict[bytes, bytes], number: int) -> enc.DatabaseRecord:
    return enc.decode_database(rows[enc.database_row(number)])


def key_row(path: Path, key: bytes, number: int = 0) -> tuple[bytes, enc.Record]:
    rows = rows_of(path)
    row = enc.namespace_prefix(database_of(rows, number).ns) + key
    return row, enc.decode_record(rows[row])


def check_and_repair(path: Path, said: Said, *expected: str, gives_up: bool = False) -> None:
    """Damage is named and left alone; a repair ends it, and the next check finds nothing."""
    before = {name: name.read_bytes() for name in (path / "log").iterdir()}
    assert check.main([str(path)]) == 1
    text = said.readouterr().out
    for words in expected:
        assert words in text
    assert f"norikv-resp check {path} --repair" in text
    assert {name: name.read_bytes() for name in (path / "log").iterdir()} == before
    assert check.main([str(path), "--repair"]) == 0
    text = said.readouterr().out
    assert "whole again" in text
    assert (path / "given-up").exists() == gives_up
    assert check.main([str(path)]) == 0
    with Data(path) as data:
        data.put(b"after", b"1")
    assert check.main([str(path)]) == 0


def test_a_whole_directory(path: Path, capsys: Said) -> None:
    assert check.main([str(path)]) == 0
    text = capsys.readouterr().out
    assert "whole" in text
    assert "DAMAGE" not in text
    assert "443 keys in 3 databases, 200 with a deadline" in text
    assert "40 idempotency records" in text
    assert check.main([str(path), "--repair"]) == 0
    assert "again" not in capsys.readouterr().out


def test_what_is_no_data_directory(tmp_path: Path, capsys: Said) -> None:
    assert check.main([str(tmp_path / "missing")]) == 2
    assert "no data directory" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_directory_in_use(path: Path, capsys: Said) -> None:
    with Data(path):
        assert check.main([str(path)]) == 2
        assert "another server is using this directory" in capsys.readouterr().err
        assert check.main([str(path), "--repair"]) == 2


def test_a_newer_format(path: Path, capsys: Said) -> None:
    with Data(path) as data:
        data.rows({b"!format": b"\x02\0\0\0"})
    assert check.main([str(path)]) == 2
    assert "format version 2" in capsys.readouterr().err


Rows = dict[bytes, bytes]


def drop_expiry_row(rows: Rows) -> Rows:
    return {next(row for row in rows if row[:1] == b"x" and row.endswith(b"key007")): b""}


def extra_expiry_row(rows: Rows) -> Rows:
    return {enc.expiry_row(1 << 41, database_of(rows, 0).ns, b"key007"): b"\x01"}


def expiry_row_of_nothing(rows: Rows) -> Rows:
    return {enc.expiry_row(1 << 41, 4711, b"key007"): b"\x01"}


def wrong_key_count(rows: Rows) -> Rows:
    record = database_of(rows, 1)
    return {enc.database_row(1): enc.encode_database(record._replace(keys=5, expires=3))}


def wrong_reply_count(rows: Rows) -> Rows:
    return {b"!idem": enc.encode_count(7)}


def drop_reply_expiry(rows: Rows) -> Rows:
    return {next(row for row in rows if row[:1] == b"j"): b""}


def extra_reply_expiry(rows: Rows) -> Rows:
    return {enc.idem_expiry_row(1 << 41, 1, b"s" * 16): b"\x01"}


def low_ids(rows: Rows) -> Rows:
    return {b"!ids": enc.encode_ids(1, 131073)}


def cursor_too_far(rows: Rows) -> Rows:
    return {b"sexpiry": enc.expiry_bound(1 << 60), b"sidem": enc.idem_expiry_bound(1 << 60)}


def orphans(rows: Rows) -> Rows:
    return {enc.chunk_row(1 << 40, 0): b"x" * 10}


def future_version(rows: Rows) -> Rows:
    record = enc.Record(enc.STRING, 1, 1 << 40, 0, 0, b"v")
    return {enc.namespace_prefix(0) + b"key000": enc.encode_record(record)}


def queued_alive(rows: Rows) -> Rows:
    record = enc.decode_record(rows[enc.namespace_prefix(0) + b"long"])
    assert isinstance(record.value, enc.Chunks)
    return {
        enc.reclaim_row(1 << 40, 1, record.value.cid): b"\x01",
        enc.reclaim_row(1 << 40, 2, database_of(rows, 0).ns): b"\x01",
    }


def lost_database_row(rows: Rows) -> Rows:
    return {enc.database_row(1): b""}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (drop_expiry_row, ("missing expiry row", "key 'key007' of database 0")),
        (extra_expiry_row, ("extra expiry row",)),
        (expiry_row_of_nothing, ("extra expiry row",)),
        (wrong_key_count, ("database 1 counts 5 keys, 3 with a deadline; there are 220 and 0",)),
        (wrong_reply_count, ("7 idempotency records are counted, there are 40",)),
        (drop_reply_expiry, ("missing expiry row",)),
        (extra_reply_expiry, ("extra expiry row",)),
        (low_ids, ("ids in use", "the next collection would be 1")),
        (cursor_too_far, ("row behind the sweep",)),
        (orphans, ("the elements of collection 1099511627776 belong to no key",)),
        (future_version, ("version from the future",)),
        (lost_database_row, ("missing database row", "220 keys of epoch 2")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_derived_rows_are_made_again(
    path: Path, capsys: Said, damage: Callable[[Rows], Rows], expected: tuple[str, ...]
) -> None:
    rows = rows_of(path)
    keys = {row: value for row, value in rows.items() if row[:1] == b"m"}
    changes = damage(rows)
    with Data(path) as data:
        data.rows(changes)
    check_and_repair(path, capsys, *expected)
    after = rows_of(path)
    for row, value in keys.items():
        if row not in changes:
            assert after[row] == value
    assert {row for row in after if row[:1] == b"m"} == {*keys, enc.namespace_prefix(0) + b"after"}
    if damage is not future_version:
        derived = (b"x", b"i", b"j", b"d")
        assert {row for row in after if row[:1] in derived} == {
            row for row in rows if row[:1] in derived
        }


def malformed_key(rows: Rows) -> Rows:
    return {
        enc.namespace_prefix(0) + b"key009": b"\x63" + rows[enc.namespace_prefix(0) + b"key009"]
    }


def malformed_reply(rows: Rows) -> Rows:
    row = next(row for row in rows if row[:1] == b"i")
    return {row: rows[row][:-3]}


def unknown_rows(rows: Rows) -> Rows:
    return {b"zebra": b"1", b"!unheard": b"2", b"sfoo": b"3"}


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (malformed_key, "malformed record: key 'key009' of database 0: unknown type 99"),
        (malformed_reply, "a stored reply ends too early"),
        (unknown_rows, "unknown row: row zebra"),
        (queued_alive, "queued but alive"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_is_given_up_is_kept(
    path: Path, capsys: Said, damage: Callable[[Rows], Rows], expected: str
) -> None:
    changes = damage(rows_of(path))
    with Data(path) as data:
        data.rows(changes)
    check_and_repair(path, capsys, expected, gives_up=True)
    kept: Rows = {}
    for file in (path / "given-up").glob("*/*-rows"):
        content = file.read_bytes()
        kept.update(decode_rows(content, 0, len(content)))
    assert changes.items() <= kept.items()


def test_a_missing_chunk_is_filled_with_zeros(path: Path, capsys: Said) -> None:
    _, record = key_row(path, b"long")
    assert isinstance(record.value, enc.Chunks)
    with Data(path) as data:
        data.rows({enc.chunk_row(record.value.cid, 1): b""})
        data.rows({enc.chunk_row(record.value.cid, 9): b"too much"})
    check_and_repair(path, capsys, "incomplete string: key 'long' of database 0", gives_up=True)
    with Data(path) as data:
        db = data.keyspace.databases[0]
        again = db.get(b"long")
        assert again is not None
        assert (again.term, again.index) > (record.term, record.index)
        value = db.string_value(again)
        assert len(value) == 200_000
        assert value[65536:131072] == bytes(65536)
        assert value[:65536] == (b"0123456789" * 20_000)[:65536]
        assert value[131072:] == (b"0123456789" * 20_000)[131072:]


def test_two_keys_with_one_collection_get_one_each(path: Path, capsys: Said) -> None:
    row, _ = key_row(path, b"longer")
    with Data(path) as data:
        data.rows({enc.namespace_prefix(0) + b"twin": rows_of_open(data, row)})
    check_and_repair(path, capsys, "shared collection")
    with Data(path) as data:
        db = data.keyspace.databases[0]
        for key in (b"longer", b"twin"):
            assert db.get_string(key) == b"abc" * 70_000
        data.write(lambda db: db.delete(b"twin"))
    assert check.main([str(path)]) == 0


def rows_of_open(data: Data, row: bytes) -> bytes:
    value = data.store.get(row)
    assert value is not None
    return value


# ---- files


def flip(path: Path, offset: int) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes((byte ^ 0x40,)))


def newest_segment(path: Path) -> Path:
    """The one that holds frames: the file that was written last."""
    return max((path / "log").glob("*.log"), key=lambda name: name.stat().st_mtime_ns)


@pytest.fixture
def killed(start_server: StartServer) -> ServerProcess:
    """A server with 300 keys that are nowhere but in its log, killed."""
    server = start_server(commit_log_segment_size="1mb", appendfsync="always")
    with server.wire() as wire:
        for number in range(300):
            wire.ok("SETVER", f"k{number}", "v" * 100)
    server.kill9()
    return server


def refuses_to_start(server: ServerProcess) -> str:
    before = len(server.log_text())
    with pytest.raises(ServerDiedError, match="exit status 1"):
        server.start()
    text = server.log_text()[before:]
    assert "Traceback" not in text
    return text


def run_check(server: ServerProcess, *arguments: str) -> tuple[int, str]:
    """The command as a user runs it."""
    done = subprocess.run(
        [sys.executable, "-m", "norikv_resp", "check", str(server.data), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=server.cwd,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_bytes_flipped_in_the_middle_of_the_log(killed: ServerProcess) -> None:
    segment = newest_segment(killed.data)
    flip(segment, 4096 + 20_000)
    text = refuses_to_start(killed)
    assert "the commit log is damaged" in text
    assert segment.name in text
    assert f"norikv-resp check {killed.data} --repair" in text
    status, text = run_check(killed)
    assert status == 1
    assert segment.name in text
    status, text = run_check(killed, "--repair")
    assert status == 0, text
    assert next((killed.data / "given-up").glob(f"*/*{segment.name}")).stat().st_size == 1 << 20
    killed.start()
    with killed.wire() as wire:
        kept = [number for number in range(300) if wire.ok("GET", f"k{number}") is not None]
        assert kept == list(range(len(kept)))  # a prefix of history
        assert 50 < len(kept) < 300
        assert wire.ok("SETVER", "k0", "new").split(b"-")[1] > b"300"
        assert wire.ok("DBSIZE") == len(kept)
    assert killed.terminate() == 0
    assert run_check(killed)[0] == 0


def test_a_truncated_segment(killed: ServerProcess) -> None:
    segment = newest_segment(killed.data)
    killed.start()
    with killed.wire() as wire:
        wire.ok("SET", "later", "1")
    killed.kill9()  # The later segment names what the earlier one held.
    os.truncate(segment, 4096 + 10_000)
    assert segment.name in refuses_to_start(killed)
    assert run_check(killed)[0] == 1
    assert run_check(killed, "--repair")[0] == 0
    killed.start()
    assert 0 < killed.ask("DBSIZE") < 300


def test_a_log_that_is_gone(killed: ServerProcess) -> None:
    killed.start()
    assert killed.terminate() == 0
    shutil.rmtree(killed.data / "log")
    assert "the log is gone" in refuses_to_start(killed)
    assert run_check(killed)[0] == 1
    assert run_check(killed, "--repair")[0] == 0
    killed.start()
    assert killed.ask("DBSIZE") == 300
    assert killed.ask("SETVER", "k0", "new").split(b"-")[1] > b"300"


@pytest.fixture
def settled(start_server: StartServer) -> ServerProcess:
    """A server with 3,000 keys in LevelDB's tables, stopped."""
    server = start_server(appendfsync="no")
    with server.wire() as wire:
        for start in range(0, 3000, 500):
            wire.pipeline([("SET", f"k{n:04}", os.urandom(500)) for n in range(start, start + 500)])
        wire.ok("SET", "deadline", "1", "EX", "1000")
    assert server.terminate() == 0
    return server


def tables(server: ServerProcess) -> list[Path]:
    return sorted((server.data / "db").glob("*.ldb"), key=lambda table: table.stat().st_size)


def test_a_deleted_table(settled: ServerProcess) -> None:
    tables(settled)[-1].unlink()
    text = refuses_to_start(settled)
    assert "LevelDB" in text
    assert f"norikv-resp check {settled.data} --repair" in text
    status, text = run_check(settled)
    assert status == 1
    assert "LevelDB" in text
    status, text = run_check(settled, "--repair")
    assert status == 0, text
    settled.start()
    assert settled.ask("SET", "works", "again") == b"OK"


def test_a_block_that_does_not_verify_is_an_error_and_never_a_missing_key(
    settled: ServerProcess,
) -> None:
    flip(tables(settled)[-1], 200_000)
    settled.start()
    with settled.wire() as wire:
        replies = wire.pipeline([("GET", f"k{n:04}") for n in range(3000)])
        failed = [reply for reply in replies if isinstance(reply, ErrorReply)]
        assert 0 < len(failed) < 100
        assert None not in replies
        assert isinstance(wire.call("SCAN", "0", "COUNT", "5000"), ErrorReply)
        assert isinstance(wire.call("KEYS", "*"), ErrorReply)
        assert wire.ok("SET", "k0000", "writable") == b"OK"
    assert "norikv-resp check" in settled.log_text() or "checksum" in settled.log_text()
    assert settled.terminate() == 0
    status, text = run_check(settled)
    assert status == 1
    assert "unreadable rows" in text
    assert "checksum mismatch" in text
    status, text = run_check(settled, "--repair")
    assert status == 0, text
    assert any((settled.data / "given-up").glob("*/*.ldb"))
    settled.start()
    with settled.wire() as wire:
        replies = wire.pipeline([("GET", f"k{n:04}") for n in range(3000)])
        assert not [reply for reply in replies if isinstance(reply, ErrorReply)]
        assert 2900 < wire.ok("DBSIZE") == 3001 - replies.count(None)


def random_command(rng: random.Random) -> tuple[str, ...]:
    key, other = (f"k{rng.randrange(30)}" for _ in range(2))
    big = "x" * rng.choice((10, 1000, 70_000, 140_000))
    milliseconds = str(rng.choice((1, 20, 300, 60_000)))
    return rng.choice(
        (
            ("SET", key, big),
            ("SET", key, "v", "PX", milliseconds),
            ("SETRANGE", key, str(rng.choice((0, 5, 65_530, 200_000))), "patch"),
            ("APPEND", key, big),
            ("PEXPIRE", key, milliseconds),
            ("PEXPIREAT", key, "1"),
            ("PERSIST", key),
            ("GETEX", key, "PX", milliseconds),
            ("RENAME", key, other),
            ("COPY", key, other, "REPLACE"),
            ("COPY", key, other, "DB", str(rng.randrange(4)), "REPLACE"),
            ("MOVE", key, str(rng.randrange(4))),
            ("DEL", key, other),
            ("GETDEL", key),
            ("CAS", key, "0", big, "PX", milliseconds),
            ("SETVER", key, "v", "IDEM", f"t{rng.randrange(50)}"),
            ("IDEM", f"t{rng.randrange(50)}", "TTL", milliseconds, "APPEND", key, "x"),
            ("IDEM", f"t{rng.randrange(5)}", "TTL", milliseconds, "FLUSHDB"),
            ("SELECT", str(rng.randrange(4))),
            ("SWAPDB", str(rng.randrange(4)), str(rng.randrange(4))),
            ("FLUSHDB",) if rng.random() < 0.2 else ("PING",),
        )
    )


@pytest.mark.parametrize("policy", ["always", "no"])
def test_nothing_is_found_after_random_commands_and_kills(
    start_server: StartServer, tmp_path: Path, capsys: Said, policy: str
) -> None:
    rng = seeded()
    server = start_server(appendfsync=policy, **SMALL_SIZES)
    for clean in (False, False, True):
        with server.wire(timeout=30.0) as wire:
            for _ in range(40):
                commands = [random_command(rng) for _ in range(25)]
                if rng.random() < 0.3:
                    commands = [("MULTI",), *commands, ("EXEC",)]
                wire.pipeline(commands)
                time.sleep(0.002)
        if clean:
            assert server.terminate() == 0
        else:
            server.kill9()
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(server.data, copy)
        assert check.main([str(copy)]) == 0, capsys.readouterr().out
        server.start()
