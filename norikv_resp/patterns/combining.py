"""Many callers of one process, one request: what concurrent callers want of a key goes together.

Under compare-and-set, callers that race for one key cost each other round trips. Callers of one
process need not race: while a round is on its way, the others wait, and the next round carries
everything that has come up meanwhile. A key that a thousand tasks want costs two rounds, and what
is left of the race is between processes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from norikv_resp.patterns.retry import bounded, no_deadline

K = TypeVar("K")
V = TypeVar("V")
Step = TypeVar("Step")
Result = TypeVar("Result")


class Combiner(Generic[K, Step, Result]):
    """Carries out steps on keys: one round at a time for a key, all waiting steps in each.

    *round_* gets a key and its steps, in the order in which they came, and returns a result for
    each; an exception as a result is raised to the step's caller. What *round_* raises is raised
    to all callers of the round. A caller that gives up (or whose deadline passes) does not end
    the round: its step may have been carried out.
    """

    def __init__(
        self,
        round_: Callable[[K, list[Step]], Awaitable[Sequence[Result | Exception]]],
        largest: int = 1000,
    ) -> None:
        self._round = round_
        self._largest = largest
        #: Keys with a round on its way, and what waits for the next.
        self._waiting: dict[K, list[tuple[Step, asyncio.Future[Result]]]] = {}
        #: The event loop holds tasks weakly.
        self._tasks: set[asyncio.Task[None]] = set()

    async def submit(self, key: K, step: Step) -> Result:
        """The result of *step*, carried out together with others on *key*."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        queue = self._waiting.get(key)
        if queue is None:
            self._waiting[key] = [(step, future)]
            with no_deadline():
                task = asyncio.create_task(self._work(key))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            queue.append((step, future))
        return await bounded(future)

    async def _work(self, key: K) -> None:
        """Rounds until nothing waits for *key* any more."""
        while queue := self._waiting[key]:
            batch, self._waiting[key] = queue[: self._largest], queue[self._largest :]
            await self._carry_out(key, batch)
        del self._waiting[key]

    async def _carry_out(self, key: K, batch: list[tuple[Step, asyncio.Future[Result]]]) -> None:
        batch = [pair for pair in batch if not pair[1].done()]
        if not batch:
            return
        try:
            results = await self._round(key, [step for step, _ in batch])
        except asyncio.CancelledError:
            self._abandon(key, batch)
            raise
        except Exception as error:
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if future.done():
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

    def _abandon(self, key: K, batch: list[tuple[Step, asyncio.Future[Result]]]) -> None:
        """The event loop is being closed: nobody is left waiting."""
        for _, future in [*batch, *self._waiting.pop(key, [])]:
            future.cancel()


class Memo(Generic[K, V]):
    """What was last seen of a bounded number of keys: a start for the next compare-and-set.

    A memo may be stale: that costs an attempt, never correctness, because every write names the
    version that it was decided on.
    """

    def __init__(self, size: int = 10_000) -> None:
        self._size = size
        self._seen: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        """What was seen of *key*, None if that is not remembered."""
        return self._seen.get(key)

    def put(self, key: K, seen: V) -> None:
        """Remember *seen*; the key that was put longest ago may go."""
        self._seen[key] = seen
        self._seen.move_to_end(key)
        if len(self._seen) > self._size:
            self._seen.popitem(last=False)

    def drop(self, key: K) -> None:
        """Forget *key*."""
        self._seen.pop(key, None)
