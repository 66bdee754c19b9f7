"""Vector commands: what they are sent as and what comes back."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from norikv_resp.client.errors import (
    InvalidArgumentError,
    VectorDimensionMismatchError,
    VectorIndexAlreadyExistsError,
)
from norikv_resp.client.types import DistanceFunction, VectorIndexType, VectorMatch

_METRICS = {
    DistanceFunction.EUCLIDEAN: b"L2",
    DistanceFunction.COSINE: b"COSINE",
    DistanceFunction.INNER_PRODUCT: b"IP",
}
_TYPES = {VectorIndexType.BRUTE_FORCE: b"FLAT", VectorIndexType.HNSW: b"HNSW"}


def create(
    namespace: str, dimensions: int, distance: DistanceFunction, index_type: VectorIndexType
) -> list[bytes]:
    """VCREATE."""
    if dimensions <= 0:
        raise InvalidArgumentError("dimensions must be greater than 0")
    metric = _METRICS[DistanceFunction(distance)]
    kind = _TYPES[VectorIndexType(index_type)]
    words = [b"VCREATE", _name(namespace, "namespace"), b"DIM", str(dimensions).encode()]
    return [*words, b"METRIC", metric, b"TYPE", kind]


def drop(namespace: str) -> list[bytes]:
    """VDROP."""
    return [b"VDROP", _name(namespace, "namespace")]


def insert(namespace: str, element: str, vector: Sequence[float]) -> list[bytes]:
    """VADD, which replies None when there is no such index."""
    words = [b"VADD", _name(namespace, "namespace"), b"FP32", packed(vector)]
    return [*words, _name(element, "id"), b"XX", b"WITHVER"]


def delete(namespace: str, element: str) -> list[bytes]:
    """VREM."""
    return [b"VREM", _name(namespace, "namespace"), _name(element, "id")]


def get(namespace: str, element: str) -> list[bytes]:
    """VEMB."""
    return [b"VEMB", _name(namespace, "namespace"), _name(element, "id")]


def search(namespace: str, query: Sequence[float], k: int, with_vectors: bool) -> list[list[bytes]]:
    """VINFO, which tells the metric, and VSEARCH."""
    if k <= 0:
        raise InvalidArgumentError("k must be greater than 0")
    name = _name(namespace, "namespace")
    words = [b"VSEARCH", name, str(k).encode(), b"FP32", packed(query)]
    return [[b"VINFO", name], [*words, b"WITHVECTORS"] if with_vectors else words]


def packed(vector: Sequence[float]) -> bytes:
    """*vector* as little-endian 32-bit floats."""
    if len(vector) == 0:
        raise InvalidArgumentError("a vector has at least one dimension")
    try:
        return struct.pack(f"<{len(vector)}f", *vector)
    except (struct.error, OverflowError) as error:
        raise InvalidArgumentError(f"not a vector of 32-bit floats: {error}") from None


def vector_of(reply: list[bytes] | None) -> list[float] | None:
    """VEMB's reply."""
    return [float(each) for each in reply] if reply is not None else None


def matches(information: list[Any], hits: list[bytes], with_vectors: bool) -> list[VectorMatch]:
    """What VINFO and VSEARCH have replied, with the distances of NoriKV."""
    facts = dict(zip(information[::2], information[1::2], strict=True))
    metric = facts[b"metric"].upper()
    step = 3 if with_vectors else 2
    return [
        VectorMatch(
            hits[at].decode(),
            _distance(metric, float(hits[at + 1])),
            list(_unpacked(hits[at + 2])) if with_vectors else None,
        )
        for at in range(0, len(hits), step)
    ]


def _distance(metric: bytes, distance: float) -> float:
    """The server's L2 is squared, and its IP is 1 - dot; NoriKV's are neither."""
    if metric == b"L2":
        return math.sqrt(max(distance, 0.0))
    if metric == b"IP":
        return distance - 1.0
    return distance


def _unpacked(blob: bytes) -> tuple[float, ...]:
    return struct.unpack(f"<{len(blob) // 4}f", blob)


def _name(name: str, what: str) -> bytes:
    if not name:
        raise InvalidArgumentError(f"{what} cannot be empty")
    return name.encode()


@contextmanager
def translated(namespace: str) -> Iterator[None]:
    """The errors of vectors for what the server says in words."""
    try:
        yield
    except InvalidArgumentError as error:
        text = f"{namespace}: {error}"
        if "dimension mismatch" in text:
            raise VectorDimensionMismatchError(text) from error
        if "with another definition" in text:
            raise VectorIndexAlreadyExistsError(text) from error
        raise
