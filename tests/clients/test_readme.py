"""The README's tour gives what it prints, line by line."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import ROOT

README = (ROOT / "README.md").read_text()


def sessions() -> list[tuple[str, str]]:
    """(command, what it prints) for every ``$ …`` line of the tour."""
    tour = README.split("## Two minutes")[1].split("```python")[0]
    blocks = re.findall(r"```\n(\$ .*?)```", tour, re.DOTALL)
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(blocks), re.MULTILINE)
    return [(command, printed) for command, printed in steps]


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
    assert len(steps) >= 9
    for command, printed in steps:
        done = subprocess.run(
            command, shell=True, env=env, capture_output=True, text=True, timeout=20, check=True
        )
        assert done.stdout == printed, command


def test_the_python_example_runs(start_server: StartServer) -> None:
    server = start_server()
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert code is not None
    source = code.group(1).replace("redis.Redis()", f"redis.Redis(port={server.port})")
    exec(compile(source, "README.md", "exec"), {})
