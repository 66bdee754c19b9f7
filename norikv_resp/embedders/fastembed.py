"""ONNX models on the CPU, through fastembed. The first use of a model downloads it."""

from __future__ import annotations

import asyncio
from typing import Any

MODEL = "BAAI/bge-small-en-v1.5"


class FastembedEmbedder:
    """One model; texts are embedded in a thread, so that the loop stays free."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._dimensions = len(self._vector("length"))

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        return self._dimensions

    async def embed(self, text: str) -> list[float]:
        """The vector of *text*."""
        return await asyncio.to_thread(self._vector, text)

    def _vector(self, text: str) -> list[float]:
        return [float(component) for component in next(iter(self._model.embed([text])))]


def create(model: str | None) -> FastembedEmbedder:
    """Load *model*, one of fastembed's names."""
    from fastembed import TextEmbedding

    return FastembedEmbedder(TextEmbedding(model_name=model or MODEL))
