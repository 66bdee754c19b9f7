"""What the index process finds: against exact NumPy, for every metric and quantisation."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from norikv_resp.vector_rows import B1, BF16, COSINE, F16, F32, FLAT, HNSW, I8, IP, L2
from tests.support.effort import scaled, seeded

from .child import HANDLE, Array, Child, Model, definition, messages

EF = 40  # a graph of some hundred vectors is searched, not scanned


def clustered(seed: int, n: int, dimensions: int) -> Array:
    """Vectors around fifty centres, of different lengths."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((50, dimensions))
    vectors = centres[rng.integers(0, 50, n)] + 0.4 * rng.standard_normal((n, dimensions))
    return np.asarray(vectors * rng.uniform(0.5, 2.0, (n, 1)), np.float32)


def filled(child: Child, wanted: Any, vectors: Array) -> Model:
    """A set with these vectors, all in the graph."""
    model = Model(wanted)
    child.attach(wanted)
    child.add(model.add(vectors), vectors)
    child.settle()
    return model


def recall(child: Child, model: Model, queries: Array, k: int = 10, **more: Any) -> float:
    """The share of the true hits that are found; what is found is checked."""
    found = 0
    for query, result in zip(queries, child.searches(queries, k, **more), strict=True):
        model.check_hits(result)
        assert len(result.labels) == min(k, len(model.vectors))
        labels, distances = model.distances(query)
        true = dict(zip(labels, distances.tolist(), strict=True))
        np.testing.assert_allclose(
            result.distances, [true[label] for label in result.labels], rtol=1e-9, atol=1e-12
        )
        found += len({each[1] for each in model.search(query, k)} & set(result.labels))
    return found / (k * len(queries))


@pytest.mark.parametrize("metric", [COSINE, L2, IP], ids=["cosine", "l2", "ip"])
@pytest.mark.parametrize(
    ("quantisation", "least"),
    [(F32, 0.95), (F16, 0.95), (BF16, 0.95), (I8, 0.95), (B1, 0.6)],
    ids=["f32", "f16", "bf16", "i8", "b1"],
)
def test_the_graph_finds_nearly_all_with_exact_distances(
    child: Child, metric: int, quantisation: int, least: float
) -> None:
    wanted = definition(32, metric, HNSW, quantisation)
    model = filled(child, wanted, clustered(1, 2500, 32))
    assert recall(child, model, clustered(2, 40, 32), ef=100) >= least


@pytest.mark.parametrize("metric", [COSINE, L2, IP], ids=["cosine", "l2", "ip"])
@pytest.mark.parametrize("how", ["flat", "exact", "pending"])
def test_what_is_compared_with_every_vector_is_exact(child: Child, metric: int, how: str) -> None:
    wanted = definition(12, metric, FLAT if how == "flat" else HNSW)
    model = Model(wanted)
    child.attach(wanted)
    vectors = clustered(3, 3000, 12)
    child.add(model.add(vectors), vectors)
    if how == "exact":
        child.settle()
    queries = clustered(4, 20, 12)
    for query, result in zip(
        queries, child.searches(queries, 25, exact=how == "exact", ef=2500), strict=True
    ):
        model.check(result, model.search(query, 25))


def test_what_was_added_is_found_at_once(child: Child) -> None:
    """Whether a vector is pending or in the graph makes no difference to its being found."""
    wanted = definition(16, ef=EF)
    model = Model(wanted)
    child.attach(wanted)
    vectors = clustered(5, 3000, 16)
    for start in range(0, 3000, 300):
        part = vectors[start : start + 300]
        child.add(model.add(part), part)
        for number in (0, 299):
            result = child.search(part[number], 1)
            assert list(result.labels) == [start + number + 1]


def test_searches_see_no_later_adds_and_all_earlier_changes(child: Child) -> None:
    """Sent in one go: what is found depends on the order of the messages, not on batches."""
    wanted = definition(4)
    child.attach(wanted)
    point = np.ones(4, np.float32)
    sent: list[Any] = []
    expected = []
    alive: list[int] = []
    rng = seeded()
    for step in range(1, 400):
        if rng.random() < 0.5 or not alive:
            sent.append(messages.Add(HANDLE, [step], [b"%d" % step], point.tobytes()))
            alive.append(step)
        elif rng.random() < 0.5:
            sent.append(messages.Remove(HANDLE, [alive.pop(rng.randrange(len(alive)))]))
        sent.append(messages.Search(step, HANDLE, 1000, point.tobytes()))
        expected.append(sorted(alive))
    child.send(*sent)
    got = [child.get(messages.Result, where=lambda r, n=n: r.request == n) for n in range(1, 400)]
    assert [list(each.labels) for each in got] == expected


@pytest.mark.parametrize("metric", [COSINE, L2, IP], ids=["cosine", "l2", "ip"])
@pytest.mark.parametrize("quantisation", [F32, F16, I8], ids=["f32", "f16", "i8"])
def test_random_changes_against_a_model(child: Child, metric: int, quantisation: int) -> None:
    """Adds, replacements, removals and searches in any order, with rebuilds between."""
    rng = seeded()
    wanted = definition(8, metric, HNSW, quantisation, ef=EF)
    model = Model(wanted)
    child.attach(wanted)
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    for _ in range(scaled(60)):
        draw = rng.random()
        if draw < 0.5 or not model.vectors:
            vectors = clustered(rng.randrange(1 << 32), rng.randint(1, 120), 8)
            child.add(model.add(vectors), vectors)
        elif draw < 0.7:
            gone = rng.sample(sorted(model.vectors), min(len(model.vectors), rng.randint(1, 60)))
            child.send(messages.Remove(HANDLE, gone))
            model.remove(gone)
        elif draw < 0.72:
            everything = sorted(model.vectors)
            child.send(messages.Remove(HANDLE, everything))
            model.remove(everything)
        query = numbers.standard_normal(8)
        k = rng.choice([1, 10, 100, 5000])
        model.check(child.search(query, k, exact=True), model.search(query, k))
        result = child.search(query, k)
        model.check_hits(result)
        assert len(result.labels) == min(k, len(model.vectors))
    if quantisation != I8:
        assert recall(child, model, clustered(6, 20, 8), ef=150) >= 0.9


def test_a_worn_graph_is_rebuilt_beside_the_searches(child: Child) -> None:
    wanted = definition(16, ef=EF)
    vectors = clustered(7, 6000, 16)
    model = filled(child, wanted, vectors[:3000])
    for label in range(1, 2001):  # each replaced by a new label
        child.send(messages.Remove(HANDLE, [label]))
        child.add([3000 + label], vectors[2999 + label][None])
        model.remove([label])
        model.add(vectors[2999 + label][None])
    rebuilding = child.get(messages.Progress, where=lambda each: each.to_rebuild)
    assert 2999 <= rebuilding.alive <= 3000  # one may be on its way
    assert rebuilding.rebuilt <= rebuilding.to_rebuild
    query = clustered(8, 1, 16)[0]
    model.check(child.search(query, 50, exact=True), model.search(query, 50))
    gone = [2500, 4000]  # while it is rebuilt
    child.send(messages.Remove(HANDLE, gone))
    model.remove(gone)
    progress = child.settle()
    assert (progress.alive, progress.graphed) == (2998, 2998) and progress.dead <= 501
    assert recall(child, model, clustered(9, 30, 16), ef=100) >= 0.95
    assert [each.name for each in child.directory.glob("*.vectors")] == ["7-2.vectors"]


# -- arguments -----------------------------------------------------------------


def test_k_is_bounded_by_what_there_is(child: Child) -> None:
    """USearch allocates for whatever is claimed; the claim here is the largest there is."""
    model = filled(child, definition(8, ef=EF), clustered(10, 700, 8))
    query = clustered(11, 1, 8)[0]
    for exact in (False, True):
        result = child.search(query, 2**32 - 1, exact=exact, ef=2**32 - 1)
        model.check(result, model.search(query, 700))
    assert child.resident["Anon"] < 500 << 20


def test_radius_ends_the_hits(child: Child) -> None:
    model = filled(child, definition(8, ef=EF), clustered(12, 1000, 8))
    query = clustered(13, 1, 8)[0]
    for k, radius in ((10, 0.3), (1000, 0.3), (10, -1.0), (10, 0.0), (1000, math.inf)):
        result = child.search(query, k, radius=radius, exact=True)
        model.check(result, model.search(query, k, radius=radius))


def test_searches_of_different_kinds_at_once_get_their_own_answers(child: Child) -> None:
    model = filled(child, definition(8, ef=EF), clustered(14, 2000, 8))
    queries = clustered(15, 200, 8)
    rng = seeded()
    asked = []
    for number, query in enumerate(queries):
        k, exact = rng.choice([1, 5, 17, 40]), rng.random() < 0.5
        radius = rng.choice([math.nan, 0.2])
        asked.append((query, k, exact, radius))
        child.send(
            messages.Search(1000 + number, HANDLE, k, query.tobytes(), 0, exact, radius)
        )  # fmt: skip
    for number, (query, k, exact, radius) in enumerate(asked):
        result = child.get(messages.Result, where=lambda r, n=number: r.request == 1000 + n)
        limit = math.inf if math.isnan(radius) else radius
        expected = model.search(query, k, radius=limit)
        if exact:
            model.check(result, expected)
        model.check_hits(result)
        assert len(result.labels) <= k and all(each <= limit for each in result.distances)


@pytest.mark.parametrize("metric", [COSINE, L2, IP], ids=["cosine", "l2", "ip"])
@pytest.mark.parametrize("quantisation", [F32, F16, I8, B1], ids=["f32", "f16", "i8", "b1"])
def test_numbers_that_the_graph_cannot_hold_are_found_all_the_same(
    child: Child, metric: int, quantisation: int
) -> None:
    """Zero vectors, overflows of half and of single precision, numbers near nothing."""
    wanted = definition(8, metric, HNSW, quantisation, ef=EF)
    odd = np.zeros((9, 8), np.float32)
    odd[1, 3] = 1e-44
    odd[2] = 1e-30
    odd[3, :2] = 7e4, -7e4
    odd[4] = 3e38
    odd[5] = -3e38
    odd[6, 0] = 1e20
    odd[7] = 1e-20
    vectors = np.concatenate((clustered(16, 600, 8), odd, clustered(17, 600, 8)))
    model = filled(child, wanted, vectors)  # none stays pending: writers would wait
    queries = [*odd, *clustered(18, 5, 8), 1e30 * clustered(19, 1, 8)[0], odd[0]]
    for query in np.array(queries, np.float32):
        for exact in (True, False):
            result = child.search(query, 12, exact=exact)
            model.check_hits(result)
            assert len(result.labels) == 12
            if exact:
                model.check(result, model.search(query, 12))


@pytest.mark.parametrize("kind", [HNSW, FLAT], ids=["hnsw", "flat"])
def test_equal_vectors_are_found_in_the_order_of_their_labels(child: Child, kind: int) -> None:
    vectors = np.repeat(clustered(20, 3, 8), 400, axis=0)
    filled(child, definition(8, COSINE, kind), vectors)
    result = child.search(vectors[400], 30, exact=True)
    assert list(result.labels) == list(range(401, 431))


def test_distances_of_neighbours_far_from_the_origin_are_right(child: Child) -> None:
    """Products in single precision would not tell these apart."""
    rng = np.random.default_rng(21)
    vectors = np.float32(1000) + 0.01 * rng.standard_normal((2000, 8)).astype(np.float32)
    for metric in (L2, COSINE):
        wanted = definition(8, metric, FLAT)
        child.attach(wanted, handle=metric, cid=metric)
        model = Model(wanted)
        child.add(model.add(vectors), vectors, handle=metric)
        for query in vectors[:5]:
            result = child.search(query, 10, handle=metric)
            model.check(result, model.search(query, 10))
            if metric == L2:
                assert result.distances[0] == 0.0


def test_nan_never_spoils_other_hits(child: Child) -> None:
    """The server refuses it; USearch would take it."""
    wanted = definition(8, ef=EF)
    vectors = clustered(22, 800, 8)
    vectors[100, 2] = math.nan
    vectors[200] = math.inf
    model = filled(child, wanted, vectors)
    model.remove([101, 201])
    query = clustered(23, 1, 8)[0]
    model.check(child.search(query, 10, exact=True), model.search(query, 10))
    assert recall(child, model, clustered(24, 10, 8)) > 0.9
    assert not child.search(np.full(8, math.nan), 10).labels


def test_ids_of_any_bytes_and_length(child: Child) -> None:
    ids = [b"", b"\x00" * 3, b"x" * 65535, "ü".encode(), bytes(range(256))]
    child.attach(definition(4))
    vectors = np.eye(5, 4) + 1
    child.add([1, 2, 3, 4, 5], vectors, ids)
    result = child.search(np.ones(4), 5)
    assert {label: ids[label - 1] for label in result.labels} == dict(
        zip(result.labels, result.ids, strict=True)
    )
