"""The index process as the server uses it: which sets it serves, how they get there, searches.

A set is attached, fed from its rows up to the last, and then served: changes follow as they are
staged. When the process ends, every set goes back to the start, and every search that it owed is
answered from the rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from norikv_resp.logs import log
from norikv_resp.vector_rows import vector_row

from .feeding import Feed
from .indexer.messages import (
    Add,
    Attach,
    Attached,
    Attributes,
    Checkpointed,
    Detach,
    Drop,
    Failed,
    Hello,
    Lost,
    Message,
    Progress,
    Result,
    Sample,
    Search,
    Vectors,
)
from .queries import Answer, Hit, Query, as_found
from .rows import read_attributes, read_vectors
from .views import ALL, IndexedSet, Phase

if TYPE_CHECKING:
    from norikv_resp.elements import Elements

    from .indexer.messages import Definition
    from .pacing import Job, Pacer, Work
    from .supervisor import Supervisor


NOT_GIVEN = float("nan")

ASK_AGAIN = 3
"""How often a search is sent anew because hits proved dead, before the rows answer it."""

CHECKED_AT_MOST = 1000
"""Hits that are looked up one by one while a set is not trusted yet; more are not asked for."""

CRASHES = 2
"""Ends of the process while a set was attached from its checkpoint, after which it is ignored."""


class Host(Protocol):
    """What the server side of the index needs from those around it."""

    def search_rows(self, view: IndexedSet, query: Query, answer: Answer) -> None:
        """Answer a search without the index process."""

    def next_label_of(self, view: IndexedSet) -> int | None:
        """The next label of the set's record where it was seen last; None if it is not there."""

    def is_future(self, version: tuple[int, int]) -> bool:
        """Whether a version was never given out by this data."""

    def checkpoints_found(self, hello: Hello) -> None:
        """The process is ready; these checkpoints lie in its directory."""

    def checkpointed(self, view: IndexedSet, report: Checkpointed) -> None:
        """A checkpoint was written, or failed."""

    def now_served(self, view: IndexedSet) -> None:
        """From now on the process searches a set."""

    def process_lost(self) -> None:
        """The process is gone; sets are detached already."""


class Asked(NamedTuple):
    """A search that the index process owes.

    wanted: hits asked for, more than the query's when some proved dead before.
    checked: whether each hit has to be looked up, because removals may be missing.
    """

    view: IndexedSet
    query: Query
    answer: Answer
    wanted: int
    tries: int
    checked: bool


class Sampled(NamedTuple):
    """What a checkpoint has to say of some labels."""

    view: IndexedSet
    expected: dict[int, tuple[bytes, bytes]]


class Indexing:
    """The sets that the index process serves or is to serve; one per server."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pacer: Pacer,
        process: Supervisor,
        open_elements: Callable[[int], Elements],
        host: Host,
    ) -> None:
        # For the life of the server.
        self._loop = loop
        self._pacer = pacer
        self.process = process
        self._elements = open_elements
        self._host = host
        self._feed = Feed(open_elements, self._send, lambda: process.buffered)
        #: Every set that was attached or is to be, by collection id.
        self.sets: dict[int, IndexedSet] = {}
        self._by_handle: dict[int, IndexedSet] = {}
        self._next_handle = 1
        self._next_request = 1

        # The running process.
        self._asked: dict[int, Asked] = {}
        self._sampled: dict[int, Sampled] = {}
        #: Work for a set, to be ended with its attachment.
        self._jobs: dict[IndexedSet, list[Job]] = {}

        # The loop turn.
        self._changed: dict[IndexedSet, None] = {}

        # Figures.
        #: Searches answered, and searches sent anew because hits proved dead.
        self.answered = self.repeated = 0
        #: Indexes that proved to be of no use.
        self.discarded = 0

    # ---- sets

    def serve(self, cid: int, definition: Definition, *, start: bool) -> IndexedSet:
        """Have a set served as soon as that is possible; *start* the process if it must be."""
        view = IndexedSet(self._next_handle, cid, definition)
        self._next_handle += 1
        self.sets[cid] = view
        self._by_handle[view.handle] = view
        if start:
            self.process.need()
        if self.process.ready:
            self._attach(view)
        return view

    def forget(self, cid: int) -> None:
        """The set is gone, or was never committed: delete what is kept of it."""
        view = self.sets.pop(cid, None)
        if view is not None:
            del self._by_handle[view.handle]
            self._release(view)
        self._send(Drop(cid))

    def _release(self, view: IndexedSet) -> None:
        """End what goes on for a set, and answer its searches from the rows."""
        for job in self._jobs.pop(view, ()):
            job.cancel()
        self._changed.pop(view, None)
        self._sampled = {k: v for k, v in self._sampled.items() if v.view is not view}
        owed = [self._asked.pop(request) for request in list(view.searches)]
        view.detach()
        for asked in owed:
            self._host.search_rows(view, asked.query, asked.answer)

    # ---- attaching and feeding

    def _attach(self, view: IndexedSet) -> None:
        view.phase = Phase.ATTACHING
        ignore = view.crashes >= CRASHES
        self.process.ask(Attach(view.handle, view.cid, view.definition, ignore))

    def _attach_anew(self, view: IndexedSet, reason: str) -> None:
        """What the process has of a set is of no use: send everything."""
        log.warning("the index of vector set %d is built anew: %s", view.cid, reason)
        self.discarded += 1
        self._release(view)
        self._send(Detach(view.handle))
        view.crashes = CRASHES
        self._attach(view)

    def _attached(self, message: Attached) -> None:
        view = self._by_handle.get(message.handle)
        if view is None or view.phase is not Phase.ATTACHING:
            return
        if message.from_checkpoint and (reason := self._foreign(view, message)):
            self._attach_anew(view, reason)
            return
        if message.reason:
            reason = message.reason.decode(errors="replace")
            log.info("vector set %d has no checkpoint that could be used: %s", view.cid, reason)
        view.attached(message.wanted, message.alive, self._loop.time())
        if message.from_checkpoint:
            self._sample(view, message.wanted)
        self._run(view, self._bring_up(view, message.wanted))

    def _foreign(self, view: IndexedSet, message: Attached) -> str:
        """Why a checkpoint is not one of this data, as far as numbers tell; empty if it may be."""
        if self._host.is_future(message.version):
            return "its checkpoint is newer than the data"
        next_label = self._host.next_label_of(view)
        if next_label is not None and message.wanted > next_label:
            return "its checkpoint has more elements than the data"
        return ""

    def _bring_up(self, view: IndexedSet, wanted: int) -> Work:
        """Feed a set that was just attached, until it can be searched, and then until it is clean.

        A set is served once the samples of its checkpoint have proved true.
        """
        yield from self._feed.vectors(view)
        while any(sampled.view is view for sampled in self._sampled.values()):
            yield 0.002
        view.phase = Phase.SERVED
        log.info("vector set %d is searched by the index process", view.cid)
        self._host.now_served(view)
        if not view.trusted:
            yield from self._feed.members(view, wanted)

    def _sample(self, view: IndexedSet, below: int) -> None:
        expected = self._feed.samples(view, below)
        request = self._new_request()
        self._sampled[request] = Sampled(view, expected)
        self.process.ask(Sample(request, view.handle, list(expected)))

    def _compare(self, message: Vectors) -> None:
        """Samples of a checkpoint have come: they must be what the rows said when it was asked."""
        sampled = self._sampled.pop(message.request, None)
        if sampled is None or sampled.view.phase is Phase.DETACHED:
            return
        size = 4 * sampled.view.definition.dimensions
        found = {
            label: (message.vectors[at * size : (at + 1) * size], ident)
            for at, (label, ident) in enumerate(zip(message.labels, message.ids, strict=True))
        }
        if found != sampled.expected:
            self._attach_anew(sampled.view, "its checkpoint does not agree with the data")

    def _run(self, view: IndexedSet, work: Work) -> None:
        jobs = self._jobs.setdefault(view, [])
        jobs[:] = [job for job in jobs if not job.done]
        jobs.append(self._pacer.run(work))

    def feed_attributes(self, view: IndexedSet) -> None:
        """Begin to send a set's attributes; filtered searches are served once it has them."""
        if not view.feeds_attributes and view.phase is Phase.SERVED:
            view.feeds_attributes = True
            self._run(view, self._feed.attributes(view))

    # ---- changes

    def changed(self, view: IndexedSet) -> None:
        """Something was staged for a set: it leaves at the end of this turn of the loop."""
        if view.is_full:
            view.flush(self._send)
        if not self._changed:
            self._loop.call_soon(self.flush)
        self._changed[view] = None

    def flush(self) -> None:
        """Send all changes that were gathered."""
        for view in self._changed:
            view.flush(self._send)
        self._changed.clear()

    def restore(self, view: IndexedSet, touched: Iterable[tuple[int, bool]]) -> None:
        """Tell what the rows say now of labels that a failed commit has *touched*.

        With each label goes whether it had been removed. Searches on the way may have seen what
        never was: they are sent again.
        """
        view.flush(self._send)
        elements = self._elements(view.cid)
        for label, removed in sorted(touched):
            if label <= view.fed:
                self._restore_label(view, elements, label, removed)
        view.flush(self._send)
        for request in list(view.searches):
            asked = self._asked.pop(request)
            view.answered(request)
            self._ask(asked)

    def _restore_label(
        self, view: IndexedSet, elements: Elements, label: int, removed: bool
    ) -> None:
        block = read_vectors(elements, label, view.definition.dimensions, 1, below=label + 1)
        if not block.labels:
            view.removed(label)
            return
        if removed:
            view.restored(label)
            self._send(Add(view.handle, block.labels, block.ids, block.vectors))
        if label <= view.attributes_fed:
            texts = read_attributes(elements, label, 1, below=label + 1)
            text = texts[0][1] if texts else b""
            self._send(Attributes(view.handle, (label,), (text,)))

    # ---- searches

    def can_search(self, view: IndexedSet, query: Query) -> bool:
        """Whether the process would answer this query; prepares it for the next one if not."""
        if view.phase is not Phase.SERVED or not self.process.ready:
            return False
        if not view.trusted and query.count > CHECKED_AT_MOST:
            return False
        if query.filter is not None and view.attributes_fed < ALL:
            self.feed_attributes(view)
            return False
        return True

    def search(self, view: IndexedSet, query: Query, answer: Answer) -> None:
        """Ask the process; REQUIRES can_search."""
        self._ask(Asked(view, query, answer, query.count, 0, not view.trusted))

    def search_now(self, view: IndexedSet, query: Query, seconds: float) -> list[Hit] | None:
        """Ask the process while the loop stands still; None if it takes too long."""
        answer = Answer(self._loop, as_found)
        self.search(view, query, answer)
        if self.process.exchange(answer.done, seconds):
            hits: list[Hit] = answer.result()
            return hits
        answer.cancel()
        return None

    def _new_request(self) -> int:
        request = self._next_request
        self._next_request += 1
        return request

    def _ask(self, asked: Asked) -> None:
        view, query = asked.view, asked.query
        if view.has_changes:
            view.flush(self._send)
        request = self._new_request()
        self._asked[request] = asked
        view.asked(request)
        self.process.ask(
            Search(
                request,
                view.handle,
                asked.wanted,
                query.vector.tobytes(),
                query.ef or 0,
                query.exact,
                NOT_GIVEN if query.radius is None else query.radius,
                b"" if query.filter is None else query.filter.text,
                query.filter_ef or 0,
            )
        )

    def _result(self, message: Result) -> None:
        asked = self._asked.pop(message.request, None)
        if asked is None:
            return
        view, query, answer = asked.view, asked.query, asked.answer
        hits = list(map(Hit, message.labels, message.ids, message.distances))
        found = len(hits)
        if view.misses_removals or asked.checked:
            hits = self._living(asked, hits)
        view.answered(message.request)
        if answer.done():
            return
        if len(hits) < query.count and len(hits) < found and found >= asked.wanted:
            self._ask_more(asked, found - len(hits))
            return
        self.answered += 1
        answer.found(hits[: query.count])

    def _living(self, asked: Asked, hits: list[Hit]) -> list[Hit]:
        """Those of the hits that were not removed behind the search's back."""
        view = asked.view
        hits = [hit for hit in hits if not view.is_gone(hit.label)]
        if asked.checked:
            elements = self._elements(view.cid)
            hits = [hit for hit in hits if elements.get(vector_row(hit.label)) is not None]
        return hits

    def _ask_more(self, asked: Asked, dead: int) -> None:
        """Too many hits were dead: ask for more, a few times."""
        if asked.tries < ASK_AGAIN:
            self.repeated += 1
            more = asked.wanted + 2 * dead * (asked.tries + 1)
            checked = not asked.view.trusted
            self._ask(asked._replace(wanted=more, tries=asked.tries + 1, checked=checked))
        else:
            self._host.search_rows(asked.view, asked.query, asked.answer)

    def _failed(self, message: Failed) -> None:
        asked = self._asked.pop(message.request, None)
        reason = message.reason.decode(errors="replace")
        log.warning("the index process cannot answer a request: %s", reason)
        if asked is not None:
            asked.view.answered(message.request)
            self._host.search_rows(asked.view, asked.query, asked.answer)
            return
        sampled = self._sampled.pop(message.request, None)
        if sampled is not None:
            self._attach_anew(sampled.view, reason)

    def _give_up_searches(self) -> None:
        """Nothing that was asked will be answered in time: the rows answer it."""
        owed = list(self._asked.values())
        self._asked.clear()
        for view in self.sets.values():
            view.searches.clear()
        for asked in owed:
            self._host.search_rows(asked.view, asked.query, asked.answer)

    # ---- the supervisor's calls (Listener)

    def process_ready(self, hello: Hello) -> None:
        """Attach every set anew."""
        for view in list(self.sets.values()):
            self._attach(view)
        self._host.checkpoints_found(hello)

    def process_lost(self) -> None:
        """Every set is detached; searches go to the rows."""
        self._sampled.clear()
        for view in self.sets.values():
            if view.phase is Phase.ATTACHING:
                view.crashes += 1
            self._release(view)
        self._host.process_lost()

    def process_silent(self) -> None:
        """Who waits is answered from the rows; what else was sent may still arrive."""
        self._give_up_searches()

    def process_answered(self, message: Any) -> None:
        """Pass a message on to its set or its search."""
        kind = type(message)
        if kind is Result:
            self._result(message)
        elif kind is Progress:
            view = self._by_handle.get(message.handle)
            if view is not None and view.phase is not Phase.DETACHED:
                view.progressed(message)
        elif kind is Attached:
            self._attached(message)
        elif kind is Vectors:
            self._compare(message)
        elif kind is Failed:
            self._failed(message)
        elif kind is Lost:
            self._lost(message)
        elif kind is Checkpointed:
            view = self._by_handle.get(message.handle)
            if view is not None:
                self._host.checkpointed(view, message)

    def _lost(self, message: Lost) -> None:
        view = self._by_handle.get(message.handle)
        if view is not None and view.phase is not Phase.DETACHED:
            log.warning("vector set %d: %s", view.cid, message.reason.decode(errors="replace"))
            self._release(view)
            self._attach(view)

    def _send(self, message: Message) -> None:
        self.process.send(message)
