"""Attacks on documents, preferences and duplicates: what has vectors."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

from norikv_resp.client import NoriKVClient
from norikv_resp.embedders.ngrams import NGramEmbedder
from norikv_resp.patterns.dedup import DocumentDeduplicator
from norikv_resp.patterns.recommend import RecommendationEngine
from norikv_resp.patterns.semantic import SemanticSearchEngine
from tests.patterns.crew import Report, worker

Options = dict[str, Any]

EMBEDDER = NGramEmbedder(128)
THRESHOLD = 0.9
QUESTION = "what is there to know of trains and music"
_SYLLABLES = ("ba", "do", "ki", "lu", "me", "no", "ra", "shi", "tu", "ve")
_WORDS = ["".join(word) for word in itertools.product(_SYLLABLES, repeat=3)]

PRODUCTS = ("boots", "tent", "lamp")

SUBJECTS = ("bread", "bicycles", "gardens", "music", "journeys", "trains")


def text_of(subject: str) -> tuple[str, str]:
    """A title and a content that belong together."""
    return f"On {subject}", f"Everything that there is to know of {subject}, briefly."


def notice(number: int, variant: int) -> str:
    """A notice; the variants of one number are near-duplicates: the same words, told in turn."""
    words = random.Random(number).sample(_WORDS, 12)
    return " ".join(words[variant:] + words[:variant])


# -- documents -------------------------------------------------------------------


@worker
async def index_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Insert the vector, then store the text."""
    dice = random.Random(options["number"])
    for number in range(options["times"]):
        name, (title, content) = f"d{dice.randrange(3)}", text_of(dice.choice(SUBJECTS))
        vector = await EMBEDDER.embed(f"{title} {content}")
        await client.vector_insert("documents:vectors", name, vector)
        await client.put(f"documents:doc:{name}", json.dumps([title, content]))
        if dice.random() < 0.3:
            await client.vector_delete("documents:vectors", name)
            await client.delete(f"documents:doc:{name}")
        report(number)


@worker
async def index(client: NoriKVClient, options: Options, report: Report) -> None:
    dice = random.Random(options["number"])
    engine = SemanticSearchEngine(client, EMBEDDER)
    for number in range(options["times"]):
        name = f"d{dice.randrange(3)}"
        await engine.index_document(name, *text_of(dice.choice(SUBJECTS)))
        if dice.random() < 0.3:
            await engine.delete_document(name)
        report(number)


@worker
async def search_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Find the vectors, then get the texts; reports results with another text's score."""
    asked = await EMBEDDER.embed(QUESTION)
    while True:
        found = await client.vector_search("documents:vectors", asked, 3)
        for match in found.matches:
            text = await client.execute("GET", f"documents:doc:{match.id}")
            if text is None or not await _fits(asked, *json.loads(text), 1 - match.distance):
                report("torn", match.id)


@worker
async def search(client: NoriKVClient, options: Options, report: Report) -> None:
    """Search all the time; reports results with another text's score, or of two texts."""
    engine = SemanticSearchEngine(client, EMBEDDER)
    asked = await EMBEDDER.embed(QUESTION)
    while True:
        for result in await engine.search(QUESTION, 3):
            whole = text_of(result.title.removeprefix("On ")) == (result.title, result.content)
            if not whole or not await _fits(asked, result.title, result.content, result.score):
                report("torn", result.id)


async def _fits(asked: list[float], title: str, content: str, score: float) -> bool:
    vector = await EMBEDDER.embed(f"{title} {content}")
    return abs(score - sum(a * b for a, b in zip(asked, vector, strict=True))) < 1e-4


# -- preferences -----------------------------------------------------------------


@worker
async def click_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    for number in range(options["times"]):
        clicks = int(await client.execute("GET", "naive") or 0)
        await client.put("naive", str(clicks + 1))
        report(number)


@worker
async def click(client: NoriKVClient, options: Options, report: Report) -> None:
    """Record each click, and once more as a caller does who has not seen the answer."""
    engine = RecommendationEngine(client, EMBEDDER, memory=1_000_000)
    for number in range(options["times"]):
        product, once = PRODUCTS[number % 3], f"{options['number']}-{number}"
        assert await engine.record_interaction("user", product, once)
        report(product, once)
        assert await engine.record_interaction("user", product, once)


# -- duplicates ------------------------------------------------------------------


@worker
async def store_naively(client: NoriKVClient, options: Options, report: Report) -> None:
    """Search, and insert if there is nothing like it."""
    for number in range(options["times"]):
        text = notice(number, options["number"])
        vector = await EMBEDDER.embed(text)
        found = await client.vector_search("fingerprints:vectors", vector, 1)
        if not found.matches or 1 - found.matches[0].distance < THRESHOLD:
            name = f"{number}-{options['number']}"
            await client.vector_insert("fingerprints:vectors", name, vector)
            await client.put(f"fingerprints:doc:{name}", text)
        report(number)


@worker
async def store(client: NoriKVClient, options: Options, report: Report) -> None:
    """Everybody stores much the same at much the same time, each document twice."""
    board = DocumentDeduplicator(client, EMBEDDER, THRESHOLD)
    for number in range(options["times"]):
        name, text = f"{number}-{options['number']}", notice(number, options["number"])
        first = await board.check_and_store(name, text)
        report(number, name, first.is_duplicate, first.duplicate_of)
        again = await board.check_and_store(name, text)
        assert again.is_duplicate == first.is_duplicate
