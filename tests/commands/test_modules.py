"""Modules of a user's own: the example of docs/modules.md, and modules that must be refused."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.support.server import ROOT

GUIDE = (ROOT / "docs" / "modules.md").read_text()

HEADER = "from . import commands\nNAME = 'broken'\nAPI_VERSION = 1\n"
LOADS = HEADER + "def load(api):\n    api.commands(commands)\n"
IMPORTS = "from norikv_resp.command import FAST, READONLY, WRITE, Bytes, Key, command\n"
GOOD = IMPORTS + "@command('BROKEN.OK', flags=READONLY)\ndef ok(ctx):\n    return 1\n"


def example(folder: Path) -> Path:
    """The guide's module, written out as the guide shows it."""
    module = folder / "stock"
    module.mkdir()
    for name in ("__init__.py", "commands.py"):
        code = re.search(rf"`stock/{name}`:\n\n```python\n(.*?)```", GUIDE, re.DOTALL)
        assert code is not None
        (module / name).write_text(code.group(1))
    return module


def test_the_guides_example_works_as_printed(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--loadmodule", str(example(tmp_path)))
    assert server.ask("SET", "apples", "5") == b"OK"
    assert server.ask("STOCK.TAKE", "apples", "3") == 2
    with server.wire() as wire:
        refused = wire.call("STOCK.TAKE", "apples", "3")
    assert refused.text == "ERR not enough in stock"
    assert server.ask("IDEM", "order-17", "STOCK.TAKE", "apples", "1") == 1
    assert server.ask("IDEM", "order-17", "STOCK.TAKE", "apples", "1") == 1
    assert server.ask("GET", "apples") == b"1"


def test_a_modules_command_is_a_command_like_any_other(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server("--loadmodule", str(example(tmp_path)))
    (info,) = server.ask("COMMAND", "INFO", "stock.take")
    assert info[:2] == [b"stock.take", 3]
    assert server.ask("COMMAND", "GETKEYS", "STOCK.TAKE", "k", "1") == [b"k"]
    with server.wire() as wire:
        assert wire.call("STOCK.TAKE", "k").text.startswith("ERR wrong number of arguments")
        assert wire.call("STOCK.TAKE", "k", "many").text.startswith("ERR value is not an integer")
        wire.ok("SET", "k", "9")
        wire.ok("MULTI")
        wire.call("STOCK.TAKE", "k", "4")
        wire.call("STOCK.TAKE", "k", "9")
        taken, refused = wire.call("EXEC")
    assert taken == 5
    assert refused.text == "ERR not enough in stock"


def test_its_changes_survive_a_kill(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server("--loadmodule", str(example(tmp_path)))
    server.ask("SET", "apples", "5")
    assert server.ask("STOCK.TAKE", "apples", "3") == 2
    server.kill9()
    server.start()
    assert server.ask("GET", "apples") == b"2"


@pytest.mark.parametrize(
    ("package", "commands", "said"),
    [
        (LOADS, "raise RuntimeError('half way')", "RuntimeError: half way"),
        (LOADS, "def (", "SyntaxError"),
        (LOADS, GOOD + GOOD.replace("def ok", "def again"), "BROKEN.OK is already registered"),
        (LOADS, GOOD.replace("BROKEN.OK", "GET"), "GET is already registered"),
        (LOADS, GOOD.replace("(ctx)", "(ctx, key)"), "the handler takes ['key']"),
        (LOADS, GOOD.replace("READONLY", "WRITE", 2), "must be KEYLESS"),
        (LOADS, GOOD.replace("flags=READONLY", "group='kitchen'"), "unknown group 'kitchen'"),
        (LOADS, GOOD.replace("flags=READONLY", "colour='red'"), "colour"),
        (LOADS, "", "it registers no command"),
        (LOADS.replace("= 1", "= 99"), GOOD, "API version 99"),
        (HEADER, GOOD, "it has no function load(api)"),
        (HEADER + "def load(api):\n    api.commands(commands)\n    1 / 0\n", GOOD, "ZeroDivision"),
    ],
    ids=lambda value: None,
)
def test_a_bad_module_is_refused_with_one_clear_line(
    tmp_path: Path, package: str, commands: str, said: str
) -> None:
    module = tmp_path / "broken"
    module.mkdir()
    (module / "__init__.py").write_text(package)
    (module / "commands.py").write_text(commands)
    data = tmp_path / "data"
    arguments = ["--port", "0", "--dir", str(data), "--loadmodule", str(module)]
    done = subprocess.run(
        [sys.executable, "-m", "norikv_resp", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    complaint = [line for line in done.stderr.splitlines() if "can't load module" in line]
    assert len(complaint) == 1
    assert not data.exists()  # refused before any data was touched


def test_a_module_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "norikv_resp", "--port", "0", "--loadmodule", str(tmp_path / "no")],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1
    assert str(tmp_path / "no") in done.stderr
    assert "Traceback" not in done.stderr
