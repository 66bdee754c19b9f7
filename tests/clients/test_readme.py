"""What the README and docs/from-norikv.md show gives what they say."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support import tools
from tests.support.server import ROOT, ServerProcess

README = (ROOT / "README.md").read_text()
FROM_NORIKV = (ROOT / "docs" / "from-norikv.md").read_text()

#: Calls the example's function as the Python example does, and says how often it sold.
SELL_WITH_NODE = """
const Redis = require("ioredis");
const redis = new Redis(Number(process.argv[2]));
%s
async function main() {
  await redis.set("stock:cake", 3);
  const orders = Array.from({ length: 20 }, (_, number) => `order:cake:${number %% 4}`);
  const done = await Promise.all(orders.map((order) => sell(redis, order)));
  console.log(`${done.filter(Boolean).length / 5} of 4 orders sold`);
  redis.disconnect();
}
main();
"""


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of *language*."""
    every = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [body for marked, body in every if marked == language]


def sessions() -> list[tuple[str, str]]:
    """(command, what it prints) for every ``$ …`` line, in order."""
    shown = [block for block in blocks(README, "") if block.startswith("$ ")]
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(shown), re.MULTILINE)
    return [(command, printed) for command, printed in steps]


def run_python(source: str, server: ServerProcess) -> str:
    """What an example prints when it talks to *server*."""
    source = source.replace("redis.Redis()", f"redis.Redis(port={server.port})")
    source = source.replace("localhost:6379", f"localhost:{server.port}")
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=50,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("redis-cli") is None, reason="redis-cli is not installed")
def test_the_tour_prints_what_the_readme_says(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server()
    wrapper = tmp_path / "redis-cli"
    real = shutil.which("redis-cli")
    # --no-raw: as a person at a terminal sees it.
    wrapper.write_text(f'#!/bin/sh\nexec {real} -p {server.port} --no-raw "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    steps = sessions()
    assert len(steps) >= 12
    for command, printed in steps:
        done = subprocess.run(
            command, shell=True, env=env, capture_output=True, text=True, timeout=20, check=True
        )
        assert done.stdout == printed, command


def test_the_python_examples_run(start_server: StartServer) -> None:
    server = start_server()
    tour, pattern = blocks(README, "python")
    run_python(tour, server)
    assert run_python(pattern, server) == "3 of 4 orders sold\n"
    assert server.ask("GET", "stock:tea") == b"0"


def test_the_node_example_runs(start_server: StartServer) -> None:
    node = tools.node()
    if node is None or not tools.has_ioredis():
        pytest.skip(tools.why_missing("ioredis" if node else "node"))
    server = start_server()
    (example,) = blocks(README, "js")
    done = subprocess.run(
        [node, "-e", SELL_WITH_NODE % example, "", str(server.port)],
        cwd=tools.NODE_DIRECTORY,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.stdout == "3 of 4 orders sold\n", done.stderr
    assert server.ask("GET", "stock:cake") == b"0"


def test_the_examples_of_from_norikv_run(start_server: StartServer) -> None:
    server = start_server()
    first, second = blocks(FROM_NORIKV, "python")
    assert run_python(first, server).endswith("Alicia\n")
    assert run_python(second, server) == 'doc:1 b\'{"title": "Tea"}\'\n'
