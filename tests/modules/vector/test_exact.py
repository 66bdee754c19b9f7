"""Distances and the nearest rows against plain Python in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from norikv_resp.vector_rows import COSINE, IP, L2
from tests.modules import part
from tests.support.effort import scaled

exact = part("vector.exact")

numbers = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
few = settings(max_examples=scaled(150), deadline=None)


def naive(metric: int, one: list[float], other: list[float]) -> float:
    dot = math.fsum(a * b for a, b in zip(one, other, strict=True))
    if metric == IP:
        return 1.0 - dot
    if metric == L2:
        return math.fsum((a - b) ** 2 for a, b in zip(one, other, strict=True))
    lengths = math.sqrt(math.fsum(a * a for a in one)) * math.sqrt(math.fsum(b * b for b in other))
    return 1.0 if not lengths else min(max(1.0 - dot / lengths, 0.0), 2.0)


@st.composite
def searches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    dimensions = draw(st.integers(1, 9))
    rows = draw(st.integers(1, 40))
    elements = st.one_of(numbers, st.sampled_from([0.0, 1.0, -1.0, 0.5]))
    matrix = draw(arrays.arrays(np.float32, (rows, dimensions), elements=elements))
    query = draw(arrays.arrays(np.float32, dimensions, elements=elements))
    return matrix, query


@pytest.mark.parametrize("metric", [COSINE, L2, IP])
@few
@given(search=searches())
def test_true_distances(metric: int, search: tuple[np.ndarray, np.ndarray]) -> None:
    matrix, query = search
    found = exact.true_distances(metric, matrix, query)
    for row, distance in zip(matrix.tolist(), found.tolist(), strict=True):
        size = math.sqrt(math.fsum(a * a for a in row) * math.fsum(b * b for b in query.tolist()))
        scale = 1.0 if metric == COSINE else size + math.fsum(a * a for a in row) + 1.0
        assert distance == pytest.approx(
            naive(metric, row, query.tolist()), rel=1e-9, abs=1e-9 * scale
        )


@pytest.mark.parametrize("metric", [COSINE, L2, IP])
@few
@given(search=searches(), count=st.integers(1, 50), step=st.integers(1, 5))
def test_nearest_are_the_nearest(
    metric: int, search: tuple[np.ndarray, np.ndarray], count: int, step: int
) -> None:
    matrix, query = search
    labels = np.arange(1, step * len(matrix) + 1, step, dtype=np.uint64)
    found = exact.nearest(metric, matrix, labels, query, count)
    true = exact.true_distances(metric, matrix, query).tolist()
    expected = sorted((distance, row) for row, distance in enumerate(true))[:count]
    if len(matrix) <= count + exact.SLACK:
        assert found == expected
    else:  # Of very many that are nearly as far, single precision may choose others.
        lengths = np.linalg.norm(matrix.astype(np.float64), axis=1)
        size = float(lengths.max() * np.linalg.norm(query.astype(np.float64)))
        nearly = 1e-5 * max(1.0, size, *map(abs, true))
        assert found == sorted({(true[row], row) for _, row in found})
        assert [each[0] for each in found] == pytest.approx(
            [each[0] for each in expected], abs=nearly
        )
    radius = expected[len(expected) // 2][0]
    bounded = exact.nearest(metric, matrix, labels, query, count, radius)
    assert bounded == [each for each in found if each[0] <= radius]


@pytest.mark.parametrize("metric", [COSINE, L2, IP])
def test_single_precision_is_near_the_truth(metric: int) -> None:
    rng = np.random.default_rng(5)
    matrix = rng.standard_normal((5000, 48), np.float32)
    matrix[17] = 0
    queries = rng.standard_normal((3, 48), np.float32)
    for lengths in (None, exact.norms(matrix)):
        found = exact.distances(metric, matrix, lengths, queries)
        assert found.shape == (3, 5000)
        for query, near in zip(queries, found, strict=True):
            assert near == pytest.approx(exact.true_distances(metric, matrix, query), abs=1e-3)


def test_equal_distances_come_in_the_order_of_labels() -> None:
    matrix = np.ones((200, 4), np.float32)
    labels = np.arange(200, 0, -1).astype(np.uint64)
    found = exact.nearest(COSINE, matrix, labels, matrix[0], 200)
    assert [labels[row] for _, row in found] == list(range(1, 201))


def test_nothing_is_nearest_to_nothing() -> None:
    empty = np.empty((0, 3), np.float32)
    query = np.ones(3, np.float32)
    assert exact.nearest(COSINE, empty, np.empty(0, np.uint64), query, 5) == []


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30, 3e38])
def test_lengths_beyond_single_precision(scale: float) -> None:
    """Their squares are 0 or infinite in single precision; their directions are not."""
    rng = np.random.default_rng(6)
    matrix = rng.standard_normal((3000, 8)).astype(np.float32)
    matrix *= np.float32(scale) / np.float32(np.abs(matrix).max())
    found = exact.nearest(COSINE, matrix, np.arange(1, 3001).astype(np.uint64), matrix[7], 1)
    assert found[0][1] == 7 and found[0][0] < 1e-12
