"""Searching: the one place that knows how vectors are found.

Commands tell the engine each change right after they have staged it, and ask it for the elements
nearest to a vector. Small sets are searched here (`small`), large ones by the index process
(`indexing`), and whatever it does not serve at the moment by reading the rows (`scan`). Nothing
that is kept is the truth: a failed commit, a lost process or a full cache only cost time.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import norikv_resp
from norikv_resp.durable import make_directory
from norikv_resp.encoding import VECTORSET
from norikv_resp.logs import log

from . import indexer, model
from .checkpoints import Checkpoints
from .indexer.messages import Checkpointed, Definition, Hello
from .indexing import Indexing
from .pacing import Pacer
from .queries import Answer, Hit, Query
from .scan import Scanner
from .small import SmallSets
from .supervisor import Supervisor
from .views import IndexedSet, Phase

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.database import Database
    from norikv_resp.elements import Elements
    from norikv_resp.hooks import Figures
    from norikv_resp.server import Server

    from .arrays import Floats
    from .model import VectorSet

Hits = list[Hit]

IN_PLACE_SECONDS = 0.1
"""What the index process has for a search inside a transaction, while the loop stands still."""

REPORT_EVERY = 10.0
"""Seconds between two lines of the log about an index that is being built."""

STOP_SECONDS, END_SECONDS = 4.0, 0.5
"""At the stop: for writing checkpoints, and for the process to end by itself."""


class Change(NamedTuple):
    """One change that is not committed yet, for the case that its commit fails."""

    index: int  # type: ignore[assignment]  # hides tuple's method of that name
    view: IndexedSet
    label: int
    removed: bool


class Engine:
    """Finds vectors for all clients; one per server."""

    def __init__(self) -> None:
        # Until `open`: nothing is served.
        self.small = SmallSets(0)
        self._sets: dict[int, IndexedSet] = {}
        #: Changes of served sets that are not committed yet, oldest first.
        self._changes: deque[Change] = deque()
        self._braked = 0

    # ---- the server's life

    def open(self, server: Server) -> None:
        """Take over a server whose data is open."""
        config = server.config
        self._server = server
        self._keyspace = server.keyspace
        self._elements: Callable[[int], Elements] = server.keyspace.databases[0].elements
        #: Versions that this data had when it was opened.
        self._opened_at = server.keyspace.index
        self._pacer = Pacer(server.loop)
        self._scanner = Scanner(
            server.loop, self._pacer, self._elements, lambda: self._keyspace.rollbacks
        )
        self.small = SmallSets(config.vector_cache_size)
        self._changes = deque()
        directory = Path(config.dir) / "index"

        def command(fd: int) -> list[str]:
            make_directory(directory)
            program = Path(indexer.__file__).with_name("__main__.py")
            library = Path(norikv_resp.__file__).parent.parent
            threads = config.vector_search_threads
            return [sys.executable, *map(str, (program, fd, directory, threads, library))]

        self._process = Supervisor(server.loop, command, config.vector_search_deadline / 1000)
        self._indexing = Indexing(server.loop, self._pacer, self._process, self._elements, self)
        self._process.listener = self._indexing
        self._sets = self._indexing.sets
        self._checkpoints = Checkpoints(server.loop, self._indexing, self)
        if config.vector_index_process and any(directory.glob("*.checkpoint")):
            self._process.need()
        server.loop.call_later(REPORT_EVERY, self._report)

    def _report(self) -> None:
        """Log how far indexes are that are being built."""
        self._server.loop.call_later(REPORT_EVERY, self._report)
        fresh_soft = self._server.config.vector_fresh_soft
        for view in self._sets.values():
            report = view.progress
            if report is None:
                continue
            if report.to_rebuild:
                done, of = report.rebuilt, report.to_rebuild
            elif view.waiting > fresh_soft:
                done, of = report.graphed, view.count
            else:
                continue
            log.info(
                "vector set %d: %d of %d vectors are in its new index, %.0f a second",
                view.cid,
                done,
                of,
                report.adds_per_second,
            )

    async def stop(self) -> None:
        """Leave checkpoints behind, and end the index process."""
        await self._checkpoints.write_all(STOP_SECONDS)
        self._pacer.close()
        await self._process.close(END_SECONDS)

    # ---- changes

    def next_label(self, vector_set: VectorSet) -> int:
        """The label that the set's next vector gets.

        Not less than what its record says; more if a failed commit has taken labels back.
        """
        view = self._sets.get(vector_set.cid)
        if view is None or view.highest < vector_set.next_label:
            return vector_set.next_label
        return view.highest + 1

    def added(
        self,
        keys: Database,
        key: bytes,
        vector_set: VectorSet,
        label: int,
        ident: bytes,
        vector: Floats,
        attributes: bytes | None,
        replaced: int | None,
    ) -> None:
        """An element has been staged under *label*, in place of the label *replaced*."""
        view = self._sets.get(vector_set.cid)
        if view is None:
            held = self.small.get(vector_set.cid)
            if held is not None:
                held.add(label, ident, vector, attributes)
                if replaced is not None:
                    held.remove(replaced)
            if vector_set.count > self._server.config.vector_small_set:
                self._serve(keys, key, vector_set)
            return
        view.seen(keys.epoch, key, vector_set.count)
        view.added(label, ident, vector.tobytes(), attributes)
        self._changes.append(Change(self._keyspace.index, view, label, False))
        if replaced is not None:
            view.removed(replaced)
            self._changes.append(Change(self._keyspace.index, view, replaced, True))
        self._indexing.changed(view)

    def removed(self, vector_set: VectorSet, label: int) -> None:
        """The end of an element has been staged."""
        view = self._sets.get(vector_set.cid)
        if view is None:
            held = self.small.get(vector_set.cid)
            if held is not None:
                held.remove(label)
            return
        view.count = vector_set.count
        view.removed(label)
        self._changes.append(Change(self._keyspace.index, view, label, True))
        self._indexing.changed(view)

    def attributes_changed(
        self, vector_set: VectorSet, label: int, attributes: bytes | None
    ) -> None:
        """Other attributes of an element have been staged."""
        view = self._sets.get(vector_set.cid)
        if view is None:
            held = self.small.get(vector_set.cid)
            if held is not None:
                held.set_attributes(label, attributes)
            return
        view.attributes_changed(label, attributes)
        self._changes.append(Change(self._keyspace.index, view, label, False))
        self._indexing.changed(view)

    def pressure(self, vector_set: VectorSet) -> float:
        """Seconds for which a writer of this set should wait, 0 for none."""
        view = self._sets.get(vector_set.cid)
        if view is None:
            return 0.0
        config = self._server.config
        seconds = view.pressure(config.vector_fresh_soft, config.vector_fresh_max)
        if seconds:
            self._braked += 1
        return seconds

    def committed(self, last: int) -> None:
        """Everything up to index *last* is committed."""
        changes = self._changes
        while changes and changes[0].index <= last:
            changes.popleft()

    def rolled_back(self) -> None:
        """What is staged and not committed is gone: so it is from what is kept of it."""
        self.small.clear()
        durable = self._keyspace.store.durable
        touched: dict[IndexedSet, dict[int, bool]] = {}
        for change in self._changes:
            if change.index <= durable:
                continue
            labels = touched.setdefault(change.view, {})
            labels[change.label] = labels.get(change.label, False) or change.removed
        self._changes.clear()
        for view in list(self._sets.values()):
            if view.born > durable and not self._exists(view.cid):
                self._indexing.forget(view.cid)
            elif view in touched and view.phase is not Phase.DETACHED:
                self._indexing.restore(view, touched[view].items())

    def reclaimed(self, cid: int) -> None:
        """No row of the collection is left."""
        self.small.drop(cid)
        if cid in self._sets or self._process.ready:
            self._indexing.forget(cid)

    # ---- searches

    def search(
        self,
        ctx: Context,
        key: bytes,
        vector_set: VectorSet,
        query: Query,
        make: Callable[[Hits], Any],
    ) -> Hits | Answer:
        """The nearest elements, nearest first, equal ones in the order of their labels.

        A list at once for a small set, and inside a transaction; otherwise the future of what
        *make* makes of it.
        """
        cid = vector_set.cid
        view = self._sets.get(cid)
        if view is None:
            if vector_set.count <= ctx.config.vector_small_set:
                metric, dimensions = vector_set.definition.metric, len(query.vector)
                return self.small.search(self._elements(cid), cid, metric, dimensions, query)
            view = self._serve(ctx.keys, key, vector_set)
        view.seen(ctx.keys.epoch, key, vector_set.count)
        served = self._indexing.can_search(view, query)
        if ctx.executing:
            return self._search_now(view, query, served)
        answer = Answer(self._server.loop, make)
        if served:
            self._indexing.search(view, query, answer)
        else:
            self.search_rows(view, query, answer)
        return answer

    def _search_now(self, view: IndexedSet, query: Query, served: bool) -> Hits:
        if served:
            hits = self._indexing.search_now(view, query, IN_PLACE_SECONDS)
            if hits is not None:
                return hits
        return self._scanner.search_now(view.cid, view.definition.metric, query, view.count)

    def _serve(self, keys: Database, key: bytes, vector_set: VectorSet) -> IndexedSet:
        """Have the index process take a set over."""
        self.small.drop(vector_set.cid)
        definition = vector_set.definition
        view = self._indexing.serve(
            vector_set.cid,
            Definition(
                definition.dimensions,
                definition.metric,
                definition.index,
                definition.quantisation,
                definition.m,
                definition.ef_construction,
                definition.ef,
            ),
            start=self._server.config.vector_index_process,
        )
        view.born = self._keyspace.index
        view.seen(keys.epoch, key, vector_set.count)
        return view

    # ---- what the index needs to know of the data (indexing.Host, checkpoints.Truth)

    def search_rows(self, view: IndexedSet, query: Query, answer: Answer) -> None:
        """Answer a search without the index process."""
        self._scanner.search(view.cid, view.definition.metric, query, view.count, answer)

    def next_label_of(self, view: IndexedSet) -> int | None:
        """The next label of the set's record where it was seen last; None if it is not there."""
        found = self._find(view.epoch, view.key)
        return found[1].next_label if found is not None and found[1].cid == view.cid else None

    def _find(self, epoch: int, key: bytes) -> tuple[Database, VectorSet] | None:
        for database in self._keyspace.databases:
            if database.epoch == epoch:
                record = database.stored(key)
                if record is not None and record.type == VECTORSET:
                    return database, model.decode(record)
        return None

    def _exists(self, cid: int) -> bool:
        return bool(self._elements(cid).range(limit=1))

    def is_future(self, version: tuple[int, int]) -> bool:
        """Whether a version was never given out by this data."""
        term, index = version
        keyspace = self._keyspace
        if term == keyspace.term:
            return index > keyspace.index
        return term > keyspace.term or index > self._opened_at

    def version(self) -> tuple[int, int]:
        """Term and index of the last change that was staged."""
        return self._keyspace.term, self._keyspace.index

    def call_when_synced(self, tell: Callable[[bool], None]) -> None:
        """*tell* whether everything staged so far came to the disk, once that is known."""
        self._server.call_when_synced(tell)

    def database_of(self, view: IndexedSet) -> int:
        """The number of the database that holds the set's key."""
        for database in self._keyspace.databases:
            if database.epoch == view.epoch:
                return database.number
        return 0

    def checkpoints_found(self, hello: Hello) -> None:
        """Attach the sets of these checkpoints before anybody asks; delete those of no set."""
        small = self._server.config.vector_small_set
        for note in hello.checkpoints:
            found = self._find(note.epoch, note.key)
            if found is None or found[1].cid != note.cid:
                if not self._exists(note.cid):
                    self._indexing.forget(note.cid)
            elif found[1].count <= small:
                self._indexing.forget(note.cid)
            elif note.cid not in self._sets:
                self._serve(found[0], note.key, found[1])

    def checkpointed(self, view: IndexedSet, report: Checkpointed) -> None:
        """A checkpoint was written, or failed."""
        self._checkpoints.answered(view, report)

    def now_served(self, view: IndexedSet) -> None:
        """The index process searches a set: whatever comes first ends searches by the rows."""
        for query, answer in self._scanner.unanswered(view.cid):
            if self._indexing.can_search(view, query):
                self._indexing.search(view, query, answer)

    def process_lost(self) -> None:
        """The index process is gone."""
        self._checkpoints.lost()

    # ---- figures

    def info(self) -> Figures:
        """The section of INFO. O(sets that the index process serves)."""
        views = list(self._sets.values())
        reports = [view.progress for view in views if view.progress is not None]
        checkpoints, indexing, process = self._checkpoints, self._indexing, self._process
        now = self._server.loop.time()
        return {
            "index_process": process.state,
            "index_process_pid": process.pid,
            "index_process_restarts": process.restarts,
            "index_process_memory": max((report.anonymous for report in reports), default=0),
            "index_process_buffered": process.buffered,
            "vector_sets": len(views),
            "vector_sets_served": sum(view.phase is Phase.SERVED for view in views),
            "vectors": sum(view.count for view in views),
            "vectors_waiting": sum(view.waiting for view in views),
            "vectors_fresh": sum(view.fresh for view in views),
            "vectors_graphed": sum(report.graphed for report in reports),
            "vectors_dead": sum(report.dead for report in reports),
            "vectors_rebuilt": sum(report.rebuilt for report in reports),
            "vectors_to_rebuild": sum(report.to_rebuild for report in reports),
            "vector_indexes_discarded": indexing.discarded,
            "vector_adds_per_second": sum(report.adds_per_second for report in reports),
            "vector_writers_braked": self._braked,
            "small_vector_sets": len(self.small),
            "small_vector_sets_memory": self.small.size,
            "vector_searches_small": self.small.searches,
            "vector_searches_index": indexing.answered,
            "vector_searches_rows": self._scanner.answered,
            "vector_searches_repeated": indexing.repeated,
            "vector_checkpoints": checkpoints.written,
            "vector_checkpoints_failed": checkpoints.failed,
            "vector_checkpoint_age": now - checkpoints.last_at if checkpoints.written else 0.0,
        }


#: The server's engine; the module's ``load`` connects it.
engine = Engine()
