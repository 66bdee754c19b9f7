"""Search by meaning: documents with their vectors, found by a question in words.

A document is a vector in the index and a record with its text, written in one transaction: a search
never finds half a document. Each writing draws a *revision* that both carry, so that a search that
happens in between two writings never shows the text of one with the score of the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redis.asyncio import Redis

from norikv_resp.client import DistanceFunction, NoriKVClient, VectorIndexType, as_client
from norikv_resp.client.vectors import packed
from norikv_resp.embedders import Embedder

__all__ = ["SearchResult", "SemanticSearchEngine"]

#: Searches that are tried until no document has changed between the search and the reading.
ATTEMPTS = 3

#: The attribute that carries a document's revision, beside the caller's own ones.
REVISION = "_revision"


@dataclass(frozen=True)
class SearchResult:
    """A document that was found; ``score`` is its cosine with the question, at most 1."""

    id: str
    title: str
    content: str
    score: float
    metadata: dict[str, Any] = field(default_factory=dict)


class SemanticSearchEngine:
    """An index of documents. Several may live side by side under different namespaces."""

    def __init__(
        self, client: NoriKVClient | Redis, embedder: Embedder, namespace: str = "documents"
    ) -> None:
        self._client = as_client(client)
        self.embedder = embedder
        self._vectors = f"{namespace}:vectors"
        self._documents = f"{namespace}:doc:"

    async def initialize(self) -> None:
        """Create the index; one that is there stays. One round trip.

        Raises:
            VectorIndexAlreadyExistsError: there is one for vectors of another length.
        """
        await self._client.vector_create_index(
            self._vectors,
            self.embedder.dimensions,
            DistanceFunction.COSINE,
            VectorIndexType.HNSW,
        )

    async def index_document(
        self,
        id: str,  # noqa: A002 (the document's field)
        title: str,
        content: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Store a document, or replace the one of that id, all at once. One round trip.

        *metadata* is what filters look at: numbers, texts and lists of them, by name.
        """
        vector = packed(await self.embedder.embed(f"{title} {content}"))
        revision = secrets.token_hex(8)
        attributes = {**(metadata or {}), REVISION: revision}
        record = {
            "title": title,
            "content": content,
            "metadata": dict(metadata or {}),
            "revision": revision,
        }
        await self._client.transaction(
            [
                ("SET", self._documents + id, json.dumps(record)),
                ("VADD", self._vectors, "FP32", vector, id, "SETATTR", json.dumps(attributes)),
            ]
        )

    async def search(
        self,
        query: str,
        top_k: int,
        filter: str | None = None,  # noqa: A002 (the server's word for it)
    ) -> list[SearchResult]:
        """The *top_k* documents nearest to *query*, best first. Two round trips.

        *filter* is an expression over the documents' metadata, such as
        ``.year > 1990 and .kind == "recipe"``.

        Raises:
            InvalidArgumentError: *top_k* is not positive, or the filter cannot be read.
        """
        vector = packed(await self.embedder.embed(query))
        search: list[str | bytes | int] = ["VSEARCH", self._vectors, top_k, "FP32", vector]
        search += ["FILTER", filter] if filter is not None else []
        results: list[SearchResult] = []
        for _ in range(ATTEMPTS):
            hits = await self._client.execute(*search, "WITHATTRIBS")
            results = await self._read(hits)
            if len(results) == len(hits) // 3:
                break
        return results

    async def delete_document(self, id: str) -> bool:  # noqa: A002 (the document's field)
        """Delete a document with its vector; False if there is none. One round trip."""
        replies = await self._client.transaction(
            [("DEL", self._documents + id), ("VREM", self._vectors, id)]
        )
        return replies is not None and replies[0] == 1

    async def _read(self, hits: list[bytes]) -> list[SearchResult]:
        """The documents behind *hits*; without those that have changed since the search."""
        if not hits:
            return []
        ids = [each.decode() for each in hits[::3]]
        records = await self._client.execute("MGET", *(self._documents + each for each in ids))
        results = []
        for name, distance, attributes, text in zip(
            ids, hits[1::3], hits[2::3], records, strict=True
        ):
            if text is None or attributes is None:
                continue
            record = json.loads(text)
            if record["revision"] == json.loads(attributes).get(REVISION):
                score = 1.0 - float(distance)
                results.append(
                    SearchResult(
                        name, record["title"], record["content"], score, record["metadata"]
                    )
                )
        return results
