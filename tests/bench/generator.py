"""The load generator: a process of its own, so that it never shares a core's time with a server.

    python -m tests.bench.generator MODE --port N [options]      prints one line of JSON

Modes:
    drive    50 clients send GET or SET in pipelines until the requests are used up: where there is
             no redis-benchmark
    load     distinct keys in scattered order, each SET once; how long each pipeline took
    cas      increments of shared counters by compare-and-set, in one of two dialects
    probe    one blocking client GETs without a pause; how long each took

The clients are asyncio protocols on raw sockets that build requests by formatting and know where
a reply ends by its length, so that the generator needs less time than either server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import sys
import time
from array import array
from collections.abc import Callable, Sequence
from typing import Any, cast

Result = dict[str, Any]

#: A prime above every number of keys here: multiples of it, modulo, visit each key once.
STRIDE = 2_147_483_647

OK = b"+OK\r\n"


class GeneratorError(Exception):
    """A server answered something else than the benchmark expects."""


def request(*words: bytes) -> bytes:
    """A request as clients send it."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words)


def template(count: int, *words: bytes) -> bytes:
    """*count* requests with ``%012d`` left to be filled in, once for each."""
    one = b"*%d\r\n" % len(words)
    for word in words:
        one += b"$%d\r\n%b\r\n" % (len(word.replace(b"%012d", b"0" * 12)), word)
    return one * count


class Client(asyncio.Protocol):
    """A connection that sends again whenever its replies are complete."""

    transport: asyncio.Transport

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(GeneratorError("the server closed the connection"))

    def fail(self, data: bytes) -> None:
        if not self.done.done():
            self.done.set_exception(GeneratorError(f"unexpected reply: {data[:200]!r}"))

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def start(self) -> None:
        """Send the first requests."""
        raise NotImplementedError


async def run_clients(
    port: int, count: int, make: Callable[[asyncio.Future[None]], Client]
) -> float:
    """Connect *count* clients, start them together; the seconds until all have finished."""
    loop = asyncio.get_running_loop()
    clients = []
    for _ in range(count):
        done: asyncio.Future[None] = loop.create_future()
        client = make(done)
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
        clients.append(client)
    started = time.perf_counter()
    for client in clients:
        client.start()
    await asyncio.gather(*(client.done for client in clients))
    took = time.perf_counter() - started
    for client in clients:
        client.transport.close()
    return took


# ---- GET and SET in pipelines


class PipelineClient(Client):
    """Sends pipelines that `next_batch` makes, each after the replies of the one before."""

    def __init__(
        self,
        done: asyncio.Future[None],
        next_batch: Callable[[], bytes | None],
        reply_size: int,
        waits: array[float] | None = None,
    ) -> None:
        super().__init__(done)
        self.next_batch = next_batch
        self.reply_size = reply_size
        self.waits = waits
        self.missing = 0
        self.sent = 0.0

    def start(self) -> None:
        self._send()

    def _send(self) -> None:
        batch = self.next_batch()
        if batch is None:
            self.finish()
            return
        self.missing = self.reply_size
        self.sent = time.perf_counter()
        self.transport.write(batch)

    def data_received(self, data: bytes) -> None:
        if data[0] == 45:  # an error
            self.fail(data)
            return
        self.missing -= len(data)
        if self.missing <= 0:
            if self.missing:
                self.fail(data)
                return
            if self.waits is not None:
                self.waits.append(time.perf_counter() - self.sent)
            self._send()


async def drive(args: argparse.Namespace) -> Result:
    """Random GETs or SETs of keys that are there."""
    value = b"x" * args.size
    count = args.pipeline
    batches = args.requests // count
    rnd = random.Random(args.seed).randrange
    if args.command == "get":
        form = template(count, b"GET", b"key:%012d")
        reply = len(b"$%d\r\n%b\r\n" % (len(value), value))
    else:
        form = template(count, b"SET", b"key:%012d", value)
        reply = len(OK)

    def next_batch() -> bytes | None:
        nonlocal batches
        batches -= 1
        return form % tuple([rnd(args.keys) for _ in range(count)]) if batches >= 0 else None

    took = await run_clients(
        args.port, args.clients, lambda done: PipelineClient(done, next_batch, reply * count)
    )
    return {"rate": args.requests // count * count / took}


async def load(args: argparse.Namespace) -> Result:
    """Every key once, in an order that no storage likes."""
    value = b"x" * args.size
    count, total = args.pipeline, args.keys
    form = template(count, b"SET", b"key:%012d", value)
    waits = array("f")
    at = 0

    def next_batch() -> bytes | None:
        nonlocal at
        if at >= total:
            return None
        numbers = [number * STRIDE % total for number in range(at, at + count)]
        at += count
        return form % tuple(numbers)

    took = await run_clients(
        args.port,
        args.clients,
        lambda done: PipelineClient(done, next_batch, len(OK) * count, waits),
    )
    tenth = max(len(waits) // 10, 1)
    tenths = [waits[start : start + tenth] for start in range(0, len(waits), tenth)][:10]
    return {
        "rate": at / took,
        "p99": percentile(waits, 99),
        "longest": max(waits),
        "p99_of_tenths": [percentile(part, 99) for part in tenths],
        "longest_of_tenths": [max(part) for part in tenths],
    }


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that *percent* of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * percent / 100), len(ordered) - 1)]


# ---- compare and set


class Counters:
    """What all clients of the compare-and-set race share."""

    def __init__(self, keys: int, seconds: float, seed: int, stay: bool) -> None:
        self.keys = [b"counter:%d" % number for number in range(keys)]
        #: Whether a client keeps the counter that it has drawn first.
        self.stay = stay
        self.pick = random.Random(seed).choice
        self.until = time.perf_counter() + seconds
        self.wins = self.attempts = 0


class Incrementer(Client):
    """Increments one counter after the other until the time is up; `attempt` says how."""

    def __init__(self, done: asyncio.Future[None], counters: Counters) -> None:
        super().__init__(done)
        self.counters = counters
        self.key = b""

    def start(self) -> None:
        counters = self.counters
        if time.perf_counter() > counters.until:
            self.finish()
            return
        if not (self.key and counters.stay):
            self.key = counters.pick(counters.keys)
        self.attempt()

    def attempt(self) -> None:
        """Try to increment the counter `key`."""
        raise NotImplementedError

    def won(self) -> None:
        """The counter was incremented: on to the next."""
        self.counters.wins += 1
        self.start()


class CasClient(Incrementer):
    """CAS with what this client last knew of the key; a refusal says what to try next.

    One round trip an attempt, the first one included.
    """

    def __init__(self, done: asyncio.Future[None], counters: Counters) -> None:
        super().__init__(done, counters)
        self.known: dict[bytes, tuple[bytes, int]] = {}

    def attempt(self) -> None:
        version, count = self.known.get(self.key, (b"0", 0))
        self.counters.attempts += 1
        self.transport.write(request(b"CAS", self.key, version, b"%d" % (count + 1)))

    def data_received(self, data: bytes) -> None:
        parts = (self.buffer + data).split(b"\r\n")
        # *3, :done, $n, version, and then $-1 or $n, value.
        if len(parts) < 6 or (parts[4] != b"$-1" and len(parts) < 7):
            if data[0] == 45:
                self.fail(data)
            self.buffer += data
            return
        self.buffer = b""
        version = parts[3]
        if parts[1] == b":1":
            known = self.known.get(self.key)
            self.known[self.key] = version, (known[1] if known else 0) + 1
            self.won()
        else:
            count = int(parts[5]) if parts[4] != b"$-1" else 0
            self.known[self.key] = version, count
            self.attempt()


class WatchClient(Incrementer):
    """WATCH, GET, MULTI, SET, EXEC: two round trips an attempt, the fewest that it takes."""

    def __init__(self, done: asyncio.Future[None], counters: Counters) -> None:
        super().__init__(done, counters)
        self.watching = self.reading = False

    def attempt(self) -> None:
        self.counters.attempts += 1
        self.reading = True
        self.read()

    def read(self) -> None:
        """Ask for the counter, watched."""
        self.transport.write(request(b"WATCH", self.key) + request(b"GET", self.key))

    def data_received(self, data: bytes) -> None:
        data = self.buffer + data
        parts = data.split(b"\r\n")
        if self.reading:
            # +OK, and then $-1 or $n, value.
            if len(parts) < 3 or (parts[1] != b"$-1" and len(parts) < 4):
                if data[0] == 45:
                    self.fail(data)
                self.buffer = data
                return
            self.buffer = b""
            self.reading = False
            count = int(parts[2]) if parts[1] != b"$-1" else 0
            self.transport.write(
                request(b"MULTI")
                + request(b"SET", self.key, b"%d" % (count + 1))
                + request(b"EXEC")
            )
            return
        # +OK, +QUEUED, and then *-1 or *1, +OK.
        if len(parts) < 4 or (parts[2] != b"*-1" and len(parts) < 5):
            if b"-" in data[:1]:
                self.fail(data)
            self.buffer = data
            return
        self.buffer = b""
        if parts[2] == b"*-1":
            self.attempt()
        else:
            self.won()


class LibraryWatchClient(WatchClient):
    """The same as client libraries do it: WATCH, wait, GET, wait, then the rest at once."""

    def read(self) -> None:
        self.watching = True
        self.transport.write(request(b"WATCH", self.key))

    def data_received(self, data: bytes) -> None:
        if not self.watching:
            super().data_received(data)
            return
        # What WATCH answered stays in front of what GET will.
        self.buffer += data
        if self.buffer == OK:
            self.watching = False
            self.transport.write(request(b"GET", self.key))
        elif not OK.startswith(self.buffer):
            self.fail(self.buffer)


DIALECTS: dict[str, type[Incrementer]] = {
    "cas": CasClient,
    "watch": WatchClient,
    "watch-library": LibraryWatchClient,
}


async def cas(args: argparse.Namespace) -> Result:
    """Increments a second; the sum of the counters must be the number of increments."""
    counters = Counters(args.keys, args.seconds, args.seed, args.stay)
    kind = DIALECTS[args.command]
    with Blocking(args.port) as client:
        for key in counters.keys:
            client.ask(b"DEL", key)
    took = await run_clients(args.port, args.clients, lambda done: kind(done, counters))
    with Blocking(args.port) as client:
        total = sum(int(client.ask(b"GET", key) or 0) for key in counters.keys)
    if total != counters.wins:
        raise GeneratorError(f"{counters.wins} increments were acknowledged, {total} are there")
    return {"rate": counters.wins / took, "attempts": counters.attempts / max(counters.wins, 1)}


# ---- one blocking client


class Blocking:
    """A client for one short request at a time."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, *words: bytes) -> bytes | None:
        """A status, an integer or a bulk string."""
        self.sock.sendall(request(*words))
        data = self.sock.recv(65536)
        while not data.endswith(b"\r\n") or (
            data[:1] == b"$" and data[:2] != b"$-" and data.count(b"\r\n") < 2
        ):
            data += self.sock.recv(65536)
        if data[:1] == b"-":
            raise GeneratorError(f"unexpected reply: {data[:200]!r}")
        if data[:1] == b"$":
            return None if data[:2] == b"$-" else data.split(b"\r\n", 1)[1][:-2]
        return data[1:-2]

    def __enter__(self) -> Blocking:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()


def probe(args: argparse.Namespace) -> Result:
    """How long a GET takes, one after the other."""
    rnd = random.Random(args.seed).randrange
    waits: list[float] = []
    clock = time.perf_counter
    until = clock() + args.seconds
    with Blocking(args.port) as client:
        while (began := clock()) < until:
            client.ask(b"GET", b"key:%012d" % rnd(args.keys))
            waits.append(clock() - began)
    return {
        "p50": percentile(waits, 50),
        "p99": percentile(waits, 99),
        "longest": max(waits),
        "count": len(waits),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run a mode; 1 and a line on stderr if the server did not play along."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.generator")
    parser.add_argument("mode", choices=("drive", "load", "cas", "probe"))
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--command", choices=("get", "set", *DIALECTS), default="set")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--keys", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=64, help="bytes of a value")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--pipeline", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stay", type=int, default=0, help="1: a client keeps its counter")
    args = parser.parse_args(argv)
    modes = {"drive": drive, "load": load, "cas": cas}
    try:
        result = probe(args) if args.mode == "probe" else _run(modes[args.mode](args))
    except (GeneratorError, OSError) as error:
        print(f"generator: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


def _run(work: Any) -> Result:
    try:
        import uvloop
    except ImportError:
        return cast(Result, asyncio.run(work))
    return cast(Result, uvloop.run(work))


if __name__ == "__main__":
    sys.exit(main())
