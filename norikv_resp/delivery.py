"""Messages to subscribers and invalidations to tracking clients: they leave after their commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from norikv_resp.protocol import encode

if TYPE_CHECKING:
    from norikv_resp.context import Context
    from norikv_resp.server import Server


class Delivery:
    """Hands what waits in the hub and in the tracking table to the connections."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._scheduled = False

    def send(self, committed: int) -> None:
        """Let everything go that depends on no index above *committed*."""
        server = self.server
        outgoing: dict[Context, list[bytes]] = {}
        for message, subscribers in server.hub.release(committed):
            # Encoded once for each protocol.
            encoded: dict[bool, bytes] = {}
            for subscriber in subscribers:
                data = encoded.get(subscriber.resp3)
                if data is None:
                    data = encoded[subscriber.resp3] = encode(message, subscriber.resp3)
                outgoing.setdefault(subscriber, []).append(data)
        for subscriber, parts in outgoing.items():
            subscriber.connection.push_encoded(b"".join(parts))
        if server.tracking.active:
            for client, message in server.tracking.flush(committed):
                server.contexts[client.id].connection.push(message)

    def wake(self) -> None:
        """A message is waiting: look at the end of this loop turn whether it may leave."""
        if not self._scheduled:
            self._scheduled = True
            self.server.loop.call_soon(self._send_ready)

    def _send_ready(self) -> None:
        self._scheduled = False
        self.send(self.server.store.durable)
