"""Examples in documents: found by their fences, run, and compared with what they print."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from tests.support.server import ROOT, ServerProcess


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of *language*."""
    every = re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return [body for marked, body in every if marked == language]


def sessions(text: str) -> list[tuple[str, str]]:
    """(command, what it prints) for every ``$ …`` line, in order."""
    shown = [block for block in blocks(text, "") if block.startswith("$ ")]
    steps = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", "".join(shown), re.MULTILINE)
    return [(command, printed) for command, printed in steps]


def play(steps: list[tuple[str, str]], server: ServerProcess, directory: Path) -> None:
    """Run commands with a redis-cli that finds *server*; each must print what is said."""
    wrapper = directory / "redis-cli"
    real = shutil.which("redis-cli")
    # --no-raw: as a person at a terminal sees it.
    wrapper.write_text(f'#!/bin/sh\nexec {real} -p {server.port} --no-raw "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    env = {**os.environ, "PATH": f"{directory}:{os.environ['PATH']}"}
    for command, printed in steps:
        done = subprocess.run(
            command, shell=True, env=env, capture_output=True, text=True, timeout=20, check=True
        )
        assert done.stdout == printed, command


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
