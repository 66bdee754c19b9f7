"""What is asked of a set, and what is found."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

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


class Answer(asyncio.Future[Any]):
    """A search that is on its way: the future of what *make* makes of its hits.

    One object for both, since each future more costs a reply a turn of the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, make: Callable[[list[Hit]], Any]) -> None:
        super().__init__(loop=loop)
        self._make = make

    def found(self, hits: list[Hit]) -> None:
        """End the search. What *make* raises is the outcome as well."""
        try:
            self.set_result(self._make(hits))
        except Exception as error:
            self.set_exception(error)


def as_found(hits: list[Hit]) -> list[Hit]:
    """For an `Answer` that is to be the hits."""
    return hits
