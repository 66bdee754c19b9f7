"""The measurements: servers started for it, redis-benchmark or the generator run against them.

Only one of the two servers is up at any time.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.rows import Figures
from tests.support.server import ROOT, ServerProcess
from tests.support.tools import peer_binary, redis_benchmark

#: Clients, keys and bytes of a value in the throughput rows.
CLIENTS, KEYS, VALUE = 50, 100_000, 64

#: Bytes of a value in the rows about loading.
LOADED_VALUE = 200

#: How often a start is timed.
STARTS = 3


class MeasureError(Exception):
    """A benchmark did not run; the message says why."""


@dataclass
class Plan:
    """How much to measure."""

    #: Requests of a throughput row are multiplied by this.
    scale: float
    #: Keys of the rows about loading.
    keys: int
    #: Seconds of the rows that run for a time.
    seconds: float
    wanted: frozenset[str]
    #: Whether throughput is counted per second of CPU time of the server's main thread.
    by_cpu: bool
    say: Callable[[str], None]


def start_server(peer: bool, durable: bool) -> ServerProcess:
    """One of the two, with an empty directory."""
    if not peer:
        return ServerProcess(
            command=[sys.executable, "-m", "norikv_resp"],
            appendfsync="always" if durable else "no",
            loglevel="warning",
        )
    binary = peer_binary()
    assert binary is not None
    options = (
        ["--appendonly", "yes", "--appendfsync", "always"] if durable else ["--appendonly", "no"]
    )
    return ServerProcess("--save", "", *options, command=[binary])


@contextmanager
def running(peer: bool, durable: bool) -> Iterator[ServerProcess]:
    """A server that holds the keys of the throughput rows."""
    with start_server(peer, durable) as server:
        generate(server, "load", keys=KEYS, size=VALUE, pipeline=16)
        if not peer:
            time.sleep(1.5)  # what the loading has left to do is not the next row's
        yield server


def generate(server: ServerProcess, mode: str, **options: object) -> dict[str, Any]:
    """Run the generator; what it found."""
    command = [sys.executable, "-m", "tests.bench.generator", mode, "--port", str(server.port)]
    for name, value in options.items():
        command += [f"--{name}", str(value)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3600)
    if done.returncode:
        raise MeasureError(f"{' '.join(command[2:])}: {done.stderr.strip()}\n{server.log_tail(5)}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def throughput(
    plan: Plan, server: ServerProcess, command: str, pipeline: int, requests: int
) -> float:
    """GETs or SETs of random keys in a second, after a tenth of them to warm up."""
    requests = int(requests * plan.scale)
    requests_per_second(server, command, pipeline, requests // 10)
    before = main_thread_seconds(server)
    rate = requests_per_second(server, command, pipeline, requests)
    return requests / (main_thread_seconds(server) - before) if plan.by_cpu else rate


def main_thread_seconds(server: ServerProcess) -> float:
    """CPU time that the thread which runs commands has used so far."""
    schedstat = Path(f"/proc/{server.pid}/task/{server.pid}/schedstat").read_text()
    return int(schedstat.split()[0]) / 1e9


def requests_per_second(server: ServerProcess, command: str, pipeline: int, requests: int) -> float:
    """Throughput of GET or SET of random keys, by the clock on the wall."""
    binary = redis_benchmark()
    if binary is None:
        options = {"keys": KEYS, "size": VALUE, "clients": CLIENTS}
        result = generate(
            server, "drive", command=command, pipeline=pipeline, requests=requests, **options
        )
        return float(result["rate"])
    arguments = [binary, *_arguments(server, command, pipeline), "-n", str(requests), "--csv"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=600)
    for line in csv.reader(done.stdout.splitlines()):
        if len(line) > 1 and line[0].lower() == command:
            return float(line[1])
    raise MeasureError(f"redis-benchmark: {done.stdout[-300:]} {done.stderr[-300:]}")


def _arguments(server: ServerProcess, command: str, pipeline: int) -> list[str]:
    options = {"-p": server.port, "-t": command, "-c": CLIENTS, "-d": VALUE, "-r": KEYS}
    options["-P"] = pipeline
    return [str(word) for pair in options.items() for word in pair]


# ---- the groups of rows


def relaxed(plan: Plan, peer: bool) -> dict[str, float]:
    """Throughput without syncing."""
    found = {}
    with running(peer, durable=False) as server:
        for name, command, pipeline, requests in (
            ("get", "get", 1, 200_000),
            ("set", "set", 1, 200_000),
            ("get-16", "get", 16, 1_000_000),
            ("set-16", "set", 16, 1_000_000),
        ):
            if name in plan.wanted:
                found[name] = throughput(plan, server, command, pipeline, requests)
    return found


def durable(plan: Plan, peer: bool) -> dict[str, float]:
    """Everything with a sync before the reply."""
    found = {}
    with running(peer, durable=True) as server:
        for name, pipeline, requests in (
            ("set-always", 1, 100_000),
            ("set-always-16", 16, 600_000),
        ):
            if name in plan.wanted:
                found[name] = throughput(plan, server, "set", pipeline, requests)
        for name, dialect, stay in (
            ("cas", "watch", 0),
            ("cas-stay", "watch", 1),
            ("cas-library", "watch-library", 0),
        ):
            if name in plan.wanted:
                options = {"keys": 50, "clients": CLIENTS, "seconds": plan.seconds, "stay": stay}
                result = generate(server, "cas", command=dialect if peer else "cas", **options)
                found[name] = result["rate"]
        if "get-p99" in plan.wanted:
            with writers(server):
                found["get-p99"] = generate(server, "probe", keys=KEYS, seconds=plan.seconds)["p99"]
    return found


@contextmanager
def writers(server: ServerProcess) -> Iterator[None]:
    """50 clients that SET until the block ends."""
    binary = redis_benchmark()
    if binary is None:
        command = [sys.executable, "-m", "tests.bench.generator", "drive"]
        command += ["--port", str(server.port), "--clients", str(CLIENTS), "--keys", str(KEYS)]
        command += ["--size", str(VALUE), "--requests", "100000000"]
    else:
        command = [binary, *_arguments(server, "set", 1), "-n", "100000000", "-q"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        time.sleep(0.5)
        yield
        if process.poll() is not None:
            raise MeasureError("the writers ended early")
    finally:
        process.kill()
        process.wait()


def loading(plan: Plan, results: dict[str, Figures]) -> None:
    """Load many keys into both, and look at this server's pauses, memory and starts."""
    with start_server(peer=True, durable=False) as server:
        peer = generate(server, "load", keys=plan.keys, size=LOADED_VALUE, pipeline=16)
        peer_memory = server.anonymous_memory() / 1e6
    with start_server(peer=False, durable=False) as server:
        with HighWater(server) as memory:
            result = generate(server, "load", keys=plan.keys, size=LOADED_VALUE, pipeline=16)
        results["load-p99"].add(result["p99"] * 1e3, peer["p99"] * 1e3)
        results["load-longest"].add(result["longest"] * 1e3, peer["longest"] * 1e3)
        results["load-rate"].add(result["rate"], peer["rate"])
        results["memory-peak"].add(memory.bytes / 1e6, peer_memory)
        tenths = zip(result["p99_of_tenths"], result["longest_of_tenths"], strict=True)
        plan.say("  tenths: " + ", ".join(f"{p * 1e3:.1f} ({m * 1e3:.0f})" for p, m in tenths))
        # Reads fill the cache; then everything settles.
        reads = min(plan.keys, 300_000)
        generate(
            server,
            "drive",
            command="get",
            keys=plan.keys,
            size=LOADED_VALUE,
            pipeline=16,
            requests=reads,
        )
        time.sleep(3)
        results["memory"].add(server.anonymous_memory() / 1e6, peer_memory)
        for _ in range(STARTS):
            generate(server, "load", keys=min(plan.keys, 300_000), size=LOADED_VALUE, pipeline=16)
            server.kill9()
            results["start-killed"].add(timed_start(server), None)
        for _ in range(STARTS):
            server.terminate()
            results["start-clean"].add(timed_start(server), None)


def timed_start(server: ServerProcess) -> float:
    """Seconds from the exec to the first PONG, the interpreter's own start included."""
    began = time.perf_counter()
    server.start(wait=False)
    server.wait_ready()
    return time.perf_counter() - began


class HighWater:
    """The most anonymous memory that a server had during the block."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(0.25):
            self.bytes = max(self.bytes, self.server.anonymous_memory())

    def __enter__(self) -> HighWater:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.bytes = max(self.bytes, self.server.anonymous_memory())
