"""The command `norikv-resp`: read options, run the server, or one of the tools beside it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence

from norikv_resp import __version__

# First arguments that are not a configuration file: name, module with main(arguments), what it
# does. A module that an installation lacks is not offered.
SUBCOMMANDS = {
    "demo": ("norikv_resp.demos", "run a pattern against a server, such as `demo counter`"),
    "check": ("norikv_resp.check", "verify a data directory"),
    "vectors": ("norikv_resp.vectors", "import vectors from files: `vectors import FILE KEY`"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the result is its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    first = arguments[0] if arguments else ""
    if first in ("-v", "--version"):
        print(f"norikv-resp {__version__} (Python {sys.version.split()[0]})")
        return 0
    if first in ("-h", "--help"):
        return _print_help()
    tool = _subcommand(first)
    return _serve(arguments) if tool is None else tool(arguments[1:])


def _serve(arguments: Sequence[str]) -> int:
    from norikv_resp.config import Config, StartupError
    from norikv_resp.logs import log, set_up
    from norikv_resp.process import Process

    try:
        config = Config.from_argv(arguments)
    except StartupError as error:
        print(f"norikv-resp: {error}", file=sys.stderr)
        return 1
    process = Process(config)
    try:
        set_up(config)
        if config.daemonize:
            process.daemonize()
        for warning in config.warnings:
            log.warning("%s", warning)
        from norikv_resp.server import run

        status: int = run(config, process.started)
        return status
    except StartupError as error:
        process.failed(str(error))
        return 1
    except KeyboardInterrupt:
        # Only before the server has taken over the signals.
        return 128 + signal.SIGINT
    finally:
        process.ended()


def _subcommand(name: str) -> Callable[[Sequence[str]], int] | None:
    if name not in SUBCOMMANDS:
        return None
    module = SUBCOMMANDS[name][0]
    if importlib.util.find_spec(module) is None:
        return None
    tool: Callable[[Sequence[str]], int] = importlib.import_module(module).main
    return tool


def _print_help() -> int:
    from norikv_resp.option_docs import help_text

    tools = [
        (name, summary)
        for name, (module, summary) in SUBCOMMANDS.items()
        if importlib.util.find_spec(module) is not None
    ]
    try:
        print(help_text(tools))
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, a pager say, has seen enough; Python must not flush again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
