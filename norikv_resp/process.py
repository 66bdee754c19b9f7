"""The process around the server: into the background, pid file, banner, start-up failures.

With `daemonize yes` the command returns only when the server answers, or failed to: the
parent waits at a pipe for what its grandchild has to say.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from norikv_resp import __version__
from norikv_resp.config import Config
from norikv_resp.logs import log

_DURABILITY = {
    "always": "an answered write is on disk (appendfsync always)",
    "everysec": "synced every second; a power failure may lose the last one (appendfsync everysec)",
    "no": "synced when the operating system likes (appendfsync no)",
}


class Process:
    """One start of the server; see the module's docstring."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._parent: int | None = None  # pipe to the waiting parent
        self._pidfile = ""

    def daemonize(self) -> None:
        """Go on in the background. The calling process ends here, with the server's fate.

        Call it before threads and event loops exist.
        """
        reading, writing = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fork():
            os.close(writing)
            with open(reading, "rb") as pipe:
                answer = pipe.read().decode("utf-8", "replace")
            if answer != "ok":
                print(answer or "norikv-resp: the server ended at start", file=sys.stderr)
            sys.stderr.flush()
            os._exit(0 if answer == "ok" else 1)
        os.setsid()
        if os.fork():
            os._exit(0)
        os.close(reading)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)
        self._parent = writing

    def started(self, addresses: Sequence[str]) -> None:
        """The server listens at `addresses`: write the pid file, log the banner."""
        config = self._config
        if config.pidfile:
            try:
                with open(config.pidfile, "w", encoding="ascii") as file:
                    file.write(f"{os.getpid()}\n")
                self._pidfile = config.pidfile
            except OSError as error:
                log.warning("can't write pid file %s: %s", config.pidfile, error.strerror)
        for line in banner(config, addresses):
            log.info("%s", line)
        self._tell_parent("ok")

    def failed(self, message: str) -> None:
        """The server could not start: one line for whoever started it, and for the log file."""
        line = f"norikv-resp: {message}"
        if self._config.logfile and log.hasHandlers():
            log.error("%s", message)
        if self._parent is None:
            print(line, file=sys.stderr)
        self._tell_parent(line)

    def ended(self) -> None:
        """Take the pid file away, if it is ours."""
        if self._pidfile:
            try:
                os.unlink(self._pidfile)
            except OSError:
                pass
            self._pidfile = ""

    def _tell_parent(self, answer: str) -> None:
        if self._parent is not None:
            os.write(self._parent, answer.encode("utf-8", "replace"))
            os.close(self._parent)
            self._parent = None


def banner(config: Config, addresses: Sequence[str]) -> list[str]:
    """What a started server says about itself, line by line."""
    if config.port:
        stop = f"redis-cli -p {config.port} shutdown"
    else:
        stop = f"redis-cli -s {config.unixsocket} shutdown"
    here = "" if config.daemonize else "Ctrl-C, or "
    return [
        f"norikv-resp {__version__}, process {os.getpid()}, ready at {', '.join(addresses)}",
        f"Data in {config.dir}: {_DURABILITY[config.appendfsync]}",
        f"Stop it with {here}{stop}",
    ]
