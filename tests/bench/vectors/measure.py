"""The measurements: a server and its index process, USearch in process, clients beside them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.measure import MeasureError, generate, start_server
from tests.bench.rows import Figures
from tests.bench.vectors.data import DIMENSIONS, EXTRA, FILTERS, Data, K
from tests.bench.vectors.rows import BY_NAME
from tests.support.resp import Wire
from tests.support.server import ROOT, ServerProcess
from tests.support.tools import peer_binary

KEY = "bench"

#: Keys that GET reads while others search.
STRINGS = 100_000

#: Vectors of one VMADD.
BATCH = 500

#: Efforts of the curves of recall and searches a second.
EFS = (32, 48, 64, 96, 128, 192, 256)

#: How long the index may take to catch up, seconds for each vector.
_PATIENCE = 1 / 100


@dataclass
class Plan:
    """How much to measure."""

    count: int
    rounds: int
    #: Seconds of a measurement that runs for a time.
    seconds: float
    wanted: frozenset[str]
    say: Callable[[str], None]

    def wants(self, *groups: str) -> bool:
        """Whether any row of these groups is asked for."""
        return any(BY_NAME[name].group in groups for name in self.wanted)


def run_json(*words: object) -> dict[str, Any]:
    """Run a module that prints one line of JSON."""
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=7200)
    if done.returncode:
        raise MeasureError(f"{' '.join(command[2:])}: {done.stderr.strip()}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def options(**given: object) -> list[str]:
    """As words of a command line."""
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def client(server: ServerProcess, mode: str, **given: object) -> dict[str, Any]:
    """Run the client; what it found."""
    try:
        return run_json("tests.bench.vectors.client", mode, *options(port=server.port, **given))
    except MeasureError as error:
        raise MeasureError(f"{error}\n{server.log_tail(10)}") from None


def reference(mode: str, index: Path, **given: object) -> dict[str, Any]:
    """Run USearch in process; what it found."""
    return run_json("tests.bench.vectors.reference", mode, *options(index=index, **given))


# ---- what the server says of its index


def state(wire: Wire) -> dict[str, str]:
    """INFO's section about vectors."""
    text = wire.ok("INFO", "vectors").decode()
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


def graphed(wire: Wire) -> int:
    """How many vectors are in graphs, if none waits to be; else 0."""
    found = state(wire)
    if int(found["vectors_waiting"]) or int(found["vectors_fresh"]):
        return 0
    return int(found["vectors_graphed"])


def wait_until_graphed(server: ServerProcess, count: int) -> None:
    """Return when so many vectors are in graphs and no more are to come."""
    deadline = time.monotonic() + 60 + count * _PATIENCE
    with server.wire(timeout=60) as wire:
        while graphed(wire) < count:
            if time.monotonic() > deadline:
                raise MeasureError(f"the index does not catch up: {state(wire)}")
            time.sleep(0.02)


def index_memory(server: ServerProcess) -> int:
    """Anonymous memory of the index process, bytes."""
    with server.wire() as wire:
        pid = state(wire)["index_process_pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^RssAnon:\s+(\d+) kB", status, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


# ---- the rows


class Bench:
    """The rows of one size, measured in an order in which each finds what it needs."""

    def __init__(self, plan: Plan, data: Data, directory: Path) -> None:
        self.plan = plan
        self.data = data
        self.index = directory / f"reference-{data.count}.usearch"
        self.results = {name: Figures() for name in plan.wanted}
        #: Recall and searches a second by curve, for the plot.
        self.curves: dict[str, list[tuple[float, float]]] = {}
        self.built: dict[str, float] = {}
        #: VADDs a second.
        self.add_rate = 0.0

    def add(self, name: str, ours: float, other: float | None = None) -> None:
        """One figure of a row, if the row is wanted."""
        if name in self.results:
            self.results[name].add(ours, other)
            value = ours / other if other else ours
            self.plan.say(f"  {name}: {value:.3f}")

    def run(self, plot: bool) -> None:
        """Measure all rows that are wanted."""
        plan = self.plan
        plan.say(f"{self.data.count:,} vectors: USearch in process, one thread adds")
        self.built = reference("build", self.index, vectors=self.data.vectors)
        plan.say(f"  {self.built['rate']:.0f} adds a second")
        with start_server(peer=False, durable=True) as server:
            self.load(server)
            if plan.wants("search"):
                self.search(server)
            if plot:
                self.curve(server)
            if plan.wants("filter"):
                self.filter(server)
            if plan.wants("mixed"):
                self.mixed(server)
            if plan.wants("restart"):
                self.restart(server)
            if plan.wants("add", "redis"):
                self.extra(server)
        if plan.wants("redis"):
            self.redis()

    def load(self, server: ServerProcess) -> None:
        """VMADD of all vectors."""
        # A set that is just large enough for the index process, so that it runs already.
        client(server, "add", key="first", vectors=self.data.vectors, count=2_000, batch=BATCH)
        wait_until_graphed(server, 2_000)
        before = index_memory(server)
        began = time.perf_counter()
        client(server, "add", key=KEY, vectors=self.data.vectors, count=self.data.count,
               batch=BATCH, window=4)  # fmt: skip
        answered = time.perf_counter() - began
        wait_until_graphed(server, self.data.count + 2_000)
        took = time.perf_counter() - began
        self.plan.say(f"loaded in {took:.1f} s, answered after {answered:.1f} s")
        self.add("vmadd", self.data.count / took, self.built["rate"])
        raw = 2 * DIMENSIONS * self.data.count
        self.add("memory", index_memory(server) - before, raw)
        with server.wire() as wire:
            wire.ok("DEL", "first")

    def _search(self, server: ServerProcess, connections: int, **given: object) -> dict[str, Any]:
        given.setdefault("seconds", self.plan.seconds)
        given.setdefault("truth", self.data.truths[""])
        return client(
            server, "search", key=KEY, queries=self.data.queries, connections=connections, **given
        )

    def _reference_search(self, ef: int) -> dict[str, Any]:
        return reference(
            "search",
            self.index,
            queries=self.data.queries,
            truth=self.data.truths[""],
            ef=ef,
            seconds=self.plan.seconds,
        )

    def search(self, server: ServerProcess) -> None:
        """Searches at the default effort beside the same searches in process."""
        for number in range(self.plan.rounds):
            self.plan.say(f"searches, round {number + 1} of {self.plan.rounds}")
            many = self._search(server, 16)
            other = self._reference_search(128)
            one = self._search(server, 1, least=1_000)
            self.add("recall", one["recall"])
            self.add("search-16", many["rate"], other["batched"])
            self.add("search-1", one["rate"], other["single"])

    def curve(self, server: ServerProcess) -> None:
        """Recall and searches a second for several efforts: the best of the rounds."""
        for ef in EFS:
            self.plan.say(f"curve: EF {ef}")
            best: dict[str, tuple[float, float]] = {}
            for _ in range(self.plan.rounds):
                other = self._reference_search(ef)
                found = [
                    (f"USearch in process, {name}", (other["recall"], other[name]))
                    for name in ("batched", "single")
                ]
                for name, connections in (("16 connections", 16), ("1 connection", 1)):
                    ours = self._search(server, connections, ef=ef, least=1_000)
                    found.append((f"VSEARCH, {name}", (ours["recall"], ours["rate"])))
                for name, point in found:
                    best[name] = max(point, best.get(name, point), key=lambda each: each[1])
            for name, point in best.items():
                self.curves.setdefault(name, []).append(point)

    def filter(self, server: ServerProcess) -> None:
        """Filtered searches beside unfiltered ones."""
        client(server, "attributes", key=KEY, count=self.data.count, window=500)
        for name, text in FILTERS.items():
            # The first one makes the columns that the filter needs.
            self._search(server, 1, filter=text, seconds=0.1)
            for number in range(self.plan.rounds):
                self.plan.say(f"filter of {name} %, round {number + 1} of {self.plan.rounds}")
                found = self._search(
                    server, 1, filter=text, least=1_000, truth=self.data.truths[name]
                )
                self.add(f"filter-{name}", found["recall"])
                plain = self._search(server, 1)
                self.add(f"filter-{name}-time", found["mean"], plain["mean"])
                found = self._search(server, 16, filter=text)
                plain = self._search(server, 16)
                self.add(f"filter-{name}-time-16", 1 / found["rate"], 1 / plain["rate"])

    def mixed(self, server: ServerProcess) -> None:
        """GET beside clients that search and add."""
        generate(server, "load", keys=STRINGS, size=64, pipeline=16)
        for number in range(self.plan.rounds):
            self.plan.say(f"GET beside others, round {number + 1} of {self.plan.rounds}")
            time.sleep(2.0)
            idle = self._probe(server)
            searching = options(
                port=server.port, key=KEY, queries=self.data.queries, connections=8, seconds=600
            )
            adding = options(
                port=server.port,
                key=KEY,
                vectors=self.data.vectors,
                first=self.data.count,
                count=EXTRA,
                window=1,
            )
            with (
                background("tests.bench.vectors.client", "search", *searching),
                background("tests.bench.vectors.client", "add", *adding),
            ):
                busy = self._probe(server)
            self.add("get-p99-idle", busy, idle)
            self.add("get-p99", busy, self._peer_busy())

    def _probe(self, server: ServerProcess) -> float:
        time.sleep(1.0)
        p99: float = generate(server, "probe", keys=STRINGS, seconds=self.plan.seconds)["p99"]
        return p99

    def _peer_busy(self) -> float:
        """Redis's p99 of GET: with its own vector sets if it has them.

        Otherwise beside a process that searches with as many threads as the index process has,
        and a client that SETs values as long as vectors, durably.
        """
        with start_server(peer=True, durable=True) as peer:
            generate(peer, "load", keys=STRINGS, size=64, pipeline=16)
            if has_vector_sets():
                self._load_peer(peer)
                searching = options(
                    port=peer.port, key=KEY, queries=self.data.queries, connections=8,
                    seconds=600, dialect="vsim",
                )  # fmt: skip
                adding = options(
                    port=peer.port, key=KEY, vectors=self.data.vectors, first=self.data.count,
                    count=EXTRA, window=1, dialect="vsim",
                )  # fmt: skip
                with (
                    background("tests.bench.vectors.client", "search", *searching),
                    background("tests.bench.vectors.client", "add", *adding),
                ):
                    return self._probe(peer)
            burning = options(index=self.index, queries=self.data.queries)
            writing = options(
                port=peer.port, command="set", clients=1, keys=STRINGS, size=4 * DIMENSIONS,
                requests=100_000_000,
            )  # fmt: skip
            with (
                background("tests.bench.vectors.reference", "burn", *burning),
                background("tests.bench.generator", "drive", *writing),
            ):
                time.sleep(1.0)
                return self._probe(peer)

    def restart(self, server: ServerProcess) -> None:
        """From the exec to the first search that the graph has answered, after a clean stop."""
        query = np.load(self.data.queries)[0].tobytes()
        for _ in range(self.plan.rounds):
            server.terminate()
            began = time.perf_counter()
            server.start(wait=False)
            server.wait_ready()
            with server.wire(timeout=60) as wire:
                while not int(state(wire)["vector_searches_index"]):
                    if time.perf_counter() - began > 60 + self.data.count * _PATIENCE:
                        raise MeasureError(f"no search uses the graph: {state(wire)}")
                    wire.ok("VSEARCH", KEY, K, "FP32", query)
            self.add("restart", time.perf_counter() - began)

    def extra(self, server: ServerProcess) -> None:
        """EXTRA more vectors by VADD in a pipeline, until they are indexed."""
        with server.wire(timeout=600) as wire:
            ids = [str(row) for row in range(self.data.count, self.data.count + EXTRA)]
            for start in range(0, EXTRA, 1_000):
                wire.pipeline(("VREM", KEY, ident) for ident in ids[start : start + 1_000])
        wait_until_graphed(server, self.data.count)
        began = time.perf_counter()
        client(server, "add", key=KEY, vectors=self.data.vectors, first=self.data.count,
               count=EXTRA)  # fmt: skip
        wait_until_graphed(server, self.data.count + EXTRA)
        self.add_rate = EXTRA / (time.perf_counter() - began)
        self.add("vadd", self.add_rate, self.built["extra-rate"])

    # -- Redis's own vector sets

    def _load_peer(self, peer: ServerProcess) -> float:
        began = time.perf_counter()
        client(peer, "add", key=KEY, vectors=self.data.vectors, count=self.data.count,
               dialect="vsim")  # fmt: skip
        return time.perf_counter() - began

    def redis(self) -> None:
        """Side by side with Redis's vector sets, at the recall that both have by default."""
        if not has_vector_sets():
            self.plan.say("no redis-server with vector sets (8.0 or newer): rows left out")
            return
        with (
            start_server(peer=False, durable=True) as server,
            start_server(peer=True, durable=True) as peer,
        ):
            self.load(server)
            rate = self.data.count / self._load_peer(peer)
            self.add("redis-add", self.add_rate, rate)
            for connections in (1, 8):
                ours = self._search(server, connections)
                theirs = self._search(peer, connections, dialect="vsim")
                self.plan.say(f"  recall {ours['recall']:.3f} and {theirs['recall']:.3f}")
                self.add(f"redis-search-{connections}", ours["rate"], theirs["rate"])


@contextmanager
def background(*words: object) -> Iterator[None]:
    """A process that runs until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
        if process.poll() is not None:
            raise MeasureError(f"{words[0]} {words[1]} ended early")
    finally:
        process.kill()
        process.wait()


def has_vector_sets() -> bool:
    """Whether the peer is a Redis that has them."""
    binary = peer_binary()
    if binary is None:
        return False
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=30)
    found = re.search(r"Redis server v=(\d+)", done.stdout)
    return found is not None and int(found[1]) >= 8
