"""Everything that is written from the option table: --help, norikv.conf, configuration.md."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from norikv_resp.option_types import Directive, Option, to_text
from norikv_resp.options import OBSOLETE, REFUSED, SECTIONS, Section, rows

ROOT = Path(__file__).resolve().parent.parent


def _default(row: Option[Any]) -> str:
    """The default as a configuration file spells it; empty for a directive."""
    return to_text(b" ".join(row.lines(row.default)))


def _working() -> Iterable[type[Section]]:
    return (section for section in SECTIONS if not section.ignored)


def _ignored() -> Iterable[type[Section]]:
    return (section for section in SECTIONS if section.ignored)


# ---------------------------------------------------------------------------
# --help
# ---------------------------------------------------------------------------

_USAGE = """\
Usage: norikv-resp [CONFIG] [--option value …]
{tools}       norikv-resp --help | --version

CONFIG is a configuration file in redis.conf's syntax; `-` reads one from standard input.
Options win over the file. Sizes take units: 64mb. Each option, with its default:
"""


def help_text(tools: Sequence[tuple[str, str]]) -> str:
    """What `norikv-resp --help` prints; `tools` are subcommands and what they do."""
    width = min(shutil.get_terminal_size().columns, 100)
    usage = "".join(f"       norikv-resp {name} …   {summary}\n" for name, summary in tools)
    lines = [_USAGE.format(tools=usage)]
    for section in _working():
        lines.append(f"{section.title}")
        for row in rows(section):
            lines.append(f"  --{row.name} {_default(row)}".rstrip())
            lines += textwrap.wrap(
                row.doc, width, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        lines.append("")
    count = sum(len(rows(section)) for section in _ignored())
    lines += textwrap.wrap(
        f"{count} more options of Redis, such as save, appendonly and io-threads, are accepted"
        " and have no effect here; the log says why.",
        width,
    )
    return "\n".join(lines)


# ---------------------------------------------------------------------------
# conf/norikv.conf
# ---------------------------------------------------------------------------

_CONF_HEAD = """\
# Configuration of norikv-resp. Start the server with it:
#
#     norikv-resp norikv.conf --port 7000
#
# Lines that begin with `#` are comments; those of options show the default. The syntax is that
# of redis.conf, and so are the names wherever Redis has the option. Sizes take units: 1k is
# 1000 bytes, 1kb 1024, and so on with m, mb, g, gb. Values with spaces stand in quotes.
# Options on the command line win over this file. Redis's options that have no effect here are
# accepted; docs/configuration.md lists them.
"""


def conf_text() -> str:
    """The commented configuration file that is shipped as conf/norikv.conf."""
    lines = [_CONF_HEAD]
    for section in _working():
        lines += [f"# {'-' * 78}", f"# {section.title}", f"# {'-' * 78}", ""]
        for row in rows(section):
            lines += textwrap.wrap(
                row.doc, 96, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
            )
            if row.accepts():
                lines.append(f"# Takes {row.accepts()}.".replace("`", ""))
            if isinstance(row, Directive):
                lines.append(f"# {row.syntax}")
            else:
                mark = "" if row.suggested else "# "
                lines += [f"{mark}{row.name} {to_text(line)}" for line in row.lines(row.default)]
            lines.append("")
    return "\n".join(lines)


# ---------------------------------------------------------------------------
# docs/configuration.md
# ---------------------------------------------------------------------------

_DOCS_HEAD = """\
# Configuration

<!-- Written by `python -m norikv_resp.options --write` from norikv_resp/options.py. -->

    norikv-resp [CONFIG] [--option value …]

CONFIG is a file in redis.conf's syntax: one option a line, `#` for comments, quotes around
values with spaces, `include` for other files; `-` reads it from standard input. Options on the
command line win over the file, and several values follow one name: `--bind 127.0.0.1 ::1`.
Relative paths start at the directory in which the server was started.
[conf/norikv.conf](../conf/norikv.conf) holds every option with its default.

Names are Redis's wherever Redis has the option. `CONFIG GET` takes names and patterns,
`CONFIG SET` changes several options at once or none, and `CONFIG REWRITE` brings the file up
to date: comments, order and unchanged lines stay, and the file is replaced atomically.

Sizes take units: `k`, `m` and `g` count in thousands, `kb`, `mb` and `gb` in 1024s.
"""

_IGNORED_HEAD = """\
## Options without effect

So that an existing configuration works, Redis's other options are accepted, answered by
`CONFIG GET` (with Redis's defaults, except that `save` is empty) and settable. A start logs
one line for each reason below whose options were given.
"""


def docs_text() -> str:
    """docs/configuration.md."""
    lines = [_DOCS_HEAD]
    for section in _working():
        lines += [f"## {section.title}", ""]
        lines += ["| option | default | at run time | meaning |", "| --- | --- | --- | --- |"]
        lines += [_docs_row(row) for row in rows(section)]
        lines.append("")
    lines.append(_IGNORED_HEAD)
    for section in _ignored():
        names = ", ".join(f"`{name}`" for row in rows(section) for name in row.names)
        lines += [f"**{section.title}**: {section.ignored}.", "", names, ""]
    gone = ", ".join(f"`{to_text(name)}` ({why})" for name, why in OBSOLETE.items())
    refused = "; ".join(REFUSED.values())
    lines += [
        "**Obsolete**, accepted in files and on the command line: " + gone + ".",
        "",
        f"**Refused**, since ignoring it would leave a door open: {refused}.",
        "",
    ]
    return "\n".join(lines)


def _docs_row(row: Option[Any]) -> str:
    name = f"`{row.name}`"
    if row.aliases:
        name += "; also " + ", ".join(f"`{alias}`" for alias in row.aliases)
    if isinstance(row, Directive):
        default, live = "", "no; a line that may stand several times"
    else:
        default, live = f"`{_default(row)}`", "yes" if row.live else "no"
    meaning = f"{row.doc} Takes {row.accepts()}." if row.accepts() else row.doc
    return f"| {name} | {default} | {live} | {meaning} |".replace("`|`", "`\\|`")


# ---------------------------------------------------------------------------
# Writing and checking
# ---------------------------------------------------------------------------


def generated() -> dict[Path, str]:
    """Each generated file of a checkout and what it must hold."""
    return {
        ROOT / "conf" / "norikv.conf": conf_text(),
        ROOT / "docs" / "configuration.md": docs_text(),
    }


def main(arguments: Sequence[str]) -> int:
    """`--write` the generated files, or `--check` that they are up to date."""
    if list(arguments) not in (["--write"], ["--check"]):
        print("usage: python -m norikv_resp.options --write | --check", file=sys.stderr)
        return 2
    stale = [
        (path, text)
        for path, text in generated().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path, text in stale:
        name = path.relative_to(ROOT)
        if list(arguments) == ["--write"]:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
        else:
            print(f"{name} is out of date: run `make docs`", file=sys.stderr)
    return 1 if stale and list(arguments) == ["--check"] else 0
