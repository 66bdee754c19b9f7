"""Near-duplicates: a document is stored only if nothing like it is there.

Whether a document is new is the outcome of a search, and between the search and the writing
somebody else may store the same. Every writing therefore moves a sequence key, and each is guarded
by the version that the sequence had before its search: whoever writes second searches again, and
finds the first one's document.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from redis.asyncio import Redis

from norikv_resp.client import (
    ABSENT,
    DistanceFunction,
    NoriKVClient,
    VectorIndexType,
    Version,
    as_client,
)
from norikv_resp.client.vectors import packed
from norikv_resp.embedders import Embedder
from norikv_resp.patterns.retry import Attempts

__all__ = ["DeduplicationResult", "DocumentDeduplicator"]

#: Decimal places of a similarity: what is left of 32-bit floats, so that a copy has exactly 1.
PLACES = 6


@dataclass(frozen=True)
class DeduplicationResult:
    """Whether a document is like another one.

    ``similarity`` is the cosine of the angle to the nearest other document, 0 if there is none;
    ``duplicate_of`` names that one if it is near enough.
    """

    is_duplicate: bool
    duplicate_of: str | None
    similarity: float


class DocumentDeduplicator:
    """A set of documents of which no two are similar by *threshold* (a cosine) or more.

    The index compares with every document unless *index_type* says HNSW, which is quicker from
    some hundred thousand documents on and may overlook a near-duplicate once in a while.
    """

    def __init__(
        self,
        client: NoriKVClient | Redis,
        embedder: Embedder,
        threshold: float,
        namespace: str = "fingerprints",
        index_type: VectorIndexType = VectorIndexType.BRUTE_FORCE,
    ) -> None:
        self._client = as_client(client)
        self._embedder = embedder
        self._threshold = threshold
        self._index_type = index_type
        self._vectors = f"{namespace}:vectors"
        self._sequence = f"{namespace}:sequence"
        self._documents = f"{namespace}:doc:"
        #: The sequence's version as last seen: a good guess, judged by the server.
        self._seen: Version | None = None
        #: Tasks of one process take turns instead of racing.
        self._turn = asyncio.Lock()

    async def initialize(self) -> None:
        """Create the index; one that is there stays. One round trip.

        Raises:
            VectorIndexAlreadyExistsError: there is one of another kind or for other vectors.
        """
        await self._client.vector_create_index(
            self._vectors, self._embedder.dimensions, DistanceFunction.COSINE, self._index_type
        )

    async def check_and_store(
        self,
        id: str,  # noqa: A002 (the document's field)
        content: str,
    ) -> DeduplicationResult:
        """Store a document unless one like it is there. Two round trips, more when writers meet.

        A document is never a duplicate of itself: storing an id again replaces its content, and a
        repetition after a crash has the outcome that the first try had.
        """
        vector = packed(await self._embedder.embed(content))
        async with self._turn:
            attempts = Attempts()
            while True:
                await anext(attempts)
                if self._seen is None:
                    # Read before the search: what is stored after this moment fails the check.
                    held = await self._client.execute("VER", self._sequence)
                    self._seen = ABSENT if held is None else Version.parse(held)
                nearest, similarity = await self._nearest(id, vector)
                if nearest is not None and similarity >= self._threshold:
                    return DeduplicationResult(True, nearest, similarity)
                if await self._store(id, content, vector, self._seen):
                    return DeduplicationResult(False, None, similarity)

    async def remove_document(self, id: str) -> bool:  # noqa: A002 (the document's field)
        """Forget a document; False if there is none. One round trip."""
        replies = await self._client.transaction(
            [("DEL", self._documents + id), ("VREM", self._vectors, id)]
        )
        return replies is not None and replies[0] == 1

    async def _nearest(self, own_id: str, vector: bytes) -> tuple[str | None, float]:
        """The nearest document but the one itself, and its similarity."""
        hits = await self._client.execute("VSEARCH", self._vectors, 2, "FP32", vector)
        for name, distance in zip(hits[::2], hits[1::2], strict=True):
            if name != own_id.encode():
                return name.decode(), round(1.0 - float(distance), PLACES)
        return None, 0.0

    async def _store(self, name: str, content: str, vector: bytes, seen: Version) -> bool:
        """Write document, vector and sequence in one transaction; False if that has moved."""
        commands = [
            ("SETVER", self._sequence, name),
            ("SET", self._documents + name, content),
            ("VADD", self._vectors, "FP32", vector, name),
        ]
        replies = await self._client.transaction(commands, {self._sequence: seen})
        self._seen = None if replies is None else Version.parse(replies[0])
        return replies is not None
