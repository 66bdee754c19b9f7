"""A server for one demo: its own process, its own data, gone afterwards."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

import redis

#: Seconds to wait until the server answers.
PATIENCE = 15.0


class PrivateServer:
    """``with PrivateServer() as server: … server.url``. Listens on a Unix socket only."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="norikv-demo-")
        self._socket = Path(self._folder.name) / "sock"
        self.url = f"unix://{self._socket}"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PrivateServer:
        arguments = ["--port", "0", "--unixsocket", str(self._socket)]
        arguments += ["--dir", f"{self._folder.name}/data", "--loglevel", "warning"]
        self._process = subprocess.Popen([sys.executable, "-m", "norikv_resp", *arguments])
        try:
            self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def _wait(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                with redis.Redis.from_url(self.url) as client:
                    client.ping()
                return
            except redis.ConnectionError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise
                time.sleep(0.02)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(PATIENCE)
        self._folder.cleanup()
