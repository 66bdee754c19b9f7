"""What is asked of a set, and what is found."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from .arrays import Floats
    from .filters import Filter


class Query(NamedTuple):
    """The `count` nearest to `vector`.

    ef: how much of the graph is looked at, None for the set's default.
    exact: compare with every vector instead.
    radius: only hits that are not farther.
    filter_ef: how many candidates a filter may be tried on, None for as many as it takes.
    """

    vector: Floats
    count: int  # type: ignore[assignment]  # hides tuple's method of that name
    ef: int | None = None
    exact: bool = False
    radius: float | None = None
    filter: Filter | None = None
    filter_ef: int | None = None


class Hit(NamedTuple):
    """One element that was found; the distance is that of the stored vector."""

    label: int
    id: bytes
    distance: float
