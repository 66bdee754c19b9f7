"""MONITOR: every command, shown to the clients that look on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from norikv_resp.command import Request
from norikv_resp.protocol import Simple

if TYPE_CHECKING:
    from norikv_resp.context import Context

_ESCAPES = {
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\a": "\\a",
    "\b": "\\b",
    '"': '\\"',
    "\\": "\\\\",
}


def show(monitors: Iterable[Context], ctx: Context, request: Request) -> None:
    """Show what *ctx* is about to run, its secrets removed, to the clients that MONITOR."""
    now = ctx.keys.keyspace.now
    quoted = b" ".join(_quote(word) for word in request)
    where = f"{ctx.keys.number} {ctx.connection.peer}".encode()
    line = Simple(b"%d.%06d [%b] %b" % (now // 1000, now % 1000 * 1000, where, quoted))
    for monitor in list(monitors):
        monitor.connection.push(line)


def _quote(word: bytes) -> bytes:
    """A word as MONITOR shows it."""
    shown = (
        _ESCAPES.get(char) or (char if " " <= char <= "~" else f"\\x{ord(char):02x}")
        for char in word.decode("latin-1")
    )
    return f'"{"".join(shown)}"'.encode()
