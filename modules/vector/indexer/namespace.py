"""One vector set in the index process: what is served, and its replacement while that is built.

A generation only grows: removed vectors keep their slots. When half as many are dead as alive, a
following generation is filled, beside serving, with those that live, a few at a time; it then takes
the place of the current one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..filters import Filter, parse
from . import checkpoint
from .checkpoint import Cover, UnusableError, Writer
from .generation import Generation, UnexpectedLabelError
from .messages import Add, Checkpoint, Definition, Failed, Result, Sample, Search, Vectors
from .ranking import Ranked
from .search import Mask, Searcher, Wanted

#: Vectors that are added to a graph in one go, between searches.
CHUNK = 8

#: Vectors that are copied in one go where there is no graph.
_FLAT_CHUNK = 1024

#: Nothing is rebuilt for fewer dead slots.
_FEW_DEAD = 500

#: With so many pending vectors, a rebuild leaves them every third turn.
_PENDING_TO_SHARE = 1000

#: Searches that are answered at once.
_TOGETHER = 64

#: Filters whose matches are remembered.
_FILTERS = 8

#: Above every distance, and below infinity.
_FARTHEST = sys.float_info.max

#: How long a filter's columns are prepared between other work, seconds.
_PREPARE = 0.005


class Standing(NamedTuple):
    """How far a set is, as PROGRESS says it."""

    alive: int
    pending: int
    graphed: int
    dead: int
    rebuilt: int
    to_rebuild: int


class Namespace:
    """A set. Methods that change it raise OSError when the vectors file cannot be written and
    UnexpectedLabelError when a label shows that the set is not the server's."""

    def __init__(self, directory: Path, cid: int, generation: Generation, threads: int) -> None:
        self.cid = cid
        self.current = generation
        self._directory = directory
        self._threads = threads
        self._following: Generation | None = None
        #: Slots of the current generation below it have been copied to the following one.
        self._copied = 0
        self._turn = 0
        self._waiting: list[Wanted] = []
        #: Matches of filters by their text, with the version of the attributes that they are of.
        self._masks: dict[bytes, tuple[int, Mask]] = {}
        self._comparison: _Comparison | None = None
        self._writer: Writer | None = None

    @classmethod
    def create(cls, directory: Path, cid: int, definition: Definition, threads: int) -> Namespace:
        """An empty set; files of the same collection are removed. Raises OSError."""
        checkpoint.delete(directory, cid)
        path = checkpoint.vectors_path(directory, cid, 1)
        return cls(directory, cid, Generation.create(definition, 1, path), threads)

    @classmethod
    def load(
        cls, directory: Path, cid: int, definition: Definition, threads: int
    ) -> tuple[Namespace, Cover]:
        """The set that a checkpoint holds. UnusableError if there is no good one."""
        generation, cover = checkpoint.load(directory, cid, definition)
        checkpoint.keep_only(directory, cid, (cover.generation,))
        namespace = cls(directory, cid, generation, threads)
        namespace._comparison = _Comparison(generation, cover.next_label)
        return namespace, cover

    @property
    def definition(self) -> Definition:
        return self.current.definition

    @property
    def standing(self) -> Standing:
        """Its numbers. Vectors that the graph cannot hold are neither pending nor graphed."""
        current = self.current
        alive = current.table.alive_count
        graphed = alive if current.graph is None else len(current.graph)
        following = self._following
        return Standing(
            alive, alive - graphed - len(current.outside), graphed, current.dead,
            following.table.count if following is not None else 0,
            alive if following is not None else 0,
        )  # fmt: skip

    # -- changes

    def add(self, message: Add) -> None:
        """Take new vectors, or removed ones back. ValueError if they have another dimension."""
        rows = np.frombuffer(message.vectors, np.float32)
        rows = rows.reshape(len(message.labels), self.definition.dimensions)
        if self._following is not None and message.labels[0] <= self.current.table.last_label:
            self._give_up_following()  # what came alive again may be behind `_copied`
        self.current.append(message.labels, message.ids, rows)

    def remove(self, labels: Sequence[int]) -> None:
        """Forget labels; unknown ones are ignored."""
        for generation in self._generations():
            generation.remove(labels)

    def set_attributes(self, labels: Sequence[int], texts: Sequence[bytes]) -> None:
        """Set the attributes of labels; unknown ones are ignored."""
        for generation in self._generations():
            slots = generation.table.find(labels).tolist()
            for slot, text in zip(slots, texts, strict=True):
                if slot >= 0 and generation.table.alive[slot]:
                    generation.set_attributes(slot, text or None)

    def live(self, labels: Sequence[int], final: bool) -> None:
        """Hear which of the labels of a checkpoint exist; the others go."""
        if self._comparison is None:
            return
        self._comparison.hear(labels)
        if final:
            self.remove(self._comparison.doomed())
            self._comparison = None

    # -- searches

    def ask(self, search: Search) -> None:
        """Take a search, to be answered by `answers`. ValueError if it cannot be."""
        if len(search.vector) != 4 * self.definition.dimensions:
            raise ValueError("the query has another dimension")
        if search.k == 0:
            raise ValueError("nothing is wanted")
        if search.filter:
            parse(search.filter)
        self._waiting.append(Wanted(search, self.current.table.count))

    @property
    def is_asked(self) -> bool:
        """Whether searches wait."""
        return bool(self._waiting)

    def answers(self, pulse: Callable[[], None], *, all_: bool) -> Iterator[Result | Failed]:
        """Answer what waits. Without `all_`, not those whose filter needs columns first."""
        groups: dict[tuple[object, ...], list[Wanted]] = {}
        for wanted in self._waiting:
            search = wanted.search
            size = max(search.k, 16).bit_length()
            group = (search.filter, search.ef, search.exact, search.filter_ef, size)
            groups.setdefault(group, []).append(wanted)
        self._waiting = []
        for together in groups.values():
            text = together[0].search.filter
            chosen = parse(text) if text else None
            if chosen and not all_ and not self.current.attributes.prepare(chosen, _PREPARE):
                self._waiting += together
                continue
            for start in range(0, len(together), _TOGETHER):
                part = together[start : start + _TOGETHER]
                try:
                    yield from self._answer(part, chosen, pulse)
                except Exception as error:  # whatever it is, others are answered
                    reason = f"{type(error).__name__}: {error}".encode()
                    yield from (Failed(each.search.request, reason) for each in part)

    def _answer(
        self, part: Sequence[Wanted], chosen: Filter | None, pulse: Callable[[], None]
    ) -> list[Result]:
        """Search together for those that share all but k, vector and radius."""
        text = part[0].search.filter
        matching = self._matching(chosen, text) if chosen else None
        searcher = Searcher(self.current, self._threads, pulse)
        return list(self._results(part, searcher.run(part, matching)))

    def _matching(self, chosen: Filter, text: bytes) -> Mask:
        """Which slots match a filter, dead ones perhaps among them."""
        current = self.current
        version, mask = self._masks.pop(text, (-1, None))
        if mask is None or version != current.attributes_version:
            mask = current.attributes.mask(chosen, current.table.count)
        elif len(mask) < current.table.count:  # the slots that came have no attributes
            longer = np.zeros(current.table.count, np.bool_)
            longer[: len(mask)] = mask
            mask = longer
        self._masks[text] = (current.attributes_version, mask)
        if len(self._masks) > _FILTERS:
            del self._masks[next(iter(self._masks))]
        return mask

    def _results(self, part: Sequence[Wanted], ranked: Ranked) -> Iterator[Result]:
        table = self.current.table
        radii = [each.search.radius for each in part]
        farthest = np.array([_FARTHEST if radius != radius else radius for radius in radii])
        hits = ranked.distances <= farthest[:, None]
        counts = np.count_nonzero(hits, axis=1)
        # Hits come first in their row, so these are the rows one after another.
        slots = ranked.slots[hits]
        distances = ranked.distances[hits].tolist()
        labels = table.labels[slots].tolist()
        ids = table.ids(slots)
        start = 0
        for wanted, count in zip(part, counts.tolist(), strict=True):
            end = start + min(count, wanted.search.k)
            yield Result(
                wanted.search.request, distances[start:end], labels[start:end], ids[start:end]
            )
            start += count

    def sample(self, message: Sample) -> Vectors:
        """The vectors of those of the labels that are there."""
        table = self.current.table
        slots = table.find(message.labels)
        slots = slots[slots >= 0]
        slots = slots[table.alive[slots]]
        vectors = self.current.file.rows[slots].tobytes()
        return Vectors(message.request, table.labels[slots].tolist(), table.ids(slots), vectors)

    # -- work beside

    @property
    def is_rebuilding(self) -> bool:
        """Whether a following generation is being filled."""
        return self._following is not None

    @property
    def has_work(self) -> bool:
        """Whether `work` has anything to do."""
        return self.current.pending > 0 or self._following is not None or self._is_worn()

    def work(self) -> int:
        """Add or copy a few vectors; how many were added to a graph."""
        self._turn += 1
        if self._following is None and self._is_worn():
            number = self.current.number + 1
            path = checkpoint.vectors_path(self._directory, self.cid, number)
            self._following = Generation.create(self.definition, number, path)
            self._copied = 0
        if self._following is None:
            return self.current.advance(CHUNK)
        if self.current.pending > _PENDING_TO_SHARE and self._turn % 3 == 0:
            return self.current.advance(CHUNK)
        return self._follow(self._following)

    def _is_worn(self) -> bool:
        """Whether so many are dead that a new generation is better."""
        dead = self.current.dead
        return (
            dead > _FEW_DEAD
            and 2 * dead > self.current.table.alive_count
            and self._comparison is None
        )

    def _follow(self, following: Generation) -> int:
        """Copy a few vectors; when all are there, the following generation becomes current."""
        current, table = self.current, self.current.table
        chunk = _FLAT_CHUNK if current.graph is None else CHUNK
        start = self._copied
        end = min(start + 64 * chunk, table.count)
        slots = (np.flatnonzero(table.alive[start:end]) + start)[:chunk]
        self._copied = int(slots[-1]) + 1 if len(slots) == chunk else end
        if len(slots):
            first = following.table.count
            labels = table.labels[slots].tolist()
            following.append(labels, table.ids(slots), current.file.rows[slots])
            for new, old in enumerate(slots.tolist(), first):
                following.set_attributes(new, current.attributes.get(old))
        added = following.advance(chunk)
        if self._copied == table.count and not following.pending:
            self._replace_current(following)
        return added

    def _replace_current(self, following: Generation) -> None:
        # The file of the old generation stays while a checkpoint may belong to it.
        self.current.close()
        self.current, self._following = following, None
        self._masks.clear()
        if self._writer is None and not checkpoint.size(self._directory, self.cid):
            checkpoint.keep_only(self._directory, self.cid, (following.number,))

    def _give_up_following(self) -> None:
        if self._following is not None:
            self._following.file.delete()
            self._following = None

    def _generations(self) -> list[Generation]:
        return [each for each in (self.current, self._following) if each is not None]

    def release_pages(self) -> None:
        """Give back what reading vectors has mapped."""
        for generation in self._generations():
            generation.file.release()

    # -- checkpoints

    @property
    def writer(self) -> Writer | None:
        """The fork that writes a checkpoint of the set."""
        return self._writer

    def start_checkpoint(self, asked: Checkpoint, close: Sequence[int]) -> None:
        """Fork one. UnusableError if that cannot be done now, OSError if there is no process."""
        if self._writer is not None:
            raise UnusableError("the one before is still being written")
        if self._comparison is not None:
            raise UnusableError("the one before has not been compared yet")
        if (self.current.table.find(asked.unsettled) < 0).any():
            raise UnusableError("a removed label is not there any more")
        self._writer = Writer(self._directory, self.cid, self.current, asked, close)

    def end_checkpoint(self) -> tuple[Checkpoint, int, float, bytes]:
        """What was asked, size, seconds, why it failed; when the writer's descriptor is ready."""
        assert self._writer is not None
        writer, self._writer = self._writer, None
        size, seconds, reason = writer.result()
        if not reason:
            numbers = [each.number for each in self._generations()]
            checkpoint.keep_only(self._directory, self.cid, [writer.generation, *numbers])
        return writer.asked, size, seconds, reason

    # -- its end

    def failures(self, reason: bytes) -> list[Failed]:
        """Give up the searches that wait."""
        waiting, self._waiting = self._waiting, []
        return [Failed(each.search.request, reason) for each in waiting]

    def close(self) -> None:
        """Free memory, keep the files."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._give_up_following()
        self.current.close()

    def check(self) -> None:
        """Every invariant, for tests."""
        for generation in self._generations():
            generation.check()


class _Comparison:
    """A checkpoint beside the labels that exist: which are too many, whether some lack."""

    def __init__(self, generation: Generation, next_label: int) -> None:
        self._generation = generation
        self._next_label = next_label
        self._dead = ~generation.table.alive
        self._named = np.zeros(generation.table.count, np.bool_)

    def hear(self, labels: Sequence[int]) -> None:
        """UnexpectedLabelError for a label that the checkpoint lacks."""
        slots = self._generation.table.find([each for each in labels if each < self._next_label])
        if len(slots) and (slots.min() < 0 or self._dead[slots].any()):
            raise UnexpectedLabelError("the checkpoint lacks a label")
        self._named[slots] = True

    def doomed(self) -> list[int]:
        """The labels of the checkpoint that do not exist."""
        doomed = np.flatnonzero(~self._named & ~self._dead)
        labels: list[int] = self._generation.table.labels[doomed].tolist()
        return labels
