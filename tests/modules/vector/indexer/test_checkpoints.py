"""Checkpoints: what comes back, after what, and that no damaged one is ever used."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from norikv_resp.vector_rows import COSINE, FLAT, HNSW, I8, L2
from tests.modules import part
from tests.support.effort import scaled, seeded

from .child import CID, HANDLE, Child, Model, definition, messages
from .conftest import StartChild
from .test_searches import clustered, recall

checkpoint = part("vector.indexer.checkpoint")
namespaces = part("vector.indexer.namespace")

DIMENSIONS = 8


def _filled(child: Child, n: int = 1200, kind: int = HNSW, **more: Any) -> Model:
    model = Model(definition(DIMENSIONS, kind=kind, ef=40, **more))
    child.attach(model.definition)
    vectors = clustered(41, n, DIMENSIONS)
    child.add(model.add(vectors), vectors)
    return model


def _live(child: Child, model: Model) -> None:
    labels = sorted(model.vectors)
    half = len(labels) // 2
    child.send(messages.Live(HANDLE, False, labels[half:]))
    child.send(messages.Live(HANDLE, True, labels[:half]))


def _check(child: Child, model: Model) -> None:
    for query in clustered(42, 5, DIMENSIONS):
        model.check(child.search(query, 30, exact=True), model.search(query, 30))
    if model.definition.kind == HNSW:
        assert recall(child, model, clustered(43, 20, DIMENSIONS), ef=100) >= 0.9


@pytest.mark.parametrize("kind", [HNSW, FLAT], ids=["hnsw", "flat"])
def test_a_set_comes_back_from_its_checkpoint(start_child: StartChild, kind: int) -> None:
    child = start_child()
    model = _filled(child, kind=kind)
    gone = list(range(100, 200))
    child.send(messages.Remove(HANDLE, gone))
    model.remove(gone)
    written = child.checkpoint(model.next_label, version=(3, 99), database=2, key=b"a key")
    assert written.reason == b"" and written.size > 1200 * 20
    child.kill()

    child = start_child()
    note = messages.CheckpointNote(CID, model.next_label, 2, 131072, b"a key")
    assert list(child.hello.checkpoints) == [note]
    attached = child.attach(model.definition)
    assert attached == (HANDLE, model.next_label, 1100, (3, 99), True, b"")
    _live(child, model)
    _check(child, model)
    more = clustered(44, 300, DIMENSIONS)
    child.add(model.add(more), more)
    child.settle()
    _check(child, model)


def test_what_is_not_covered_is_not_in_the_checkpoint(start_child: StartChild) -> None:
    """Labels that were not durable may be used again, for something else."""
    child = start_child()
    model = _filled(child, 1000)
    child.settle()
    doubtful = clustered(45, 50, DIMENSIONS)
    child.add(list(range(1001, 1051)), doubtful)
    child.send(messages.Remove(HANDLE, [5, 6, 1010]))
    child.settle()
    assert child.checkpoint(1001, unsettled=[5, 6]).reason == b""
    child.kill()
    child = start_child()
    assert child.attach(model.definition)[1:3] == (1001, 1000)
    _live(child, model)
    _check(child, model)
    others = clustered(46, 50, DIMENSIONS)
    child.add(model.add(others), others)
    _check(child, model)


def test_what_was_removed_since_goes_when_the_living_are_named(start_child: StartChild) -> None:
    child = start_child()
    model = _filled(child)
    child.checkpoint(model.next_label)
    child.kill()
    model.remove(range(1, 400))
    child = start_child()
    child.attach(model.definition)
    _live(child, model)
    child.send(messages.Remove(HANDLE, [500]))
    model.remove([500])
    _check(child, model)


def test_a_checkpoint_that_lacks_a_label_is_given_up(start_child: StartChild) -> None:
    child = start_child()
    model = _filled(child)
    child.send(messages.Remove(HANDLE, [77]))
    child.checkpoint(model.next_label)
    child.kill()
    child = start_child()
    child.attach(model.definition)
    _live(child, model)
    assert b"lacks a label" in child.get(messages.Lost).reason
    assert isinstance(child.search(np.ones(DIMENSIONS)), messages.Failed)
    assert child.attach(model.definition)[1] == 1
    assert not list(child.directory.glob("*.checkpoint"))


def test_a_removal_that_was_taken_back_survives(start_child: StartChild) -> None:
    """A failed commit: the label comes again, also into checkpoints and rebuilds."""
    child = start_child()
    model = _filled(child)
    child.settle()
    child.send(messages.Remove(HANDLE, [10, 11]))
    for label in (10, 11):
        child.add([label], model.vectors[label][None])
    _check(child, model)
    child.checkpoint(model.next_label)
    child.kill()
    child = start_child()
    child.attach(model.definition)
    _live(child, model)
    _check(child, model)


def test_a_label_that_nobody_knows_costs_the_set(child: Child) -> None:
    model = _filled(child, 20)
    child.send(messages.Remove(HANDLE, list(range(1, 21))))
    child.add([40], np.ones((1, DIMENSIONS)))
    child.add([30], np.ones((1, DIMENSIONS)))
    assert b"label 30 is not known" in child.get(messages.Lost).reason
    assert child.attach(model.definition)[1] == 1


def test_after_a_rebuild_the_old_checkpoint_serves_until_the_next(start_child: StartChild) -> None:
    child = start_child()
    model = _filled(child, 2000)
    child.settle()
    child.checkpoint(model.next_label)
    gone = list(range(1, 1200))
    child.send(messages.Remove(HANDLE, gone))
    model.remove(gone)
    assert child.settle().dead == 0
    names = sorted(each.name for each in child.directory.glob("*.vectors"))
    assert names == ["7-1.vectors", "7-2.vectors"]
    child.kill()
    child = start_child()
    assert child.attach(model.definition).from_checkpoint
    _live(child, model)
    child.settle()
    _check(child, model)
    child.checkpoint(model.next_label)
    assert len(list(child.directory.glob("*.vectors"))) == 1


@pytest.mark.limit(120)
def test_killed_at_any_moment_it_comes_back_with_what_a_checkpoint_covers(
    start_child: StartChild,
) -> None:
    """During adds, during a checkpoint, right after one."""
    rng = seeded()
    child = start_child()
    model = Model(definition(DIMENSIONS, ef=40))
    child.attach(model.definition)
    for _ in range(scaled(6)):
        vectors = clustered(rng.randrange(1 << 32), 600, DIMENSIONS)
        child.add(model.add(vectors), vectors)
        covered = model.next_label - rng.choice([0, 300, 600])
        child.send(
            messages.Checkpoint(HANDLE, covered, (1, covered), 0, 131072, b"key")
        )  # fmt: skip
        time.sleep(rng.random() * 0.1)
        child.kill()
        child = start_child()
        attached = child.attach(model.definition)
        wanted = range(attached.wanted, model.next_label)
        if attached.from_checkpoint:
            labels = [label for label in model.vectors if label < attached.wanted]
            child.send(messages.Live(HANDLE, True, labels))
        if wanted:
            child.add(list(wanted), np.array([model.vectors[label] for label in wanted]))
        _check(child, model)


# -- damage ----------------------------------------------------------------------


def _written(directory: Path, cid: int, seed: int, wanted: Any, n: int = 300) -> None:
    """A set with its checkpoint, made in this process."""
    found = namespaces.Namespace.create(directory, cid, wanted, 1)
    vectors = clustered(seed, n, wanted.dimensions)
    ids = [b"id:%d" % label for label in range(1, n + 1)]
    found.add(messages.Add(1, range(1, n + 1), ids, vectors.tobytes()))
    while found.has_work:
        found.work()
    found.start_checkpoint(messages.Checkpoint(1, n + 1, (1, 1), 0, 0, b"key"), [])
    assert found.end_checkpoint()[3] == b""
    found.close()


def _load(directory: Path, cid: int, wanted: Any) -> None:
    generation, _ = checkpoint.load(directory, cid, wanted)
    generation.check()
    generation.close()


@pytest.mark.parametrize(
    "wanted", [definition(8), definition(8, COSINE, FLAT)], ids=["hnsw", "flat"]
)
def test_no_flipped_bit_is_loaded(tmp_path: Path, wanted: Any) -> None:
    _written(tmp_path, CID, 51, wanted)
    _load(tmp_path, CID, wanted)
    rng = seeded()
    paths = [tmp_path / f"{CID}.checkpoint", tmp_path / f"{CID}-1.vectors"]
    for _ in range(scaled(300)):
        path = rng.choice(paths)
        content = path.read_bytes()
        covered = len(content) if path == paths[0] else 300 * 32
        at = rng.choice([rng.randrange(covered), covered - 1 - rng.randrange(40)])
        damaged = bytearray(content)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.UnusableError):
            _load(tmp_path, CID, wanted)
        path.write_bytes(content)
    _load(tmp_path, CID, wanted)


def test_no_cut_or_zeroed_file_is_loaded(tmp_path: Path) -> None:
    wanted = definition(8)
    _written(tmp_path, CID, 52, wanted)
    rng = seeded()
    for name, covered in ((f"{CID}.checkpoint", None), (f"{CID}-1.vectors", 300 * 32)):
        path = tmp_path / name
        content = path.read_bytes()
        end = covered or len(content)
        for length in [0, 1, 50, end - 1, *(rng.randrange(end) for _ in range(30))]:
            for damaged in (content[:length], content[:length] + bytes(len(content) - length)):
                path.write_bytes(damaged)
                with pytest.raises(checkpoint.UnusableError):
                    _load(tmp_path, CID, wanted)
        path.write_bytes(content)
    _load(tmp_path, CID, wanted)
    (tmp_path / f"{CID}-1.vectors").unlink()
    with pytest.raises(checkpoint.UnusableError, match="vectors file is missing"):
        _load(tmp_path, CID, wanted)


def test_no_file_of_another_set_is_loaded(tmp_path: Path) -> None:
    wanted = definition(8)
    _written(tmp_path, 7, 53, wanted)
    _written(tmp_path, 8, 54, wanted)
    for suffix in (".checkpoint", "-1.vectors"):
        names = tmp_path / f"7{suffix}", tmp_path / f"8{suffix}"
        contents = [each.read_bytes() for each in names]
        names[0].write_bytes(contents[1])
        names[1].write_bytes(contents[0])
        for cid in (7, 8):
            with pytest.raises(checkpoint.UnusableError):
                _load(tmp_path, cid, wanted)
        for path, content in zip(names, contents, strict=True):
            path.write_bytes(content)
    _load(tmp_path, 7, wanted)


@pytest.mark.parametrize(
    "other",
    [definition(8, L2), definition(8, quantisation=I8), definition(8, kind=FLAT), definition(16)],
    ids=["metric", "quantisation", "kind", "dimensions"],
)
def test_no_set_of_another_definition_is_loaded(tmp_path: Path, other: Any) -> None:
    _written(tmp_path, CID, 55, definition(8))
    with pytest.raises(checkpoint.UnusableError, match="defined differently"):
        _load(tmp_path, CID, other)


def test_an_older_copy_is_used_only_while_its_vectors_are_there(start_child: StartChild) -> None:
    child = start_child()
    model = _filled(child, 600)
    child.checkpoint(model.next_label)
    path = child.directory / f"{CID}.checkpoint"
    older = path.read_bytes()
    more = clustered(56, 600, DIMENSIONS)
    child.add(model.add(more), more)
    child.checkpoint(model.next_label)
    child.kill()
    path.write_bytes(older)
    child = start_child()
    assert child.attach(model.definition)[1:3] == (601, 600)
    _live(child, model)
    child.add(list(range(601, 1201)), more)
    _check(child, model)
    child.kill()
    # Another generation's, whose vectors are gone.
    child = start_child()
    child.attach(model.definition, ignore_checkpoint=True)
    child.kill()
    path.write_bytes(older)
    child = start_child()
    attached = child.attach(model.definition)
    assert not attached.from_checkpoint and b"vectors file" in attached.reason


def test_a_damaged_checkpoint_costs_a_rebuild_and_says_why(start_child: StartChild) -> None:
    child = start_child()
    model = _filled(child)
    child.checkpoint(model.next_label)
    child.kill()
    path = child.directory / f"{CID}.checkpoint"
    damaged = bytearray(path.read_bytes())
    damaged[1000] ^= 4
    path.write_bytes(damaged)
    child = start_child()
    attached = child.attach(model.definition)
    assert attached[1:] == (1, 0, (0, 0), False, b"its checksum is wrong")
    labels = sorted(model.vectors)
    child.add(labels, np.array([model.vectors[label] for label in labels]))
    _check(child, model)


def test_files_that_belong_to_nothing_go_at_the_start(
    start_child: StartChild, tmp_path: Path
) -> None:
    child = start_child()
    model = _filled(child)
    child.checkpoint(model.next_label)
    child.close()
    shutil.copy(tmp_path / "7.checkpoint", tmp_path / "9.checkpoint")
    for name in ("8-1.vectors", "8.checkpoint.123", "5.checkpoint"):
        (tmp_path / name).write_bytes(b"remains")
    child = start_child()
    assert [each.cid for each in child.hello.checkpoints] == [7]
    complaints = {child.get(messages.Log).text for _ in range(2)}
    assert any(b"9.checkpoint: it is that of collection 7" in each for each in complaints)
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"lock", "7.checkpoint", "7-1.vectors"}
    child.send(messages.Drop(7))
    child.ping()
    assert {each.name for each in tmp_path.iterdir()} == {"lock"}
