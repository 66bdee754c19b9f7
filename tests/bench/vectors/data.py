"""The vectors of the benchmark: made from a seed, clustered as embeddings are, kept in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

DIMENSIONS = 128
QUERIES = 1_000
#: Neighbours that are looked for.
K = 10
#: Vectors beyond the set's own, for the row about adding to it.
EXTRA = 20_000

#: How far the members of a cluster lie from its centre, in the unit of how far centres lie.
_SPREAD = 1.2
_PER_CLUSTER = 2_000
_SEED = 20_240


@dataclass(frozen=True)
class Data:
    """Files that server, client and reference read."""

    count: int
    #: `count` + EXTRA vectors.
    vectors: Path
    queries: Path
    #: For each filter the rows nearest to each query, by its name; "" is without a filter.
    truths: dict[str, Path]


#: Filters by what they match, and their field `p`: a percent for each row.
FILTERS = {"1": ".p < 1", "50": ".p < 50"}


def percents(count: int) -> npt.NDArray[np.uint8]:
    """The field `p` of each vector."""
    return np.random.default_rng(_SEED).integers(0, 100, count, np.uint8)


def make(directory: Path, count: int) -> Data:
    """Write the files of *count* vectors."""
    rng = np.random.default_rng(_SEED + count)
    centres = rng.standard_normal((count // _PER_CLUSTER, DIMENSIONS), np.float32)

    def some(number: int) -> Vectors:
        made = centres[rng.integers(0, len(centres), number)]
        made += _SPREAD * rng.standard_normal((number, DIMENSIONS), np.float32)
        return made

    vectors, queries = some(count + EXTRA), some(QUERIES)
    data = Data(
        count,
        directory / f"vectors-{count}.npy",
        directory / f"queries-{count}.npy",
        {name: directory / f"truth-{count}-{name}.npy" for name in ("", *FILTERS)},
    )
    np.save(data.vectors, vectors)
    np.save(data.queries, queries)
    matching = percents(count)
    for name, path in data.truths.items():
        rows = np.flatnonzero(matching < int(name or 100))
        np.save(path, rows[nearest(vectors[rows], queries)])
    return data


def nearest(vectors: Vectors, queries: Vectors) -> Rows:
    """The K rows nearest to each query by cosine, exactly."""
    lengths = np.linalg.norm(vectors, axis=1)
    found = np.empty((len(queries), K), np.int64)
    for start in range(0, len(queries), 100):
        similar = queries[start : start + 100] @ vectors.T / lengths
        best = np.argpartition(-similar, K, axis=1)[:, :K]
        found[start : start + 100] = best
    return found


def recall(found: dict[int, list[int]], truth: Rows) -> float:
    """The part of the true neighbours that searches found; by number of the query."""
    hits = sum(len(set(rows) & set(truth[query].tolist())) for query, rows in found.items())
    return hits / (K * len(found))
