"""Every error text that a client can see.

Handlers raise; the dispatcher turns what they raise into one RESP error. The
first word of a text is the code that clients switch on.
"""

from __future__ import annotations


class ReplyError(Exception):
    """An error that is sent to the client as ``-text``.

    ``text`` is a single line of bytes; the encoder replaces line ends that
    came in with quoted arguments.
    """

    def __init__(self, text: bytes | str) -> None:
        self.text = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        super().__init__(self.text)

    def __str__(self) -> str:
        return self.text.decode("utf-8", "replace")


class WrongType(ReplyError):
    """The key holds another type than the command works on."""

    def __init__(self) -> None:
        super().__init__(b"WRONGTYPE Operation against a key holding the wrong kind of value")


class WrongArity(ReplyError):
    """The number of arguments cannot be right. ``name`` is as Redis prints it (config|get)."""

    def __init__(self, name: str) -> None:
        super().__init__(f"ERR wrong number of arguments for '{name}' command")


class SyntaxProblem(ReplyError):
    """An option is unknown, contradicts another or lacks its value."""

    def __init__(self) -> None:
        super().__init__(b"ERR syntax error")


class NotAnInteger(ReplyError):
    """An argument or a value is not a 64-bit decimal integer."""

    def __init__(self, what: str = "value") -> None:
        super().__init__(f"ERR {what} is not an integer or out of range")


class NotAFloat(ReplyError):
    """An argument or a value is not a finite number."""

    def __init__(self) -> None:
        super().__init__(b"ERR value is not a valid float")


class InvalidExpire(ReplyError):
    """A time to live or a deadline that cannot be kept."""

    def __init__(self, command: str) -> None:
        super().__init__(f"ERR invalid expire time in '{command}' command")


class InvalidVersion(ReplyError):
    """A version that is not ``<term>-<index>`` or ``0``."""

    def __init__(self) -> None:
        super().__init__(b"ERR invalid version")


class UnknownCommand(ReplyError):
    """Quotes the name and the first arguments, cut to 128 bytes each, as Redis does."""

    def __init__(self, request: list[bytes]) -> None:
        name = _quotable(request[0])
        shown = ""
        for argument in request[1:]:
            if len(shown) >= 128:
                break
            shown += f"'{_quotable(argument, 128 - len(shown))}' "
        tail = f", with args beginning with: {shown}" if len(request) > 1 else ""
        super().__init__(f"ERR unknown command '{name}'{tail}")


class UnknownSubcommand(ReplyError):
    """The container exists, the subcommand does not."""

    def __init__(self, container: str, given: bytes) -> None:
        super().__init__(
            f"ERR unknown subcommand '{_quotable(given)}'. Try {container.upper()} HELP."
        )


class IdempotencyMismatch(ReplyError):
    """The token was used in this scope for another command or other arguments."""

    def __init__(self) -> None:
        super().__init__(
            b"IDEMMISMATCH this token was already used here with another command or arguments"
        )


class CommitFailed(ReplyError):
    """A staged change did not become durable; the server goes on serving reads."""

    def __init__(self, cause: str, outcome: str) -> None:
        advice = (
            "nothing was applied"
            if outcome == "not applied"
            else "the outcome is unknown, retry with IDEM"
        )
        super().__init__(f"MISCONF Errors writing to the commit log: {cause}; {advice}.")


class WritesRefused(ReplyError):
    """Writes are not accepted at the moment, reads are."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"MISCONF Writes are refused: {reason}")


class UnsupportedOption(ReplyError):
    """A word of EXPIRE that is none of its options."""

    def __init__(self, word: bytes) -> None:
        super().__init__(b"ERR Unsupported option " + word)


OUT_OF_RANGE = ReplyError(b"ERR value is out of range")
NO_SUCH_KEY = ReplyError(b"ERR no such key")
SAME_OBJECT = ReplyError(b"ERR source and destination objects are the same")
INVALID_CURSOR = ReplyError(b"ERR invalid cursor")
DB_OUT_OF_RANGE = ReplyError(b"ERR DB index is out of range")
NOT_AUTHENTICATED = ReplyError(b"NOAUTH Authentication required.")
EXEC_ABORTED = ReplyError(b"EXECABORT Transaction discarded because of previous errors.")
INTERNAL = ReplyError(b"ERR internal error, see the server's log")


def _quotable(data: bytes, limit: int = 128) -> str:
    """At most *limit* bytes of *data* as text, up to the first NUL as C would print it."""
    return data.split(b"\0", 1)[0][:limit].decode("utf-8", "surrogateescape")
