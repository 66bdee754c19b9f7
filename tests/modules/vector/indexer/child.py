"""A real index process at the other end of a socket, and what it should answer."""

from __future__ import annotations

import math
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from norikv_resp.vector_rows import COSINE, HNSW, L2
from tests.modules import part

messages = part("vector.indexer.messages")
_command = part("vector.indexer").command
filters = part("vector.filters")

Array = npt.NDArray[Any]
_M = TypeVar("_M")

HANDLE, CID = 1, 7


def definition(
    dimensions: int = 8, metric: int = COSINE, kind: int = HNSW, quantisation: int = 1, ef: int = 0
) -> Any:
    """A definition with the usual parameters of the graph."""
    return messages.Definition(dimensions, metric, kind, quantisation, 16, 64, ef)


class Child:
    """An index process on a directory. What it says is kept until somebody asks for its kind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        here, there = socket.socketpair()
        self.process = subprocess.Popen(
            _command(there.fileno(), directory, 2),
            pass_fds=[there.fileno()],
            stderr=subprocess.PIPE,
        )
        there.close()
        self.socket = here
        here.settimeout(30)
        self._reader = messages.Reader(messages.ANSWERS)
        self.heard: list[Any] = []
        self._requests = 0
        self.hello = self.get(messages.Hello)

    # -- conversation

    def send(self, *sent: Any) -> None:
        self.socket.sendall(b"".join(map(messages.encode, sent)))

    def get(self, *kinds: Any, where: Any = lambda message: True) -> Any:
        """The first message of these kinds; others stay for later."""
        while True:
            for number, message in enumerate(self.heard):
                if isinstance(message, kinds) and where(message):
                    return self.heard.pop(number)
            data = self.socket.recv(1 << 20)
            if not data:
                raise EOFError("the index process has ended")
            self.heard += self._reader.feed(data)

    def request(self) -> int:
        self._requests += 1
        return self._requests

    def attach(self, wanted: Any, handle: int = HANDLE, cid: int = CID, **more: Any) -> Any:
        self.send(messages.Attach(handle, cid, wanted, **more))
        return self.get(messages.Attached, messages.Lost, where=lambda each: each.handle == handle)

    def add(
        self, labels: Sequence[int], vectors: Array, ids: Sequence[bytes] = (), handle: int = HANDLE
    ) -> None:
        names = ids or [b"id:%d" % label for label in labels]
        self.send(messages.Add(handle, labels, names, vectors.astype(np.float32).tobytes()))

    def search(self, vector: Array, k: int = 10, handle: int = HANDLE, **more: Any) -> Any:
        """The RESULT or FAILED of a search."""
        return self.searches([vector], k, handle, **more)[0]

    def searches(
        self, vectors: Iterable[Array], k: int = 10, handle: int = HANDLE, **more: Any
    ) -> list[Any]:
        """Their answers, for searches that are sent at once."""
        asked = [
            messages.Search(
                self.request(), handle, k, np.asarray(vector, np.float32).tobytes(), **more
            )
            for vector in vectors
        ]
        self.send(*asked)
        kinds = (messages.Result, messages.Failed)
        return [self.get(*kinds, where=_answers(each.request)) for each in asked]

    def settle(self, handle: int = HANDLE) -> Any:
        """Wait until nothing is pending and nothing is being rebuilt; the last PROGRESS."""
        self.ping()
        self.heard = [each for each in self.heard if not isinstance(each, messages.Progress)]
        self.send(messages.Remove(handle, []))  # changes nothing, but is answered by PROGRESS
        while True:
            progress = self.get(messages.Progress, where=lambda each: each.handle == handle)
            if not progress.pending and not progress.to_rebuild:
                return progress

    def ping(self) -> None:
        """Wait until everything sent before has been taken."""
        number = self.request()
        self.send(messages.Ping(number))
        self.get(messages.Pong, where=lambda each: each.number == number)

    def checkpoint(self, next_label: int, handle: int = HANDLE, **more: Any) -> Any:
        fields = {"version": (1, 2), "database": 0, "epoch": 131072, "key": b"key"} | more
        self.send(messages.Checkpoint(handle, next_label, **fields))
        return self.get(messages.Checkpointed)

    # -- life and death

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.close()

    def close(self) -> None:
        """Hang up; the status it ends with."""
        self.socket.close()
        self.process.wait(20)
        assert self.process.stderr is not None
        self.process.stderr.close()

    @property
    def resident(self) -> dict[str, int]:
        """Bytes of resident memory, by kind."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        words = [line.split() for line in lines if line.startswith("Rss")]
        return {each[0][3:-1]: int(each[1]) * 1024 for each in words}


def _answers(request: int) -> Any:
    return lambda message: message.request == request


def exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Model:
    """What a set holds, and exact answers in double precision."""

    def __init__(self, wanted: Any) -> None:
        self.definition = wanted
        self.vectors: dict[int, Array] = {}
        self.ids: dict[int, bytes] = {}
        self.attributes: dict[int, bytes] = {}
        self.next_label = 1

    def add(self, vectors: Array, ids: Sequence[bytes] = ()) -> list[int]:
        labels = list(range(self.next_label, self.next_label + len(vectors)))
        self.next_label += len(vectors)
        for n, label in enumerate(labels):
            self.vectors[label] = vectors[n].astype(np.float32)
            self.ids[label] = ids[n] if ids else b"id:%d" % label
        return labels

    def remove(self, labels: Iterable[int]) -> None:
        for label in labels:
            for table in (self.vectors, self.ids, self.attributes):
                table.pop(label, None)

    def distances(self, query: Array) -> tuple[list[int], Array]:
        """Labels, ascending, and their distances."""
        labels = sorted(self.vectors)
        if not labels:
            return [], np.empty(0)
        rows = np.array([self.vectors[label] for label in labels], np.float64)
        wide = query.astype(np.float32).astype(np.float64)
        if self.definition.metric == L2:
            return labels, ((rows - wide) ** 2).sum(axis=1)
        dots = rows @ wide
        if self.definition.metric == COSINE:
            lengths = np.linalg.norm(rows, axis=1) * np.linalg.norm(wide)
            dots = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths != 0)
        return labels, 1 - dots

    def search(
        self, query: Array, k: int, text: bytes = b"", radius: float = math.inf
    ) -> list[tuple[float, int]]:
        """The hits, nearest first, equal ones by label."""
        labels, distances = self.distances(query)
        hits = sorted(zip(distances.tolist(), labels, strict=True))
        if text:
            chosen = filters.parse(text)
            hits = [each for each in hits if chosen.matches(self.attributes.get(each[1]))]
        return [each for each in hits if each[0] <= radius][:k]

    def check(self, result: Any, expected: Sequence[tuple[float, int]]) -> None:
        """A result is exact: the same distances, and the labels but for rounding."""
        assert isinstance(result, messages.Result), result
        assert len(result.labels) == len(expected)
        self.check_hits(result)
        np.testing.assert_allclose(
            result.distances, [each[0] for each in expected], rtol=1e-9, atol=1e-9
        )
        # Equal but for rounding may change places, also with what is just not among them.
        last = expected[-1][0] - 1e-9 if expected else 0.0
        sure = {label for distance, label in expected if distance < last}
        assert sure <= set(result.labels)

    def check_hits(self, result: Any) -> None:
        """Every hit exists, once, with its id."""
        assert len(set(result.labels)) == len(result.labels)
        assert [self.ids[label] for label in result.labels] == list(result.ids)
        assert list(result.distances) == sorted(result.distances)
