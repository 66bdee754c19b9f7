"""Which commands may be repeated, as the server's own command table tells."""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable
from typing import Any

from norikv_resp.client.errors import InvalidArgumentError, PermissionDeniedError
from norikv_resp.client.nodes import Request


class Kind(enum.Enum):
    """What a retry of a command needs."""

    #: Changes nothing: just sent again.
    READ = enum.auto()
    #: Changes keys: sent under an idempotency key.
    WRITE = enum.auto()
    #: Carries a token itself.
    TOKEN = enum.auto()
    #: Blocks, publishes, configures, or nobody knows: once it may have been sent, never again.
    ONCE = enum.auto()


#: What belongs to one connection. In a pool it would hit whoever gets the connection next.
_BOUND = frozenset(
    b"MULTI EXEC DISCARD WATCH UNWATCH SELECT AUTH HELLO RESET QUIT MONITOR SYNC PSYNC "
    b"SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE CLIENT".split()
)

#: Change nothing, but have neither flag.
_PURE = frozenset(b"PING ECHO TIME INFO COMMAND DBSIZE LASTSAVE".split())

#: Of a reply to COMMAND INFO.
_FLAGS, _SUBCOMMANDS = 2, 9


class Kinds:
    """The kinds of commands, each asked for once. *ask* sends one command to the server."""

    def __init__(self, ask: Callable[..., Awaitable[Any]]) -> None:
        self._ask = ask
        self._known: dict[tuple[bytes, ...], Kind] = {}

    async def of(self, request: Request) -> Kind:
        """The kind of *request*. InvalidArgumentError if it needs a connection of its own."""
        name = request[0].upper()
        known = self._known.get((name,))
        if known is None and len(request) > 1:
            known = self._known.get((name, request[1].upper()))
        if known is not None:
            return known
        if name in _BOUND:
            raise InvalidArgumentError(
                f"{name.decode()} belongs to one connection: use transaction() or client.redis"
            )
        if name == b"IDEM":
            return Kind.TOKEN
        if name in _PURE:
            return Kind.READ
        return await self._learn(name, request)

    async def _learn(self, name: bytes, request: Request) -> Kind:
        try:
            (found,) = await self._ask(b"COMMAND", b"INFO", name)
        except PermissionDeniedError:
            return Kind.ONCE  # this user may not ask; that may change
        if not found:
            return Kind.ONCE  # unknown to the server; it will say so
        words: tuple[bytes, ...] = (name,)
        subcommands = {each[0].upper(): each for each in found[_SUBCOMMANDS]}
        if subcommands and len(request) > 1:
            words = (name, request[1].upper())
            found = subcommands.get(b"|".join(words))
            if found is None:
                return Kind.ONCE
        kind = _kind_of({str(flag, "ascii") for flag in found[_FLAGS]})
        self._known[words] = kind
        return kind


def _kind_of(flags: set[str]) -> Kind:
    if "readonly" in flags:
        return Kind.READ
    if "write" in flags and "blocking" not in flags:
        return Kind.WRITE
    return Kind.ONCE
