"""Searching: the one place that knows how vectors are found.

Commands tell the engine each change right after they have staged it, and ask it for the elements
nearest to a vector. This engine compares with every row and keeps nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, NamedTuple

from norikv_resp.vector_rows import label_of_row, split_vector

from . import exact
from .arrays import floats, np
from .model import Members

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.keyspace import Database

    from .arrays import Floats
    from .filters import Filter
    from .model import VectorSet


class Query(NamedTuple):
    """What is looked for: at most ``count`` elements no farther than ``radius``.

    ``ef`` None is the set's own; ``exact`` asks for a comparison with every element;
    ``filter_ef`` bounds how many candidates a filter may look at.
    """

    vector: Floats
    count: int  # type: ignore[assignment]  # hides tuple's method of that name
    ef: int | None = None
    exact: bool = False
    radius: float | None = None
    filter: Filter | None = None
    filter_ef: int | None = None


class Hit(NamedTuple):
    """An element that was found."""

    label: int
    id: bytes
    distance: float


Hits = list[Hit]


class Engine:
    """Finds vectors for all clients; one per server."""

    def next_label(self, vector_set: VectorSet) -> int:
        """The label that the set's next vector gets.

        Not less than what its record says; more if a failed commit has taken labels back.
        """
        return vector_set.next_label

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

    def removed(self, vector_set: VectorSet, label: int) -> None:
        """The end of an element has been staged."""

    def attributes_changed(
        self, vector_set: VectorSet, label: int, attributes: bytes | None
    ) -> None:
        """Other attributes of an element have been staged."""

    def pressure(self, vector_set: VectorSet) -> float:
        """Seconds for which a writer of this set should wait, 0 for none."""
        return 0.0

    def search(
        self, ctx: Context, key: bytes, vector_set: VectorSet, query: Query
    ) -> Hits | Awaitable[Hits]:
        """The nearest elements, nearest first, equal ones in the order of their labels.

        A list at once inside a transaction.
        """
        members = Members(ctx.keys, vector_set)
        dimensions = vector_set.definition.dimensions
        labels: list[int] = []
        pieces: list[bytes] = []
        ids: list[bytes] = []
        for page in members.vectors():
            for row, raw in page:
                label = label_of_row(row)
                if query.filter is None or query.filter.matches(members.attributes(label)):
                    piece, ident = split_vector(raw, dimensions)
                    labels.append(label)
                    pieces.append(piece)
                    ids.append(ident)
        matrix = floats(b"".join(pieces)).reshape(len(pieces), dimensions)
        found = exact.nearest(
            vector_set.definition.metric,
            matrix,
            np.array(labels, np.uint64),
            query.vector,
            query.count,
            query.radius,
        )
        return [Hit(labels[row], ids[row], distance) for distance, row in found]


#: The server's engine; the module's ``load`` connects it.
engine = Engine()
