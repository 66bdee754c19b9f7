"""One USearch index, and what USearch takes without a word or dies of kept away from it.

USearch stores NaN and infinity, leaves the rows before a duplicate key in place, allocates for
whatever k is claimed, and ends the process on a damaged file. So what comes here is finite and new,
k is at most the number of vectors, and only verified bytes are loaded.

Vectors enter in the form that the graph compares fastest: for cosine with length 1, so that the
inner product does; for B1 as the signs of their components, compared by Hamming distance. The
distances that USearch reports serve to choose candidates and are not returned.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import usearch
from usearch.index import BatchMatches, Index, Matches

from norikv_resp.vector_rows import B1, COSINE, F16, I8, IP, L2

from .messages import Definition
from .ranking import Queries, row_norms
from .slots import Slots
from .vectorfile import Matrix

#: Files of another version are not loaded.
USEARCH_VERSION: str = usearch.__version__

#: Beyond it a component overflows half precision.
_HALF_MAX = 60000.0

#: Neighbours of a vector, and vectors visited when one is added: beyond these bounds memory and
#: time go, and nothing is found better.
_NEIGHBOURS = (4, 512)
_EFFORT = (8, 4096)

#: Candidates a hit that are compared exactly: all but B1 keep the order but for rounding.
_OVERSAMPLING = {I8: 3.0, B1: 40.0}
_SLACK = 6


class Graph:
    """Vectors under slots; approximate search."""

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._dtype = _dtype(definition)
        self._bits = self._dtype == "b1"
        dimensions = definition.dimensions
        self._index = Index(
            ndim=(dimensions + 7) // 8 * 8 if self._bits else dimensions,
            metric="hamming" if self._bits else "l2sq" if not _by_dot(definition) else "ip",
            dtype=self._dtype,
            connectivity=_within(definition.m, _NEIGHBOURS),
            expansion_add=_within(definition.ef_construction, _EFFORT),
        )

    def __len__(self) -> int:
        return len(self._index)

    def accepts(self, rows: Matrix, norms: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """Which vectors can be in the graph: of trusted length and within the range of its type."""
        fit = np.isfinite(norms)
        if self._definition.metric == COSINE:
            fit &= norms > 0
        elif self._dtype == "f16":
            fit &= np.abs(rows).max(axis=1) < _HALF_MAX
        return fit

    def answers(self, queries: Queries) -> bool:
        """Whether the graph can be asked, in the sense of `accepts`."""
        if self._definition.metric != L2:
            return bool(np.all((queries.norms > 0) & np.isfinite(queries.norms)))
        return bool(self.accepts(queries.narrow, row_norms(queries.narrow)).all())

    def add(self, slots: Slots, rows: Matrix) -> None:
        """Put accepted vectors in, under slots that are not there."""
        if self._definition.metric == COSINE and not self._bits:
            wide = rows.astype(np.float64)
            lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
            rows = (wide / lengths[:, None]).astype(np.float32)
        self._index.add(slots.astype(np.uint64), self._stored(rows), threads=1)

    def remove(self, slots: Slots) -> None:
        """Take slots out; those that are not there are ignored."""
        if len(slots):
            self._index.remove(slots.astype(np.uint64), threads=1)

    def candidates(self, k: int) -> int:
        """How many candidates to ask for when the k nearest are wanted."""
        return int(k * _OVERSAMPLING.get(self._definition.quantisation, 1.25)) + _SLACK

    def search(self, queries: Queries, k: int, ef: int, threads: int) -> Slots:
        """Slots [q, k], nearest first but for rounding, -1 where there are no more."""
        k = min(k, len(self))
        # USearch's setter stands apart from its property, which mypy takes for read-only.
        self._index.expansion_search = max(ef, k)  # type: ignore[misc]
        threads = min(threads, len(queries))
        found = self._index.search(self._stored(queries.narrow), k, threads=threads)
        if isinstance(found, Matches):  # of one query, cut to what was found
            slots = np.full((1, k), -1, np.int64)
            slots[0, : len(found.keys)] = found.keys
            return slots
        assert isinstance(found, BatchMatches)
        slots = found.keys.astype(np.int64)
        if (found.counts < k).any():
            slots[np.arange(k) >= found.counts[:, None]] = -1
        return slots

    def save(self, path: Path) -> None:
        """Write USearch's bytes to a file."""
        self._index.save(str(path))

    def load(self, verified: memoryview) -> None:
        """Become what `save` wrote; ValueError if that is another kind of index."""
        self._index.load(verified)
        index = self._index
        expected = Graph(self._definition)._index
        if (index.ndim, index.dtype, index.metric_kind, index.connectivity) != (
            expected.ndim, expected.dtype, expected.metric_kind, expected.connectivity,
        ):  # fmt: skip
            raise ValueError("the graph is of another kind")
        index.expansion_add = expected.expansion_add  # type: ignore[misc]

    def _stored(self, rows: Matrix) -> npt.NDArray[Any]:
        """Rows of the length that the graph compares, in its type."""
        return np.packbits(rows > 0, axis=1) if self._bits else np.ascontiguousarray(rows)


def _within(number: int, bounds: tuple[int, int]) -> int:
    return min(max(number, bounds[0]), bounds[1])


def _by_dot(definition: Definition) -> bool:
    return definition.metric in (COSINE, IP)


def _dtype(definition: Definition) -> str:
    if definition.quantisation == B1:
        return "b1"
    if definition.quantisation == F16:
        return "f16"
    if definition.quantisation == I8 and definition.metric == COSINE:
        return "i8"
    return "bf16"
