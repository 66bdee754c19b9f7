"""Vector sets in tests: a client, what should be there, and the index process of a server."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.resp import Argument, Wire
from tests.support.server import ServerProcess

Vector = npt.NDArray[np.float32]

DIMENSIONS = 8

#: Options under which a set of a few hundred elements is the index process's business.
LARGE = {"vector_small_set": 20, "vector_search_deadline": 500}


def noise(rng: np.random.Generator, count: int, dimensions: int = DIMENSIONS) -> Vector:
    """Vectors of which no two are near each other."""
    return rng.standard_normal((count, dimensions)).astype("<f4")


def fill(wire: Wire, key: str, names: list[bytes], vectors: Vector, at_once: int = 500) -> None:
    """Add many elements, to a new set of full precision or to one that is there."""
    wire.ok("VCREATE", key, "DIM", vectors.shape[1])
    for start in range(0, len(names), at_once):
        words: list[Argument] = []
        for name, vector in zip(
            names[start : start + at_once], vectors[start : start + at_once], strict=True
        ):
            words += (name, vector.tobytes())
        wire.ok("VMADD", key, len(words) // 2, *words)


def nearest(wire: Wire, key: str, vector: Vector, count: int = 1, *more: Argument) -> list[bytes]:
    """The ids that VSEARCH finds."""
    found = wire.ok("VSEARCH", key, count, "FP32", vector.tobytes(), *more)
    return list(found[::2])


class Model:
    """What a set should hold, as NumPy says what is near."""

    def __init__(self) -> None:
        self.vectors: dict[bytes, Vector] = {}
        self.attributes: dict[bytes, dict[str, Any]] = {}

    def nearest(self, vector: Vector, count: int, wanted: str | None = None) -> list[bytes]:
        """The ids of the nearest by cosine, among those whose colour is *wanted*."""
        names = [
            name
            for name in self.vectors
            if wanted is None or self.attributes.get(name, {}).get("colour") == wanted
        ]
        if not names:
            return []
        matrix = np.stack([self.vectors[name] for name in names]).astype(np.float64)
        lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector)
        order = np.argsort(1 - matrix @ vector.astype(np.float64) / lengths, kind="stable")
        return [names[place] for place in order[:count]]

    def check(self, wire: Wire, key: str, vector: Vector, colour: str | None = None) -> None:
        """A search, exact and with the index, says what NumPy says."""
        expected = self.nearest(vector, 5, colour)
        wanted: tuple[Argument, ...] = ("FILTER", f'.colour == "{colour}"') if colour else ()
        given = ("FP32", vector.tobytes(), "COUNT", 5, *wanted)
        assert wire.ok("VSIM", key, *given, "TRUTH") == expected
        found = nearest(wire, key, vector, 5, *wanted)
        assert len(found) == len(expected), (found, expected)
        assert found[:1] == expected[:1]
        assert all(name in self.vectors for name in found)

    def set_colour(self, wire: Wire, key: str, name: bytes, colour: str) -> None:
        self.attributes[name] = {"colour": colour}
        assert wire.ok("VSETATTR", key, name, json.dumps(self.attributes[name])) == 1

    def add(self, wire: Wire, key: str, name: bytes, vector: Vector) -> None:
        is_new = name not in self.vectors
        assert wire.ok("VADD", key, "FP32", vector.tobytes(), name) == is_new
        self.vectors[name] = vector

    def remove(self, wire: Wire, key: str, name: bytes) -> None:
        assert wire.ok("VREM", key, name) == 1
        del self.vectors[name]
        self.attributes.pop(name, None)


# ---- the index process


def figures(server: ServerProcess) -> dict[str, Any]:
    """INFO vectors."""
    text = server.ask("INFO", "vectors").decode()
    found: dict[str, Any] = {}
    for line in text.splitlines():
        name, separator, value = line.partition(":")
        if separator:
            found[name] = value if name == "index_process" else float(value)
    return found


def wait_for(
    server: ServerProcess, condition: Callable[[dict[str, Any]], bool], seconds: float = 30.0
) -> dict[str, Any]:
    """Until INFO vectors fulfils a condition."""
    deadline = time.monotonic() + seconds
    while not condition(found := figures(server)):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def served(server: ServerProcess, sets: int = 1) -> dict[str, Any]:
    """Until the index process serves so many sets."""
    return wait_for(
        server, lambda f: f["index_process"] == "running" and f["vector_sets_served"] >= sets
    )


def graphed(server: ServerProcess) -> dict[str, Any]:
    """Until every vector is in a graph."""
    return wait_for(
        server, lambda f: f["vector_sets_served"] == f["vector_sets"] and not f["vectors_waiting"]
    )


def index_pid(server: ServerProcess) -> int:
    """The number of the index process, 0 for none."""
    return int(figures(server)["index_process_pid"])


def hit_process(server: ServerProcess, signum: int = signal.SIGKILL) -> int:
    """Send the index process a signal; the number of the process."""
    pid = index_pid(server)
    if pid:
        os.kill(pid, signum)
    return pid


def children(server: ServerProcess) -> list[int]:
    """The server's child processes, dead ones included that nobody has collected."""
    path = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    return [int(each) for each in path.read_text().split()]


def index_files(server: ServerProcess, kind: str = "*") -> list[str]:
    """Names of the files of the index process."""
    return sorted(path.name for path in (server.data / "index").glob(f"*.{kind}"))
