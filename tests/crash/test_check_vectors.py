"""`norikv-resp check` on vector sets: what it says of damaged rows, and what a repair keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from norikv_resp import check
from norikv_resp import vector_rows as rows
from norikv_resp.database import Database
from norikv_resp.encoding import VECTORSET, Collection, element_prefix
from tests.support.data import Data
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv

Said = pytest.CaptureFixture[str]

PLAIN = rows.Definition(rows.COSINE, rows.HNSW, rows.F32, rows.MADE, 2, 0, 16, 128, 0)
PROJECTED = PLAIN._replace(flags=rows.MADE | rows.PROJECTED, projected_from=3)


def make(data: Data, key: bytes, definition: rows.Definition = PLAIN) -> int:
    """A set of five elements, two of them with attributes, made row by row; its id."""

    def change(database: Database) -> int:
        cid = database.keyspace.new_cid()
        elements = database.elements(cid)
        for number in range(definition.dimensions if definition.projected_from else 0):
            elements.put(rows.projection_row(number), bytes(4 * definition.projected_from))
        for label in range(1, 6):
            ident = b"id%d" % label
            elements.put(rows.member_row(ident), rows.encode_label(label))
            elements.put(rows.vector_row(label), rows.encode_vector(1, 1, bytes(8), ident))
            if label < 3:
                elements.put(rows.attributes_row(label), rows.encode_attributes(b"{}"))
        extra = rows.encode_extra(definition, 6, 2)
        database.put_record(key, VECTORSET, Collection(cid, 5, extra))
        return cid

    cid: int = data.write(change)
    return cid


DAMAGE: dict[str, tuple[dict[bytes, bytes], str, int]] = {
    "an id whose vector is gone": ({rows.vector_row(3): b""}, "element without a vector", 4),
    "an id of another's vector": (
        {rows.member_row(b"id3"): rows.encode_label(4)},
        "element without a vector",
        5,
    ),
    "a vector whose id is gone": ({rows.member_row(b"id3"): b""}, "vector without an element", 5),
    "a vector that was replaced": (
        {rows.vector_row(9): rows.encode_vector(1, 1, bytes(8), b"id3")},
        "vector without an element",
        5,
    ),
    "a cut vector": ({rows.vector_row(3): bytes(20)}, "malformed row", 4),
    "attributes of nobody": ({rows.attributes_row(9): b"\x01{}"}, "attributes without a vector", 5),
    "malformed attributes": ({rows.attributes_row(1): b"{}"}, "malformed row", 5),
    "a row of a kind that there is not": ({b"q123": b"1"}, "unknown row", 5),
    "a matrix of a set without projection": (
        {rows.projection_row(0): bytes(12)},
        "malformed row",
        5,
    ),
}


def run(path: Path, *more: str) -> int:
    return check.main([str(path), *more])


def test_damaged_rows_are_named_and_mended(tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "data"
    with Data(path) as data:
        cids = {what: make(data, what.encode()) for what in DAMAGE}
    assert run(path) == 0
    capsys.readouterr()
    with Data(path) as data:
        for what, (changed, _, _) in DAMAGE.items():
            prefix = element_prefix(cids[what])
            data.rows({prefix + row: value for row, value in changed.items()})
    assert run(path) == 1
    lines = capsys.readouterr().out.splitlines()
    for what, (_, said, _) in DAMAGE.items():
        row = element_prefix(cids[what]).hex()
        assert any(said in line and f"row {row}" in line for line in lines), (what, lines)
    assert run(path, "--repair") == 0
    assert run(path) == 0
    with ServerProcess(directory=path) as server, server.wire() as wire:
        for what, (_, _, left) in DAMAGE.items():
            assert wire.ok("VCARD", what) == left, what
            ids = wire.ok("VRANGE", what, "-", "+")
            assert len(ids) == left
            for ident in ids:
                assert len(wire.ok("VEMB", what, ident)) == 2
            assert len(wire.ok("VSIM", what, "VALUES", 2, 1, 1)) == left
            assert wire.ok("VADD", what, "VALUES", 2, 1, 1, "another") == 1


#: Counts that are wrong: elements, next label, elements with attributes.
COUNTS = ((4, 6, 2), (5, 3, 2), (5, 6, 0), (99, 1, 99))


def test_wrong_counts_are_set_right(tmp_path: Path, capsys: Said) -> None:
    path = tmp_path / "data"

    def miscount(database: Database) -> None:
        for number, (count, next_label, attributed) in enumerate(COUNTS):
            extra = rows.encode_extra(PLAIN, next_label, attributed)
            value = Collection(cids[number], count, extra)
            database.put_record(b"%d" % number, VECTORSET, value)

    with Data(path) as data:
        cids = [make(data, b"%d" % number) for number in range(len(COUNTS))]
        data.write(miscount)
    assert run(path) == 1
    said = [line for line in capsys.readouterr().out.splitlines() if "DAMAGE  wrong count" in line]
    assert len(said) == len(COUNTS)
    assert run(path, "--repair") == 0
    with ServerProcess(directory=path) as server, server.wire() as wire:
        for number in range(len(COUNTS)):
            info: Any = wire.ok("VINFO", number)
            found = dict(zip(info[::2], info[1::2], strict=True))
            assert found[b"size"] == 5 and found[b"attributes-count"] == 2
            assert found[b"hnsw-max-node-uid"] >= 5


def test_a_projection_that_is_incomplete(tmp_path: Path, capsys: Said) -> None:
    with Data(tmp_path / "data") as data:
        cid = make(data, b"k", PROJECTED)
    assert run(tmp_path / "data") == 0
    with Data(tmp_path / "data") as data:
        data.rows({element_prefix(cid) + rows.projection_row(1): b""})
    assert run(tmp_path / "data") == 1
    assert "incomplete projection" in capsys.readouterr().out
    assert run(tmp_path / "data", "--repair") == 0
    assert run(tmp_path / "data") == 0


def test_what_a_server_has_written_is_whole(tmp_path: Path) -> None:
    with ServerProcess(directory=tmp_path / "data") as server:
        with server.wire() as wire:
            for number in range(300):
                words = ("REDUCE", 2, "VALUES", 3, number, 1, 2, b"%d" % (number % 200))
                wire.ok("VADD", "k", *words, "SETATTR", "{}" if number % 3 else "")
            for number in range(0, 200, 7):
                wire.ok("VREM", "k", b"%d" % number)
            wire.ok("COPY", "k", "l")
            wire.ok("VCREATE", "empty", "DIM", 5)
        server.kill9()
        done = subprocess.run(
            [sys.executable, "-m", "norikv_resp", "check", str(tmp_path / "data")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 0, done.stdout
