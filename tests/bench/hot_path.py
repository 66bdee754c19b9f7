"""Where the microseconds of a GET and a SET go, inside one process and without sockets.

    python -m tests.bench.hot_path [--policy no|always] [--rounds N] [--tree DIR]

Requests are handed to connections whose transports swallow the replies, turn by turn as the loop
would, 50 connections a turn. Totals are CPU time of the thread. The stages are timed in rounds of
their own, with a clock around each; a stage's figure is without those inside it. What the clocks
cost themselves lies between the total and the sum of the stages.

`--tree` measures another checkout: what a change has brought is then one command, run twice.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONNECTIONS = 50
KEYS = 100_000
VALUE = b"x" * 64


class NullTransport:
    """Takes everything, sends nothing."""

    def get_extra_info(self, _name: str, default: Any = None) -> Any:
        return default

    def write(self, data: bytes) -> None:
        pass

    def close(self) -> None:
        pass

    def abort(self) -> None:
        pass

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class Stages:
    """Time by stage: what runs inside another stage is not counted in that one."""

    def __init__(self) -> None:
        self.spent: dict[str, int] = {}
        self._stack: list[int] = []
        self._restore: list[tuple[Any, str, Any]] = []

    def watch(self, owner: Any, name: str, stage: str) -> None:
        """Count the calls of *owner*'s method for *stage*."""
        method = getattr(owner, name)
        spent, stack, clock = self.spent, self._stack, time.perf_counter_ns
        spent.setdefault(stage, 0)

        @functools.wraps(method)
        def timed(*args: Any) -> Any:
            stack.append(0)
            began = clock()
            try:
                return method(*args)
            finally:
                took = clock() - began
                spent[stage] += took - stack.pop()
                if stack:
                    stack[-1] += took

        self._restore.append((owner, name, method))
        setattr(owner, name, timed)

    def end(self) -> None:
        """Take the clocks away."""
        for owner, name, method in reversed(self._restore):
            setattr(owner, name, method)


class Bench:
    """A server without sockets and its connections."""

    def __init__(self, policy: str, loop: asyncio.AbstractEventLoop) -> None:
        from norikv_resp.config import Config
        from norikv_resp.connection import Connection
        from norikv_resp.server import Server

        self.directory = tempfile.mkdtemp(prefix="nkv-")
        arguments = ["--dir", self.directory, "--port", "0", "--appendfsync", policy]
        self.server = Server(Config.from_argv(arguments), loop)
        self.server.open()
        self.connections = []
        for _ in range(CONNECTIONS):
            connection = Connection(self.server)
            connection.connection_made(NullTransport())  # type: ignore[arg-type]
            self.connections.append(connection)
        self.random = random.Random(1)
        self.ticked = 0.0

    async def fill(self) -> None:
        """Every key, in pipelines."""
        form = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%%012d\r\n$%d\r\n%b\r\n" % (len(VALUE), VALUE)
        form *= 16
        await self.turns([form % tuple(range(start, start + 16)) for start in range(0, KEYS, 16)])

    def chunks(self, command: bytes, pipeline: int, count: int) -> list[bytes]:
        """What *count* reads of a socket would give."""
        pick = self.random.randrange
        if command == b"GET":
            form = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n"
        else:
            form = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%%012d\r\n$%d\r\n%b\r\n" % (len(VALUE), VALUE)
        form *= pipeline
        return [form % tuple([pick(KEYS) for _ in range(pipeline)]) for _ in range(count)]

    async def turns(self, chunks: list[bytes]) -> None:
        """Hand the chunks to the connections, 50 a turn; then the loop seals and settles."""
        store = self.server.keyspace.store
        receivers = [connection.data_received for connection in self.connections]
        for start in range(0, len(chunks), CONNECTIONS):
            for receive, chunk in zip(receivers, chunks[start : start + CONNECTIONS], strict=False):
                receive(chunk)
            now = time.monotonic()
            if now - self.ticked > 0.1:
                self.ticked = now
                store.tick(now)
            await asyncio.sleep(0)
        while any(connection.stops or connection.held for connection in self.connections):
            await asyncio.sleep(0.001)

    async def total(self, command: bytes, pipeline: int, count: int, rounds: int) -> float:
        """The least CPU time of a command over *rounds*, in µs."""
        best = float("inf")
        for _ in range(rounds):
            chunks = self.chunks(command, pipeline, count)
            began = time.thread_time()
            await self.turns(chunks)
            best = min(best, (time.thread_time() - began) / (count * pipeline))
        return best * 1e6

    async def stages(
        self, command: bytes, pipeline: int, count: int, rounds: int
    ) -> dict[str, float]:
        """The least time of each stage over *rounds*, in µs a command."""
        from norikv_resp.commitlog.log import SegmentLog
        from norikv_resp.connection import Connection
        from norikv_resp.protocol.request import RequestReader
        from norikv_resp.server import Server
        from norikv_resp.store.core import Store

        best: dict[str, float] = {}
        for _ in range(rounds):
            stages = Stages()
            stages.watch(Connection, "data_received", "dispatch, handler, encode, stage")
            stages.watch(RequestReader, "alone", "parse")
            stages.watch(RequestReader, "take", "parse")
            stages.watch(Connection, "hold", "hold replies")
            stages.watch(Store, "seal", "frame: seal, layers")
            stages.watch(SegmentLog, "append", "frame: append to the log")
            stages.watch(Store, "on_commit", "frame: into the synced or written layer")
            stages.watch(Store, "_settle", "settle")
            stages.watch(Store, "tick", "tick")
            stages.watch(Server, "on_commit", "release held replies, write")
            try:
                chunks = self.chunks(command, pipeline, count)
                await self.turns(chunks)
            finally:
                stages.end()
            for name, spent in stages.spent.items():
                best[name] = min(best.get(name, 1e9), spent / (count * pipeline) / 1e3)
        return best

    def parts(self) -> dict[str, float]:
        """Pieces of the handlers' stage, alone, in µs a command."""
        from norikv_resp.database import Database

        keyspace = self.server.keyspace
        database: Database = keyspace.databases[0]
        context = self.connections[0].context
        fast = self.server.fast_commands
        keys = [b"key:%012d" % self.random.randrange(KEYS) for _ in range(16_000)]
        bulk = b"$%d\r\n%%b\r\n" % len(VALUE)

        def stage() -> None:
            for key in keys:
                keyspace.index += 1
                database.put(key, VALUE)

        def handler(name: bytes, *rest: bytes) -> Callable[[], None]:
            requests = [[name, key, *rest] for key in keys]

            def run() -> None:
                function = fast[name]
                for request in requests:
                    function(context, request)

            return run

        def encode() -> None:
            for _ in keys:
                bulk % VALUE

        found = {}
        for name, run in (
            ("stage: Database.put", stage),
            ("SET handler, put included", handler(b"SET", VALUE)),
            ("GET handler, encode included", handler(b"GET")),
            ("encode: a bulk string", encode),
        ):
            best = float("inf")
            for _ in range(10):
                began = time.thread_time()
                run()
                best = min(best, time.thread_time() - began)
                keyspace.seal()
            found[name] = best / len(keys) * 1e6
        return found

    def close(self) -> None:
        """Remove everything again."""
        self.server.keyspace.seal()
        self.server.keyspace.store.close(settle=False)
        shutil.rmtree(self.directory, ignore_errors=True)


async def measure(args: argparse.Namespace) -> None:
    """Print the totals, and then the stages."""
    from norikv_resp.server import spare_the_collector

    bench = Bench(args.policy, asyncio.get_running_loop())
    try:
        await bench.fill()
        spare_the_collector()
        for command in (b"GET", b"SET"):
            for pipeline, count in ((16, 2000), (1, 10_000)):
                total = await bench.total(command, pipeline, count, args.rounds)
                print(f"{command.decode()} pipeline {pipeline:2}: {total:6.2f} µs")
                if args.stages:
                    found = await bench.stages(command, pipeline, count, args.rounds)
                    for name, spent in found.items():
                        if spent >= 0.005:
                            print(f"    {name:42} {spent:6.2f}")
        if args.stages:
            print("alone:")
            for name, spent in bench.parts().items():
                print(f"    {name:42} {spent:6.2f}")
    finally:
        bench.close()


def main() -> None:
    """Read the options, then measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.hot_path")
    parser.add_argument("--policy", choices=("always", "everysec", "no"), default="no")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--stages", action="store_true", help="also where the time goes")
    parser.add_argument("--tree", type=Path, help="measure the server of this checkout")
    args = parser.parse_args()
    if args.tree:
        sys.path.insert(0, str(args.tree.resolve()))
    try:
        import uvloop
    except ImportError:
        asyncio.run(measure(args))
    else:
        uvloop.run(measure(args))


if __name__ == "__main__":
    main()
