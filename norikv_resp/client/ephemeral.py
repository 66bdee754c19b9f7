"""A temporary server for tests, with a client to it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

from norikv_resp.client.client import NoriKVClient
from norikv_resp.client.errors import NoriKVError
from norikv_resp.client.types import ClientConfig
from norikv_resp.private_server import PrivateServer, PrivateServerError


class EphemeralServerError(NoriKVError):
    """The temporary server cannot be started, has been already, or is not there yet."""


class EphemeralNoriKV:
    """A server in a process of its own, for as long as it is needed.

    Example:
        >>> async with EphemeralNoriKV() as cluster:
        ...     client = cluster.get_client()
        ...     await client.put("key", "value")

    Attributes:
        port: of 127.0.0.1, where clients of any language find it.
        total_shards: what its client is configured with.
    """

    def __init__(
        self,
        port: int | None = None,
        data_dir: str | None = None,
        total_shards: int = 256,
        server_binary: str | None = None,
        log_file: str | None = None,
        startup_timeout: float = 10.0,
    ) -> None:
        """Nothing is started yet.

        Args:
            port: None for one that is free.
            data_dir: a directory whose data stays. Without it the data goes with the server, which
                therefore does not wait for the disk.
            total_shards: see ClientConfig.
            server_binary: accepted; the server is the one of this package.
            log_file: the server's log; None for one that goes with the server.
            startup_timeout: seconds that the server has until it answers.
        """
        self.port = port or _free_port()
        self.data_dir = data_dir
        self.total_shards = total_shards
        self.server_binary = server_binary
        self.log_file = log_file
        self.startup_timeout = startup_timeout
        self._server: PrivateServer | None = None
        self._client: NoriKVClient | None = None

    @property
    def url(self) -> str:
        """The server's address, for clients that take URLs."""
        return f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Start the server and wait until it answers.

        Raises:
            EphemeralServerError: it is running, or cannot be started; its log is in the message.
        """
        if self._server is not None:
            raise EphemeralServerError("the server is already started")
        server = PrivateServer(
            *(() if self.data_dir else ("--appendfsync", "no")),
            port=self.port,
            data=Path(self.data_dir) if self.data_dir else None,
            log=Path(self.log_file) if self.log_file else None,
            patience=self.startup_timeout,
        )
        try:
            server.launch()
        except OSError as error:
            raise EphemeralServerError(f"the server cannot be started: {error}") from error
        try:
            while not await asyncio.to_thread(server.ready):
                await asyncio.sleep(0.02)
        except BaseException as error:
            server.stop()
            if isinstance(error, PrivateServerError):
                raise EphemeralServerError(str(error)) from error
            raise
        self._server = server

    def get_client(self) -> NoriKVClient:
        """The client of this server, the same one at every call; `stop` closes it.

        Raises:
            EphemeralServerError: the server is not running.
        """
        if self._server is None:
            raise EphemeralServerError("the server is not started: use start() or async with")
        if self._client is None:
            config = ClientConfig([f"127.0.0.1:{self.port}"], total_shards=self.total_shards)
            self._client = NoriKVClient(config)
        return self._client

    async def stop(self) -> None:
        """Close the client, end the server, remove its data; nothing happens the second time."""
        client, self._client = self._client, None
        server, self._server = self._server, None
        try:
            if client is not None:
                await client.close()
        finally:
            if server is not None:
                await asyncio.to_thread(server.stop)

    async def __aenter__(self) -> EphemeralNoriKV:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()


@asynccontextmanager
async def create_ephemeral(
    port: int | None = None,
    data_dir: str | None = None,
    total_shards: int = 256,
    *,
    server_binary: str | None = None,
    log_file: str | None = None,
    startup_timeout: float = 10.0,
) -> AsyncIterator[EphemeralNoriKV]:
    """A temporary server, started at the beginning of an ``async with`` and gone at its end.

    Args:
        port: see EphemeralNoriKV, as everything else.
        data_dir: see there.
        total_shards: see there.
        server_binary: see there.
        log_file: see there.
        startup_timeout: see there.

    Yields:
        The running server; its `get_client` has the client.

    Raises:
        EphemeralServerError: it cannot be started.
    """
    cluster = EphemeralNoriKV(
        port, data_dir, total_shards, server_binary, log_file, startup_timeout
    )
    async with cluster:
        yield cluster


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
