"""Semantic search: a document is there whole or not at all."""

from __future__ import annotations

import asyncio
import struct
from typing import Any

import pytest

from norikv_resp.client import (
    InvalidArgumentError,
    NoriKVClient,
    VectorIndexAlreadyExistsError,
)
from norikv_resp.embedders.ngrams import NGramEmbedder
from norikv_resp.patterns.semantic import SearchResult, SemanticSearchEngine
from tests.patterns.conftest import Run
from tests.patterns.crew import Crew, shaky, stubborn
from tests.patterns.workers_search import EMBEDDER
from tests.support.effort import scaled
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

TIMES = scaled(60)


def attack(server: ServerProcess, write: str, search: str, times: int = TIMES) -> list[list[str]]:
    """Connections that break, clients and the server killed; what searchers found torn."""

    async def prepare() -> None:
        async with stubborn(f"redis://127.0.0.1:{server.port}") as client:
            await SemanticSearchEngine(client, EMBEDDER).initialize()

    asyncio.run(prepare())
    with (
        shaky(server.port, every=20_000) as url,
        Crew(write, url, 3, times=times) as writers,
        Crew(search, url, 2) as searchers,
    ):
        writers.wait_for(TIMES // 2)
        writers.kill(0)
        server.restart(clean=False)
        writers.wait_for(TIMES)
        writers.kill(1)
        writers.finish()
        for number, searcher in enumerate(searchers.processes):
            assert searcher.poll() is None, "a searcher has failed"
            searchers.kill(number)
        return [report for reports in searchers.finish() for report in reports]


def test_text_and_vector_are_always_of_one_writing(own_server: ServerProcess) -> None:
    assert attack(own_server, "index", "search") == []

    async def judge() -> None:
        async with stubborn(f"redis://127.0.0.1:{own_server.port}") as client:
            for name in (f"d{number}" for number in range(3)):
                text = await client.execute("GET", f"documents:doc:{name}")
                vector = await client.vector_get("documents:vectors", name)
                assert (text is None) == (vector is None), "half a document"

    asyncio.run(judge())


def test_vector_then_text_is_torn_under_the_same_attack(own_server: ServerProcess) -> None:
    assert any(attack(own_server, "index_naively", "search_naively", 3 * TIMES) for _ in range(10))


# -- the interface -------------------------------------------------------------


async def library(client: NoriKVClient) -> SemanticSearchEngine:
    engine = SemanticSearchEngine(client, NGramEmbedder(256))
    await engine.initialize()
    for name, title, content, year in (
        ("a", "Baking bread", "Flour, water and a hot oven.", 1990),
        ("b", "Breadth of rivers", "Measuring how wide water is.", 2001),
        ("c", "Oven repair", "When the oven no longer gets hot.", 2010),
    ):
        await engine.index_document(name, title, content, {"year": year, "tags": [title[0]]})
    return engine


def test_search_finds_what_is_near_with_its_text(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await library(client)
        results = await engine.search("bake a bread in the oven", 2)
        assert [result.id for result in results] == ["a", "c"]
        best = results[0]
        assert best == SearchResult(
            "a",
            "Baking bread",
            "Flour, water and a hot oven.",
            best.score,
            {"year": 1990, "tags": ["B"]},
        )
        assert 0 < results[1].score < best.score <= 1
        exact = await engine.search("Baking bread Flour, water and a hot oven.", 1)
        assert exact[0].score == pytest.approx(1.0, abs=1e-5)
        assert len(await engine.search("bread", 100)) == 3
        with pytest.raises(InvalidArgumentError):
            await engine.search("bread", 0)

    run(scene)


def test_filters_look_at_the_metadata(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await library(client)
        for condition, wanted in (
            (".year > 1995", {"b", "c"}),
            (".year > 1995 and .year < 2005", {"b"}),
            ('"B" in .tags', {"a", "b"}),
            (".year == 1", set()),
            (".nothing == 1", set()),
        ):
            found = await engine.search("bread", 5, condition)
            assert {result.id for result in found} == wanted, condition
        with pytest.raises(InvalidArgumentError):
            await engine.search("bread", 5, "(((")

    run(scene)


def test_replacing_and_deleting(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        engine = await library(client)
        await engine.index_document("a", "Sailing", "Wind and water.")
        (best,) = await engine.search("sailing in the wind", 1)
        assert (best.id, best.title, best.metadata) == ("a", "Sailing", {})
        assert len(await engine.search("bread", 9)) == 3
        assert await engine.delete_document("a")
        assert not await engine.delete_document("a")
        assert {result.id for result in await engine.search("sailing", 9)} == {"b", "c"}

    run(scene)


def test_a_vector_without_text_is_no_result(run: Run) -> None:
    """Somebody wrote into the index past the engine, or deleted a text."""

    async def scene(client: NoriKVClient) -> None:
        engine = await library(client)
        blob = struct.pack("<256f", *await NGramEmbedder(256).embed("Baking bread"))
        await client.execute("VADD", "documents:vectors", "FP32", blob, "stranger")
        await client.delete("documents:doc:c")
        assert [result.id for result in await engine.search("bread oven", 9)] == ["a", "b"]

    run(scene)


def test_a_document_that_changes_after_the_search_is_searched_again(run: Run) -> None:
    """Text and score of a result are of the same writing, however the requests fall."""

    async def scene(client: NoriKVClient) -> None:
        engine = await library(client)
        execute, changes = client.execute, 0

        async def meddle(*words: Any, **more: Any) -> Any:
            nonlocal changes
            reply = await execute(*words, **more)
            if words[0] == "VSEARCH" and changes < limit:
                changes += 1
                await engine.index_document("a", "Baking bread", f"Version {changes} of rye.")
            return reply

        client.execute = meddle  # type: ignore[method-assign]
        limit = 1
        best = (await engine.search("Baking bread Version 1 of rye.", 3))[0]
        assert (best.content, best.score) == ("Version 1 of rye.", pytest.approx(1.0, abs=1e-5))
        # Somebody who never stops: what is whole is found all the same.
        limit = 1000
        assert {result.id for result in await engine.search("bread", 3)} == {"b", "c"}

    run(scene)


def test_an_index_of_other_vectors_is_told(run: Run) -> None:
    async def scene(client: NoriKVClient) -> None:
        await library(client)
        with pytest.raises(VectorIndexAlreadyExistsError):
            await SemanticSearchEngine(client, NGramEmbedder(128)).initialize()
        other = SemanticSearchEngine(client, NGramEmbedder(128), namespace="others")
        await other.initialize()
        assert await other.search("bread", 3) == []

    run(scene)
