"""The server's log: readable lines with levels, to standard error or a file.

    4242 2026-03-01 12:00:00.123 notice  Ready to accept connections

Redis's levels map to Python's: debug, verbose (between debug and info), notice (info) and
warning; `nothing` is silent. Every module logs through `log`; other libraries' records of
warning and above arrive here as well.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from typing import ClassVar

from norikv_resp.config import Config, StartupError
from norikv_resp.option_types import OptionError

VERBOSE = 15

log = logging.getLogger("norikv_resp")

_LEVELS = {
    "debug": logging.DEBUG,
    "verbose": VERBOSE,
    "notice": logging.INFO,
    "warning": logging.WARNING,
    "nothing": logging.CRITICAL + 1,
}


class _Lines(logging.Formatter):
    """One line per record; a traceback follows its line."""

    NAMES: ClassVar[dict[int, str]] = {
        logging.DEBUG: "debug",
        VERBOSE: "verbose",
        logging.INFO: "notice",
        logging.WARNING: "warning",
        logging.ERROR: "error",
        logging.CRITICAL: "error",
    }

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(record.created))
        level = self.NAMES.get(record.levelno, record.levelname.lower())
        # A client can have a part in a message; it must not be able to fake a line.
        message = record.getMessage().replace("\r", "\\r").replace("\n", "\\n")
        line = f"{record.process} {moment}.{int(record.msecs):03d} {level:<7} {message}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def set_up(config: Config) -> None:
    """Log as the configuration says, and follow its `loglevel`.

    Raises StartupError when the log file can't be opened.
    """
    root = logging.getLogger()
    handler: logging.Handler
    if config.logfile:
        try:
            # Reopened when a log rotation has moved it.
            handler = logging.handlers.WatchedFileHandler(config.logfile, encoding="utf-8")
        except OSError as error:
            raise StartupError(f"can't open log file {config.logfile}: {error.strerror}") from None
    else:
        handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    _set_level(config.loglevel)
    config.on_change(Config.loglevel, _set_level)


def _set_level(name: str) -> None:
    level = _LEVELS.get(name)
    if level is None:
        raise OptionError(f"unknown level {name}")
    log.setLevel(level)
    logging.getLogger().setLevel(max(level, logging.WARNING))
