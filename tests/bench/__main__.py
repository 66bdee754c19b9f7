"""Runs the benchmarks and prints the table: python -m tests.bench [--quick] [--only ROW] …"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.measure import MeasureError, Plan, durable, loading, relaxed
from tests.bench.rows import BY_NAME, ROWS, Figures, add_options, table
from tests.support.server import ROOT
from tests.support.tools import peer_binary, redis_benchmark, why_missing


def main(argv: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 1 if it could not be measured."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench",
        description="This server against a peer on the same machine, in turn, as ratios.",
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the ratios (5)")
    parser.add_argument("--quick", action="store_true", help="3 short rounds, 300,000 keys")
    parser.add_argument("--keys", type=int, help="keys of the rows about loading (10,000,000)")
    parser.add_argument("--load-rounds", type=int, default=1, help="rounds of loading (1)")
    parser.add_argument(
        "--cpu",
        action="store_true",
        help="count GET and SET per second of the server's main thread: for a busy machine",
    )
    add_options(parser, BY_NAME)
    args = parser.parse_args(argv)
    if peer_binary() is None:
        print(f"bench: {why_missing('peer')}", file=sys.stderr)
        return 1
    wanted = frozenset(args.only or BY_NAME)
    plan = Plan(
        scale=0.25 if args.quick else 1.0,
        keys=args.keys or (300_000 if args.quick else 10_000_000),
        seconds=2.0 if args.quick else 5.0,
        wanted=wanted,
        by_cpu=args.cpu,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    rounds = 3 if args.quick and args.rounds == 5 else args.rounds
    facts = machine()
    print("\n".join(f"{name}: {fact}" for name, fact in facts.items()), flush=True)
    results = {row.name: Figures() for row in ROWS}
    try:
        measure(plan, rounds, args.load_rounds, results)
    except (MeasureError, AssertionError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; what was measured:", file=sys.stderr)
    if args.cpu:
        print("\nGET and SET per second of CPU time of the main thread, not of time")
    print(f"\nrounds {rounds}, keys loaded {plan.keys:,}; a ratio is this server's / the peer's")
    print("\n".join(table({name: results[name] for name in wanted})))
    if args.json:
        figures = {name: vars(results[name]) for name in wanted}
        args.json.write_text(json.dumps({"machine": facts, "figures": figures}, indent=1))
    return 0


def measure(plan: Plan, rounds: int, load_rounds: int, results: dict[str, Figures]) -> None:
    """Fill *results*; who begins alternates from round to round."""
    groups = {row.group for row in ROWS if row.name in plan.wanted}
    for number in range(rounds):
        for group, run in (("relaxed", relaxed), ("durable", durable)):
            if group not in groups:
                continue
            plan.say(f"round {number + 1} of {rounds}: {group}")
            order = (False, True) if number % 2 else (True, False)
            found = {peer: run(plan, peer) for peer in order}
            for name, ours in found[False].items():
                results[name].add(ours, found[True][name])
                plan.say(f"  {name}: {ours / found[True][name]:.3f}")
    if "load" in groups:
        for number in range(load_rounds):
            plan.say(f"loading {plan.keys:,} keys, {number + 1} of {load_rounds}")
            loading(plan, results)


def machine() -> dict[str, str]:
    """What the figures depend on."""
    return {
        "commit": _output("git", "describe", "--always", "--dirty") or "unknown",
        "machine": f"{_processor()}, {os.cpu_count()} CPUs, Linux {platform.release()}",
        "load": f"{os.getloadavg()[0]:.2f} before the start",
        "disk": _disk(),
        "python": platform.python_version(),
        "peer": _output(str(peer_binary()), "--version"),
        "generator": _output(str(redis_benchmark()), "--version")
        if redis_benchmark()
        else "tests.bench.generator",
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _disk() -> str:
    """The file system that the data is on: the durable rows mean nothing on a tmpfs."""
    kind = _output("stat", "-f", "-c", "%T", tempfile.gettempdir())
    return f"{kind or 'unknown'} at {tempfile.gettempdir()} (TMPDIR)"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    except OSError:
        return ""
    return done.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
