"""Filtered searches of the index process: every way of searching gives what a model gives."""

from __future__ import annotations

import json

import numpy as np
import pytest

from norikv_resp.vector_rows import FLAT, HNSW

from .child import HANDLE, Child, Model, definition, messages
from .test_searches import clustered

N = 12_000


def _with_attributes(child: Child, kind: int) -> Model:
    """Vectors whose attribute `n` is their label."""
    wanted = definition(8, kind=kind)
    model = Model(wanted)
    child.attach(wanted)
    vectors = clustered(31, N, 8)
    labels = model.add(vectors)
    child.add(labels, vectors)
    texts = [json.dumps({"n": label, "half": label % 2}).encode() for label in labels]
    child.send(messages.Attributes(HANDLE, labels, texts))
    model.attributes = dict(zip(labels, texts, strict=True))
    if kind == HNSW:
        child.settle()
    return model


@pytest.mark.parametrize("kind", [HNSW, FLAT], ids=["hnsw", "flat"])
def test_few_half_none_and_all_of_the_vectors_match(child: Child, kind: int) -> None:
    model = _with_attributes(child, kind)
    queries = clustered(32, 8, 8)
    for text in (b".n % 100 == 7", b".half == 1", b".n < 0", b".n > 0", b".n == 77"):
        found = wanted = 0
        results = child.searches(queries, 10, filter=text, ef=100)
        for query, result in zip(queries, results, strict=True):
            expected = model.search(query, 10, text)
            model.check_hits(result)
            assert len(result.labels) == len(expected)
            found += len(set(result.labels) & {each[1] for each in expected})
            wanted += len(expected)
        assert found >= 0.95 * wanted, text
        exact = child.search(queries[0], 10, filter=text, exact=True)
        model.check(exact, model.search(queries[0], 10, text))


def test_filters_follow_every_change_of_attributes(child: Child) -> None:
    wanted = definition(4)
    model = Model(wanted)
    child.attach(wanted)
    rng = np.random.default_rng(33)
    text = b".a > 5"
    for step in range(150):
        vectors = rng.standard_normal((20, 4)).astype(np.float32)
        labels = model.add(vectors)
        child.add(labels, vectors)
        some = rng.choice(sorted(model.vectors), 15, replace=False).tolist()
        texts = [b'{"a":%d}' % value if value else b"" for value in rng.integers(0, 10, 15)]
        child.send(messages.Attributes(HANDLE, some, texts))
        for label, each in zip(some, texts, strict=True):
            if each:
                model.attributes[label] = each
            else:
                model.attributes.pop(label, None)
        gone = rng.choice(sorted(model.vectors), 12, replace=False).tolist()
        child.send(messages.Remove(HANDLE, gone))
        model.remove(gone)
        if step % 5 == 0:
            query = rng.standard_normal(4)
            result = child.search(query, 20, filter=text, exact=True)
            model.check(result, model.search(query, 20, text))


def test_attributes_survive_a_rebuild(child: Child) -> None:
    model = _with_attributes(child, FLAT)
    gone = list(range(1, N, 2))
    child.send(messages.Remove(HANDLE, gone))
    model.remove(gone)
    assert child.settle().dead == 0
    query = clustered(34, 1, 8)[0]
    for text in (b".n > 6000", b".half == 1", b".n % 100 == 8"):
        model.check(child.search(query, 10, filter=text), model.search(query, 10, text))


def test_filter_ef_bounds_what_is_looked_at(child: Child) -> None:
    """What matches half is looked for among so many candidates only, and fewer hits may come."""
    model = _with_attributes(child, HNSW)
    query = clustered(35, 1, 8)[0]
    text = b".half == 1"
    for bound in (10, 12, 1_000_000):
        result = child.search(query, 10, filter=text, filter_ef=bound, ef=100)
        model.check_hits(result)
        assert all(label % 2 for label in result.labels)
        assert len(result.labels) == 10 or bound < 100


def test_an_unreadable_filter_fails_with_the_reason(child: Child) -> None:
    child.attach(definition(4))
    child.add([1], np.ones((1, 4)))
    result = child.search(np.ones(4), 1, filter=b".a >")
    assert isinstance(result, messages.Failed) and b"syntax error in FILTER" in result.reason
