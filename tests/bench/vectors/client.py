"""The client of the vector benchmark: a process of its own that costs the servers little.

    python -m tests.bench.vectors.client MODE --port N [options]     prints one line of JSON

Modes:
    search      every connection sends a search, waits, and sends the next one
    add         vectors in commands that follow each other without a pause, at most so many bytes
                under way
    attributes  VSETATTR for every vector

Requests are encoded before the clock starts; replies are parsed by hiredis.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import hiredis
import numpy as np

from tests.bench.generator import percentile, request
from tests.bench.vectors.data import K, percents, recall

Result = dict[str, Any]


class ClientError(Exception):
    """A server answered something else than the benchmark expects."""


class Connection:
    """A socket and the replies that came on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.reader = hiredis.Reader()
        #: The query that is being answered, and when it was sent.
        self.query = 0
        self.sent = 0.0

    def receive(self) -> list[Any]:
        """Wait for bytes; the replies that they complete."""
        data = self.socket.recv(1 << 18)
        if not data:
            raise ClientError("the server closed the connection")
        self.reader.feed(data)
        replies = []
        while (reply := self.reader.gets()) is not False:
            if isinstance(reply, Exception):
                raise ClientError(f"unexpected reply: {reply}")
            replies.append(reply)
        return replies

    def ask(self, *words: bytes) -> Any:
        """Send one request and wait for its reply."""
        self.socket.sendall(request(*words))
        while not (replies := self.receive()):
            pass
        return replies[0]


# ---- search


def searches(args: argparse.Namespace) -> list[bytes]:
    """The request of each query."""
    queries = np.load(args.queries)
    options: list[bytes] = []
    if args.ef:
        options += (b"EF", b"%d" % args.ef)
    if args.filter:
        options += (b"FILTER", args.filter.encode())
    key, count = args.key.encode(), b"%d" % K
    if args.dialect == "vsim":
        tail = (b"COUNT", count, *options)
        return [request(b"VSIM", key, b"FP32", query.tobytes(), *tail) for query in queries]
    return [
        request(b"VSEARCH", key, count, b"FP32", query.tobytes(), *options) for query in queries
    ]


def search(args: argparse.Namespace) -> Result:
    """Searches a second, how long each took, and how good they are."""
    requests = searches(args)
    connections = [Connection(args.port) for _ in range(args.connections)]
    selector = selectors.DefaultSelector()
    for connection in connections:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    clock = time.perf_counter
    waits: list[float] = []
    found: dict[int, Any] = {}
    number = 0
    began = clock()
    until = began + args.seconds

    def send(connection: Connection) -> None:
        nonlocal number
        connection.query = number % len(requests)
        number += 1
        connection.sent = clock()
        connection.socket.send(requests[connection.query])

    for connection in connections:
        send(connection)
    running = len(connections)
    while running:
        for event, _ in selector.select():
            connection = event.data
            for reply in connection.receive():
                now = clock()
                waits.append(now - connection.sent)
                found[connection.query] = reply
                if now < until or number < args.least:
                    send(connection)
                else:
                    running -= 1
    took = clock() - began
    result: Result = {"rate": len(waits) / took, "mean": sum(waits) / len(waits)}
    result |= {"p50": percentile(waits, 50), "p99": percentile(waits, 99)}
    if args.truth:
        step = 2 if args.dialect == "vsearch" else 1
        rows = {query: [int(ident) for ident in reply[::step]] for query, reply in found.items()}
        result["recall"] = recall(rows, np.load(args.truth))
    return result


# ---- add


def adds(args: argparse.Namespace) -> Iterator[bytes]:
    """Requests that add the rows from --first on."""
    vectors = np.load(args.vectors, mmap_mode="r")
    key = args.key.encode()
    rows = range(args.first, args.first + args.count)
    if args.batch == 1:
        tail = (b"NOQUANT",) if args.dialect == "vsim" else ()
        for row in rows:
            yield request(b"VADD", key, b"FP32", vectors[row].tobytes(), b"%d" % row, *tail)
        return
    for start in range(rows.start, rows.stop, args.batch):
        part = range(start, min(start + args.batch, rows.stop))
        pairs = [word for row in part for word in (b"%d" % row, vectors[row].tobytes())]
        yield request(b"VMADD", key, b"%d" % len(part), *pairs)


def attributes(args: argparse.Namespace) -> Iterator[bytes]:
    """Requests that set the attributes of the first rows."""
    for row, percent in enumerate(percents(args.count).tolist()):
        yield request(b"VSETATTR", args.key.encode(), b"%d" % row, b'{"p":%d}' % percent)


def stream(requests: Callable[[argparse.Namespace], Iterator[bytes]]) -> Any:
    """A mode that sends requests, at most --window of them unanswered."""

    def run(args: argparse.Namespace) -> Result:
        connection = Connection(args.port)
        waiting = answered = 0
        ready = list(requests(args)) if args.count <= 1_000_000 else requests(args)
        began = time.perf_counter()
        for one in ready:
            connection.socket.sendall(one)
            waiting += 1
            while waiting >= args.window:
                replies = len(connection.receive())
                waiting -= replies
                answered += replies
        while waiting:
            waiting -= len(connection.receive())
        return {"seconds": time.perf_counter() - began}

    return run


def main(argv: Sequence[str] | None = None) -> int:
    """Run a mode; 1 and a line on stderr if the server did not play along."""
    modes = {"search": search, "add": stream(adds), "attributes": stream(attributes)}
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vectors.client")
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--key", default="bench")
    parser.add_argument("--dialect", choices=("vsearch", "vsim"), default="vsearch")
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--filter")
    parser.add_argument("--ef", type=int, default=0)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--least", type=int, default=0, help="searches, however long they take")
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--batch", type=int, default=1, help="vectors of a command")
    parser.add_argument("--window", type=int, default=64, help="commands under way")
    args = parser.parse_args(argv)
    try:
        result = modes[args.mode](args)
    except (ClientError, OSError) as error:
        print(f"client: {error}", file=sys.stderr)
        return 1
    print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
