"""A server of one's own: a process that this one starts, uses and ends."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
import weakref
from pathlib import Path
from types import TracebackType

#: Seconds to wait until the server has ended by itself; then it is killed.
STOP_PATIENCE = 15.0

#: Characters of the log that an error shows.
LOG_TAIL = 2000


class PrivateServerError(Exception):
    """The server has ended, or does not answer; the message shows the end of its log."""


class PrivateServer:
    """``with PrivateServer() as server: … server.url``.

    It listens on a Unix socket in a folder that only this user can open, and on TCP if it gets a
    port. It ends with `stop`, with this object, or with this process unless that is killed.
    """

    def __init__(
        self,
        *arguments: str,
        port: int = 0,
        data: Path | None = None,
        log: Path | None = None,
        patience: float = 15.0,
    ) -> None:
        """Nothing is started yet.

        Args:
            arguments: more of the server's command line, such as ``"--appendfsync", "no"``.
            port: on 127.0.0.1, 0 for none.
            data: the data directory, which then stays; None for one that goes with the server.
            log: where its log goes; None for a file that goes with the server.
            patience: seconds that it has until it answers.
        """
        self._arguments = arguments
        self._port = port
        self._data = data
        self._log_asked = log
        self._patience = patience

    def launch(self) -> None:
        """Start the process; `ready` says when it answers. OSError if that is not possible."""
        folder = tempfile.TemporaryDirectory(prefix="norikv-")
        try:
            self._process = self._start(Path(folder.name))
        except BaseException:
            folder.cleanup()
            raise
        self._deadline = time.monotonic() + self._patience
        self._end = weakref.finalize(self, _end, self._process, folder)

    def _start(self, home: Path) -> subprocess.Popen[bytes]:
        self._socket = home / "sock"
        self._log = self._log_asked or home / "log"
        data = self._data or home / "data"
        data.mkdir(parents=True, exist_ok=True)
        listen = ["--port", str(self._port), "--unixsocket", str(self._socket)]
        command = [sys.executable, "-m", "norikv_resp", *listen, "--dir", str(data)]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*command, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def url(self) -> str:
        """Where clients of this machine find it."""
        return f"unix://{self._socket}"

    def ready(self) -> bool:
        """Whether the server answers by now, asked within a second.

        Raises:
            PrivateServerError: it never will.
        """
        status = self._process.poll()
        if status is not None:
            raise PrivateServerError(f"the server ended with status {status}{self._log_tail()}")
        try:
            with socket.socket(socket.AF_UNIX) as probe:
                probe.settimeout(1.0)
                probe.connect(str(self._socket))
                probe.sendall(b"PING\r\n")
                if probe.recv(1) == b"+":
                    return True
        except OSError:
            pass
        if time.monotonic() > self._deadline:
            text = f"the server did not answer within {self._patience:g} s"
            raise PrivateServerError(text + self._log_tail())
        return False

    def _log_tail(self) -> str:
        try:
            text = self._log.read_bytes()[-LOG_TAIL:].decode(errors="replace").strip()
        except FileNotFoundError:  # it has been stopped
            text = ""
        return f"; its log ends with:\n{text}" if text else ""

    def stop(self) -> None:
        """End the server and remove what goes with it; nothing happens the second time."""
        self._end()

    def __enter__(self) -> PrivateServer:
        self.launch()
        try:
            while not self.ready():
                time.sleep(0.02)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def _end(process: subprocess.Popen[bytes], folder: tempfile.TemporaryDirectory[str]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    folder.cleanup()
