"""USearch in process: what the server's index could do if nothing else had to be done.

    python -m tests.bench.vectors.reference MODE --index FILE [options]    prints one line of JSON

Modes:
    build    add all vectors with one thread and save the index; then add the extra ones
    search   searches a second, one by one with one thread and in batches with all cores
    burn     search in batches until killed: a load for the processor

The index is what the server makes by default: cosine, BF16, M 16, the same efforts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from usearch.index import Index

from tests.bench.vectors.data import DIMENSIONS, EXTRA, K, Vectors, recall

Result = dict[str, Any]

#: Queries that are searched together, as 16 connections' are; threads, as the index process has.
BATCH, THREADS = 16, 2

EF_CONSTRUCTION = 128


def empty() -> Index:
    return Index(
        ndim=DIMENSIONS,
        metric="cos",
        dtype="bf16",
        connectivity=16,
        expansion_add=EF_CONSTRUCTION,
    )


def anonymous_memory() -> int:
    """Of this process, bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


def build(args: argparse.Namespace) -> Result:
    """Adds a second for the whole set and for the extra ones; the growth of memory."""
    vectors = np.load(args.vectors, mmap_mode="r")
    count = len(vectors) - EXTRA
    index = empty()
    before = anonymous_memory()
    whole = _add(index, vectors, 0, count)
    memory = anonymous_memory() - before
    index.save(str(args.index))
    extra = _add(index, vectors, count, EXTRA)
    return {"rate": count / whole, "extra-rate": EXTRA / extra, "memory": memory}


def _add(index: Index, vectors: Vectors, first: int, count: int) -> float:
    """The seconds that it takes."""
    began = time.perf_counter()
    for start in range(first, first + count, 1_000):
        end = min(start + 1_000, first + count)
        index.add(np.arange(start, end, dtype=np.uint64), vectors[start:end], threads=1)
    return time.perf_counter() - began


def search(args: argparse.Namespace) -> Result:
    """At the effort --ef: rates and recall."""
    index = _loaded(args)
    queries = np.load(args.queries)
    found: dict[int, list[int]] = {}
    for start in range(0, len(queries), BATCH):
        keys = index.search(queries[start : start + BATCH], K, threads=THREADS).keys
        found |= enumerate(keys.tolist(), start)
    until = time.perf_counter() + args.seconds
    began, searched = time.perf_counter(), 0
    while (now := time.perf_counter()) < until:
        start = searched % (len(queries) - BATCH)
        index.search(queries[start : start + BATCH], K, threads=THREADS)
        searched += BATCH
    batched = searched / (now - began)
    until = time.perf_counter() + args.seconds
    began, searched = time.perf_counter(), 0
    while (now := time.perf_counter()) < until:
        index.search(queries[searched % len(queries)], K, threads=1)
        searched += 1
    return {
        "batched": batched,
        "single": searched / (now - began),
        "recall": recall(found, np.load(args.truth)),
    }


def burn(args: argparse.Namespace) -> Result:
    """Never ends."""
    index = _loaded(args)
    queries = np.load(args.queries)
    print("ready", flush=True)
    while True:
        for start in range(0, len(queries) - BATCH, BATCH):
            index.search(queries[start : start + BATCH], K, threads=THREADS)


def _loaded(args: argparse.Namespace) -> Index:
    index = empty()
    index.load(str(args.index))
    index.expansion_search = args.ef
    return index


def main(argv: Sequence[str] | None = None) -> int:
    """Run a mode."""
    modes = {"build": build, "search": search, "burn": burn}
    parser = argparse.ArgumentParser(prog="python -m tests.bench.vectors.reference")
    parser.add_argument("mode", choices=modes)
    parser.add_argument("--index", type=Path, required=True)
    parser.add_argument("--vectors", type=Path)
    parser.add_argument("--queries", type=Path)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--ef", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=3.0)
    args = parser.parse_args(argv)
    print(json.dumps(modes[args.mode](args)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
