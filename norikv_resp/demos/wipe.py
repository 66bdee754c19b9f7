"""Leaves a server as the demo found it."""

from __future__ import annotations

from norikv_resp.client import NoriKVClient


async def wipe(client: NoriKVClient, prefix: str) -> None:
    """Delete the keys that begin with *prefix*, which has no meaning in a pattern."""
    cursor = b"0"
    while True:
        walk = ("SCAN", cursor, "MATCH", f"{prefix}*", "COUNT", 500)
        cursor, keys = await client.execute(*walk)
        if keys:
            await client.execute("UNLINK", *keys)
        if cursor == b"0":
            return
