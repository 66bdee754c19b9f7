"""A notice board that takes no notice twice, though two offices put up the same at one moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from norikv_resp.client import DistanceFunction, NoriKVClient, VectorIndexType
from norikv_resp.demos import texts
from norikv_resp.demos.show import table
from norikv_resp.demos.wipe import wipe
from norikv_resp.embedders import Embedder
from norikv_resp.patterns.dedup import DocumentDeduplicator

PREFIX = "demo:dedup"
NAIVE = f"{PREFIX}:naive"
THRESHOLD = 0.9
OFFICES = 4


async def naive(client: NoriKVClient, embedder: Embedder, name: str, text: str) -> bool:
    """Search, then store if nothing like it is there; whether it was stored."""
    vector = await embedder.embed(text)
    found = await client.vector_search(NAIVE, vector, 1)
    if found.matches and 1 - found.matches[0].distance >= THRESHOLD:
        return False
    await client.vector_insert(NAIVE, name, vector)
    return True


async def run(url: str, embedder: Embedder) -> bool:
    """Put notices up one after the other, then the same ones from all offices at once."""
    notices = texts.read("notices")
    originals = [each for each in notices if "same_as" not in each]
    print(f"{len(notices)} notices, {len(originals)} of them different, threshold {THRESHOLD}")
    async with NoriKVClient.from_url(url) as client:
        await wipe(client, PREFIX)
        board = DocumentDeduplicator(client, embedder, THRESHOLD, f"{PREFIX}:board")
        await board.initialize()
        rows, right = [], True
        for each in notices:
            result = await board.check_and_store(each["id"], each["text"])
            verdict = f"like {result.duplicate_of}" if result.is_duplicate else "new"
            rows.append((each["id"], f"{each['text'][:48]}…", verdict, result.similarity))
            right = right and result.duplicate_of == each.get("same_as")
        table(("id", "notice", "verdict", "similarity"), rows)

        print(f"  {OFFICES} offices put up the same {len(originals)} notices at the same moment")
        await client.vector_create_index(
            NAIVE, embedder.dimensions, DistanceFunction.COSINE, VectorIndexType.BRUTE_FORCE
        )
        twice = await at_once(
            url,
            originals,
            lambda office, name, text: naive(office, embedder, name, text),
        )
        namespace = f"{PREFIX}:offices"
        await DocumentDeduplicator(client, embedder, THRESHOLD, namespace).initialize()

        async def careful(office: NoriKVClient, name: str, text: str) -> bool:
            shared = DocumentDeduplicator(office, embedder, THRESHOLD, namespace)
            return not (await shared.check_and_store(name, text)).is_duplicate

        once = await at_once(url, originals, careful)
        table(
            ("version", "different", "stored"),
            [
                ("search, then insert", len(originals), twice),
                ("DocumentDeduplicator", len(originals), once),
            ],
        )
        await wipe(client, PREFIX)
    return right and once == len(originals)


Store = Callable[[NoriKVClient, str, str], Awaitable[bool]]


async def at_once(url: str, notices: list[dict[str, Any]], store: Store) -> int:
    """Let every office put all *notices* up, the same one at the same moment; how many stayed."""
    stored = 0
    async with contextlib.AsyncExitStack() as stack:
        offices = [
            await stack.enter_async_context(NoriKVClient.from_url(url)) for _ in range(OFFICES)
        ]
        for each in notices:
            outcomes = await asyncio.gather(
                *(
                    store(office, f"{each['id']} from office {number}", each["text"])
                    for number, office in enumerate(offices)
                )
            )
            stored += sum(outcomes)
    return stored
