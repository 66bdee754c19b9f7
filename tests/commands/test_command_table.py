"""COMMAND INFO agrees with Redis 8.8's command table for every command of Redis that exists."""

from __future__ import annotations

import json
from typing import Any

import pytest

from norikv_resp.command import Command, KeySpec
from norikv_resp.command_docs import everything
from tests.golden.keyspecs import TABLE

COMMANDS = json.loads(TABLE.read_text(encoding="utf-8"))["commands"]
REDIS = {
    entry["name"].upper().replace("|", " "): entry
    for command in COMMANDS
    for entry in (command, *command.get("subcommands", ()))
}
OURS = {command.name: command for command in everything()}
SHARED = sorted(REDIS.keys() & OURS.keys())


def _spec(spec: KeySpec) -> dict[str, Any]:
    if spec.keyword:
        begin = {"type": "keyword", "keyword": spec.keyword, "startfrom": spec.index}
    else:
        begin = {"type": "index", "index": spec.index}
    if spec.counted:
        find = {"type": "keynum", "keynumidx": 0, "firstkey": 1, "keystep": spec.step}
    else:
        find = {"type": "range", "lastkey": spec.last, "keystep": spec.step, "limit": 0}
    return {"flags": sorted(spec.flags), "begin_search": begin, "find_keys": find}


def _ours(command: Command) -> dict[str, Any]:
    first, last, step = command.legacy_range
    return {
        "arity": command.arity,
        "flags": sorted(command.flag_names),
        "first_key": first,
        "last_key": last,
        "step": step,
        "acl_categories": sorted(command.categories),
        "tips": sorted(command.tips),
        "key_specs": [_spec(spec) for spec in command.key_specs],
    }


def _redis(entry: dict[str, Any]) -> dict[str, Any]:
    return {
        "arity": entry["arity"],
        "flags": sorted(entry["flags"]),
        "first_key": entry["first_key"],
        "last_key": entry["last_key"],
        "step": entry["step"],
        "acl_categories": sorted(entry["acl_categories"]),
        "tips": sorted(entry["tips"]),
        "key_specs": [{**spec, "flags": sorted(spec["flags"])} for spec in entry["key_specs"]],
    }


#: Commands of a fixed number of words in Redis that also take ``IDEM token`` here.
TAKE_IDEM = {"VREM"}


@pytest.mark.parametrize("name", SHARED)
def test_declaration_is_redis(name: str) -> None:
    ours, redis = _ours(OURS[name]), _redis(REDIS[name])
    if name in TAKE_IDEM:
        redis["arity"] = -redis["arity"]
    assert ours == redis


def test_containers_have_the_same_subcommands() -> None:
    """A container that exists has every subcommand of Redis, and none of its own."""
    for entry in COMMANDS:
        name = entry["name"].upper()
        if name in OURS:
            expected = {
                sub["name"].partition("|")[2].upper() for sub in entry.get("subcommands", ())
            }
            assert {sub.decode() for sub in OURS[name].subcommands} == expected, name


def test_every_command_is_described() -> None:
    for name, command in OURS.items():
        assert command.summary, name
        assert command.complexity, name
        assert command.since, name
