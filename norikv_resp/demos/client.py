"""A redis-py client with one typed method for any command."""

from __future__ import annotations

from typing import Any

from redis.asyncio import Redis


class Client:
    """``await client.send("CAS", key, version, value)`` returns the reply as the server gave it."""

    def __init__(self, url: str) -> None:
        # One connection: a transaction's commands have to take the same way.
        self._redis: Redis = Redis.from_url(url, single_connection_client=True, protocol=2)

    async def send(self, *words: str | bytes | int) -> Any:
        """Send one command."""
        return await self._redis.execute_command(*words)  # type: ignore[no-untyped-call]

    async def transaction(self, *commands: tuple[str | bytes | int, ...]) -> list[Any] | None:
        """Send MULTI, the commands and EXEC; None when EXEC answers nil."""
        for words in (("MULTI",), *commands):
            await self.send(*words)
        reply: list[Any] | None = await self.send("EXEC")
        return reply

    async def close(self) -> None:
        """Give the connection back."""
        await self._redis.aclose()
