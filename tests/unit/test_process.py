"""The command line, the log, and going into the background."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from norikv_resp import __main__, __version__
from norikv_resp.bundled import bundled, module_names
from norikv_resp.config import Config, StartupError
from norikv_resp.logs import VERBOSE, log, set_up
from norikv_resp.process import Process, banner


def run(*argv: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """The command, with nothing but what it says."""
    command = [sys.executable, "-m", "norikv_resp", *argv]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=20)


# -- the command -------------------------------------------------------------


def test_help_and_version_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith(f"norikv-resp {__version__} ")
    assert __main__.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert "--appendfsync always" in text
    assert "Data and durability" in text
    assert "--save" not in text
    assert all(len(line) <= 100 for line in text.split("\n"))


@pytest.mark.parametrize(
    ("argv", "stdin", "line"),
    [
        (["--nosuch", "1"], "", "norikv-resp: command line: unknown option 'nosuch'\n"),
        (["/nowhere"], "", "norikv-resp: can't read configuration file /nowhere: "),
        (["-"], "port x", "norikv-resp: standard input, line 1: port: argument couldn't"),
        (["--logfile", "/nowhere/log"], "", "norikv-resp: can't open log file /nowhere/log: No "),
    ],
)
def test_a_bad_start_is_one_line_and_status_1(argv: list[str], stdin: str, line: str) -> None:
    result = run(*argv, text=stdin)
    assert result.returncode == 1
    assert result.stderr.startswith(line)
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""


def test_a_tool_gets_the_arguments_after_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "some_tool.py").write_text("def main(arguments): return len(arguments)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(__main__.SUBCOMMANDS, "tool", ("some_tool", "does something"))
    assert __main__.main(["tool", "a", "b"]) == 2


# -- the log -----------------------------------------------------------------


@pytest.fixture
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level, log.level)
    yield
    for handler in root.handlers[:]:
        if handler not in before[0]:
            root.removeHandler(handler)
            handler.close()
    root.setLevel(before[1])
    log.setLevel(before[2])
    logging.captureWarnings(False)


@pytest.mark.usefixtures("restored_logging")
def test_a_log_line_is_one_line_and_levels_change_at_once(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    config = Config.from_argv(["--logfile", str(path)])
    set_up(config)
    log.info("hello %s", "there\n99 fake")
    log.debug("unseen")
    config.set([(b"loglevel", b"debug")])
    log.debug("seen")
    log.log(VERBOSE, "also seen")
    config.set([(b"loglevel", b"warning")])
    log.info("unseen")
    log.warning("careful")
    logging.getLogger("asyncio").warning("from a library")
    config.set([(b"loglevel", b"nothing")])
    log.error("unseen")
    lines = [line.split(" ", 3) for line in path.read_text().splitlines()]
    assert [words[3] for words in lines] == [
        "notice  hello there\\n99 fake",
        "debug   seen",
        "verbose also seen",
        "warning careful",
        "warning from a library",
    ]
    assert all(words[0] == str(os.getpid()) for words in lines)


@pytest.mark.usefixtures("restored_logging")
def test_a_log_file_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="can't open log file"):
        set_up(Config.from_argv(["--logfile", str(tmp_path / "no" / "log")]))


# -- the process -------------------------------------------------------------


def test_the_banner_says_where_and_how_durable() -> None:
    config = Config.from_argv(["--port", "7000", "--dir", "/some/where"])
    text = "\n".join(banner(config, ["127.0.0.1:7000", "[::1]:7000"]))
    for part in (__version__, "127.0.0.1:7000, [::1]:7000", "/some/where", "appendfsync always"):
        assert part in text
    assert "redis-cli -p 7000 shutdown" in text
    config = Config.from_argv(["--port", "0", "--unixsocket", "/s"])
    assert "redis-cli -s /s shutdown" in "\n".join(banner(config, ["/s"]))


def test_a_pid_file_lives_as_long_as_the_server(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    process = Process(Config.from_argv(["--pidfile", str(path)]))
    process.ended()
    assert not path.exists()
    process.started(["here"])
    assert path.read_text() == f"{os.getpid()}\n"
    process.ended()
    assert not path.exists()


DAEMON = """
import sys, time
from norikv_resp.config import Config
from norikv_resp.process import Process

process = Process(Config.from_argv(["--daemonize", "yes", "--pidfile", sys.argv[1]]))
process.daemonize()
if sys.argv[2] == "start":
    process.started(["here"])
    while not __import__("os").path.exists(sys.argv[1] + ".stop"):
        time.sleep(0.01)
    process.ended()
elif sys.argv[2] == "refuse":
    process.failed("the port is taken")
"""


def daemon(pidfile: Path, what: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DAEMON, str(pidfile), what]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_a_background_server_is_up_when_the_command_returns(tmp_path: Path) -> None:
    pidfile = tmp_path / "pid"
    result = daemon(pidfile, "start")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert os.getsid(int(pidfile.read_text())) != os.getsid(0)
    (tmp_path / "pid.stop").touch()
    deadline = time.monotonic() + 10
    while pidfile.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pidfile.exists()


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("refuse", "norikv-resp: the port is taken\n"),
        ("vanish", "norikv-resp: the server ended at start\n"),
    ],
)
def test_a_background_server_that_fails_says_so(what: str, line: str, tmp_path: Path) -> None:
    result = daemon(tmp_path / "pid", what)
    assert (result.returncode, result.stdout, result.stderr) == (1, "", line)
    assert not (tmp_path / "pid").exists()


# -- bundled files -----------------------------------------------------------


def test_bundled_files_are_found() -> None:
    assert (bundled("conf") / "norikv.conf").is_file()
    with pytest.raises(FileNotFoundError, match="no nosuch/ folder"):
        bundled("nosuch")


def test_all_means_every_bundled_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("beta", "alpha"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    monkeypatch.setattr("norikv_resp.bundled.bundled", lambda _: tmp_path)
    assert module_names(["all"]) == ["alpha", "beta"]
    assert module_names(["beta", "all"]) == ["beta", "alpha"]
    assert module_names([]) == []
