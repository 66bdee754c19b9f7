"""Embedders: the built-in one is the same everywhere, the others load their libraries."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from norikv_resp import embedders
from norikv_resp.embedders.ngrams import NGramEmbedder
from tests.support.effort import examples
from tests.support.server import ROOT


def embed(text: str, dimensions: int = 1024) -> list[float]:
    return asyncio.run(NGramEmbedder(dimensions).embed(text))


def cosine(one: str, other: str) -> float:
    return sum(a * b for a, b in zip(embed(one), embed(other), strict=True))


def test_the_vectors_of_a_text_never_change() -> None:
    """Vectors are stored: another version of this program has to make the same ones."""
    wanted = [-0.5439, -0.3592, -0.2958, -0.3275, 0.0, -0.0106, -0.047, -0.6148]
    assert embed("Baking the bread", 8) == pytest.approx(wanted, abs=1e-4)


def test_similar_words_make_similar_vectors() -> None:
    fox = "The quick brown fox jumps over the lazy dog."
    assert cosine(fox, "A quick brown fox jumped over a lazy dog.") > 0.85
    assert abs(cosine(fox, "Machine learning is transforming industries.")) < 0.15
    assert cosine("bake", "baking bakers") > cosine("bake", "cooking cooks") + 0.2
    assert cosine("sharpening", "sharpenning") > 0.5
    assert cosine("ONE Text", "one text!") == pytest.approx(1.0)


@given(text=st.text(max_size=60), dimensions=st.integers(1, 64))
@examples(100)
def test_every_text_has_a_direction(text: str, dimensions: int) -> None:
    vector = embed(text, dimensions)
    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1.0)
    assert vector == embed(text, dimensions)


def test_names_of_embedders() -> None:
    assert embedders.load().dimensions == 1024
    assert embedders.load("ngrams", "64").dimensions == 64
    with pytest.raises(ValueError, match="no embedder 'nothing'"):
        embedders.load("nothing")
    with pytest.raises(ValueError, match="positive"):
        NGramEmbedder(0)


@pytest.mark.parametrize("name", ["fastembed", "sentence-transformers", "openai"])
def test_a_missing_library_says_what_to_install(name: str, monkeypatch: Any) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(embedders.MissingExtraError, match=rf"norikv-resp\[{name}\]"):
        embedders.load(name)


class Library(ModuleType):
    """Stands in for a library: what a test gives it."""

    def __init__(self, name: str, **content: Any) -> None:
        super().__init__(name)
        vars(self).update(content)


def test_fastembed(monkeypatch: Any) -> None:
    class TextEmbedding:
        def __init__(self, model_name: str) -> None:
            self.name = model_name

        def embed(self, documents: list[str]) -> Any:
            return ((float(len(text)), 1.0, 2.0) for text in documents)

    monkeypatch.setitem(sys.modules, "fastembed", Library("fastembed", TextEmbedding=TextEmbedding))
    embedder = embedders.load("fastembed", "some/model")
    assert embedder.dimensions == 3
    assert asyncio.run(embedder.embed("four")) == [4.0, 1.0, 2.0]  # type: ignore[arg-type]


def test_sentence_transformers(monkeypatch: Any) -> None:
    class SentenceTransformer:
        def __init__(self, name: str) -> None:
            self.name = name

        def get_sentence_embedding_dimension(self) -> int:
            return 2

        def encode(self, text: str, **options: Any) -> list[float]:
            assert options["normalize_embeddings"]
            return [0.0, float(len(text))]

    library = Library("sentence_transformers", SentenceTransformer=SentenceTransformer)
    monkeypatch.setitem(sys.modules, "sentence_transformers", library)
    embedder = embedders.load("sentence-transformers")
    assert embedder.dimensions == 2
    assert asyncio.run(embedder.embed("four")) == [0.0, 4.0]  # type: ignore[arg-type]


def test_openai(monkeypatch: Any) -> None:
    class AsyncOpenAI:
        def __init__(self) -> None:
            self.embeddings = self

        async def create(self, model: str, input: str) -> Any:  # noqa: A002 (the API's name)
            assert model == "text-embedding-3-large"
            return SimpleNamespace(data=[SimpleNamespace(embedding=[0.5, len(input)])])

    monkeypatch.setitem(sys.modules, "openai", Library("openai", AsyncOpenAI=AsyncOpenAI))
    embedder = embedders.load("openai", "text-embedding-3-large")
    assert embedder.dimensions == 3072
    assert asyncio.run(embedder.embed("four")) == [0.5, 4.0]  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unknown model"):
        embedders.load("openai", "gpt")


def test_a_vector_as_words_of_a_command() -> None:
    words = subprocess.run(
        [sys.executable, "-m", "norikv_resp.embedders", "--model", "16", "Baking the bread"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        timeout=60,
    ).stdout.split()
    assert words[0] == b"16"
    assert [float(word) for word in words[1:]] == pytest.approx(
        embed("Baking the bread", 16), abs=1e-5
    )


def test_patterns_and_embedders_need_no_numpy() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None; "
        "import norikv_resp.patterns, norikv_resp.embedders.ngrams"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=60)
