"""Distances for many queries at once, and which rows can be among the nearest.

Two steps: `likely` chooses rows by single-precision matrix products, with a margin for their
rounding, and `rank` orders those that were chosen by exact distances. The metrics are those of
`exact.py`: cosine is 1 - cos, where a zero vector has cos 0; L2 is the squared euclidean
distance; IP is 1 - dot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from norikv_resp.vector_rows import COSINE, L2

from .messages import Definition
from .slots import Slots
from .vectorfile import Matrix

Distances = npt.NDArray[np.float64]

#: Lengths between which single precision has room for squares and products.
_SHORT, _LONG = 1e-15, 1e15

#: How far a product of float32 vectors of length 1 and of dimension 1 may be off, generously.
_ROUNDING = 16 * 2.0**-23

#: Rows beyond the k-th that `likely` takes at first.
_SPARE = 8

#: Doubles that `rank` works on at once.
_AT_ONCE = 4 << 20


@dataclass
class Queries:
    """Queries of one metric, prepared."""

    metric: int
    #: As given, in double precision.
    wide: Distances
    #: For products in single precision: of length 1, but as given for L2.
    narrow: Matrix
    norms: Distances
    #: How far single-precision distances may be off, per unit of length.
    rounding: float

    def __len__(self) -> int:
        return len(self.wide)

    def part(self, which: slice | npt.NDArray[Any]) -> Queries:
        """Some of them."""
        return Queries(
            self.metric, self.wide[which], self.narrow[which], self.norms[which], self.rounding
        )


class Near(NamedTuple):
    """Approximate distances in the order of the true ones, but for rounding."""

    #: [q, n]; -inf where single precision cannot tell, +inf where a row is none of the query's.
    values: Matrix
    #: How far two of them may be exchanged, [q, 1].
    margin: Distances
    #: How many of a query's are -inf at most.
    unknown: int


class Ranked(NamedTuple):
    """For each query its hits, nearest first: [q, k]; where there are no more, infinity and -1."""

    distances: Distances
    slots: Slots


def row_norms(rows: Matrix) -> npt.NDArray[np.float32]:
    """The lengths of vectors; NaN where single precision cannot be trusted with one."""
    lengths = _lengths(rows.astype(np.float64))
    lengths[(lengths != 0.0) & ~((lengths > _SHORT) & (lengths < _LONG))] = np.nan
    norms: npt.NDArray[np.float32] = lengths.astype(np.float32)
    return norms


def prepare(definition: Definition, queries: Matrix) -> Queries:
    """Make ready queries [q, d]."""
    wide = queries.astype(np.float64)
    norms = _lengths(wide)
    narrow = queries
    if definition.metric != L2:
        divisors = norms if norms.all() else np.where(norms == 0.0, 1.0, norms)
        narrow = (wide / divisors[:, None]).astype(np.float32)
    rounding = _ROUNDING * definition.dimensions**0.5
    return Queries(definition.metric, wide, narrow, norms, rounding)


def approximate(queries: Queries, rows: Matrix, norms: npt.NDArray[np.float32]) -> Near:
    """Compare all queries with all rows in single precision. O(q n d)."""
    longest = float(np.nanmax(norms, initial=0.0))
    with np.errstate(over="ignore", invalid="ignore"):
        near: Matrix = queries.narrow @ rows.T
        if queries.metric == L2:
            near *= -2.0
            near += norms**2
            near += (queries.norms**2).astype(np.float32)[:, None]
            margin = queries.rounding * (queries.norms[:, None] + longest) ** 2
        else:
            np.negative(near, out=near)
            margin = np.full((len(queries), 1), queries.rounding)
            if queries.metric == COSINE:
                near /= np.where(norms == 0.0, np.float32(1.0), norms)
            else:
                margin *= longest
    untold = ~np.isfinite(near)
    untold |= np.isnan(norms)
    unknown = int(untold.sum(axis=1).max()) if untold.any() else 0
    if unknown:
        near[untold] = -np.inf
    return Near(near, margin, unknown)


def likely(near: Near, k: int) -> Slots:
    """Columns [q, c], among them each query's k nearest and those as near but for rounding.

    -1 stands where a query has no more. Usually c is little more than k.
    """
    values, margin, unknown = near
    n = values.shape[1]
    last = k + unknown
    take = last + _SPARE
    while take < n:
        columns = np.argpartition(values, take - 1, axis=1)[:, :take]
        taken = np.take_along_axis(values, columns, axis=1)
        kth = np.partition(taken, last - 1, axis=1)[:, last - 1, None]
        # What was not taken is at least as far as the last one taken.
        if np.all((taken.max(axis=1, keepdims=True) > kth + margin) | np.isposinf(kth)):
            columns[np.isposinf(taken)] = -1
            return columns
        take *= 4
    everything: Slots = np.broadcast_to(np.arange(n), values.shape).copy()
    everything[np.isposinf(values)] = -1
    return everything


def rank(queries: Queries, rows: Matrix, candidates: Slots, k: int) -> Ranked:
    """The k nearest of each query's candidates [q, c]; -1 is none, equal ones go by slot."""
    count, width = candidates.shape
    at_once = max(1, _AT_ONCE // (rows.shape[1] * max(1, width)))
    if count <= at_once:
        distances = _exact(queries, rows, candidates)
    else:
        distances = np.empty(candidates.shape, np.float64)
        for start in range(0, count, at_once):
            part = slice(start, start + at_once)
            distances[part] = _exact(queries.part(part), rows, candidates[part])
    none = candidates < 0
    if none.any():
        distances[none] = np.inf
    order = np.lexsort((candidates, distances), axis=1)[:, :k]
    # Places in the flattened arrays: much quicker than take_along_axis.
    order += np.arange(0, count * width, width)[:, None] if width else 0
    return Ranked(distances.take(order), candidates.take(order))


def _exact(queries: Queries, rows: Matrix, candidates: Slots) -> Distances:
    found = rows.take(candidates, axis=0, mode="wrap").astype(np.float64)  # [q, c, d]
    if queries.metric == L2:
        found -= queries.wide[:, None, :]
        squared: Distances = np.einsum("qcd,qcd->qc", found, found)
        return squared
    distances: Distances = np.matmul(found, queries.wide[:, :, None])[:, :, 0]
    if queries.metric == COSINE:
        lengths = np.sqrt(np.einsum("qcd,qcd->qc", found, found))
        lengths *= queries.norms[:, None]
        if not lengths.all():
            lengths[lengths == 0.0] = np.inf
        distances /= lengths
    np.subtract(1.0, distances, out=distances)
    return distances


def _lengths(wide: Distances) -> Distances:
    lengths: Distances = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    return lengths
