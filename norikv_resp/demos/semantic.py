"""Semantic search over a few dozen short articles, while somebody keeps rewriting one of them."""

from __future__ import annotations

import asyncio
import contextlib
import time

from norikv_resp.client import NoriKVClient
from norikv_resp.demos import texts
from norikv_resp.demos.show import Progress, table
from norikv_resp.demos.wipe import wipe
from norikv_resp.embedders import Embedder
from norikv_resp.patterns.semantic import SemanticSearchEngine

PREFIX = "demo:semantic"
FILTER = '.topic == "kitchen" and .minutes <= 30'

#: Questions, and which article has to be among the first three.
QUESTIONS = {
    "how do I bake bread with sourdough?": "a01",
    "my bike has a puncture in the tyre": "a08",
    "growing tomato seedlings": "a13",
    "protecting accounts with good passwords": "a20",
    "two writers change one record at the same time": "a23",
    "I cannot sleep at night": "a28",
    "seasick on a boat": "a35",
    "how to tune a guitar": "a41",
}


async def rewrite(engine: SemanticSearchEngine) -> None:
    """Replace one article again and again: title and content always belong together."""
    number = 0
    while True:
        number += 1
        subject = ("tuning a violin", "tuning a guitar")[number % 2]
        await engine.index_document("a41", f"On {subject}", f"All about {subject} by ear.")


async def delete_and_restore(engine: SemanticSearchEngine) -> None:
    """Take another article away and bring it back, again and again."""
    (article,) = (each for each in texts.read("articles") if each["id"] == "a42")
    while True:
        await engine.delete_document("a42")
        await engine.index_document("a42", article["title"], article["content"])


async def half_results(url: str, engine: SemanticSearchEngine) -> tuple[int, int]:
    """Search for two seconds while articles change; searches, and results that do not fit."""
    searches = torn = 0
    async with NoriKVClient.from_url(url) as other:
        mine = SemanticSearchEngine(other, engine.embedder, PREFIX)
        writers = [asyncio.create_task(each(mine)) for each in (rewrite, delete_and_restore)]
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            searches += 1
            for result in await engine.search("tuning a guitar or practising the piano", 5):
                subject = result.title.removeprefix("On ")
                rewritten = result.title.startswith("On ")
                if not result.content or (rewritten and subject not in result.content):
                    torn += 1
        for writer in writers:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
    return searches, torn


async def run(url: str, embedder: Embedder) -> bool:
    """Index, ask, filter; True when the right articles are found and never half of one."""
    articles = texts.read("articles")
    print(f"{len(articles)} articles, vectors of {embedder.dimensions} dimensions")
    async with NoriKVClient.from_url(url) as client:
        await wipe(client, PREFIX)
        engine = SemanticSearchEngine(client, embedder, PREFIX)
        await engine.initialize()
        with Progress("indexing", len(articles)) as bar:
            for each in articles:
                facts = {"topic": each["topic"], "minutes": each["minutes"]}
                await engine.index_document(each["id"], each["title"], each["content"], facts)
                bar.step()

        rows, found = [], True
        begun = time.perf_counter()
        for question, wanted in QUESTIONS.items():
            results = await engine.search(question, 3)
            rows.append((question, results[0].title, results[0].score))
            found = found and wanted in [result.id for result in results]
        took = (time.perf_counter() - begun) * 1000 / len(QUESTIONS)
        table(("question", "best answer", "score"), rows)
        print(f"  {took:.1f} ms for each, the embedding of the question included")

        quick = await engine.search("something to eat", 4, FILTER)
        print(f"  something to eat, with FILTER {FILTER!r}:")
        for result in quick:
            print(f"    {result.title} ({result.metadata['minutes']} minutes)")
        filtered = bool(quick) and all(
            result.metadata["topic"] == "kitchen" and result.metadata["minutes"] <= 30
            for result in quick
        )

        searches, torn = await half_results(url, engine)
        print(f"  {searches} searches while two articles were rewritten and deleted: {torn} torn")
        await wipe(client, PREFIX)
    return found and filtered and torn == 0
