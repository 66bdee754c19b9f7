"""HELP subcommands, derived from the declarations of their siblings."""

from __future__ import annotations

from typing import Any

from norikv_resp.command import LOADING, STALE, Command
from norikv_resp.command_syntax import help_lines
from norikv_resp.context import Context
from norikv_resp.protocol import Simple


def help_of(container: Command, *, since: str, **declaration: Any) -> Command:
    """The HELP subcommand of *container*, to be put into the family's namespace."""

    def show(ctx: Context) -> list[Simple]:
        return help_lines(container)

    return Command(
        f"{container.name} HELP",
        show,
        since=since,
        flags=LOADING | STALE,
        group=container.group,
        summary="Print this help.",
        complexity="O(1)",
        **declaration,
    )
