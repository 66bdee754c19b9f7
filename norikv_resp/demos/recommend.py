"""Recommendations from a small catalogue, while several clicks of one user arrive at once."""

from __future__ import annotations

import asyncio
import json

from norikv_resp.client import KeyNotFoundError, NoriKVClient
from norikv_resp.demos import texts
from norikv_resp.demos.show import Progress, table
from norikv_resp.demos.wipe import wipe
from norikv_resp.embedders import Embedder
from norikv_resp.patterns.recommend import RecommendationEngine

PREFIX = "demo:recommend"

#: What each visitor looks at, and the category that has to come first then.
VISITORS = {
    "ada": (("p01", "p03", "p05"), "running"),
    "bob": (("p14", "p17", "p19"), "kitchen"),
    "cyd": (("p36", "p38"), "music"),
}
TABS = 8
CLICKS = 20


async def naive(client: NoriKVClient) -> None:
    """Read the preference, add one interaction, write it back."""
    key = f"{PREFIX}:naive"
    for _ in range(CLICKS):
        try:
            count = json.loads((await client.get(key)).value)["count"]
        except KeyNotFoundError:
            count = 0
        await client.put(key, json.dumps({"count": count + 1}))


async def click(url: str, embedder: Embedder, tab: int) -> None:
    """Send every click twice under one id, as a browser does that has lost the connection."""
    async with NoriKVClient.from_url(url) as client:
        engine = RecommendationEngine(client, embedder, PREFIX)
        for number in range(CLICKS):
            for _ in range(2):
                await engine.record_interaction("dan", f"p{8 + tab % 6:02}", f"{tab}-{number}")


async def run(url: str, embedder: Embedder) -> bool:
    """Index, click, recommend; True when every click counts once and the results make sense."""
    products = texts.read("products")
    category = {each["id"]: each["category"] for each in products}
    print(f"{len(products)} products, vectors of {embedder.dimensions} dimensions")
    async with NoriKVClient.from_url(url, max_connections=TABS + 1) as client:
        await wipe(client, PREFIX)
        engine = RecommendationEngine(client, embedder, PREFIX)
        await engine.initialize()
        with Progress("indexing", len(products)) as bar:
            for each in products:
                await engine.index_product(
                    each["id"], each["name"], each["description"], each["category"]
                )
                bar.step()

        rows, sensible = [], True
        for visitor, (looked_at, wanted) in VISITORS.items():
            for product in looked_at:
                await engine.record_interaction(visitor, product)
            best = await engine.get_recommendations(visitor, 3)
            names = ", ".join(each.name for each in best)
            rows.append((visitor, category[looked_at[0]], names, best[0].score))
            sensible = sensible and best[0].category == wanted and len(best) == 3
            sensible = sensible and not {each.product_id for each in best} & set(looked_at)
        table(("visitor", "looked at", "is recommended", "score"), rows)
        similar = await engine.get_similar_products("p09", 3)
        print(f"  similar to a tyre repair kit: {', '.join(each.name for each in similar)}")

        print(f"  {TABS} tabs of one visitor click {CLICKS} times each, all at once")
        await asyncio.gather(*(naive(client) for _ in range(TABS)))
        counted = json.loads((await client.get(f"{PREFIX}:naive")).value)["count"]
        await asyncio.gather(*(click(url, embedder, tab) for tab in range(TABS)))
        preference = await engine.get_preference("dan")
        assert preference is not None
        table(
            ("version", "clicks", "counted"),
            [
                ("get, then put", TABS * CLICKS, counted),
                ("RecommendationEngine, all sent twice", TABS * CLICKS, preference.interactions),
            ],
        )
        await wipe(client, PREFIX)
    return sensible and preference.interactions == TABS * CLICKS
