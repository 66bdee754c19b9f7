"""Addresses of the server, their connection pools, and one round trip over them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from redis import exceptions
from redis.asyncio import Connection, ConnectionPool, Redis, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from norikv_resp.client.errors import (
    ConnectionError,
    DeadlineExceededError,
    InvalidArgumentError,
    NoriKVError,
    TransientError,
)
from norikv_resp.client.replies import as_resp2, error_of
from norikv_resp.client.timeouts import timeout
from norikv_resp.client.topology import Topology
from norikv_resp.client.types import ClientConfig, PoolStats

#: A command as it is sent.
Request = Sequence[bytes]

_URLS = ("redis://", "rediss://", "unix://")


class Node:
    """One address with its pool. A round trip takes a connection of its own."""

    def __init__(self, address: str, redis: Redis, limit: int, *, owned: bool = True) -> None:
        """*limit*: round trips at one time. *owned*: the connections are this node's to close."""
        self.address = address
        self.redis = redis
        self.closed = False
        #: The last thing heard of it is that there is no connection.
        self.lost = False
        #: Round trips that have a connection.
        self.busy = 0
        self.limit = limit
        #: Connections that have been used; the pool keeps and reopens them.
        self._connections: set[Any] = set()
        self._owned = owned
        self._free = asyncio.Semaphore(limit)

    @property
    def open_connections(self) -> int:
        """Connections that are open, whether a round trip has them or not."""
        return sum(connection.is_connected for connection in self._connections)

    def open(self) -> None:
        """Take up work, perhaps in another event loop."""
        self.closed = False
        self._free = asyncio.Semaphore(self.limit)

    async def round_trip(self, requests: Sequence[Request], seconds: float) -> list[Any]:
        """Send *requests* in one write and return their replies.

        A reply is what RESP2 would have carried; an error reply is a NoriKVError in its place.

        Raises:
            TransientError: no connection, a broken one or no reply in time; whether the
                requests may have been executed is in its ``outcome_unknown``.
            NoriKVError: the connection was refused for good, such as for a wrong password.
        """
        self._require_open()
        sent = False
        try:
            async with timeout(seconds), self._free:
                pool = self.redis.connection_pool
                connection = await pool.get_connection()  # type: ignore[no-untyped-call]
                # The time is measured here. redis-py would do it again by asyncio.wait_for, which
                # up to Python 3.11 loses a cancellation that meets the end of what it waits for.
                patience, connection.socket_timeout = connection.socket_timeout, None
                self._connections.add(connection)
                self.busy += 1
                try:
                    self._require_open()  # it may have been closed while this waited
                    sent = True
                    replies = await self._exchange(connection, requests)
                    if len(replies) > 1 and any(isinstance(each, NoriKVError) for each in replies):
                        # Perhaps EXEC was refused: whoever comes next must not land in its MULTI.
                        await connection.disconnect(nowait=True)
                    return replies
                except BaseException:
                    # Replies may be under way that nobody will read.
                    await connection.disconnect(nowait=True)
                    raise
                finally:
                    self.busy -= 1
                    connection.socket_timeout = patience
                    await pool.release(connection)
        except (asyncio.TimeoutError, exceptions.TimeoutError) as error:
            text = f"no answer from {self.address} within {seconds * 1000:.0f} ms"
            raise _marked(DeadlineExceededError(text, round(seconds * 1000)), sent) from error
        except exceptions.RedisError as error:
            raise _marked(self._translated(error), sent) from error
        except OSError as error:
            raise _marked(ConnectionError(str(error), self.address), sent) from error

    async def _exchange(self, connection: Any, requests: Sequence[Request]) -> list[Any]:
        """Write all, read all. *connection* stays usable if this returns."""
        await connection.send_packed_command(_packed(requests), check_health=False)
        replies = []
        for _ in requests:
            try:
                reply = await connection.read_response(disable_decoding=True)
            except exceptions.ResponseError as error:
                reply = error
            replies.append(as_resp2(reply))
        return replies

    def _require_open(self) -> None:
        if self.closed:
            raise ConnectionError("the client is closed", self.address)

    def _translated(self, error: exceptions.RedisError) -> NoriKVError:
        known = error_of(error)
        if known is not None:
            return known
        return ConnectionError(f"{self.address}: {error}", self.address)

    async def close(self) -> None:
        """Send nothing more, and close the pool's connections, those in use too, if owned."""
        self.closed = True
        if self._owned:
            await self.redis.aclose()
            await self.redis.connection_pool.disconnect()


class Nodes:
    """The addresses of one data set, and which of them is in use."""

    def __init__(self, nodes: Sequence[Node], total_shards: int) -> None:
        self._nodes = list(nodes)
        self.current = self._nodes[0]
        self.topology = Topology([node.address for node in self._nodes], total_shards)

    def __len__(self) -> int:
        return len(self._nodes)

    @property
    def closed(self) -> bool:
        """Nothing more is to be sent."""
        return self.current.closed

    def open(self) -> None:
        """Take up work again after `close`."""
        for node in self._nodes:
            node.open()

    async def close(self) -> None:
        """Close every node."""
        for node in self._nodes:
            await node.close()

    def failed(self, node: Node, error: TransientError) -> None:
        """*node* could not serve: use the one after it, unless somebody has moved on already.

        It counts as lost when there was no connection or it broke; it may merely be slow when
        there was no answer in time.
        """
        if node.closed:
            return
        if isinstance(error, ConnectionError):
            node.lost = True
        if node is self.current and len(self._nodes) > 1:
            self.current = self._nodes[(self._nodes.index(node) + 1) % len(self._nodes)]
        self._report()

    def answered(self, node: Node) -> None:
        """*node* has replied, whatever it said."""
        if node.lost:
            node.lost = False
            self._report()

    def _report(self) -> None:
        lost = frozenset(node.address for node in self._nodes if node.lost)
        self.topology.report(self.current.address, lost)

    def stats(self) -> PoolStats:
        """The figures of the connections to all nodes."""
        return PoolStats(
            active_connections=sum(node.open_connections for node in self._nodes),
            in_use=sum(node.busy for node in self._nodes),
            max_connections_per_node=self.current.limit,
            closed=self.closed,
        )


def nodes_of(config: ClientConfig) -> Nodes:
    """A pool for every address of *config*. InvalidArgumentError for one that cannot be read."""
    if not config.nodes:
        raise InvalidArgumentError("at least one node address is required")
    limit = config.max_connections_per_node
    nodes = [Node(address, _redis(address, config), limit) for address in config.nodes]
    return Nodes(nodes, config.total_shards)


def nodes_over(redis: Redis, config: ClientConfig) -> Nodes:
    """One node that uses the connections of *redis*, which is somebody else's to close."""
    pool = redis.connection_pool
    options = pool.connection_kwargs
    address = str(options.get("path") or f"{options.get('host')}:{options.get('port')}")
    limit = min(config.max_connections_per_node, pool.max_connections)
    return Nodes([Node(address, redis, limit, owned=False)], config.total_shards)


def _redis(address: str, config: ClientConfig) -> Redis:
    options: dict[str, Any] = {
        # Measured by `round_trip`, and so while connecting, where redis-py sends as well.
        "socket_timeout": None,
        "socket_connect_timeout": config.attempt_seconds,
        **config.redis_options,
        "decode_responses": False,
        "protocol": 2,
        # Only this client knows which request may be repeated.
        "retry": Retry(NoBackoff(), 0),
    }
    if address.startswith(_URLS):
        try:
            pool = ConnectionPool.from_url(address, **options)
        except ValueError as error:
            raise InvalidArgumentError(f"not an address: {address!r}: {error}") from None
        return Redis.from_pool(pool)
    host, port = _host_and_port(address)
    kind = SSLConnection if options.pop("ssl", False) else Connection
    return Redis.from_pool(ConnectionPool(connection_class=kind, host=host, port=port, **options))


def _host_and_port(address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise InvalidArgumentError(f"not an address (host:port or a URL): {address!r}")
    return host.strip("[]"), int(port)


def _packed(requests: Sequence[Request]) -> bytes:
    """*requests* as they are sent; their words being bytes, redis-py has nothing to look at."""
    parts = []
    for request in requests:
        parts.append(b"*%d\r\n" % len(request))
        parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in request]
    return b"".join(parts)


def _marked(error: NoriKVError, sent: bool) -> NoriKVError:
    """*error* with its outcome: what was never sent, or was refused in words, did not happen."""
    error.outcome_unknown = sent and isinstance(error, (ConnectionError, DeadlineExceededError))
    return error
