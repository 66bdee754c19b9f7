"""What the generic families declare, against Redis 8.8's command table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from norikv_resp.command import Command, declared_in
from norikv_resp.commands import databases, deadlines, dump, keys, objects, scan

TABLE = Path(__file__).parents[1] / "golden" / "redis-8.8-commands.json"

FAMILIES = (databases, deadlines, dump, keys, objects, scan)
DECLARED = {
    command.full_name: command for family in FAMILIES for command in declared_in(vars(family))
}


def redis_commands() -> dict[str, dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for entry in json.loads(TABLE.read_text())["commands"]:
        for each in (entry, *entry.get("subcommands", ())):
            table[each["name"]] = each
    return table


def key_specs(command: Command) -> list[tuple[list[str], int, int, int]]:
    return [(sorted(spec.flags), spec.index, spec.last, spec.step) for spec in command.key_specs]


@pytest.mark.parametrize("name", sorted(set(DECLARED) - {"ver"}))
def test_declarations_are_those_of_redis(name: str) -> None:
    command, theirs = DECLARED[name], redis_commands()[name]
    assert command.arity == theirs["arity"]
    assert sorted(command.flag_names) == sorted(theirs["flags"])
    assert sorted(command.categories) == sorted(theirs["acl_categories"])
    assert sorted(command.tips) == sorted(theirs["tips"])
    legacy = theirs["first_key"], theirs["last_key"], theirs["step"]
    assert command.legacy_range == legacy
    assert key_specs(command) == [
        (
            sorted(spec["flags"]),
            spec["begin_search"]["index"],
            spec["find_keys"]["lastkey"],
            spec["find_keys"]["keystep"],
        )
        for spec in theirs["key_specs"]
    ]
