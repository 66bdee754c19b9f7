"""Duplicates: of two copies at the same moment one is stored, the other is the duplicate."""

from __future__ import annotations

import asyncio

import pytest

from norikv_resp.client import DistanceFunction, NoriKVClient, VectorIndexType
from norikv_resp.patterns.dedup import DeduplicationResult, DocumentDeduplicator
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.patterns.workers_search import EMBEDDER, THRESHOLD, notice
from tests.support.effort import scaled
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

TIMES = scaled(25)


def attack(server: ServerProcess, worker: str) -> list[list[object]]:
    """Everybody stores near-duplicates of the same notices; a client and the server die."""

    async def prepare() -> None:
        async with stubborn(f"redis://127.0.0.1:{server.port}") as client:
            await DocumentDeduplicator(client, EMBEDDER, THRESHOLD).initialize()

    asyncio.run(prepare())
    with shaky(server.port, every=20_000) as url, Crew(worker, url, 3, times=TIMES) as crew:
        crew.wait_for(TIMES)
        crew.kill(0)
        server.restart(clean=False)
        return [report for reports in crew.finish() for report in reports]


def stored(server: ServerProcess) -> list[str]:
    prefix = "fingerprints:doc:"
    return sorted(key.decode().removeprefix(prefix) for key in server.ask("KEYS", prefix + "*"))


def test_near_duplicates_at_one_moment_are_stored_once(own_server: ServerProcess) -> None:
    reports = attack(own_server, "store")
    names = stored(own_server)
    assert sorted({int(name.partition("-")[0]) for name in names}) == list(range(TIMES))
    assert len(names) == TIMES, "two of a kind are stored"
    assert own_server.ask("VCARD", "fingerprints:vectors") == TIMES
    for number, name, is_duplicate, duplicate_of in reports:
        assert (name in names) != is_duplicate
        assert not is_duplicate or duplicate_of in names
        assert duplicate_of is None or str(duplicate_of).startswith(f"{number}-")


def test_search_then_insert_stores_twice_under_the_same_attack(own_server: ServerProcess) -> None:
    attack(own_server, "store_naively")
    assert len(stored(own_server)) > TIMES


def test_the_notices_are_what_the_attack_takes_them_for() -> None:
    """Variants of a notice are near-duplicates, and different notices are not."""

    async def vectors() -> None:
        made = {
            (number, variant): await EMBEDDER.embed(notice(number, variant))
            for number in range(TIMES)
            for variant in range(3)
        }
        for (number, _), vector in made.items():
            for (other, _), its in made.items():
                cosine = sum(a * b for a, b in zip(vector, its, strict=True))
                assert (cosine >= THRESHOLD) == (number == other), (number, other, cosine)

    asyncio.run(vectors())


# -- the interface -------------------------------------------------------------


def test_check_and_store(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        board = DocumentDeduplicator(client, EMBEDDER, 0.85)
        await board.initialize()
        fox, copy = "The quick brown fox jumps over the lazy dog.", "a"
        assert await board.check_and_store(copy, fox) == DeduplicationResult(False, None, 0.0)
        same = await board.check_and_store("b", fox)
        assert same == DeduplicationResult(True, "a", 1.0)
        like = await board.check_and_store("c", "A quick brown fox jumped over a lazy dog.")
        assert like.is_duplicate and like.duplicate_of == "a" and 0.85 <= like.similarity < 1
        other = await board.check_and_store("d", "Machine learning is transforming industries.")
        assert not other.is_duplicate and other.duplicate_of is None and other.similarity < 0.5
        assert await client.execute("KEYS", "fingerprints:doc:*") != []
        assert (await client.get("fingerprints:doc:a")).value == fox.encode()
        # A repetition has the outcome of the first try, and an id may be stored anew.
        assert not (await board.check_and_store("a", fox)).is_duplicate
        assert not (await board.check_and_store("a", "Something else entirely")).is_duplicate
        assert not (await board.check_and_store("b", fox)).is_duplicate
        assert await board.remove_document("b")
        assert not await board.remove_document("b")
        assert not (await board.check_and_store("c", fox)).is_duplicate

    run(scene)


def test_tasks_and_objects_of_one_process(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        boards = [DocumentDeduplicator(client, EMBEDDER, 0.9) for _ in range(3)]
        await boards[0].initialize()
        outcomes = await asyncio.gather(
            *(board.check_and_store(f"{n}", "one text") for n, board in enumerate(boards * 4))
        )
        assert sum(not outcome.is_duplicate for outcome in outcomes) == 1
        (kept,) = {outcome.duplicate_of for outcome in outcomes} - {None}
        assert not outcomes[int(kept)].is_duplicate

    run(scene)


def test_an_approximate_index_on_request(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        board = DocumentDeduplicator(client, EMBEDDER, 0.9, "big", VectorIndexType.HNSW)
        await board.initialize()
        assert not await client.vector_create_index(
            "big:vectors", EMBEDDER.dimensions, DistanceFunction.COSINE, VectorIndexType.HNSW
        )
        assert not (await board.check_and_store("a", "one text")).is_duplicate
        assert (await board.check_and_store("b", "one text")).duplicate_of == "a"

    run(scene)


def test_a_flushed_database_begins_again(run: Run) -> None:
    """What the object remembers of the sequence is a guess that the server judges."""

    async def scene(client: NoriKVClient) -> None:
        board = DocumentDeduplicator(client, EMBEDDER, 0.9)
        await board.initialize()
        await board.check_and_store("a", "one text")
        await client.redis.flushdb()
        await board.initialize()
        assert not (await board.check_and_store("b", "one text")).is_duplicate
        assert (await board.check_and_store("c", "one text")).duplicate_of == "b"

    run(scene)
