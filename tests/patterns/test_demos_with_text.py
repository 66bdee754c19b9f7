"""The demos check themselves, in Python, redis-cli and Node."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from norikv_resp.demos import DEMOS, texts
from tests.support import tools
from tests.support.server import ROOT, ServerProcess

pytestmark = pytest.mark.norikv

SCRIPTS = ROOT / "norikv_resp" / "demos" / "scripts"


def run(command: list[str], **environment: str) -> str:
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        timeout=50,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", DEMOS)
def test_demo_passes_and_leaves_nothing(server: ServerProcess, name: str) -> None:
    url = f"redis://127.0.0.1:{server.port}"
    output = run([sys.executable, "-m", "norikv_resp", "demo", name, "--url", url])
    assert output.endswith("PASSED\n")
    assert server.ask("DBSIZE") == 0
    assert server.ask("ACL", "USERS") == [b"default"]


def test_a_demo_starts_a_server_of_its_own() -> None:
    assert "PASSED" in run([sys.executable, "-m", "norikv_resp", "demo", "dedup"])


def test_an_embedder_that_is_not_installed_is_told() -> None:
    try:
        import fastembed  # noqa: F401
    except ImportError:
        pass
    else:
        pytest.skip("fastembed is installed")
    done = subprocess.run(
        [sys.executable, "-m", "norikv_resp", "demo", "dedup", "--embedder", "fastembed"],
        cwd=ROOT,
        capture_output=True,
        timeout=50,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'norikv-resp[fastembed]'" in done.stderr


def test_semantic_search_with_redis_cli(server: ServerProcess) -> None:
    if tools.redis_cli() is None or shutil.which("sh") is None:
        pytest.skip(tools.why_missing("redis-cli"))
    embed = f"{sys.executable} -m norikv_resp.embedders --model 256"
    output = run(["sh", str(SCRIPTS / "semantic.sh"), "-p", str(server.port)], EMBED=embed)
    assert output.endswith("PASSED\n")
    assert server.ask("DBSIZE") == 0


def test_semantic_search_with_ioredis(server: ServerProcess) -> None:
    node = tools.node()
    if node is None:
        pytest.skip(tools.why_missing("node"))
    if not tools.has_ioredis():
        pytest.skip(tools.why_missing("ioredis"))
    modules = str(tools.NODE_DIRECTORY / "node_modules")
    path = os.pathsep.join(filter(None, [modules, os.environ.get("NODE_PATH")]))
    url = f"redis://127.0.0.1:{server.port}"
    output = run([node, str(SCRIPTS / "semantic.js"), url], NODE_PATH=path)
    assert output.endswith("PASSED\n")
    assert server.ask("DBSIZE") == 0


@pytest.mark.parametrize("name", ["articles", "products", "notices"])
def test_texts_have_ids_of_their_own(name: str) -> None:
    ids = [each["id"] for each in texts.read(name)]
    assert len(ids) == len(set(ids)) > 10
