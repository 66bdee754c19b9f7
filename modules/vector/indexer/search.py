"""How a generation is searched: candidates from the graph and from exact scans, ranked together.

The graph serves searches without a filter, and filters that match many. Where it would cost
more than comparing with every vector in question, all are compared. Whatever proposes a candidate,
its distance is computed exactly from the stored vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from norikv_resp.vector_rows import COSINE

from .generation import Generation
from .messages import Search
from .ranking import Queries, Ranked, approximate, likely, prepare, rank
from .slots import Slots

Mask = npt.NDArray[np.bool_]

#: Vectors visited by a search of the graph where neither the search nor the set says.
DEFAULT_EF = 128

#: Visiting a vector in the graph costs as much as comparing this many in a row.
_VISIT = 12

#: Up to so many matches of a filter are compared exactly, whatever else.
_FEW = 5000

#: How much more is asked of the graph for a filter than its share of matches suggests: at first,
#: and once more when too few came back.
_OVERSAMPLING = (2, 8)

#: Numbers in the rows that are compared at once.
_BLOCK = 2 << 20


class Wanted(NamedTuple):
    """A search, and the number of slots that there were when it came: it sees no later ones."""

    search: Search
    limit: int


class Searcher:
    """Searches with one generation; `threads` for the graph, `pulse` is called now and then."""

    def __init__(self, generation: Generation, threads: int, pulse: Callable[[], None]) -> None:
        self._generation = generation
        self._threads = threads
        self._pulse = pulse

    def run(self, wanted: Sequence[Wanted], matching: Mask | None) -> Ranked:
        """The hits of searches that share ef, exact, filter ef and the filter.

        `matching` are the slots that match the filter. Rows have the length of the
        largest k; a search with a smaller one has the first of them.
        """
        generation = self._generation
        first = wanted[0].search
        vectors = np.frombuffer(b"".join(each.search.vector for each in wanted), np.float32)
        queries = prepare(generation.definition, vectors.reshape(len(wanted), -1))
        k = min(max(each.search.k for each in wanted), generation.table.alive_count)
        if k == 0:
            return Ranked(np.empty((len(wanted), 0)), np.empty((len(wanted), 0), np.int64))
        limits = [each.limit for each in wanted]
        eligible = generation.table.alive
        if matching is not None:
            eligible = eligible & matching
        scan = _Scan(generation, queries, np.array(limits), eligible, k, self._pulse)
        candidates = None if first.exact else self._from_graph(first, queries, scan)
        if candidates is None:
            candidates = scan.all()
        elif generation.table.alive_count > len(generation.graph or ()):
            candidates = np.concatenate((candidates, scan.outside()), axis=1)
        if min(limits) < generation.table.count:
            candidates[candidates >= scan.limits[:, None]] = -1
        return rank(queries, generation.file.rows, candidates, k)

    def _from_graph(self, first: Search, queries: Queries, scan: _Scan) -> Slots | None:
        """What the graph proposes, or None where it is better not asked."""
        graph = self._generation.graph
        if graph is None or not len(graph) or not graph.answers(queries):
            return None
        ef = first.ef or self._generation.definition.ef or DEFAULT_EF
        ask = graph.candidates(scan.k)
        if not first.filter:
            if max(ef, ask) * _VISIT > len(graph):
                return None
            return graph.search(queries, ask, ef, self._threads)
        matches = scan.matches
        if len(matches) <= max(_FEW, 10 * (scan.k * len(graph)) ** 0.5):
            return None
        return self._filtered(ask, ef, first.filter_ef, queries, scan)

    def _filtered(
        self, ask: int, ef: int, bound: int, queries: Queries, scan: _Scan
    ) -> Slots | None:
        graph = self._generation.graph
        assert graph is not None
        inside = len(scan.matches) - scan.outside_matches
        for more in _OVERSAMPLING:
            width = int(more * ask * len(graph) / max(inside, 1))
            if bound:
                width = min(width, max(bound, scan.k))
            if not bound and max(ef, width) * _VISIT > len(scan.matches):
                return None
            found = scan.only_eligible(graph.search(queries, width, ef, self._threads))
            enough = np.count_nonzero(found >= 0, axis=1) >= min(scan.k, inside)
            if enough.all() or bound:
                return _first(found, ask)
        return None


class _Scan:
    """Exact searches over parts of a generation, for a number of queries at once."""

    def __init__(
        self,
        generation: Generation,
        queries: Queries,
        limits: npt.NDArray[np.int64],
        eligible: Mask,
        k: int,
        pulse: Callable[[], None],
    ) -> None:
        self._generation = generation
        self._queries = queries
        self.limits = limits
        self._eligible = eligible
        self.k = k
        self._pulse = pulse
        self._matches: Slots | None = None

    @property
    def matches(self) -> Slots:
        """Every eligible slot."""
        if self._matches is None:
            self._matches = np.flatnonzero(self._eligible)
        return self._matches

    @property
    def outside_matches(self) -> int:
        """How many eligible slots are not in the graph."""
        generation = self._generation
        return int(
            np.count_nonzero(self._eligible[generation.graphed :])
            + np.count_nonzero(self._eligible[generation.outside])
        )

    def only_eligible(self, slots: Slots) -> Slots:
        """The slots [q, c], -1 for those that are not eligible."""
        slots[~self._eligible[slots]] = -1
        return slots

    def all(self) -> Slots:
        """Candidates among all eligible slots."""
        matches = self.matches
        if self._queries.metric == COSINE and not self._queries.norms.all():
            return self._with_zero_queries()
        if 2 * len(matches) > len(self._eligible):
            return self._range(0, len(self._eligible))
        return self._slots(matches)

    def outside(self) -> Slots:
        """Candidates among the eligible slots that are not in the graph."""
        generation = self._generation
        pending = self._range(generation.graphed, generation.table.count)
        if not len(generation.outside):
            return pending
        outside = generation.outside[self._eligible[generation.outside]]
        return np.concatenate((pending, self._slots(outside)), axis=1)

    def _with_zero_queries(self) -> Slots:
        """To a zero vector every cosine distance is 1: the first slots are the nearest."""
        results = np.full((len(self._queries), 0), -1, np.int64)
        for number, norm in enumerate(self._queries.norms.tolist()):
            one = slice(number, number + 1)
            limits = self.limits[one]
            scan = _Scan(
                self._generation, self._queries.part(one), limits, self._eligible, self.k,
                self._pulse,
            )  # fmt: skip
            found = self.matches[None, : self.k] if norm == 0.0 else scan.all()
            width = max(results.shape[1], found.shape[1])
            results = _widened(results, width)
            results[number, : found.shape[1]] = found[0]
        return results

    def _range(self, start: int, end: int) -> Slots:
        """Candidates [q, c] among consecutive slots."""
        found = [np.empty((len(self._queries), 0), np.int64)]
        step = max(1024, _BLOCK // self._generation.definition.dimensions)
        for at in range(start, end, step):
            part = slice(at, min(at + step, end))
            columns = self._likely(self._generation.file.rows[part], part, np.arange(at, part.stop))
            found.append(np.where(columns < 0, -1, columns + at))
        return np.concatenate(found, axis=1)

    def _slots(self, slots: Slots) -> Slots:
        """Candidates [q, c] among any slots."""
        found = [np.empty((len(self._queries), 0), np.int64)]
        step = max(1024, _BLOCK // self._generation.definition.dimensions)
        for at in range(0, len(slots), step):
            part = slots[at : at + step]
            columns = self._likely(self._generation.file.rows[part], part, part)
            found.append(np.where(columns < 0, -1, part[columns]))
        return np.concatenate(found, axis=1)

    def _likely(self, rows: npt.NDArray[np.float32], part: slice | Slots, slots: Slots) -> Slots:
        self._pulse()
        near = approximate(self._queries, rows, self._generation.table.norms[part])
        eligible = self._eligible[part]
        if not eligible.all():
            near.values[:, ~eligible] = np.inf
        if slots[-1] >= self.limits.min():
            near.values[slots >= self.limits[:, None]] = np.inf
        return likely(near, self.k)


def _first(slots: Slots, count: int) -> Slots:
    """The first `count` of each row that are slots."""
    order = np.argsort(slots < 0, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(slots, order, axis=1)


def _widened(slots: Slots, width: int) -> Slots:
    wider = np.full((len(slots), width), -1, np.int64)
    wider[:, : slots.shape[1]] = slots
    return wider
