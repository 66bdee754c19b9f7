"""What a declaration says to people and tools: syntax lines, HELP and COMMAND DOCS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from norikv_resp.command import Arg, Block, Command, Counted, Key, OneOf, Token
from norikv_resp.protocol import Map, SetReply, Simple

# --------------------------------------------------------------------------
# Syntax lines


def usage(command: Command, brackets: str = "") -> str:
    """The arguments of a command as a syntax line; *brackets* such as ``<>`` go round names."""
    return " ".join(_usage_of(arg, brackets) for arg in command.args)


def _usage_of(arg: Arg, brackets: str) -> str:
    text = _usage_once(arg, brackets)
    if arg.multiple:
        # A display that spells out a grammar of its own is not worth repeating.
        text = f"{text} ..." if arg.display else f"{text} [{text} ...]"
    return f"[{text}]" if arg.optional else text


def _usage_once(arg: Arg, brackets: str) -> str:
    if isinstance(arg, OneOf):
        choices = " | ".join(_usage_once(choice, brackets) for choice in arg.choices)
        return choices if arg.optional else f"({choices})"
    if isinstance(arg, Block):
        return " ".join(_usage_of(part, brackets) for part in arg.parts)
    if isinstance(arg, Counted):
        each = _usage_once(arg.of, brackets)
        return f"{_named(arg.count_name, brackets)} {each} [{each} ...]"
    if isinstance(arg, Token):
        return str(arg.token)
    name = arg.display or _named(arg.name, brackets)
    return f"{arg.token} {name}" if arg.token else name


def _named(name: str, brackets: str) -> str:
    return f"{brackets[0]}{name}{brackets[1]}" if brackets else name


# --------------------------------------------------------------------------
# HELP


def help_lines(container: Command) -> list[Simple]:
    """The reply of a container's HELP."""
    lines = [f"{container.name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for name, sub in sorted(container.subcommands.items()):
        if name != b"HELP":
            lines.append(f"{name.decode()} {usage(sub, '<>')}".rstrip())
            lines.append(f"    {sub.summary}")
    lines += ["HELP", "    Print this help."]
    return [Simple(line.encode()) for line in lines]


# --------------------------------------------------------------------------
# COMMAND DOCS


def docs(command: Command) -> Map:
    """One entry of COMMAND DOCS."""
    fields: list[tuple[bytes, Any]] = [
        (b"summary", command.summary.encode()),
        (b"since", command.since.encode()),
        (b"group", command.group.encode()),
        (b"complexity", command.complexity.encode()),
    ]
    if command.module:
        fields.append((b"module", command.module.encode()))
    if command.history:
        fields.append(
            (
                b"history",
                SetReply([[since.encode(), what.encode()] for since, what in command.history]),
            )
        )
    if command.args:
        fields.append((b"arguments", _argument_docs(command.args, _KeyNumbers())))
    if command.subcommands:
        fields.append(
            (
                b"subcommands",
                Map([(sub.full_name.encode(), docs(sub)) for sub in command.subcommands.values()]),
            )
        )
    return Map(fields)


class _KeyNumbers:
    """Counts the keys of a command, for the number of the key spec that each belongs to."""

    def __init__(self) -> None:
        self.next = 0

    def take(self) -> int:
        self.next += 1
        return self.next - 1


def _argument_docs(args: Iterable[Arg], keys: _KeyNumbers) -> list[Map]:
    entries: list[Map] = []
    for arg in args:
        if isinstance(arg, Counted):
            count = [(b"name", arg.count_name.encode()), (b"type", b"integer")]
            entries.append(Map([*count, (b"display_text", arg.count_name.encode())]))
            entries.append(_argument(arg.of, keys, multiple=True))
        else:
            entries.append(_argument(arg, keys, multiple=arg.multiple))
    return entries


def _argument(arg: Arg, keys: _KeyNumbers, multiple: bool, chosen: bool = False) -> Map:
    """One argument; what is *chosen* among others is not optional by itself."""
    parts = arg.choices if isinstance(arg, OneOf) else arg.parts if isinstance(arg, Block) else ()
    fields: list[tuple[bytes, Any]] = [
        (b"name", arg.name.encode()),
        (b"type", arg.type.encode()),
    ]
    if not parts:
        fields.append((b"display_text", (arg.display or arg.name).encode()))
    if isinstance(arg, Key):
        fields.append((b"key_spec_index", keys.take()))
    if arg.token is not None:
        fields.append((b"token", arg.token.encode()))
    flags = [Simple(b"optional")] if arg.optional and not chosen else []
    flags += [Simple(b"multiple")] if multiple else []
    if flags:
        fields.append((b"flags", flags))
    if parts:
        inner = [_argument(part, keys, part.multiple, isinstance(arg, OneOf)) for part in parts]
        fields.append((b"arguments", inner))
    return Map(fields)
