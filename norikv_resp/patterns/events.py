"""Event sourcing: an append-only list of events per aggregate, with snapshots.

Every event is a key of its own; the aggregate's head key holds the number of the last one. An
append moves both in one transaction that is guarded by the head's version, so that events are
numbered 1, 2, 3 … without a gap and none is ever written over another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, NamedTuple

import redis
from redis.asyncio import Redis

from norikv_resp.client import (
    ABSENT,
    Key,
    KeyNotFoundError,
    NoriKVClient,
    RetryExhaustedError,
    TransientError,
    Version,
    VersionMismatchError,
    Word,
    as_client,
)
from norikv_resp.patterns.combining import Combiner, Memo
from norikv_resp.patterns.names import part
from norikv_resp.patterns.retry import Attempts

__all__ = ["Event", "EventConflictError", "EventStore", "Snapshot"]

#: Events that one round trip reads.
CHUNK = 256

#: Events that come with the first round trip, the one that finds out how many there are.
FIRST_CHUNK = 32

#: For how long the id of an event that the caller gave makes its repetition harmless.
RETRY_WINDOW_MS = 24 * 3600 * 1000

#: Aggregates of which a store remembers the head, so that an append needs no read.
HEADS_KEPT = 1024

#: After so many seconds a subscription looks for itself, should a message have been lost.
POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Event:
    """What happened to an aggregate; ``version`` counts its events from 1.

    ``timestamp`` is the writer's clock in Unix milliseconds.
    """

    id: str
    aggregate_id: str
    type: str
    data: Any
    timestamp: int
    version: int


@dataclass(frozen=True)
class Snapshot:
    """An aggregate's state after the event numbered ``version``."""

    aggregate_id: str
    version: int
    state: Any


class EventConflictError(VersionMismatchError):
    """The aggregate has another number of events than the caller expected.

    ``expected`` and ``actual`` are those numbers; ``expected_version`` and ``actual_version`` hold
    them as versions of term 0.
    """

    def __init__(self, key: str, expected: int, actual: int) -> None:
        super().__init__(
            f"{key} is at event {actual}, not {expected}",
            key.encode(),
            Version(0, expected),
            Version(0, actual),
        )
        self.expected = expected
        self.actual = actual


class _Head(NamedTuple):
    """The number of the last event, and the version of the key that holds it."""

    number: int
    version: Version


class _Step(NamedTuple):
    """An event that a caller wants appended, all but its number."""

    id: str
    type: str
    data: Any
    timestamp: int
    expected: int | None
    #: The key that remembers the caller's ``event_id``.
    once: str | None


class EventStore:
    """Events of many aggregates. Aggregates' names may hold any characters; data is JSON."""

    def __init__(self, client: NoriKVClient | Redis, prefix: str = "events") -> None:
        self._client = as_client(client)
        self._prefix = prefix
        self._heads: Memo[str, _Head] = Memo(HEADS_KEPT)
        self._combiner: Combiner[str, _Step, Event] = Combiner(self._append_all)

    # -- writing -------------------------------------------------------------

    async def append(
        self,
        aggregate_id: str,
        type: str,  # noqa: A002 (the event's field)
        data: Any,
        expected_version: int | None = None,
        event_id: str | None = None,
    ) -> Event:
        """Append one event. One round trip for a head that this store has seen last, else two.

        Args:
            aggregate_id: whose event it is.
            type: what happened, such as ``MoneyDeposited``.
            data: anything that JSON can write.
            expected_version: append only if the aggregate has exactly so many events.
            event_id: an append that is repeated with the same id within a day happens once, and
                the repeat gets the first one's event. Without it the event gets an id of its own.

        Raises:
            EventConflictError: the aggregate has not ``expected_version`` events.
            RetryExhaustedError: others were faster every time.
        """
        step = _Step(
            event_id or uuid.uuid4().hex,
            type,
            data,
            time.time_ns() // 1_000_000,
            expected_version,
            self._key(aggregate_id, "id", event_id) if event_id is not None else None,
        )
        return await self._combiner.submit(aggregate_id, step)

    async def _append_all(self, aggregate_id: str, steps: list[_Step]) -> list[Event | Exception]:
        """Append what concurrent callers want to, in one transaction; a result for each."""
        head = self._heads.get(aggregate_id)
        landed: dict[str, Event] = {}
        attempts = Attempts()
        while True:
            await anext(attempts)
            fresh = head is None
            if head is None:
                head, landed = await self._read_head(aggregate_id, steps)
            results = self._number(aggregate_id, steps, head, landed)
            if not fresh and any(isinstance(each, Exception) for each in results):
                head = None  # only what is there now may refuse
            elif await self._commit(aggregate_id, head, steps, results):
                return results
            else:
                head = None

    def _number(
        self, aggregate_id: str, steps: list[_Step], head: _Head, landed: dict[str, Event]
    ) -> list[Event | Exception]:
        """The events that *steps* make of themselves after *head*, or why one cannot."""
        results: list[Event | Exception] = []
        number = head.number
        made = dict(landed)
        for step in steps:
            if step.once is not None and step.once in made:
                results.append(made[step.once])
            elif step.expected not in (None, number):
                key = self._key(aggregate_id, "head")
                results.append(EventConflictError(key, step.expected, number))
            else:
                number += 1
                event = Event(step.id, aggregate_id, step.type, step.data, step.timestamp, number)
                results.append(event)
                if step.once is not None:
                    made[step.once] = event
        return results

    async def _commit(
        self,
        aggregate_id: str,
        head: _Head,
        steps: list[_Step],
        results: list[Event | Exception],
    ) -> bool:
        """Write the new events and move the head in one transaction; False if it has moved."""
        new = {
            each.version: (each, step.once)
            for each, step in zip(results, steps, strict=True)
            if isinstance(each, Event) and each.version > head.number
        }
        if not new:
            return True
        key, last = self._key(aggregate_id, "head"), max(new)
        checks: dict[Key, Version | None] = {key: head.version}
        commands: list[tuple[Word, ...]] = [("SETVER", key, last)]
        for number, (event, once) in new.items():
            commands.append(("SET", self._key(aggregate_id, str(number)), _encode(event)))
            if once is not None:
                checks[once] = None
                commands.append(("SET", once, number, "PX", RETRY_WINDOW_MS))
        commands.append(("PUBLISH", self._channel(aggregate_id), last))
        replies = await self._client.transaction(commands, checks)
        if replies is None:
            self._heads.drop(aggregate_id)
            return False
        self._heads.put(aggregate_id, _Head(last, Version.parse(replies[0])))
        return True

    # -- reading -------------------------------------------------------------

    async def get_events(self, aggregate_id: str) -> list[Event]:
        """All events of an aggregate in order; empty when there are none."""
        return await self.get_events_after(aggregate_id, 0)

    async def get_events_after(self, aggregate_id: str, version: int) -> list[Event]:
        """The events after the one numbered *version*. Reads no other ones."""
        return [event async for event in self.read(aggregate_id, version)]

    async def read(self, aggregate_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events after the one numbered *after*, as they are read: 256 in a round trip.

        What is appended meanwhile is left out. KeyNotFoundError when somebody deleted an event.
        """
        keys = [self._key(aggregate_id, str(after + n)) for n in range(1, FIRST_CHUNK + 1)]
        first, *found = await self._client.execute(
            "MGETVER", self._key(aggregate_id, "head"), *keys
        )
        head = _head_of(first)
        self._heads.put(aggregate_id, head)
        number = after
        while number < head.number:
            for key, entry in zip(keys, found[: head.number - number], strict=False):
                if entry is None:
                    raise KeyNotFoundError(key.encode())
                number += 1
                yield _decode(entry[0])
            last = min(number + CHUNK, head.number)
            keys = [self._key(aggregate_id, str(n)) for n in range(number + 1, last + 1)]
            if keys:
                found = await self._client.execute("MGETVER", *keys)

    async def subscribe(self, aggregate_id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """The events after the one numbered *after*, each once and in order, for ever.

        A message on the aggregate's channel says that there is something new; what it is comes
        from the events themselves. A message that is lost costs a second, never an event.
        """
        async with contextlib.aclosing(self._client.redis.pubsub()) as wake:
            while True:
                try:
                    if not wake.subscribed:
                        await wake.subscribe(self._channel(aggregate_id))
                    async for event in self.read(aggregate_id, after):
                        after = event.version
                        yield event
                    while not await _tells_of_more(wake, after):
                        pass
                except (redis.ConnectionError, TransientError, RetryExhaustedError):
                    await asyncio.sleep(POLL_SECONDS)

    async def find(self, aggregate_id: str, event_id: str) -> Event | None:
        """The event that was appended with this ``event_id`` within the last day, if any."""
        found = await self._client.execute("GET", self._key(aggregate_id, "id", event_id))
        return None if found is None else await self._event(aggregate_id, int(found))

    async def _event(self, aggregate_id: str, number: int) -> Event:
        return _decode((await self._client.get(self._key(aggregate_id, str(number)))).value)

    async def _read_head(
        self, aggregate_id: str, steps: list[_Step]
    ) -> tuple[_Head, dict[str, Event]]:
        """The head, and the events that *steps* have appended before, by their ``once``."""
        once = [step.once for step in steps if step.once is not None]
        key = self._key(aggregate_id, "head")
        found, *earlier = await self._client.execute("MGETVER", key, *once)
        landed = {
            name: await self._event(aggregate_id, int(entry[0]))
            for name, entry in zip(once, earlier, strict=True)
            if entry is not None
        }
        return _head_of(found), landed

    # -- snapshots -----------------------------------------------------------

    async def save_snapshot(self, aggregate_id: str, version: int, state: Any) -> bool:
        """Keep *state*, which JSON can write, as that after the event numbered *version*.

        False if there is one of a later event already: a slow writer changes nothing.
        """
        key = self._key(aggregate_id, "snapshot")
        value = json.dumps({"version": version, "state": state})
        found = await self._client.execute("GETVER", key)
        held, at = found if found else (None, str(ABSENT))
        while held is None or json.loads(held)["version"] < version:
            done, at, held = await self._client.execute("CAS", key, at, value)
            if done:
                return True
        return False

    async def load_snapshot(self, aggregate_id: str) -> Snapshot | None:
        """The snapshot, if there is one; replaying the events after it gives the present state."""
        found = await self._client.execute("GETVER", self._key(aggregate_id, "snapshot"))
        if found is None:
            return None
        kept = json.loads(found[0])
        return Snapshot(aggregate_id, kept["version"], kept["state"])

    # -- names ---------------------------------------------------------------

    def _key(self, aggregate_id: str, *last: str) -> str:
        return ":".join((self._prefix, part(aggregate_id), *last))

    def _channel(self, aggregate_id: str) -> str:
        return f"{self._prefix}:{part(aggregate_id)}"


def _head_of(found: list[bytes] | None) -> _Head:
    return _Head(0, ABSENT) if found is None else _Head(int(found[0]), Version.parse(found[1]))


async def _tells_of_more(wake: Any, after: int) -> bool:
    """Wait for a message; True if it may tell of a later event, or none came for a while."""
    message = await wake.get_message(ignore_subscribe_messages=True, timeout=POLL_SECONDS)
    number = b"" if message is None else message["data"]
    return not number.isdigit() or int(number) > after


def _encode(event: Event) -> str:
    return json.dumps(vars(event), separators=(",", ":"))


def _decode(value: bytes) -> Event:
    return Event(**json.loads(value))
