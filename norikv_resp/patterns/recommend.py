"""Recommendations: what is near to what somebody liked.

A product is one element of a vector index, with its name and category as the element's attributes:
one command writes all of it, and no search finds a product without them. A user's preference is a
moving average of the vectors of the products that the user had to do with, in one key; every
interaction is added to it by its version, so that of two at the same moment both count.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from redis.asyncio import Redis

from norikv_resp.client import (
    DistanceFunction,
    Key,
    NoriKVClient,
    VectorIndexType,
    Version,
    Word,
    as_client,
)
from norikv_resp.client.vectors import packed
from norikv_resp.embedders import Embedder
from norikv_resp.patterns.combining import Combiner
from norikv_resp.patterns.names import part
from norikv_resp.patterns.requests import together
from norikv_resp.patterns.retry import Attempts

__all__ = ["Preference", "ProductRecommendation", "RecommendationEngine"]

#: For how long an ``event_id`` makes the repetition of an interaction harmless.
RETRY_WINDOW_MS = 24 * 3600 * 1000

#: From how many interactions on the newest one weighs ``1 / MEMORY``.
MEMORY = 20

#: Products that a recommendation looks at beyond those asked for, as some have been seen.
MARGIN = 8


@dataclass(frozen=True)
class ProductRecommendation:
    """A product; ``score`` is the cosine of the angle to what it was compared with, at most 1."""

    product_id: str
    name: str
    category: str
    score: float


class Preference(NamedTuple):
    """What a user likes: the moving average of so many interactions."""

    interactions: int
    vector: tuple[float, ...]

    def moved(self, vector: Sequence[float], memory: int) -> Preference:
        """The preference after one more interaction, with a product at *vector*."""
        weight = 1.0 / min(self.interactions + 1, memory)
        old = self.vector or (0.0,) * len(vector)
        moved = tuple(a + weight * (b - a) for a, b in zip(old, vector, strict=True))
        return Preference(self.interactions + 1, moved)

    def encode(self) -> bytes:
        """As the user's key holds it: the count in 8 bytes, then a vector as VSEARCH takes it."""
        return struct.pack("<Q", self.interactions) + packed(self.vector)

    @classmethod
    def decode(cls, value: bytes) -> Preference:
        """The opposite of `encode`."""
        (count,) = struct.unpack_from("<Q", value)
        return cls(count, struct.unpack_from(f"<{(len(value) - 8) // 4}f", value, 8))


class _Interaction(NamedTuple):
    """A user had to do with a product."""

    product_id: str
    #: The key that remembers the caller's ``event_id``.
    once: str | None


class RecommendationEngine:
    """Products and the preferences of users. Several may live under different namespaces."""

    def __init__(
        self,
        client: NoriKVClient | Redis,
        embedder: Embedder,
        namespace: str = "products",
        memory: int = MEMORY,
    ) -> None:
        self._client = as_client(client)
        self._embedder = embedder
        self._namespace = namespace
        self._vectors = f"{namespace}:vectors"
        self._memory = memory
        self._combiner: Combiner[str, _Interaction, bool] = Combiner(self._record_all, 100)

    async def initialize(self) -> None:
        """Create the index; one that is there stays. One round trip.

        Raises:
            VectorIndexAlreadyExistsError: there is one for vectors of another length.
        """
        await self._client.vector_create_index(
            self._vectors,
            self._embedder.dimensions,
            DistanceFunction.COSINE,
            VectorIndexType.HNSW,
        )

    # -- products ------------------------------------------------------------

    async def index_product(self, product_id: str, name: str, desc: str, category: str) -> None:
        """Store a product, or replace the one of that id. One round trip."""
        vector = packed(await self._embedder.embed(f"{name} {desc} {category}"))
        facts = json.dumps({"name": name, "category": category})
        await self._client.execute(
            "VADD", self._vectors, "FP32", vector, product_id, "SETATTR", facts
        )

    async def remove_product(self, product_id: str) -> bool:
        """Take a product out; False if there is none. Preferences keep what they learnt."""
        return bool(await self._client.execute("VREM", self._vectors, product_id))

    # -- users ---------------------------------------------------------------

    async def record_interaction(
        self, user_id: str, product_id: str, event_id: str | None = None
    ) -> bool:
        """Let a user's preference move towards a product. Two round trips.

        Repeated with the same *event_id* within a day it counts once. False, and nothing changes,
        if there is no such product.
        """
        once = f"{self._user(user_id)}:once:{event_id}" if event_id is not None else None
        return await self._combiner.submit(user_id, _Interaction(product_id, once))

    async def get_preference(self, user_id: str) -> Preference | None:
        """What a user likes, None if nothing is known. One round trip."""
        value = await self._client.execute("GET", self._preference(user_id))
        return None if value is None else Preference.decode(value)

    async def get_recommendations(
        self,
        user_id: str,
        top_k: int,
        exclude_seen: bool = True,
        filter: str | None = None,  # noqa: A002 (the server's word for it)
    ) -> list[ProductRecommendation]:
        """The *top_k* products nearest to what a user likes, best first; [] for a stranger.

        Products that the user had to do with are left out unless told otherwise. *filter* is an
        expression over name and category, such as ``.category == "garden"``. Three round trips;
        more if the user has seen most of what is near.
        """
        preference = await self.get_preference(user_id)
        if preference is None:
            return []
        count = top_k + MARGIN if exclude_seen else top_k
        while True:
            found = await self._search(count, ["FP32", packed(preference.vector)], filter)
            fresh = await self._unseen(user_id, found) if exclude_seen else found
            if len(fresh) >= top_k or len(found) < count:
                return fresh[:top_k]
            count *= 2

    async def get_similar_products(
        self, product_id: str, top_k: int
    ) -> list[ProductRecommendation]:
        """The *top_k* products nearest to one, best first; [] if there is none. Two round trips."""
        vector = await self._client.vector_get(self._vectors, product_id)
        if vector is None:
            return []
        found = await self._search(top_k + 1, ["FP32", packed(vector)], None)
        return [each for each in found if each.product_id != product_id][:top_k]

    async def _search(
        self, count: int, target: list[Word], condition: str | None
    ) -> list[ProductRecommendation]:
        words: list[Word] = ["VSEARCH", self._vectors, count, *target]
        words += ["FILTER", condition] if condition is not None else []
        hits = await self._client.execute(*words, "WITHATTRIBS")
        return list(_products(hits))

    async def _unseen(
        self, user_id: str, found: list[ProductRecommendation]
    ) -> list[ProductRecommendation]:
        if not found:
            return []
        keys = (self._seen(user_id, each.product_id) for each in found)
        seen = await self._client.execute("MGET", *keys)
        return [each for each, times in zip(found, seen, strict=True) if times is None]

    # -- interactions --------------------------------------------------------

    async def _record_all(self, user_id: str, wanted: list[_Interaction]) -> list[bool]:
        """Record what concurrent callers want to of one user, in one transaction."""
        key = self._preference(user_id)
        attempts = Attempts()
        while True:
            await anext(attempts)
            held, vectors, done = await self._look(user_id, wanted)
            preference = Preference(0, ()) if held is None else Preference.decode(held[0])
            checks: dict[Key, Version | bytes | None] = {key: None if held is None else held[1]}
            commands: list[tuple[Word, ...]] = []
            results: list[bool] = []
            for each, vector in zip(wanted, vectors, strict=True):
                results.append(vector is not None or each.once in done)
                if vector is None or each.once in done:
                    continue
                preference = preference.moved(vector, self._memory)
                commands.append(("INCR", self._seen(user_id, each.product_id)))
                if each.once is not None:
                    done.add(each.once)
                    checks[each.once] = None
                    commands.append(("SET", each.once, "1", "PX", RETRY_WINDOW_MS))
            if not commands:
                return results
            commands.append(("SET", key, preference.encode()))
            if await self._client.transaction(commands, checks) is not None:
                return results

    async def _look(
        self, user_id: str, wanted: list[_Interaction]
    ) -> tuple[list[bytes] | None, list[list[float] | None], set[str | None]]:
        """The user's preference, the products' vectors, and which ``once`` have been recorded."""
        asked: list[tuple[Word, ...]] = [("GETVER", self._preference(user_id))]
        for each in wanted:
            asked.append(("VEMB", self._vectors, each.product_id))
            asked.append(("EXISTS", each.once if each.once is not None else b""))
        held, *rest = await together(self._client, *asked)
        vectors = [_vector(each) for each in rest[::2]]
        done = {each.once for each, found in zip(wanted, rest[1::2], strict=True) if found}
        return held, vectors, done - {None}

    # -- names ---------------------------------------------------------------

    def _user(self, user_id: str) -> str:
        return f"{self._namespace}:user:{part(user_id)}"

    def _preference(self, user_id: str) -> str:
        return f"{self._user(user_id)}:preference"

    def _seen(self, user_id: str, product_id: str) -> str:
        """Counts a user's interactions with a product."""
        return f"{self._user(user_id)}:seen:{product_id}"


def _vector(reply: Iterable[bytes] | None) -> list[float] | None:
    return None if reply is None else [float(each) for each in reply]


def _products(hits: list[Any]) -> Iterator[ProductRecommendation]:
    """The products of a search's reply; elements that somebody else added are passed over."""
    for name, distance, attributes in zip(hits[::3], hits[1::3], hits[2::3], strict=True):
        if attributes is None:
            continue
        facts = json.loads(attributes)
        yield ProductRecommendation(
            name.decode(), facts["name"], facts["category"], 1.0 - float(distance)
        )
