"""PyTorch models, through sentence-transformers. The first use of a model downloads it."""

from __future__ import annotations

import asyncio
from typing import Any

MODEL = "sentence-transformers/all-MiniLM-L6-v2"


class SentenceTransformersEmbedder:
    """One model; texts are embedded in a thread, so that the loop stays free."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._dimensions = int(model.get_sentence_embedding_dimension())

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        return self._dimensions

    async def embed(self, text: str) -> list[float]:
        """The vector of *text*, of length one."""
        return await asyncio.to_thread(self._vector, text)

    def _vector(self, text: str) -> list[float]:
        vector = self._model.encode(text, normalize_embeddings=True, show_progress_bar=False)
        return [float(component) for component in vector]


def create(model: str | None) -> SentenceTransformersEmbedder:
    """Load *model*, a name on the Hugging Face hub or a folder."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformersEmbedder(SentenceTransformer(model or MODEL))
