"""Real server processes for tests: started, found ready, stopped or killed by their own pid."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support.resp import Argument, Wire

#: Another server to run the suites against: a command line that takes --port, --dir and
#: --unixsocket as redis-server does. Unless "norikv" is in it, NoriKV's own commands are skipped.
SERVER_VARIABLE = "NORIKV_TEST_SERVER"

#: How long a start may take on a busy machine, seconds.
START_SECONDS = 30.0

#: How long a clean stop may take, seconds.
STOP_SECONDS = 30.0

ROOT = Path(__file__).resolve().parents[2]


def server_command() -> list[str]:
    """The command line of the server under test."""
    given = os.environ.get(SERVER_VARIABLE)
    return shlex.split(given) if given else [sys.executable, "-m", "norikv_resp"]


def is_foreign() -> bool:
    """Whether the suites run against somebody else's server."""
    return "norikv" not in os.environ.get(SERVER_VARIABLE, "norikv")


def free_port() -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


#: A commit log that commits late and out of the loop, as a replicated one will.
LATE_LOG = "tests.support.late_log:LateLog"

#: Sizes so small that segments change, frames outgrow them and records settle all the time.
SMALL_SIZES = {
    "commit-log-segment-size": "1mb",
    "commit-log-budget": "4mb",
    "overlay-size": "4mb",
    "leveldb-write-buffer": "1mb",
    "cache-size": "1mb",
}


class ServerDiedError(Exception):
    """The process ended before it answered; the message carries its log."""


class ServerProcess:
    """One server with a data directory of its own.

    The directory lives as long as the object: `restart` after `kill9` opens the same data.
    Options are redis-server's, without dashes and with ``_`` for ``-``:
    ``ServerProcess(appendfsync="no")``.
    """

    def __init__(
        self,
        *extra: str,
        command: list[str] | None = None,
        directory: Path | None = None,
        cwd: Path | None = None,
        env: dict[str, str] | None = None,
        start: bool = True,
        **options: object,
    ) -> None:
        self.command = command if command is not None else server_command()
        self.options: dict[str, object] = {k.replace("_", "-"): v for k, v in options.items()}
        self.extra = list(extra)
        self.home = Path(tempfile.mkdtemp(prefix="nkv-"))
        self.data = directory if directory is not None else self.home / "data"
        if directory is None and (command is not None or is_foreign()):
            self.data.mkdir()  # redis-server makes no directory itself
        self.socket_path = str(self.home / "s")
        self.log_path = self.home / "log"
        self.cwd = cwd if cwd is not None else ROOT
        self.env = env
        self.port = 0
        self.starts = 0
        self.process: subprocess.Popen[bytes] | None = None
        if start:
            try:
                self.start()
            except BaseException:
                self.close()
                raise

    # -- life ----------------------------------------------------------------

    def start(self, wait: bool = True) -> ServerProcess:
        """Start the process and wait until it answers a PING."""
        if not self.port:
            self.port = free_port()
        self._launch()
        if wait:
            self.wait_ready()
        return self

    def _launch(self) -> None:
        assert self.process is None or self.process.poll() is not None, "already running"
        args = ["--port", str(self.port), "--dir", str(self.data)]
        args += ["--unixsocket", self.socket_path]
        for name, value in self.options.items():
            args += [f"--{name}", str(value)]
        self.starts += 1
        with self.log_path.open("ab") as log:
            log.write(b"--- start %d\n" % self.starts)
            log.flush()
            self.process = subprocess.Popen(
                [*self.command, *args, *self.extra],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.cwd,
                env=self.env,
            )

    def wait_ready(self, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while True:
            assert self.process is not None
            status = self.process.poll()
            if status is not None:
                raise ServerDiedError(f"exit status {status} while starting\n{self.log_tail()}")
            try:
                with Wire(self.address, timeout=2.0) as probe:
                    if probe.reply("PING").raw.startswith((b"+PONG", b"-NOAUTH")):
                        return
            except (OSError, EOFError):
                pass
            if time.monotonic() > deadline:
                raise ServerDiedError(f"no PONG within {seconds} s\n{self.log_tail()}")
            time.sleep(0.02)

    def kill9(self) -> None:
        """The end without warning: what the operating system has is all that is left."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def terminate(self, seconds: float = STOP_SECONDS) -> int:
        """SIGTERM, and the exit status; a server that does not end is killed and reported."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"no end {seconds} s after SIGTERM\n{self.log_tail()}") from None

    def restart(self, clean: bool = True) -> ServerProcess:
        if self.alive:
            if clean:
                status = self.terminate()
                assert status == 0, f"exit status {status} after SIGTERM\n{self.log_tail()}"
            else:
                self.kill9()
        return self.start()

    def close(self) -> None:
        """Stop whatever runs and remove the directory."""
        self.kill9()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- facts ---------------------------------------------------------------

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def address(self) -> tuple[str, int]:
        return ("127.0.0.1", self.port)

    def wire(self, resp: int = 2, timeout: float = 10.0, **more: Any) -> Wire:
        return Wire(self.address, resp, timeout, **more)

    def ask(self, *args: Argument) -> Any:
        """The answer to one command over a connection of its own."""
        with self.wire(timeout=30.0) as wire:
            return wire.ok(*args)

    def log_text(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log_text().splitlines()[-lines:])

    def anonymous_memory(self) -> int:
        """RssAnon in bytes: what the process holds for itself, mapped tables left out."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("this kernel does not show RssAnon")

    def __repr__(self) -> str:
        state = f"pid {self.pid}" if self.alive else "stopped"
        return f"<ServerProcess {' '.join(self.command)} port {self.port} {state}>"
