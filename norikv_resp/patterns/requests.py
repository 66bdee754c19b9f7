"""Requests that several patterns make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from norikv_resp.client import NoriKVClient, Word


async def together(client: NoriKVClient, *commands: Sequence[Word]) -> list[Any]:
    """Run *commands* as one transaction without conditions; their replies. One round trip."""
    replies = await client.transaction(commands)
    assert replies is not None, "without a check nothing can fail"
    return replies


async def server_time(client: NoriKVClient) -> int:
    """The server's Unix milliseconds. One round trip.

    The server's clock never goes back: by the time of any later request it is at least this.
    """
    return milliseconds(await client.execute("TIME"))


def milliseconds(reply: Sequence[bytes]) -> int:
    """TIME's reply as Unix milliseconds, rounded down as the server does for expiry."""
    seconds, microseconds = map(int, reply)
    return seconds * 1000 + microseconds // 1000
