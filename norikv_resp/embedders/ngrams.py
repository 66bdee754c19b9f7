"""The built-in embedder: words and their character n-grams, hashed into a vector.

Every word contributes itself and the n-grams of its letters, so that *bake*, *baker* and *baking*
lie close together and a typing error costs little. Each feature is hashed to one component and a
sign (the hashing trick), hence there is no vocabulary and nothing to learn or download, and the
same text has the same vector everywhere and for ever. It knows no synonyms: texts are similar when
their words are.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
import unicodedata
from collections import Counter

from xxhash import xxh3_64_intdigest

DIMENSIONS = 1024

#: Lengths of the n-grams of a word, which is written between ``<`` and ``>`` first.
_LENGTHS = (3, 4, 5)

#: What the n-grams of a word weigh together, beside the word itself with 1.
_LETTERS_WEIGHT = 2.0

#: What an n-gram at the beginning of a word weighs beside the others: stems are there.
_BEGINNING_WEIGHT = 2.0

#: What two neighbouring words weigh as a pair.
_PAIR_WEIGHT = 0.3

#: What a word weighs that is in every text.
_COMMON_WEIGHT = 0.1

_COMMON_WORDS = """
a about after all also an and any are as at be because been before but by can could did do does for
from get had has have he her him his how i if in into is it its just like make may me more most my
no not of on one only or other our out over own she should so some than that the their them then
there these they this those to too up use very was way we were what when where which while who why
will with would you your
"""
_COMMON = frozenset(_COMMON_WORDS.split())

_WORD = re.compile(r"\w+")

#: Components and what is added to them.
Sparse = tuple[tuple[int, float], ...]


class NGramEmbedder:
    """Vectors of length one; texts that share words and parts of words have similar ones."""

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        if dimensions < 1:
            raise ValueError("dimensions must be positive")
        self._dimensions = dimensions

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        return self._dimensions

    async def embed(self, text: str) -> list[float]:
        """The vector of *text*. O(its length); about a millisecond for a page."""
        words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
        vector = [0.0] * self._dimensions
        for word, count in Counter(words).items():
            weight = _COMMON_WEIGHT if word in _COMMON else 1.0
            self._add(vector, _word_features(word), weight * (1.0 + math.log(count)))
        telling = [word for word in words if word not in _COMMON]
        for pair, count in Counter(itertools.pairwise(telling)).items():
            features = ((_hash(" ".join(pair)), 1.0),)
            self._add(vector, features, _PAIR_WEIGHT * (1.0 + math.log(count)))
        length = math.hypot(*vector)
        if length == 0.0:
            # A text without a word has a direction of its own: cosines need one.
            return [1.0] + [0.0] * (self._dimensions - 1)
        return [component / length for component in vector]

    def _add(self, vector: list[float], features: Sparse, weight: float) -> None:
        for feature, value in features:
            # The lowest bit is the sign: features that collide cancel as often as they add up.
            signed = value * weight if feature & 1 else -value * weight
            vector[(feature >> 1) % self._dimensions] += signed


def create(model: str | None) -> NGramEmbedder:
    """The built-in embedder; *model* is a number of dimensions."""
    return NGramEmbedder(int(model) if model else DIMENSIONS)


def _hash(feature: str) -> int:
    return xxh3_64_intdigest(feature.encode())


@functools.lru_cache(maxsize=20_000)
def _word_features(word: str) -> Sparse:
    """The word and the n-grams of its letters, as hashes with their weights."""
    framed = f"<{word}>"
    grams = [
        framed[start : start + length]
        for length in _LENGTHS
        for start in range(len(framed) - length + 1)
    ]
    weights = [_BEGINNING_WEIGHT if gram[0] == "<" else 1.0 for gram in grams]
    scale = _LETTERS_WEIGHT / math.hypot(*weights)
    letters = ((_hash(gram), scale * each) for gram, each in zip(grams, weights, strict=True))
    return ((_hash(framed), 1.0), *letters)
