"""OpenAI's embeddings API. The key comes from OPENAI_API_KEY, as the library has it."""

from __future__ import annotations

from typing import Any

MODEL = "text-embedding-3-small"

#: The models' own lengths; vectors are asked for with exactly that many components.
_DIMENSIONS = {
    "text-embedding-3-small": 1536,
    "text-embedding-3-large": 3072,
    "text-embedding-ada-002": 1536,
}


class OpenAIEmbedder:
    """One model of the API; every text is one HTTPS request, retried by the library."""

    def __init__(self, client: Any, model: str) -> None:
        self._client = client
        self._model = model

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        return _DIMENSIONS[self._model]

    async def embed(self, text: str) -> list[float]:
        """The vector of *text*."""
        answer = await self._client.embeddings.create(model=self._model, input=text)
        return [float(component) for component in answer.data[0].embedding]


def create(model: str | None) -> OpenAIEmbedder:
    """A client of the API for *model*; ValueError for a model that is not known here."""
    from openai import AsyncOpenAI

    name = model or MODEL
    if name not in _DIMENSIONS:
        raise ValueError(f"unknown model {name!r}; known: {', '.join(_DIMENSIONS)}")
    return OpenAIEmbedder(AsyncOpenAI(), name)
