"""Sessions that live as long as they are used."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from norikv_resp.client import InvalidArgumentError
from norikv_resp.patterns.combining import Combiner
from norikv_resp.patterns.requests import server_time, together
from norikv_resp.patterns.retry import Attempts

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient, Word


@dataclass
class SessionData:
    """A session.

    Attributes:
        user_id: whose session it is.
        email: of the user.
        roles: what the user may do.
        created_at: the server's Unix milliseconds of its creation.
        last_accessed_at: the server's Unix milliseconds of the last get or update.
    """

    user_id: str
    email: str
    roles: list[str] = field(default_factory=list)
    created_at: int = 0
    last_accessed_at: int = 0


#: Changes the session that it is given, or returns another. It may be called several times.
Change = Callable[[SessionData], SessionData | None]


class SessionManager:
    """Sessions in ``session:ID``, gone *ttl_ms* after they were last used.

    Every get slides the expiry with GETEX, which does nothing to a session that is gone: whether
    it is there and the touch are one step of the server, so a late touch cannot bring a destroyed
    or expired session back. The time of the last access is not stored but follows from the
    expiry, by the server's clock. Updates are compare-and-sets on a session that exists.

    Args:
        client: a connected client.
        ttl_ms: milliseconds that a session lives without being used.
    """

    def __init__(self, client: NoriKVClient, ttl_ms: int = 3_600_000) -> None:
        if ttl_ms < 1:
            raise InvalidArgumentError("ttl_ms is at least 1")
        self._client = client
        self._ttl_ms = ttl_ms
        self._touches: Combiner[None, str, SessionData | None] = Combiner(self._touch)

    async def create(self, user_id: str, email: str, roles: Sequence[str] = ()) -> str:
        """Begin a session; its id, 256 random bits. Two round trips."""
        now = await server_time(self._client)
        session = SessionData(user_id, email, list(roles), created_at=now)
        session_id = secrets.token_urlsafe(32)
        await self._client.execute(
            "SET", self._key(session_id), _encode(session), "NX", "PX", self._ttl_ms
        )
        return session_id

    async def get(self, session_id: str) -> SessionData | None:
        """The session, whose life begins anew; None if it is gone. One round trip."""
        return await self._touches.submit(None, session_id)

    async def _touch(self, _: None, session_ids: list[str]) -> list[SessionData | None]:
        """The sessions that several tasks ask for at one moment, in one round trip."""
        commands: list[Sequence[Word]] = []
        for key in map(self._key, session_ids):
            commands += [("GETEX", key, "PX", self._ttl_ms), ("PEXPIRETIME", key)]
        replies = await together(self._client, *commands)
        pairs = zip(replies[::2], replies[1::2], strict=True)
        return [None if value is None else self._decode(value, at) for value, at in pairs]

    async def update(self, session_id: str, change: Change) -> bool:
        """Change a session as a function of what it is; False if it is gone.

        Concurrent updates all land: who loses a race begins again with what won it. An update is
        a use of the session. Two round trips, one more for each lost race.

        Raises:
            RetryExhaustedError: the race was lost until the deadline.
            Exception: what *change* raises; the session is unchanged then.
        """
        key = self._key(session_id)
        found, expires = await together(self._client, ("GETVER", key), ("PEXPIRETIME", key))
        value, version = found if found is not None else (None, b"0")
        async for _ in Attempts():
            if value is None:
                return False
            session = self._decode(value, expires)
            changed = change(session) or session
            (done, version, value), expires = await together(
                self._client,
                ("CAS", key, version, _encode(changed), "PX", self._ttl_ms),
                ("PEXPIRETIME", key),
            )
            if done:
                return True
        raise AssertionError("Attempts ends with an error")

    async def validate(self, session_id: str) -> bool:
        """Whether the session is there, without using it. One round trip."""
        return bool(await self._client.execute("EXISTS", self._key(session_id)))

    async def destroy(self, session_id: str) -> bool:
        """End a session; whether there was one. One round trip."""
        return bool(await self._client.execute("DEL", self._key(session_id)))

    def _decode(self, value: bytes, expires: int) -> SessionData:
        return SessionData(**json.loads(value), last_accessed_at=expires - self._ttl_ms)

    @staticmethod
    def _key(session_id: str) -> str:
        return f"session:{session_id}"


def _encode(session: SessionData) -> str:
    stored = asdict(session)
    del stored["last_accessed_at"]  # the key's expiry tells
    return json.dumps(stored)
