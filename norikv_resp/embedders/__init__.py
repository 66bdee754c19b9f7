"""Embedders: a text in, a vector out. The patterns that search by meaning take one.

`load` knows them by name. ``ngrams`` is built in: deterministic, no model, no download. The others
load a model through an optional extra, such as ``pip install 'norikv-resp[fastembed]'``.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Protocol, cast

__all__ = ["NAMES", "Embedder", "MissingExtraError", "load"]

#: Name and one line each; the module of that name has ``create(model: str | None)``.
NAMES = {
    "ngrams": "built in: hashed words and character n-grams, no download",
    "fastembed": "ONNX models on the CPU (extra: fastembed)",
    "sentence-transformers": "PyTorch models (extra: sentence-transformers)",
    "openai": "OpenAI's embeddings API, with OPENAI_API_KEY (extra: openai)",
}


class Embedder(Protocol):
    """What the patterns ask of an embedder; anything of this shape will do."""

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        ...

    async def embed(self, text: str) -> Sequence[float]:
        """The vector of *text*."""
        ...


class MissingExtraError(ImportError):
    """The library behind an embedder is not installed; the message says what to install."""


def load(name: str = "ngrams", model: str | None = None) -> Embedder:
    """The embedder called *name*, with *model* in place of its default one.

    Raises:
        ValueError: there is no embedder of that name.
        MissingExtraError: its library is not installed.
    """
    if name not in NAMES:
        raise ValueError(f"no embedder {name!r}; there are: {', '.join(NAMES)}")
    module = importlib.import_module(f"norikv_resp.embedders.{name.replace('-', '_')}")
    try:
        return cast(Embedder, module.create(model))
    except ImportError as error:
        advice = f"pip install 'norikv-resp[{name}]'"
        raise MissingExtraError(f"the embedder {name} needs {advice} ({error})") from error
