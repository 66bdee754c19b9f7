"""`norikv-resp check` on vector sets: what it says of damaged rows, and what a repair keeps."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from norikv_resp import check
from norikv_resp import vector_rows as rows
from norikv_resp.encoding import VECTORSET, Collection, element_prefix
from norikv_resp.keyspace import Database
from tests.support.data import Data
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv

Said = pytest.CaptureFixture[str]

PLAIN = rows.Definition(rows.COSINE, rows.HNSW, rows.F32, rows.MADE, 2, 0, 16, 128, 0)
PROJECTED = PLAIN._replace(flags=rows.MADE | rows.PROJECTED, projected_from=3)


def make(path: Path, definition: rows.Definition = PLAIN) -> int:
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
        database.put_record(b"k", VECTORSET, Collection(cid, 5, extra))
        return cid

    with Data(path) as data:
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


@pytest.mark.parametrize("what", DAMAGE)
def test_damaged_rows_are_named_and_mended(what: str, tmp_path: Path, capsys: Said) -> None:
    changed, said, left = DAMAGE[what]
    cid = make(tmp_path / "data")
    assert run(tmp_path / "data") == 0
    with Data(tmp_path / "data") as data:
        data.rows({element_prefix(cid) + row: value for row, value in changed.items()})
    capsys.readouterr()
    assert run(tmp_path / "data") == 1
    assert said in capsys.readouterr().out
    assert run(tmp_path / "data", "--repair") == 0
    assert run(tmp_path / "data") == 0
    with ServerProcess(directory=tmp_path / "data") as server, server.wire() as wire:
        assert wire.ok("VCARD", "k") == left
        ids = wire.ok("VRANGE", "k", "-", "+")
        assert len(ids) == left
        for ident in ids:
            assert len(wire.ok("VEMB", "k", ident)) == 2
        assert len(wire.ok("VSIM", "k", "VALUES", 2, 1, 1)) == left
        assert wire.ok("VADD", "k", "VALUES", 2, 1, 1, "another") == 1


@pytest.mark.parametrize(
    ("count", "next_label", "attributed"), [(4, 6, 2), (5, 3, 2), (5, 6, 0), (99, 1, 99)]
)
def test_wrong_counts_are_set_right(
    tmp_path: Path, capsys: Said, count: int, next_label: int, attributed: int
) -> None:
    cid = make(tmp_path / "data")
    extra = rows.encode_extra(PLAIN, next_label, attributed)
    with Data(tmp_path / "data") as data:
        data.write(lambda db: db.put_record(b"k", VECTORSET, Collection(cid, count, extra)))
    assert run(tmp_path / "data") == 1
    assert "wrong count" in capsys.readouterr().out
    assert run(tmp_path / "data", "--repair") == 0
    with ServerProcess(directory=tmp_path / "data") as server, server.wire() as wire:
        info: Any = wire.ok("VINFO", "k")
        found = dict(zip(info[::2], info[1::2], strict=True))
        assert found[b"size"] == 5 and found[b"attributes-count"] == 2
        assert found[b"hnsw-max-node-uid"] >= 5


def test_a_projection_that_is_incomplete(tmp_path: Path, capsys: Said) -> None:
    cid = make(tmp_path / "data", PROJECTED)
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
