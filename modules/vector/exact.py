"""Distances, and the nearest of many vectors by comparing with each.

The metrics: cosine is 1 - cos, where a zero vector has cos 0 with everything; L2 is the squared
euclidean distance; IP is 1 - dot. What clients see is computed in double precision; ``distances``
is the single precision that chooses candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from norikv_resp.vector_rows import COSINE, IP

from .arrays import np

if TYPE_CHECKING:
    from .arrays import Doubles, Floats, Labels, Places

#: Candidates beyond those asked for that are compared again in double precision: single precision
#: may exchange what is equally near but for rounding.
SLACK = 16

#: Lengths between which single precision has computed them well.
_SHORT, _LONG = 1e-15, 1e15

#: Rows whose differences are held at once when L2 distances are computed.
_BLOCK = 4096


def norms(matrix: Floats) -> Floats:
    """The lengths of vectors; 1 for zero vectors, so that one can divide by them. O(n d)."""
    lengths: Floats = np.sqrt(np.einsum("ij,ij->i", matrix, matrix))
    # Squares of very small or large numbers do not fit into single precision.
    odd = ~((lengths > _SHORT) & (lengths < _LONG))
    if odd.any():
        wide = matrix[odd].astype(np.float64)
        lengths[odd] = np.sqrt(np.einsum("ij,ij->i", wide, wide))
        lengths[lengths == 0.0] = 1.0
    return lengths


def distances(metric: int, matrix: Floats, lengths: Floats | None, queries: Floats) -> Floats:
    """The distances [q, n] of *queries* [q, d] to the rows of *matrix* [n, d], about 1e-6 off.

    *lengths* are ``norms(matrix)`` where they are known. O(q n d).
    """
    found: Floats
    if metric == COSINE:
        if lengths is None:
            lengths = norms(matrix)
        units = queries / norms(queries)[:, None]
        found = 1.0 - (units @ matrix.T) / lengths
        return found
    if metric == IP:
        found = 1.0 - queries @ matrix.T
        return found
    found = np.empty((len(queries), len(matrix)), np.float32)
    for start in range(0, len(matrix), _BLOCK):
        block = matrix[start : start + _BLOCK]
        for number, query in enumerate(queries):
            difference = block - query
            found[number, start : start + _BLOCK] = np.einsum("ij,ij->i", difference, difference)
    return found


def true_distances(metric: int, vectors: Floats, query: Floats) -> Doubles:
    """The distances [k] of one query to the rows of *vectors* [k, d], in double precision."""
    wide, asked = vectors.astype(np.float64), query.astype(np.float64)
    found: Doubles
    if metric == COSINE:
        lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide) * (asked @ asked))
        lengths[lengths == 0.0] = np.inf
        # Rounding must not make a vector nearer than itself.
        found = np.clip(1.0 - (wide @ asked) / lengths, 0.0, 2.0)
    elif metric == IP:
        found = 1.0 - wide @ asked
    else:
        wide -= asked
        found = np.einsum("ij,ij->i", wide, wide)
    return found


def nearest(
    metric: int,
    matrix: Floats,
    labels: Labels,
    query: Floats,
    count: int,
    radius: float | None = None,
    *,
    lengths: Floats | None = None,
) -> list[tuple[float, int]]:
    """``(distance, row)`` of the nearest *count* rows, nearest first, equal ones by label.

    *labels* [n] are those of the rows of *matrix* [n, d]; *radius* bounds the distance. O(n d).
    """
    if not len(matrix) or count <= 0:
        return []
    with np.errstate(over="ignore", invalid="ignore"):
        near = distances(metric, matrix, lengths, query[None, :])[0]
    if not np.isfinite(near).all():
        near = true_distances(metric, matrix, query)
    rows = smallest(near, count + SLACK)
    true = true_distances(metric, matrix[rows], query)
    order = np.lexsort((labels[rows], true))[:count]
    found = zip(true[order].tolist(), rows[order].tolist(), strict=True)
    if radius is None:
        return list(found)
    return [(distance, row) for distance, row in found if distance <= radius]


def smallest(values: Floats | Doubles, count: int) -> Places:
    """The places of the *count* smallest values, in any order. O(n)."""
    if count >= len(values):
        return np.arange(len(values))
    return np.argpartition(values, count)[:count]
