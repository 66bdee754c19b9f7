"""An index process that keeps vectors in a dict and compares with each; told how to misbehave.

``python fake_index.py FD [fault …]``. Faults: ``stop-at-search`` (SIGSTOP itself at the first
search), ``die-at-search``, ``die-at-attach``, ``deaf`` (reads nothing after HELLO), ``garbage``
(answers the first search with bytes that are no message), ``stale`` (never forgets a label),
``checkpoint=WANTED`` (claims a checkpoint up to that label, with no element), ``fail`` (fails
every search).
"""

from __future__ import annotations

import importlib.util
import math
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

_PATH = Path(__file__).resolve().parents[3] / "modules" / "vector" / "indexer" / "messages.py"


def _load_messages() -> Any:
    spec = importlib.util.spec_from_file_location("messages", _PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["messages"] = module
    spec.loader.exec_module(module)
    return module


m = _load_messages()


class FakeIndex:
    def __init__(self, sock: socket.socket, faults: list[str]) -> None:
        self.sock = sock
        self.faults = set(faults)
        self.wanted = next((int(f.split("=")[1]) for f in faults if f.startswith("check")), 1)
        #: By handle: dimensions, label to (id, vector), label to attributes.
        self.sets: dict[int, tuple[int, dict[int, Any], dict[int, bytes]]] = {}

    def send(self, message: Any) -> None:
        self.sock.sendall(m.encode(message))

    def serve(self) -> None:
        self.send(m.Hello(os.getpid(), []))
        while "deaf" in self.faults:
            time.sleep(60)
        reader = m.Reader(m.REQUESTS)
        while data := self.sock.recv(1 << 18):
            for message in reader.feed(data):
                getattr(self, type(message).__name__.lower())(message)

    def attach(self, message: Any) -> None:
        if "die-at-attach" in self.faults and not message.ignore_checkpoint:
            os._exit(3)
        self.sets[message.handle] = (message.definition.dimensions, {}, {})
        wanted = 1 if message.ignore_checkpoint else self.wanted
        self.send(m.Attached(message.handle, wanted, 0, (0, 0), wanted > 1, b""))

    def add(self, message: Any) -> None:
        dimensions, elements, _ = self.sets[message.handle]
        matrix = np.frombuffer(message.vectors, "<f4").reshape(-1, dimensions)
        for label, ident, vector in zip(message.labels, message.ids, matrix, strict=True):
            assert label not in elements, f"label {label} is there"
            elements[label] = (ident, vector)
        self.progress(message.handle)

    def remove(self, message: Any) -> None:
        for label in message.labels:
            if "stale" not in self.faults:
                self.sets[message.handle][1].pop(label, None)
        self.progress(message.handle)

    def progress(self, handle: int) -> None:
        alive = len(self.sets[handle][1])
        self.send(m.Progress(handle, alive, 0, alive, 0, 0, 0, 0, 1000.0))

    def attributes(self, message: Any) -> None:
        texts = self.sets[message.handle][2]
        texts.update(zip(message.labels, message.texts, strict=True))

    def live(self, message: Any) -> None:
        elements = self.sets[message.handle][1]
        if any(label not in elements for label in message.labels):
            del self.sets[message.handle]
            self.wanted = 1
            self.send(m.Lost(message.handle, b"a label is missing"))

    def search(self, message: Any) -> None:
        if "stop-at-search" in self.faults:
            self.faults.discard("stop-at-search")
            os.kill(os.getpid(), signal.SIGSTOP)
        if "die-at-search" in self.faults:
            os._exit(4)
        if "garbage" in self.faults:
            self.sock.sendall(b"\xff" * 32)
            return
        if "fail" in self.faults:
            self.send(m.Failed(message.request, b"it will not"))
            return
        query = np.frombuffer(message.vector, "<f4")
        _, elements, texts = self.sets[message.handle]
        found = sorted(
            (float(((vector - query) ** 2).sum()), label, ident)
            for label, (ident, vector) in elements.items()
            if not message.filter or texts.get(label) == message.filter
        )
        if not math.isnan(message.radius):
            found = [each for each in found if each[0] <= message.radius]
        best = found[: message.k]
        self.send(
            m.Result(
                message.request,
                [each[0] for each in best],
                [each[1] for each in best],
                [each[2] for each in best],
            )
        )

    def sample(self, message: Any) -> None:
        elements = self.sets[message.handle][1]
        labels = [label for label in message.labels if label in elements]
        vectors = b"".join(elements[label][1].tobytes() for label in labels)
        ids = [elements[label][0] for label in labels]
        self.send(m.Vectors(message.request, labels, ids, vectors))

    def checkpoint(self, message: Any) -> None:
        self.send(m.Checkpointed(message.handle, message.next_label, 1000, 0.001, b""))

    def drop(self, message: Any) -> None:
        pass

    def detach(self, message: Any) -> None:
        self.sets.pop(message.handle, None)

    def ping(self, message: Any) -> None:
        self.send(m.Pong(message.number))


if __name__ == "__main__":
    FakeIndex(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:]).serve()
