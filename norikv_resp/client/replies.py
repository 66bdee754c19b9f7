"""Replies as RESP2 carries them, and error replies as the client's errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis import exceptions

from norikv_resp.client.errors import (
    IdempotencyMismatchError,
    InvalidArgumentError,
    NoriKVError,
    NotLeaderError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnavailableError,
    WrongTypeError,
)

#: redis-py has a class of its own for these, and takes the first word off their text.
_CLASSES: dict[type[Exception], Callable[[str], NoriKVError]] = {
    exceptions.AuthenticationError: PermissionDeniedError,
    exceptions.AuthorizationError: PermissionDeniedError,
    exceptions.NoPermissionError: PermissionDeniedError,
    exceptions.BusyLoadingError: UnavailableError,
    exceptions.ReadOnlyError: NotLeaderError,
    exceptions.OutOfMemoryError: ResourceExhaustedError,
    exceptions.DataError: InvalidArgumentError,
}

#: The first word of an error reply. redis-py takes ERR off, so that any other word may come first.
_WORDS: dict[str, Callable[[str], NoriKVError]] = {
    "ERR": InvalidArgumentError,
    "WRONGTYPE": WrongTypeError,
    "IDEMMISMATCH": IdempotencyMismatchError,
    "MISCONF": UnavailableError,
    "BUSY": UnavailableError,
    "TRYAGAIN": UnavailableError,
}

#: First words without an error of their own: they are the code of a NoriKVError.
_CODES = frozenset(
    ("BUSYGROUP", "BUSYKEY", "INPROG", "NOGROUP", "NOPROTO", "NOREPLICAS", "NOSCRIPT", "NOTBUSY")
)


def error_of(error: Exception) -> NoriKVError | None:
    """The client's error for what the server said; None for a connection that broke."""
    for kind in type(error).__mro__:
        if kind in _CLASSES:
            return _CLASSES[kind](str(error))
    if not isinstance(error, exceptions.ResponseError):
        return None
    text = str(error)
    word = text.split(" ", 1)[0]
    if word in _CODES:
        return NoriKVError(text, word)
    if word not in _WORDS:
        word = "ERR"
    if word == "ERR" and "too many idempotency records" in text:
        return ResourceExhaustedError(text)
    if word == "ERR" and "internal error" in text:
        return NoriKVError(text, "INTERNAL")
    known = _WORDS[word](text)
    known.outcome_unknown = word == "MISCONF" and "the outcome is unknown" in text
    return known


def as_resp2(reply: Any) -> Any:
    """*reply* as a RESP2 connection gives it, whatever the connection speaks.

    Maps become flat lists, sets lists, booleans integers and doubles bytes; error replies become
    errors of the client, in their places.
    """
    if reply is None or type(reply) is bytes or type(reply) is int:
        return reply
    if isinstance(reply, list):
        return [as_resp2(each) for each in reply]
    if isinstance(reply, dict):
        return [as_resp2(each) for pair in reply.items() for each in pair]
    if isinstance(reply, (set, frozenset, tuple)):
        return [as_resp2(each) for each in reply]
    if isinstance(reply, bool):
        return int(reply)
    if isinstance(reply, float):
        return repr(reply).removesuffix(".0").encode()
    if isinstance(reply, Exception):
        return error_of(reply) or NoriKVError(str(reply))
    return reply


# -- of several commands ---------------------------------------------------------


def raise_first(replies: list[Any]) -> list[Any]:
    """*replies*, or the first error among them raised."""
    for reply in replies:
        if isinstance(reply, NoriKVError):
            raise reply
    return replies


def single(replies: list[Any]) -> Any:
    """The reply to the only command."""
    return raise_first(replies)[0]


def exec_results(replies: list[Any]) -> list[Any] | None:
    """EXEC's reply; the first error of queueing is raised, errors of running are in it."""
    results: list[Any] | None = raise_first(replies)[-1]
    return results


def exec_reply(replies: list[Any]) -> list[Any] | None:
    """EXEC's reply; the first error of queueing or running is raised."""
    results = exec_results(replies)
    return raise_first(results) if results is not None else None
