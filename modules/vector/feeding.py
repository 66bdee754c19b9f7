"""Jobs that bring the index process up to date from the rows, in small steps (`pacing`).

Everything a step reads is as it is at that moment, staged changes included, and is sent before
the next step: so what the process is told is in the order of the server's changes.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from .indexer.messages import Add, Attributes, Live
from .rows import newest_labels, read_attributes, read_members, read_vectors, rows_at_once
from .views import ALL, IndexedSet, Send

if TYPE_CHECKING:
    from collections.abc import Callable

    from norikv_resp.elements import Elements

    from .pacing import Work

BUFFER_BYTES = 2 << 20
"""Bytes that may wait for the process to read before feeding pauses."""

PAUSE = 0.002
"""Seconds until a feeder looks again whether they have gone."""

ATTRIBUTES_AT_ONCE = 128
MEMBERS_AT_ONCE = 256
"""Rows that one read fetches."""

SAMPLES = 32
"""Elements of which the checkpoint's vector is compared, of the newest and of all."""


class Feed:
    """Where jobs read and send; *buffered* says how many bytes wait for the process."""

    def __init__(
        self, open_elements: Callable[[int], Elements], send: Send, buffered: Callable[[], int]
    ) -> None:
        self.elements = open_elements
        self.send = send
        self._buffered = buffered

    def vectors(self, view: IndexedSet) -> Work:
        """Send every element above `view.fed`, to the last."""
        dimensions = view.definition.dimensions
        elements = self.elements(view.cid)
        limit = rows_at_once(dimensions)
        while True:
            yield from self._room()
            block = read_vectors(elements, view.fed + 1, dimensions, limit)
            if not block.labels:
                view.fed = ALL
                return
            self.send(Add(view.handle, block.labels, block.ids, block.vectors))
            view.fed = block.labels[-1]
            view.highest = max(view.highest, view.fed)
            yield 0.0

    def attributes(self, view: IndexedSet) -> Work:
        """Send the attributes of every element that has some."""
        elements = self.elements(view.cid)
        while True:
            yield from self._room()
            found = read_attributes(elements, view.attributes_fed + 1, ATTRIBUTES_AT_ONCE)
            if not found:
                view.attributes_fed = ALL
                return
            labels, texts = zip(*found, strict=True)
            self.send(Attributes(view.handle, labels, texts))
            view.attributes_fed = labels[-1]
            yield 0.0

    def members(self, view: IndexedSet, below: int) -> Work:
        """Tell which labels *below* the one from which on all was sent exist."""
        elements = self.elements(view.cid)
        after: bytes | None = None
        while found := read_members(elements, after, MEMBERS_AT_ONCE):
            labels = [label for _, label in found if label < below]
            if labels:
                self.send(Live(view.handle, False, labels))
            after = found[-1][0]
            yield 0.0
            yield from self._room()
        self.send(Live(view.handle, True, ()))
        view.trusted = True

    def samples(self, view: IndexedSet, below: int) -> dict[int, tuple[bytes, bytes]]:
        """Some elements *below* a label, the newest among them: label to vector and id. O(1)."""
        elements = self.elements(view.cid)
        starts = newest_labels(elements, below, SAMPLES)
        starts += [random.randrange(1, below) for _ in range(SAMPLES if below > 1 else 0)]
        found: dict[int, tuple[bytes, bytes]] = {}
        for start in starts:
            block = read_vectors(elements, start, view.definition.dimensions, 1, below=below)
            for label, ident in zip(block.labels, block.ids, strict=True):
                found[label] = (block.vectors, ident)
        return found

    def _room(self) -> Work:
        """Wait until the process has read most of what it was sent."""
        while self._buffered() > BUFFER_BYTES:
            yield PAUSE
