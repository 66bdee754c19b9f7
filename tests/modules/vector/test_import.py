"""`norikv-resp vectors import`: every kind of file, bad ones, and interruptions on both sides."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.vectors.files import BadFile, Batch, Names, open_file
from tests.conftest import StartServer
from tests.support.resp import Wire
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv

Array = npt.NDArray[Any]


def start(server: ServerProcess, *words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "norikv_resp", "vectors", "import", *map(str, words)]
    command += ["--url", f"redis://127.0.0.1:{server.port}"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(server: ServerProcess, *words: object) -> tuple[int, str, str]:
    process = start(server, *words)
    try:
        out, err = process.communicate(timeout=50)
    finally:
        process.kill()
    return process.returncode, out, err


def imported(server: ServerProcess, *words: object) -> str:
    status, out, err = run(server, *words)
    assert (status, err) == (0, "")
    return out


def refused(server: ServerProcess, *words: object) -> str:
    status, out, err = run(server, *words)
    assert status == 1
    assert not out
    return err


def some_vectors(count: int, dimensions: int = 8) -> Array:
    return np.random.default_rng(count).normal(size=(count, dimensions)).astype("f4")


def stored(wire: Wire, key: str, ident: object) -> list[float]:
    return [float(number) for number in wire.ok("VEMB", key, str(ident))]


# ---- kinds of files


@pytest.mark.parametrize("kind", ["<f4", ">f8", "<f2", "i2"])
def test_npy(server: ServerProcess, connect: Any, tmp_path: Path, kind: str) -> None:
    vectors = (some_vectors(500) * 100).astype(kind)
    np.save(tmp_path / "some.npy", np.asfortranarray(vectors))
    out = imported(server, tmp_path / "some.npy", "k", "--metric", "l2", "--prefix", "row-")
    assert out == "500 vectors of 8 dimensions, 500 new ids; k holds 500\n"
    wire = connect()
    for row in (0, 1, 250, 499):
        assert stored(wire, "k", f"row-{row}") == pytest.approx(vectors[row].tolist())


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(server: ServerProcess, connect: Any, tmp_path: Path, save: Any) -> None:
    vectors = some_vectors(300)
    texts = [json.dumps({"n": n}) if n % 3 else "" for n in range(300)]
    ids = np.array([f"é{n}" for n in range(300)])
    save(tmp_path / "some.npz", embedding=vectors, name=ids, attributes=np.array(texts))
    arguments = (tmp_path / "some.npz", "k", "--vector", "embedding", "--id", "name")
    imported(server, *arguments, "--batch", 7, "--metric", "L2")
    wire = connect()
    assert wire.ok("VCARD", "k") == 300
    assert stored(wire, "k", "é7") == pytest.approx(vectors[7].tolist())
    assert wire.ok("VGETATTR", "k", "é7") == b'{"n": 7}'
    assert wire.ok("VGETATTR", "k", "é6") is None


def test_jsonl(server: ServerProcess, connect: Any, tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    lines = [
        {"id": "a", "vector": [1, 2.5], "attributes": {"title": "Ü"}},
        {"id": 7, "vector": [0, -1], "attributes": '{"n": 1}', "more": 3},
        {"id": "c", "vector": [3e-3, 4], "attributes": None},
    ]
    path.write_text("\n\n".join(json.dumps(line) for line in lines))
    imported(server, path, "k", "--create", "--metric", "L2", "--quant", "f16", "--ef", "50")
    wire = connect()
    assert stored(wire, "k", "a") == [1, 2.5]
    assert stored(wire, "k", 7) == [0, -1]
    assert wire.ok("VGETATTR", "k", "a") == '{"title":"Ü"}'.encode()
    assert wire.ok("VGETATTR", "k", 7) == b'{"n": 1}'
    assert wire.ok("VGETATTR", "k", "c") is None
    definition = ("DIM", 2, "METRIC", "L2", "QUANT", "F16", "EF", 50)
    assert wire.ok("VCREATE", "k", *definition) == 0  # it is that one


def test_a_second_import_changes_nothing(
    server: ServerProcess, connect: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "some.npy", some_vectors(100))
    imported(server, tmp_path / "some.npy", "k", "--batch", 10)
    wire = connect()
    version = wire.ok("VER", "k")
    imported(server, tmp_path / "some.npy", "k", "--batch", 10)
    assert wire.ok("VER", "k") == version
    imported(server, tmp_path / "some.npy", "k", "--batch", 9)  # other batches: the same vectors
    assert wire.ok("VCARD", "k") == 100


# ---- bad files


def problem(path: Path, vector: str = "vector") -> str:
    """What is wrong with a file, found when it is opened or read to its end."""
    with pytest.raises(BadFile) as caught:
        list(open_file(path, Names("id", vector, "attributes"), "").batches(1))
    assert str(path) in str(caught.value)
    return str(caught.value)


def array_file(tmp_path: Path, array: Any) -> Path:
    np.save(tmp_path / "bad.npy", array)
    return tmp_path / "bad.npy"


@pytest.mark.parametrize(
    ("array", "told"),
    [
        (np.zeros(5), "shape (5,)"),
        (np.zeros((2, 2, 2)), "shape (2, 2, 2)"),
        (np.zeros((2, 0)), "shape (2, 0)"),
        (np.zeros((0, 4)), "holds no vectors"),
        (np.array([["a"]]), "elements of type <U1"),
        (np.zeros((2, 2), complex), "elements of type complex128"),
        (np.array([[None]]), "Python objects"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), "row 1 has a number that is not finite"),
        (np.array([[1e300, 2.0]]), "row 0 has a number that is not finite"),
    ],
)
def test_bad_arrays(tmp_path: Path, array: Any, told: str) -> None:
    assert told in problem(array_file(tmp_path, array))


def test_damaged_files(tmp_path: Path) -> None:
    whole = array_file(tmp_path, some_vectors(100))
    whole.write_bytes(whole.read_bytes()[:-50])
    problem(whole)
    whole.write_bytes(b"")
    problem(whole)
    (tmp_path / "bad.npz").write_bytes(b"PK\3\4 not a zip file")
    problem(tmp_path / "bad.npz")
    np.savez(tmp_path / "other.npz", something=some_vectors(3), id=np.zeros(4))
    assert "no array 'vector', only: id, something" in problem(tmp_path / "other.npz")
    assert "'id' has shape (4,), not (3,)" in problem(tmp_path / "other.npz", "something")
    np.savez(tmp_path / "columns.npz", vector=np.asfortranarray(some_vectors(3)))
    assert "column by column" in problem(tmp_path / "columns.npz")
    assert "none of .npy, .npz, .jsonl" in problem(tmp_path / "x.csv")
    assert "No such file" in problem(tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", "line 3 is not JSON"),
        ("[1]", "line 3 is not an object"),
        ('{"vector": [1, 2]}', "line 3 has no string or integer 'id'"),
        ('{"id": "c"}', "line 3 has no list of numbers 'vector'"),
        ('{"id": "c", "vector": [1, "2"]}', "line 3 has no list of numbers"),
        ('{"id": "c", "vector": [1, NaN]}', "line 3 has a number that is not finite"),
        ('{"id": "c", "vector": [1, 1e39]}', "line 3 has a number that is not finite"),
        ('{"id": "c", "vector": [1]}', "line 3 has 1 numbers, the first vector has 2"),
        ('{"id": "c", "vector": [1, 2], "attributes": 5}', "line 3 has 'attributes'"),
    ],
)
def test_bad_lines(tmp_path: Path, line: str, told: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(f'{{"id": "a", "vector": [1, 2]}}\n\n{line}\n')
    assert told in problem(path)


def test_what_came_before_a_bad_vector_is_kept(
    server: ServerProcess, connect: Any, tmp_path: Path
) -> None:
    bad = array_file(tmp_path, np.array([[1.0, 2.0], [3.0, 4.0], [np.inf, 0.0]]))
    told = refused(server, bad, "k", "--batch", 1)
    assert "row 2 has a number that is not finite" in told
    assert "run it again" in told
    assert connect().ok("VCARD", "k") == 2


def test_the_server_refuses(server: ServerProcess, connect: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "some.npy", some_vectors(3))
    wire = connect()
    wire.ok("VADD", "k", "VALUES", 2, 1, 0, "a")
    assert "k has 2 dimensions" in refused(server, tmp_path / "some.npy", "k")
    wire.ok("SET", "s", "x")
    assert "WRONGTYPE" in refused(server, tmp_path / "some.npy", "s")
    closed = ServerProcess(start=False)
    closed.port = 1
    assert "no answer" in refused(closed, tmp_path / "some.npy", "k", "--patience", 0.5)


# ---- interruptions

MANY = 6_000


def many(tmp_path: Path) -> tuple[Path, Array]:
    vectors = some_vectors(MANY, 4)
    path = tmp_path / "many.npz"
    np.savez(path, vector=vectors, attributes=np.array([f'{{"n":{n}}}' for n in range(MANY)]))
    return path, vectors


def wait_for_some(wire: Wire, process: subprocess.Popen[str], least: int) -> None:
    deadline = time.monotonic() + 30
    while wire.ok("VCARD", "k") < least:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def check_all(server: ServerProcess, vectors: Array) -> None:
    with server.wire() as wire:
        assert wire.ok("VCARD", "k") == MANY
        ids = [int(ident) for ident in wire.ok("VRANGE", "k", "-", "+", -1)]
        assert sorted(ids) == list(range(MANY))
        for row in range(0, MANY, 97):
            assert stored(wire, "k", row) == pytest.approx(vectors[row].tolist())
            assert wire.ok("VGETATTR", "k", row) == b'{"n":%d}' % row


def test_a_killed_importer_goes_on_where_it_was(
    server: ServerProcess, connect: Any, tmp_path: Path
) -> None:
    path, vectors = many(tmp_path)
    wire = connect()
    for least in (500, 2_500):
        process = start(server, path, "k", "--metric", "L2", "--batch", 20)
        try:
            wait_for_some(wire, process, least)
        finally:
            process.kill()
            process.communicate()
    imported(server, path, "k", "--metric", "L2", "--batch", 20)
    check_all(server, vectors)


def test_a_killed_server_loses_no_vector(start_server: StartServer, tmp_path: Path) -> None:
    path, vectors = many(tmp_path)
    server = start_server()
    process = start(server, path, "k", "--metric", "L2", "--batch", 20)
    try:
        for least in (500, 2_500):
            with server.wire() as wire:
                wait_for_some(wire, process, least)
            server.kill9()
            server.start()
        out, err = process.communicate(timeout=50)
    finally:
        process.kill()
    assert (process.returncode, err) == (0, "")
    assert f"k holds {MANY:,}" in out
    check_all(server, vectors)


# ---- tokens

_batches = st.builds(
    lambda position, pairs: Batch(
        position,
        [ident for ident, _ in pairs],
        np.array([[number] for _, number in pairs], np.float32),
        None,
    ),
    st.integers(0, 3),
    st.lists(st.tuples(st.binary(max_size=3), st.integers(0, 2)), min_size=1, max_size=4),
)


@settings(deadline=None)
@given(_batches, _batches)
def test_a_token_stands_for_content_and_place(one: Batch, other: Batch) -> None:
    same = (one.position, one.ids, one.vectors.tolist()) == (
        other.position,
        other.ids,
        other.vectors.tolist(),
    )
    assert (one.token() == other.token()) == same
