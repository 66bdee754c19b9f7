"""Which arguments of a recorded command are keys, and whether it writes.

Read from the reference's own command table, not from the server under test.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("redis-8.8-commands.json")


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    commands = json.loads(TABLE.read_text(encoding="utf-8"))["commands"]
    flat = {command["name"].lower(): command for command in commands}
    for command in commands:
        for sub in command.get("subcommands", ()):
            flat[sub["name"].lower()] = sub
    return flat


def declaration(args: Sequence[str]) -> dict[str, Any] | None:
    """The table's row for a request, its subcommand's where it has one; None if unknown."""
    name = args[0].lower()
    if len(args) > 1 and f"{name}|{args[1].lower()}" in _table():
        return _table()[f"{name}|{args[1].lower()}"]
    return _table().get(name)


def writes(args: Sequence[str]) -> bool:
    row = declaration(args)
    return row is not None and "write" in row["flags"]


def keys_of(args: Sequence[str]) -> list[str]:
    """The keys that a request names; as many as can be told when it is malformed."""
    row = declaration(args)
    if row is None:
        return []
    found: list[str] = []
    for spec in row["key_specs"]:
        found += _keys_by_spec(spec, args)
    for position, arg in enumerate(args[:-1]):
        # The table leaves the destination of SORT and GEORADIUS open.
        if arg.upper() in ("STORE", "STOREDIST") and args[0].upper() != "SET":
            found.append(args[position + 1])
    return found


def _keys_by_spec(spec: dict[str, Any], args: Sequence[str]) -> list[str]:
    begin, find = spec["begin_search"], spec["find_keys"]
    if begin["type"] == "index":
        first = begin["index"]
    elif begin["type"] == "keyword":
        words = [arg.upper() for arg in args]
        if begin["keyword"] not in words:
            return []
        first = words.index(begin["keyword"]) + 1
    else:
        return []
    if find["type"] == "range":
        last = find["lastkey"]
        end = first + last if last >= 0 else len(args) + last
        if find["limit"] > 1:
            end = first + (len(args) - first) // find["limit"] - 1
        return list(args[first : end + 1 : find["keystep"]])
    if find["type"] == "keynum":
        try:
            count = int(args[first + find["keynumidx"]])
        except (IndexError, ValueError):
            return []
        start = first + find["firstkey"]
        return list(args[start : start + count * find["keystep"] : find["keystep"]])
    return []
