"""docs/commands.md, written from the declarations.

python -m norikv_resp.command_docs --write    regenerate docs/commands.md
python -m norikv_resp.command_docs --check    exit with 1 if it is out of date
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from norikv_resp.bundled import module_names
from norikv_resp.command import Command, Idem, Registry
from norikv_resp.command_syntax import usage
from norikv_resp.commands import FAMILIES
from norikv_resp.hooks import Hooks
from norikv_resp.loader import bundled_module, load_core, load_module

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "commands.md"

GROUPS = {
    "generic": "Keys of any type",
    "string": "Strings",
    "transactions": "Transactions, guards and idempotency",
    "hash": "Hashes",
    "list": "Lists",
    "set": "Sets",
    "sorted-set": "Sorted sets",
    "stream": "Streams",
    "array": "Arrays",
    "bitmap": "Bitmaps",
    "hyperloglog": "HyperLogLog",
    "geo": "Geo",
    "module": "Vector sets",
    "pubsub": "Publish and subscribe",
    "connection": "Connections",
    "server": "Server",
    "scripting": "Scripts and functions",
    "cluster": "Cluster",
}


_HEAD = """\
# Commands

Written by `python -m norikv_resp.command_docs --write` from the declarations in the code: the
same ones that parse requests, answer `COMMAND` and judge ACL rules. Options of Redis's commands
that NoriKV adds stand in the same syntax line. `redis-cli` shows these lines as hints.

In a syntax line, `[x]` may be left out, `x | y` means one of the two, and `...` that the part may
repeat. Flags are those of `COMMAND INFO`.
"""


def document(registry: Registry) -> str:
    """The whole of docs/commands.md."""
    sections = [_HEAD]
    by_group: dict[str, list[Command]] = {}
    for command in registry:
        if not (command.subcommands and command.handler is None):
            by_group.setdefault(command.group, []).append(command)
    for group in sorted(by_group, key=lambda name: list(GROUPS).index(name)):
        commands = sorted(by_group[group], key=lambda command: command.name)
        sections.append(f"## {GROUPS[group]}\n")
        sections += [_entry(command) for command in commands]
    return "\n".join(sections)


def _entry(command: Command) -> str:
    syntax = f"{command.name} {usage(command)}".rstrip()
    facts = [f"since {command.since}", command.complexity]
    facts += [f"flags: {', '.join(command.flag_names)}"] if command.flag_names else []
    facts += [f"module `{command.module}`"] if command.module else []
    lines = [f"### {command.name}\n", f"    {syntax}\n", command.summary]
    if command.reply:
        lines.append(f"Reply: {command.reply}")
    if any(isinstance(arg, Idem) for arg in command.args):
        lines.append("With `IDEM token` it runs at most once.")
    lines += ["", f"*{'; '.join(facts)}*\n"]
    return "\n".join(lines)


def everything() -> Registry:
    """The commands of the core and of every bundled module."""
    registry = Registry()
    load_core(registry, FAMILIES)
    for name in module_names(["all"]):
        load_module(registry, bundled_module(name), [], {}, Hooks())
    return registry


def main(arguments: Sequence[str]) -> int:
    """`--write` docs/commands.md, or `--check` that it is up to date."""
    if list(arguments) not in (["--write"], ["--check"]):
        print("usage: python -m norikv_resp.command_docs --write | --check", file=sys.stderr)
        return 2
    text = document(everything())
    if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == text:
        return 0
    if list(arguments) == ["--write"]:
        DOCUMENT.parent.mkdir(exist_ok=True)
        DOCUMENT.write_text(text, encoding="utf-8")
        print("wrote docs/commands.md")
        return 0
    print("docs/commands.md is out of date: run `make docs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
