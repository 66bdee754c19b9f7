"""What the server knows of a set that the index process serves: an `IndexedSet`.

A view belongs to a collection id, not to a key: RENAME, MOVE and SWAPDB do not concern it, DEL
and FLUSH only when the last row of the collection is gone.

Changes are sent in the order in which they are staged, so a search sees those before it. While
a set is being fed from its rows, labels above `fed` are still to come; a change of theirs is not
sent, because the feeder will read the rows as they are then. Labels only grow, so a feeder that
goes upwards meets everything. Attributes are fed the same way, later, and have a mark of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from norikv_resp.vector_rows import FLAT

from .indexer.messages import Add, Attributes, Definition, Message, Progress, Remove

Send = Callable[[Message], None]

ALL = 1 << 64
"""Above every label: what a mark says when nothing is left to feed."""

BATCH_BYTES = 4 << 20
"""Vectors that are gathered for one message at most."""


class Phase(Enum):
    """How far a set is with the present index process."""

    DETACHED = "detached"
    ATTACHING = "attaching"
    FEEDING = "feeding"
    SERVED = "served"


class IndexedSet:
    """One set in the index process.

    epoch, key: where the set was seen last, in the keys of which epoch and by which name.
    count: elements, as of the last command that named the set.
    fed, attributes_fed: labels up to these have been sent, or their attributes.
    trusted: whether the process knows of every removal; until then each hit is checked.
    """

    def __init__(self, handle: int, cid: int, definition: Definition) -> None:
        # For the life of the view.
        self.handle = handle
        self.cid = cid
        self.definition = definition
        self.epoch = 0
        self.key = b""
        self.count = 0
        #: Labels up to here were in use at some time, in commits that failed as well.
        self.highest = 0
        #: The index under which the view was made: a failed commit may undo the set itself.
        self.born = 0
        #: How often an index process ended while it was attaching this set.
        self.crashes = 0

        # Since the last attachment; see `detach`.
        self.phase = Phase.DETACHED
        self.fed = 0
        self.attributes_fed = 0
        self.feeds_attributes = False
        self.trusted = False
        self.progress: Progress | None = None
        #: Elements that were waiting for the graph when the set was attached, and still are.
        self._backlog = 0
        #: Elements added since a writer was last asked to wait, and seconds that are owed.
        self._unpaid = 0
        self._debt = 0.0

        # Searches that are under way, oldest first, and what was removed since the oldest.
        self.searches: dict[int, None] = {}
        self._removed: dict[int, int] = {}
        self._next_search = 0

        # Changes to be sent.
        self._labels: list[int] = []
        self._ids: list[bytes] = []
        self._vectors: list[bytes] = []
        self._vector_bytes = 0
        self._gone: list[int] = []
        self._changed: dict[int, bytes] = {}

        # The checkpoint.
        #: Changes since the last one, those before that while it is being written, and how many
        #: vectors were in the graph then.
        self.changes = 0
        self._changes_before = 0
        self._graphed_before = 0
        #: Loop time of the last one, or of the attachment.
        self.checkpoint_at = 0.0
        #: The labels removed since a checkpoint was asked for; None while none is.
        self.unsettled: set[int] | None = None

    @property
    def is_flat(self) -> bool:
        """Whether there is no graph: every search is exact."""
        return self.definition.kind == FLAT

    def seen(self, epoch: int, key: bytes, count: int) -> None:
        """A command has named the set."""
        self.epoch, self.key, self.count = epoch, key, count

    # ---- attachment

    def detach(self) -> None:
        """There is no index process that knows of the set."""
        self.phase = Phase.DETACHED
        self.fed = self.attributes_fed = 0
        self.feeds_attributes = False
        self.trusted = False
        self.progress = None
        self.unsettled = None
        self._backlog = 0
        self._debt = 0.0
        self.searches.clear()
        self._removed.clear()
        self._forget_changes()

    def attached(self, wanted: int, known: int, now: float) -> None:
        """The process knows the labels below *wanted*, *known* elements; the others are to come."""
        self.phase = Phase.FEEDING
        self.fed = wanted - 1
        self.highest = max(self.highest, self.fed)
        self.trusted = wanted == 1
        self.checkpoint_at = now
        self.changes = max(0, self.count - known)
        self._graphed_before = known
        self._backlog = self.count

    # ---- changes

    def added(self, label: int, ident: bytes, vector: bytes, attributes: bytes | None) -> None:
        """An element has got a new label."""
        self.highest = max(self.highest, label)
        self.changes += 1
        self._unpaid += 1
        if label <= self.fed:
            self._labels.append(label)
            self._ids.append(ident)
            self._vectors.append(vector)
            self._vector_bytes += len(vector)
            if attributes is not None and label <= self.attributes_fed:
                self._changed[label] = attributes

    def removed(self, label: int) -> None:
        """A label is gone: an element was removed or has got another one."""
        self.changes += 1
        if label <= self.fed:
            self._gone.append(label)
            if self.searches:
                self._removed[label] = self._next_search
            if self.unsettled is not None:
                self.unsettled.add(label)

    def attributes_changed(self, label: int, attributes: bytes | None) -> None:
        """An element has other attributes."""
        if label <= self.fed and label <= self.attributes_fed:
            self._changed[label] = attributes or b""

    def restored(self, label: int) -> None:
        """A removal was undone; the caller sends the vector again."""
        self._removed.pop(label, None)
        if self.unsettled is not None:
            self.unsettled.discard(label)

    @property
    def has_changes(self) -> bool:
        """Whether anything waits for `flush`."""
        return bool(self._labels or self._gone or self._changed)

    @property
    def is_full(self) -> bool:
        """Whether enough is gathered for a message."""
        return self._vector_bytes >= BATCH_BYTES

    def flush(self, send: Send) -> None:
        """Send the changes. Removals last: within one batch no label comes back."""
        if self._labels:
            send(Add(self.handle, self._labels, self._ids, b"".join(self._vectors)))
        if self._changed:
            send(Attributes(self.handle, list(self._changed), list(self._changed.values())))
        if self._gone:
            send(Remove(self.handle, self._gone))
        self._forget_changes()

    def _forget_changes(self) -> None:
        self._labels, self._ids, self._vectors = [], [], []
        self._vector_bytes = 0
        self._gone = []
        self._changed = {}

    # ---- searches

    def asked(self, request: int) -> None:
        """A search was sent."""
        self.searches[request] = None
        self._next_search = request + 1

    def answered(self, request: int) -> None:
        """A search has been answered: forget removals that no other search can have missed."""
        self.searches.pop(request, None)
        removed = self._removed
        oldest = next(iter(self.searches), ALL)
        while removed:
            label, first_after = next(iter(removed.items()))
            if first_after > oldest:
                break
            del removed[label]

    @property
    def misses_removals(self) -> bool:
        """Whether an answer may show what was removed after the search was sent."""
        return bool(self._removed)

    def is_gone(self, label: int) -> bool:
        """Whether a hit was removed while searches were under way."""
        return label in self._removed

    # ---- the checkpoint

    @property
    def stale(self) -> int:
        """What a new checkpoint would have more than the last: changes, and vectors graphed."""
        graphed = self.progress.graphed if self.progress is not None else 0
        return self.changes + max(0, graphed - self._graphed_before)

    def checkpoint_begun(self, now: float) -> None:
        """A checkpoint that covers everything up to now was asked for."""
        self.checkpoint_at = now
        self._changes_before, self.changes = self.changes, 0
        self._graphed_before = self.progress.graphed if self.progress is not None else 0

    def checkpoint_failed(self) -> None:
        """The checkpoint that was asked for last is not there."""
        self.changes += self._changes_before

    # ---- how far the graph is

    def progressed(self, progress: Progress) -> None:
        """The process has said how far it is."""
        before = self.progress.graphed if self.progress is not None else 0
        fresh = self.fresh
        self.progress = progress
        graphed = max(0, progress.graphed - before)
        # While writers wait, half of the progress is theirs, whatever was there before them.
        self._backlog -= graphed if not fresh else graphed // 2
        self._backlog = max(0, min(self._backlog, self.waiting))

    @property
    def waiting(self) -> int:
        """Elements that are not in the graph yet, those not heard of by the process included."""
        progress = self.progress
        if self.is_flat:
            return 0
        if progress is None:
            return self.count
        return progress.pending + max(0, self.count - progress.alive)

    @property
    def fresh(self) -> int:
        """Elements that writers have added faster than the graph could take them."""
        return max(0, self.waiting - self._backlog)

    def pressure(self, soft: int, most: int) -> float:
        """Seconds that the writer of the last elements should wait, in proportion to them.

        Nothing below *soft*; the closer to *most*, the longer, so that however many writers
        there are, they come down to the speed of the index before they reach it.
        """
        added, self._unpaid = self._unpaid, 0
        fresh = self.fresh
        if fresh <= soft or self.phase in (Phase.DETACHED, Phase.ATTACHING):
            return 0.0
        rate = max(self.progress.adds_per_second if self.progress is not None else 0.0, SLOWEST)
        full = min((fresh - soft) / max(most - soft, 1), FULL)
        seconds = added / rate * full / (1 - full) + max(0, fresh - most) / rate
        self._debt = min(self._debt + seconds, LONGEST_BRAKE)
        if self._debt < SHORTEST_BRAKE:
            return 0.0
        debt, self._debt = self._debt, 0.0
        return debt


SLOWEST = 500.0
"""Adds a second that the index is thought capable of before it has said."""

FULL = 0.999
"""How full the fresh part may count as: a thousand writers share the index's speed then."""

SHORTEST_BRAKE, LONGEST_BRAKE = 0.002, 30.0
"""Seconds: a timer is not more exact than the one; nobody waits longer than the other."""
