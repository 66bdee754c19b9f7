"""Where clients are accepted: TCP addresses and the Unix socket."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from norikv_resp.config import Config, StartupError
from norikv_resp.logs import log


class Listeners:
    """The listening sockets of one server. *accept* makes the protocol of a new connection."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        accept: Callable[[], asyncio.Protocol],
    ) -> None:
        self.config = config
        self.loop = loop
        self.accept = accept
        self._open: list[asyncio.Server] = []

    async def open(self) -> None:
        """Accept clients; StartupError if an address cannot be had."""
        config = self.config
        if config.port:
            for word in config.bind or ("*",):
                await self._listen_tcp(word.removeprefix("-"), optional=word.startswith("-"))
        if config.unixsocket:
            await self._listen_unix(config.unixsocket, config.unixsocketperm)

    async def _listen_tcp(self, host: str, optional: bool) -> None:
        address = {"*": "0.0.0.0", "::*": "::"}.get(host, host)
        try:
            listener = await self.loop.create_server(
                self.accept,
                address,
                self.config.port,
                backlog=self.config.tcp_backlog,
                reuse_address=True,
            )
        except OSError as error:
            if optional:
                log.debug("not listening on %s: %s", host, error)
                return
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise StartupError(
                f"can't listen on {host} port {self.config.port}: {reason}"
            ) from None
        self._open.append(listener)

    async def _listen_unix(self, path: str, mode: int) -> None:
        try:
            if os.path.exists(path):
                os.unlink(path)
            listener = await self.loop.create_unix_server(self.accept, path)
            if mode:
                os.chmod(path, mode)
        except OSError as error:
            raise StartupError(f"can't listen on {path}: {error.strerror or error}") from None
        self._open.append(listener)

    def addresses(self) -> list[str]:
        """Where clients are accepted, for people."""
        return [_shown(sock.getsockname()) for listener in self._open for sock in listener.sockets]

    def close(self) -> None:
        """Accept no more; the connections stay."""
        for listener in self._open:
            listener.close()

    def remove_unix_socket(self) -> None:
        """Take the Unix socket's file away, once nobody is connected to it."""
        path = self.config.unixsocket
        if path and os.path.exists(path):
            os.unlink(path)


def tune_socket(sock: Any, keepalive: int) -> None:
    """No Nagle delay, and probes for peers that have vanished."""
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if hasattr(socket, "TCP_KEEPIDLE"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, keepalive)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(keepalive // 3, 1))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _shown(name: Any) -> str:
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return str(name)
