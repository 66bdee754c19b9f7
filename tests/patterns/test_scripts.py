"""The patterns without this package: redis-cli in a shell, ioredis in Node."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.patterns.test_demos_with_text import SCRIPTS
from tests.support import tools
from tests.support.server import ServerProcess

pytestmark = pytest.mark.norikv

NAMES = ["counter", "inventory", "leader", "ratelimit"]


def passes(command: list[str], server: ServerProcess, **environment: str) -> None:
    done = subprocess.run(
        command,
        capture_output=True,
        timeout=50,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0 and done.stdout.endswith("PASSED\n"), done.stdout + done.stderr
    assert server.ask("DBSIZE") == 0


@pytest.mark.parametrize("name", NAMES)
def test_with_redis_cli(server: ServerProcess, name: str) -> None:
    if tools.redis_cli() is None:
        pytest.skip(tools.why_missing("redis-cli"))
    passes(["sh", str(SCRIPTS / f"{name}.sh"), "-p", str(server.port)], server)


@pytest.mark.parametrize("name", NAMES)
def test_with_ioredis(server: ServerProcess, name: str) -> None:
    node = tools.node()
    if node is None:
        pytest.skip(tools.why_missing("node"))
    if not tools.has_ioredis():
        pytest.skip(tools.why_missing("ioredis"))
    url = f"redis://127.0.0.1:{server.port}"
    modules = str(tools.NODE_DIRECTORY / "node_modules")
    passes([node, str(SCRIPTS / f"{name}.js"), url], server, NODE_PATH=modules)
