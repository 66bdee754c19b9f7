"""``norikv-resp demo NAME``: patterns that run against a server and check themselves."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import sys
from collections.abc import Sequence

from norikv_resp import embedders

#: Name and one line each; the module of that name has ``async def run(url: str) -> bool``, and
#: takes an embedder after the URL if it is one of EMBEDDING.
DEMOS = {
    "counter": "many writers count without losing an increment: CAS, tokens, shards",
    "sessions": "a late touch brings nothing back, and concurrent updates all land",
    "inventory": "buyers race for the last items; holds that nobody commits come back",
    "cache": "reads at the speed of memory that are never older than what was told",
    "ratelimit": "a sliding window shared by several workers, exact to the request",
    "leader": "a lease, fail-over, and a fencing token that stops the old leader",
    "events": "event sourcing: many writers, one aggregate, no event lost or doubled",
    "bank": "an account made of events, emptied from several tills without being overdrawn",
    "tenants": "limits that hold under concurrency, names that cannot break out, a user each",
    "semantic": "search by meaning: real text, filters, never half a document",
    "recommend": "products near to what somebody liked; every click counts once",
    "dedup": "near-duplicates are refused, also when they come at the same moment",
}

#: Demos that turn text into vectors.
EMBEDDING = frozenset({"semantic", "recommend", "dedup"})


def main(argv: Sequence[str]) -> int:
    """Run a demo; the exit status is 0 when its own check passes, 1 when not, 2 for misuse."""
    parser = argparse.ArgumentParser(
        prog="norikv-resp demo",
        description="Runs a pattern against a server and checks the outcome.",
        epilog="demos:\n" + "\n".join(f"  {name:<10} {line}" for name, line in DEMOS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=sorted(DEMOS), metavar="NAME")
    parser.add_argument(
        "--url", help="a running server, such as redis://127.0.0.1:6379 (default: a private one)"
    )
    parser.add_argument(
        "--embedder",
        default="ngrams",
        choices=list(embedders.NAMES),
        help="what turns text into vectors (default: %(default)s, which is built in)",
    )
    options = parser.parse_args(list(argv))
    if options.name is None:
        parser.print_help()
        return 0
    try:
        import redis  # noqa: F401
    except ImportError:
        print("the demos use redis-py: pip install 'norikv-resp[demo]'", file=sys.stderr)
        return 2
    from norikv_resp.private_server import PrivateServer

    demo = importlib.import_module(f"norikv_resp.demos.{options.name}")
    more = []
    if options.name in EMBEDDING:
        try:
            more.append(embedders.load(options.embedder))
        except embedders.MissingExtraError as error:
            print(error, file=sys.stderr)
            return 2
    if options.url:
        passed = asyncio.run(demo.run(options.url, *more))
    else:
        with PrivateServer("--loglevel", "warning") as server:
            passed = asyncio.run(demo.run(server.url, *more))
    print("PASSED" if passed else "FAILED")
    return 0 if passed else 1
