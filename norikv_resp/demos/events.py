"""Event sourcing under concurrency: what the obvious version loses, and what the store keeps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import uuid
from collections.abc import Callable

from norikv_resp.client import KeyNotFoundError, NoriKVClient
from norikv_resp.demos.show import Progress, table
from norikv_resp.demos.wipe import wipe
from norikv_resp.patterns.events import Event, EventStore

WRITERS = 8
EACH = 40
PREFIX = "demo:events"
ORDER = "order 17/b"


async def naive(client: NoriKVClient, number: int) -> None:
    """Read the number of the last event, write the next event, write the new number."""
    for step in range(EACH):
        try:
            head = int((await client.get(f"{PREFIX}:naive:head")).value)
        except KeyNotFoundError:
            head = 0
        event = json.dumps({"writer": number, "step": step})
        await client.put(f"{PREFIX}:naive:{head + 1}", event)
        await client.put(f"{PREFIX}:naive:head", str(head + 1))


async def careful(url: str, number: int, bar: Progress) -> None:
    """Append every event twice under one id, as after a lost connection."""
    async with NoriKVClient.from_url(url) as client:
        store = EventStore(client, PREFIX)
        for step in range(EACH):
            token = uuid.uuid4().hex
            data = {"writer": number, "step": step}
            first = await store.append(ORDER, "Stepped", data, event_id=token)
            again = await store.append(ORDER, "Stepped", data, event_id=token)
            assert first == again
            bar.step()


async def follow(store: EventStore, events: list[Event]) -> None:
    """What a projection sees: every event once, in order, soon after it was appended."""
    async with contextlib.aclosing(store.subscribe(ORDER)) as stream:
        while True:
            events.append(await anext(stream))


async def run(url: str) -> bool:
    """Append from many writers at once; True when no event is lost, doubled or out of order."""
    expected = {(writer, step) for writer in range(WRITERS) for step in range(EACH)}
    print(f"{WRITERS} writers append {EACH} events each to one aggregate: {len(expected)} in all")
    async with NoriKVClient.from_url(url, max_connections=WRITERS + 2) as client:
        await wipe(client, PREFIX)
        await asyncio.gather(*(naive(client, writer) for writer in range(WRITERS)))
        kept = int((await client.get(f"{PREFIX}:naive:head")).value)
        print(f"  get, put, put: {kept} events are left, {len(expected) - kept} written over")

        store = EventStore(client, PREFIX)
        seen: list[Event] = []
        follower = asyncio.create_task(follow(store, seen))
        with Progress("appending", len(expected)) as bar:
            await asyncio.gather(*(careful(url, writer, bar) for writer in range(WRITERS)))
        events = await store.get_events(ORDER)
        steps = [(event.data["writer"], event.data["step"]) for event in events]
        complete = set(steps) == expected and len(steps) == len(expected)
        numbered = [event.version for event in events] == list(range(1, len(expected) + 1))
        print(f"  EventStore, each append sent twice: {len(events)} events")
        await _until(lambda: len(seen) >= len(events))
        follower.cancel()
        print(f"  a subscriber has seen {len(seen)} events, in order: {seen == events}")

        last = len(events) - 5
        await store.save_snapshot(ORDER, last, {"steps": last})
        snapshot = await store.load_snapshot(ORDER)
        assert snapshot is not None
        begun = time.perf_counter()
        rest = await store.get_events_after(ORDER, snapshot.version)
        took = (time.perf_counter() - begun) * 1000
        print(f"  a snapshot after event {last} leaves {len(rest)} events to read: {took:.1f} ms")
        table(
            ("version", "events", "lost", "doubled"),
            [
                ("get, put, put", kept, len(expected) - kept, 0),
                (
                    "EventStore",
                    len(events),
                    len(expected - set(steps)),
                    len(steps) - len(set(steps)),
                ),
            ],
        )
        await wipe(client, PREFIX)
    return complete and numbered and seen == events and len(rest) == 5


async def _until(condition: Callable[[], bool]) -> None:
    """Wait for *condition*, five seconds at most."""
    deadline = time.monotonic() + 5
    while not condition() and time.monotonic() < deadline:
        await asyncio.sleep(0.01)
