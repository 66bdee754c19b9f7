"""Measures vector search and prints the tables: python -m tests.bench.vectors [--quick] …"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.__main__ import machine
from tests.bench.measure import MeasureError
from tests.bench.rows import add_options, table
from tests.bench.vectors.data import DIMENSIONS, make
from tests.bench.vectors.measure import Bench, Plan, has_vector_sets
from tests.bench.vectors.rows import BY_NAME, ROWS
from tests.support.server import ROOT
from tests.support.tools import peer_binary, why_missing

SIZES = (50_000, 500_000)

IMAGES = ROOT / "docs" / "img"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if it could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.vectors",
        description="Vector search and adding, beside USearch in process and a peer.",
    )
    parser.add_argument("--quick", action="store_true", help="50,000 vectors only, short")
    parser.add_argument("--size", type=int, action="append", metavar="N", help="so many vectors")
    parser.add_argument("--rounds", type=int, help="rounds of what is repeated (3, quick 1)")
    parser.add_argument("--seconds", type=float, help="of one measurement (5, quick 2)")
    parser.add_argument("--plot", action="store_true", help="also draw docs/img/vectors-N.png")
    add_options(parser, BY_NAME)
    args = parser.parse_args(argv)
    if peer_binary() is None:
        print(f"bench-vectors: {why_missing('peer')}", file=sys.stderr)
        return 1
    facts = machine()
    if not has_vector_sets():
        facts["note"] = (
            "the peer has no vector sets: its GETs stand beside USearch in process on the same"
            " cores and a client that SETs"
        )
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), flush=True)
    sizes = args.size or (SIZES[:1] if args.quick else SIZES)
    figures = {}
    try:
        for count in sizes:
            bench = _measure(args, count)
            print(f"\n{count:,} vectors of {DIMENSIONS} dimensions; a ratio is ours / the other's")
            print("\n".join(table(bench.results, ROWS)), flush=True)
            if args.plot:
                _draw(bench)
            figures[count] = {
                "rows": {name: vars(found) for name, found in bench.results.items()},
                "curves": bench.curves,
            }
    except (MeasureError, AssertionError, TimeoutError) as error:
        print(f"bench-vectors: {error}", file=sys.stderr)
        return 1
    finally:
        if args.json:
            args.json.write_text(json.dumps({"machine": facts, "sizes": figures}, indent=1))
    return 0


def _measure(args: argparse.Namespace, count: int) -> Bench:
    plan = Plan(
        count=count,
        rounds=args.rounds or (1 if args.quick else 3),
        seconds=args.seconds or (2.0 if args.quick else 5.0),
        wanted=frozenset(args.only or BY_NAME),
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    with tempfile.TemporaryDirectory(prefix="nkv-vectors-") as directory:
        plan.say(f"making {count:,} vectors")
        bench = Bench(plan, make(Path(directory), count), Path(directory))
        bench.run(args.plot)
    return bench


def _draw(bench: Bench) -> None:
    try:
        from tests.bench.vectors.plot import draw
    except ImportError as error:
        raise MeasureError(f"no plot: {error}; matplotlib is in the extra 'bench'") from None
    count = bench.data.count
    path = IMAGES / f"vectors-{count}.png"
    title = f"{count:,} vectors of {DIMENSIONS} dimensions, cosine, {os.cpu_count()} cores"
    draw(path, bench.curves, title)
    print(f"drawn: {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
