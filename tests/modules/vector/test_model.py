"""Random sequences against an exact model, with restarts and kills between."""

from __future__ import annotations

import random
import time
from typing import Any

import numpy as np
import pytest

from tests.conftest import StartServer
from tests.support.effort import patience, scaled, seeded
from tests.support.resp import Wire
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

KEYS = ("a", "b", "c")
NAMES = tuple(b"id%d" % number for number in range(40))
DIMENSIONS = 6

Elements = dict[bytes, tuple[bytes, bytes | None]]


class Driver:
    """Sends random commands and compares each reply, and now and then everything."""

    def __init__(self, server: ServerProcess, rng: random.Random) -> None:
        self.server = server
        self.rng = rng
        self.numbers = np.random.default_rng(rng.randrange(1 << 32))
        self.sets: dict[str, Elements] = {}
        #: What database 1 holds, which commands never look at.
        self.others: dict[str, Elements] = {}
        self.tokens = 0
        self.wire: Wire = server.wire(3, timeout=30.0)

    def vector(self) -> bytes:
        return self.numbers.standard_normal(DIMENSIONS).astype("<f4").tobytes()

    def step(self) -> None:
        step = self.rng.choices(
            (
                self.add,
                self.many,
                self.remove,
                self.attributes,
                self.search,
                self.transaction,
                self.repeat,
                self.rename,
                self.copy,
                self.restore,
                self.swap,
                self.drop,
                self.expire,
                self.flush,
            ),
            (30, 6, 14, 10, 20, 8, 6, 3, 3, 3, 2, 2, 2, 1),
        )[0]
        step(self.rng.choice(KEYS))

    # ---- changes

    def _adding(self, key: str) -> tuple[tuple[Any, ...], bytes, tuple[bytes, bytes | None]]:
        name, vector = self.rng.choice(NAMES), self.vector()
        held = self.sets.get(key, {}).get(name)
        text = b'{"n":%d}' % self.rng.randrange(5) if self.rng.random() < 0.5 else None
        words: tuple[Any, ...] = ("VADD", key, "FP32", vector, name, "NOQUANT")
        if text is not None:
            words += ("SETATTR", text)
        elif held is not None:
            text = held[1]
        return words, name, (vector, text)

    def add(self, key: str) -> None:
        words, name, element = self._adding(key)
        elements = self.sets.setdefault(key, {})
        assert self.wire.ok(*words) == (name not in elements)
        elements[name] = element

    def many(self, key: str) -> None:
        if key not in self.sets:
            return
        elements = self.sets[key]
        names = self.rng.sample(NAMES, 9)
        words: list[Any] = []
        new = 0
        for name in names:
            vector = self.vector()
            words += (name, vector)
            new += name not in elements
            elements[name] = (vector, elements.get(name, (b"", None))[1])
        assert self.wire.ok("VMADD", key, len(names), *words) == new

    def remove(self, key: str) -> None:
        name = self.rng.choice(NAMES)
        elements = self.sets.get(key, {})
        assert self.wire.ok("VREM", key, name) == (name in elements)
        elements.pop(name, None)
        if not elements:
            self.sets.pop(key, None)

    def attributes(self, key: str) -> None:
        name = self.rng.choice(NAMES)
        text = self.rng.choice((b"", b'{"n":1}', b'{"n":2}'))
        elements = self.sets.get(key, {})
        assert self.wire.ok("VSETATTR", key, name, text) == (name in elements)
        if name in elements:
            elements[name] = (elements[name][0], text or None)

    def transaction(self, key: str) -> None:
        """Two additions and a search that sees them; some are abandoned, some fail a CHECK."""
        end = self.rng.choice(("EXEC", "EXEC", "DISCARD", "CHECK"))
        version = self.wire.ok("VER", key) or b"0"
        self.wire.ok("MULTI")
        self.wire.call("CHECK", key, "1-0" if end == "CHECK" else version)
        elements = dict(self.sets.get(key, {}))
        for _ in range(2):
            words, name, (vector, text) = self._adding(key)
            if name in elements and "SETATTR" not in words:
                text = elements[name][1]
            self.wire.call(*words)
            elements[name] = (vector, text)
        self.wire.call("VSEARCH", key, 1, "FP32", vector)
        if end == "EXEC":
            assert self.wire.ok("EXEC")[3][0] == name
            self.sets[key] = elements
        else:
            assert self.wire.ok("EXEC" if end == "CHECK" else end) in (None, b"OK")

    def repeat(self, key: str) -> None:
        """The same addition twice under one token, perhaps with a removal between."""
        words, name, element = self._adding(key)
        self.tokens += 1
        words += ("IDEM", b"token%d" % self.tokens)
        elements = self.sets.setdefault(key, {})
        first = self.wire.ok(*words)
        assert first == (name not in elements)
        elements[name] = element
        if self.rng.random() < 0.5:
            self.wire.ok("VREM", key, name)
            del elements[name]
            if not elements:
                del self.sets[key]
        assert self.wire.ok(*words) == first

    # ---- keys

    def rename(self, key: str) -> None:
        if key in self.sets:
            target = self.rng.choice([other for other in KEYS if other != key])
            self.wire.ok("RENAME", key, target)
            self.sets[target] = self.sets.pop(key)

    def copy(self, key: str) -> None:
        if key in self.sets:
            target = self.rng.choice([other for other in KEYS if other != key])
            assert self.wire.ok("COPY", key, target, "REPLACE") == 1
            self.sets[target] = dict(self.sets[key])

    def restore(self, key: str) -> None:
        if key in self.sets:
            payload = self.wire.ok("DUMP", key)
            target = self.rng.choice(KEYS)
            self.wire.ok("RESTORE", target, 0, payload, "REPLACE")
            self.sets[target] = dict(self.sets[key])

    def swap(self, key: str) -> None:
        self.wire.ok("SWAPDB", 0, 1)
        self.sets, self.others = self.others, self.sets

    def drop(self, key: str) -> None:
        assert self.wire.ok("VDROP", key) == (key in self.sets)
        self.sets.pop(key, None)

    def expire(self, key: str) -> None:
        soon = self.rng.random() < 0.5
        words = ("PEXPIRE", key, 2) if soon else ("PEXPIREAT", key, 1)
        assert self.wire.ok(*words) == (key in self.sets)
        if soon:
            time.sleep(0.005)
        self.sets.pop(key, None)

    def flush(self, key: str) -> None:
        self.wire.ok("FLUSHDB")
        self.sets.clear()

    def restart(self) -> None:
        self.wire.close()
        self.server.restart(clean=self.rng.random() < 0.3)
        self.wire = self.server.wire(3, timeout=30.0)

    # ---- looking

    def nearest(self, key: str, vector: bytes, wanted: bytes | None) -> list[tuple[bytes, float]]:
        asked = np.frombuffer(vector, "<f4").astype(np.float64)
        found = []
        for name, (stored, text) in self.sets.get(key, {}).items():
            if wanted is None or text == wanted:
                one = np.frombuffer(stored, "<f4").astype(np.float64)
                lengths = np.linalg.norm(one) * np.linalg.norm(asked)
                found.append((name, float(1 - one @ asked / lengths)))
        return sorted(found, key=lambda each: each[1])

    def search(self, key: str) -> None:
        vector, count = self.vector(), self.rng.choice((1, 3, 10, 1000))
        wanted = b'{"n":1}' if self.rng.random() < 0.4 else None
        words: tuple[Any, ...] = ("VSEARCH", key, count, "FP32", vector, "WITHATTRIBS")
        if wanted:
            words += ("FILTER", ".n == 1")
        reply = self.wire.ok(*words)
        expected = self.nearest(key, vector, wanted)[:count]
        assert reply[::3] == [name for name, _ in expected]
        assert reply[1::3] == pytest.approx([distance for _, distance in expected], abs=1e-9)
        assert reply[2::3] == [self.sets[key][name][1] for name, _ in expected]

    def check(self) -> None:
        for key in KEYS:
            elements = self.sets.get(key, {})
            assert self.wire.ok("VCARD", key) == len(elements)
            assert self.wire.ok("VRANGE", key, "-", "+") == sorted(elements)
            for name, (vector, text) in elements.items():
                assert self.wire.ok("VGETATTR", key, name) == text
                assert self.wire.ok("VEMB", key, name) == np.frombuffer(vector, "<f4").tolist()
            if elements:
                info = self.wire.ok("VINFO", key)
                texts = sum(text is not None for _, text in elements.values())
                assert info[b"attributes-count"] == texts
            self.search(key)


@pytest.mark.limit(patience(120))
@pytest.mark.parametrize("small_set", [10, 1000])
def test_random_sequences_with_kills(start_server: StartServer, small_set: int) -> None:
    """Served by the index process from ten elements on, or all by the server itself."""
    server = start_server(vector_small_set=small_set, hz=100)
    driver = Driver(server, seeded())
    for _ in range(scaled(3)):
        for _ in range(150):
            driver.step()
        driver.check()
        driver.restart()
        driver.check()
    driver.wire.close()
