"""The client's errors: NoriKV's names and attributes.

``outcome_unknown`` tells whether the request may have been executed. If it is
true for a write, repeating it under the same idempotency key is safe;
anything else may do it twice.
"""

from __future__ import annotations

from norikv_resp.client.types import Version


class NoriKVError(Exception):
    """The base of all errors of the client.

    Attributes:
        code: what went wrong in one word, such as ``INVALID_ARGUMENT``; the server's own word
            where NoriKV has none.
        outcome_unknown: whether the request may have been executed nevertheless.
    """

    def __init__(self, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.outcome_unknown = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(message={str(self)!r}, code={self.code!r})"

    @property
    def cause(self) -> BaseException | None:
        """The error behind this one, if any."""
        return self.__cause__


# -- what the caller got wrong, or lost ----------------------------------------


class InvalidArgumentError(NoriKVError):
    """An argument that cannot be right, as the client or the server sees it."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "INVALID_ARGUMENT")


class WrongTypeError(NoriKVError):
    """The key holds another type than the command works on."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "WRONGTYPE")


class IdempotencyMismatchError(NoriKVError):
    """The idempotency key was used on this key for another command or other arguments."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "IDEMPOTENCY_MISMATCH")


class PermissionDeniedError(NoriKVError):
    """The user is unknown, or not allowed to do this."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "PERMISSION_DENIED")


class ResourceExhaustedError(NoriKVError):
    """A limit of the server is reached."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "RESOURCE_EXHAUSTED")


class NotFoundError(NoriKVError):
    """What the request names does not exist; ``id`` says what."""

    def __init__(self, message: str, id: str | None = None) -> None:
        super().__init__(message, "NOT_FOUND")
        self.id = id


class KeyNotFoundError(NotFoundError):
    """The key does not exist, or has expired."""

    def __init__(self, key: bytes) -> None:
        super().__init__(f"no such key: {key!r}")
        self.key = key


class AlreadyExistsError(NoriKVError):
    """A put with if_not_exists found the key."""

    def __init__(self, message: str, key: bytes) -> None:
        super().__init__(message, "ALREADY_EXISTS")
        self.key = key


class VersionMismatchError(NoriKVError):
    """The key has another version than expected; ``actual_version`` is None if it is gone.

    ``actual_version`` is read right after the refusal: it may be newer than what refused.
    """

    def __init__(
        self,
        message: str,
        key: bytes,
        expected_version: Version | None,
        actual_version: Version | None,
    ) -> None:
        super().__init__(message, "VERSION_MISMATCH")
        self.key = key
        self.expected_version = expected_version
        self.actual_version = actual_version


# -- vectors -------------------------------------------------------------------


class VectorIndexNotFoundError(NotFoundError):
    """There is no index of that name; ``id`` is the name."""


class VectorIndexAlreadyExistsError(NoriKVError):
    """There is an index of that name with another definition."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "ALREADY_EXISTS")


class VectorDimensionMismatchError(InvalidArgumentError):
    """The vector does not have as many dimensions as the index."""


# -- what may pass -------------------------------------------------------------


class TransientError(NoriKVError):
    """What may go better next time; the client has retried it if the request allowed that."""


class ConnectionError(TransientError):
    """The server could not be reached, or the connection broke; ``address`` says where."""

    def __init__(self, message: str, address: str | None = None) -> None:
        super().__init__(message, "CONNECTION_ERROR")
        self.address = address


class NoNodesAvailableError(ConnectionError):
    """None of the nodes can be reached."""

    def __init__(self, message: str = "no node can be reached") -> None:
        super().__init__(message)
        self.code = "NO_NODES_AVAILABLE"


class DeadlineExceededError(TransientError):
    """There was no answer in time."""

    def __init__(self, message: str, timeout_ms: int) -> None:
        super().__init__(message, "DEADLINE_EXCEEDED")
        self.timeout_ms = timeout_ms


TimeoutError = DeadlineExceededError


class UnavailableError(TransientError):
    """The server is there and cannot do it now: it is starting, or its disk refuses writes."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "UNAVAILABLE")


class NotLeaderError(TransientError):
    """The node does not take writes."""

    def __init__(
        self, message: str, leader_hint: str | None = None, shard_id: int | None = None
    ) -> None:
        super().__init__(message, "NOT_LEADER")
        self.leader_hint = leader_hint
        self.shard_id = shard_id


class RetryExhaustedError(NoriKVError):
    """Every attempt failed in a way that might have passed.

    Attributes:
        attempts: how many there were.
        last_error: what the last one failed with; also the ``__cause__``.
        idempotency_key: under which a write may be repeated safely, for as long as the server
            remembers it (ClientConfig.token_ttl_ms, if the client has made it).
    """

    def __init__(
        self,
        message: str,
        attempts: int,
        last_error: Exception | None = None,
        idempotency_key: str | bytes | None = None,
    ) -> None:
        super().__init__(message, "RETRY_EXHAUSTED")
        self.attempts = attempts
        self.last_error = last_error
        self.idempotency_key = idempotency_key
