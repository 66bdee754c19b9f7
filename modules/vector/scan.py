"""Searches answered from the rows, by comparing with every vector: slow, exact, always possible.

Used while the index process does not serve a set. Queries that wait for one set share a pass
over its rows; those that come while a pass is running wait for the next. Labels only grow and a
pass goes upwards, so an element that is replaced meanwhile is still ahead under its new label.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from norikv_resp.vector_rows import split_vector, vector_row

from . import exact
from .arrays import floats, np
from .queries import Answer, Hit, Query, as_found
from .rows import Block, read_attributes, read_vectors, rows_at_once

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from norikv_resp.elements import Elements

    from .arrays import Floats, Labels
    from .pacing import Pacer, Work

    Open = Callable[[int], Elements]

TOGETHER = 64
"""Queries that share a pass at most."""

READ_AT_ONCE = 32
"""Rows of found elements that are read between two looks at the clock."""


class Candidates:
    """The nearest elements that a scan has met so far, for one query, and a few more."""

    def __init__(self, count: int) -> None:
        self._most = count + exact.SLACK
        self._distances: list[Floats] = []
        self._labels: list[Labels] = []
        self._held = 0
        #: Only what is nearer is worth offering.
        self.bound = float("inf")

    def offer(self, distances: Floats, labels: Labels) -> None:
        """Take elements that come after all earlier ones in the order of labels."""
        nearer = distances < self.bound
        self._distances.append(distances[nearer])
        self._labels.append(labels[nearer])
        self._held += int(np.count_nonzero(nearer))
        if self._held > 2 * self._most:
            self._shrink()

    def _shrink(self) -> None:
        distances = np.concatenate(self._distances)
        order = np.argsort(distances, kind="stable")[: self._most]
        self._distances = [distances[order]]
        self._labels = [np.concatenate(self._labels)[order]]
        self._held = len(order)
        if self._held == self._most:
            self.bound = float(self._distances[0][-1])

    def labels(self) -> list[int]:
        """The labels of the nearest, nearest first but for rounding."""
        if not self._labels:
            return []
        self._shrink()
        found: list[int] = self._labels[0].tolist()
        return found


class Waiting:
    """A query that takes part in a pass, and who gets its hits."""

    __slots__ = ("answer", "candidates", "query")

    def __init__(self, query: Query, count: int, answer: Answer) -> None:
        self.query = query
        self.answer = answer
        self.candidates = Candidates(min(query.count, count))


class Scanner:
    """Scans sets for queries; one per server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pacer: Pacer,
        open_elements: Open,
        rollbacks: Callable[[], int],
    ) -> None:
        self._loop = loop
        self._pacer = pacer
        self._open = open_elements
        self._rollbacks = rollbacks
        #: Queries that wait for a pass, by collection id; a job runs for each that is here.
        self._waiting: dict[int, list[Waiting]] = {}
        #: Those that take part in the running pass.
        self._passing: dict[int, list[Waiting]] = {}
        #: Queries answered so.
        self.answered = 0

    def search(self, cid: int, metric: int, query: Query, count: int, answer: Answer) -> None:
        """Search a set of *count* elements in the background."""
        queue = self._waiting.get(cid)
        if queue is None:
            queue = self._waiting[cid] = []
            self._pacer.run(self._serve(cid, metric), urgent=True)
        queue.append(Waiting(query, count, answer))

    def unanswered(self, cid: int) -> list[tuple[Query, Answer]]:
        """The searches of a set that are still to be answered, so that others may do it sooner."""
        waiting = self._passing.get(cid, []) + self._waiting.get(cid, [])
        return [(each.query, each.answer) for each in waiting if not each.answer.done()]

    def search_now(self, cid: int, metric: int, query: Query, count: int) -> list[Hit]:
        """Search a set while the loop stands still."""
        waiting = Waiting(query, count, Answer(self._loop, as_found))
        for _ in self._pass(cid, metric, [waiting]):
            pass
        hits: list[Hit] = waiting.answer.result()
        return hits

    def _serve(self, cid: int, metric: int) -> Work:
        """Do passes until no query waits."""
        try:
            while queue := self._waiting[cid]:
                together, self._waiting[cid] = queue[:TOGETHER], queue[TOGETHER:]
                together = [each for each in together if not each.answer.done()]
                if together:
                    self._passing[cid] = together
                    yield from self._pass(cid, metric, together)
        except BaseException as error:
            _fail(together + self._waiting[cid], error)
            raise
        finally:
            del self._waiting[cid]
            self._passing.pop(cid, None)

    def _pass(self, cid: int, metric: int, together: Sequence[Waiting]) -> Work:
        """Compare queries with all vectors, and answer them; ends when all have been answered."""
        elements = self._open(cid)
        dimensions = len(together[0].query.vector)
        queries = np.stack([each.query.vector for each in together])
        filtered = any(each.query.filter is not None for each in together)
        limit = rows_at_once(dimensions)
        rollbacks = self._rollbacks()
        first = 1
        while (block := read_vectors(elements, first, dimensions, limit)).labels:
            _compare(metric, queries, block, together, _texts(elements, block) if filtered else {})
            first = block.labels[-1] + 1
            yield 0.0
            if all(each.answer.done() for each in together):
                return
            if rollbacks != self._rollbacks():
                yield from self._again(cid, metric, together)
                return
        for each in together:
            hits = yield from _collect(elements, metric, each)
            if not each.answer.done():
                self.answered += 1
                each.answer.found(hits)

    def _again(self, cid: int, metric: int, together: Sequence[Waiting]) -> Work:
        """A commit has failed: what was read may never have been."""
        for each in together:
            each.candidates = Candidates(each.query.count)
        yield from self._pass(cid, metric, together)


def _texts(elements: Elements, block: Block) -> dict[int, bytes]:
    """The attributes of a block's elements, by label."""
    return dict(read_attributes(elements, block.labels[0], below=block.labels[-1] + 1))


def _compare(
    metric: int,
    queries: Floats,
    block: Block,
    together: Sequence[Waiting],
    texts: dict[int, bytes],
) -> None:
    """Offer a block's elements to every query."""
    labels = np.array(block.labels, np.uint64)
    matrix = floats(block.vectors).reshape(len(labels), -1)
    near = exact.distances(metric, matrix, None, queries)
    bounds = np.array([each.candidates.bound for each in together], np.float32)
    worth = (near < bounds[:, None]).any(axis=1)
    for number in np.flatnonzero(worth).tolist():
        each = together[number]
        wanted = each.query.filter
        if wanted is None:
            each.candidates.offer(near[number], labels)
        else:
            mask = np.array([wanted.matches(texts.get(label)) for label in block.labels])
            each.candidates.offer(near[number][mask], labels[mask])


def _collect(
    elements: Elements, metric: int, waiting: Waiting
) -> Generator[float, None, list[Hit]]:
    """The hits of a query, with distances in double precision; what is gone is left out."""
    query = waiting.query
    found: list[Hit] = []
    labels = waiting.candidates.labels()
    for start in range(0, len(labels), READ_AT_ONCE):
        vectors, alive, ids = [], [], []
        for label in labels[start : start + READ_AT_ONCE]:
            raw = elements.get(vector_row(label))
            if raw is not None:
                vector, ident = split_vector(raw, len(query.vector))
                vectors.append(vector)
                alive.append(label)
                ids.append(ident)
        if alive:
            matrix = floats(b"".join(vectors)).reshape(len(alive), -1)
            distances = exact.true_distances(metric, matrix, query.vector).tolist()
            found += map(Hit, alive, ids, distances)
        if start + READ_AT_ONCE < len(labels):
            yield 0.0
    found.sort(key=lambda hit: (hit.distance, hit.label))
    if query.radius is not None:
        found = [hit for hit in found if hit.distance <= query.radius]
    return found[: query.count]


def _fail(waiting: Sequence[Waiting], error: BaseException) -> None:
    """No search must wait for ever, whatever happens."""
    for each in waiting:
        if not each.answer.done():
            if isinstance(error, Exception):
                each.answer.set_exception(error)
            else:
                each.answer.cancel()
