"""Sends batches of vectors to a server, several at a time, each exactly once.

Every batch carries an idempotency token, so that what was interrupted can be sent again: by this
sender after a lost connection, or by the next run of the same import.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from redis import Redis, RedisError, exceptions

from norikv_resp.vectors.files import Batch

#: Batches that are under way at once: the server works on one while the next ones travel.
WINDOW = 4

#: Seconds to wait for an answer, and between two attempts to connect.
ANSWER_SECONDS = 60.0
PAUSE_SECONDS = 0.25

Word = bytes | str | int

_UNREACHABLE = (exceptions.ConnectionError, exceptions.TimeoutError, exceptions.BusyLoadingError)


class ServerRefused(Exception):
    """The server answered with an error, or could not be reached for too long."""


class _Request(NamedTuple):
    """What a batch becomes: commands of which the last one's reply tells the outcome."""

    commands: list[tuple[Word, ...]]
    vectors: int


def request(key: bytes, batch: Batch) -> _Request:
    """One VMADD, in a transaction with the attributes if there are any."""
    token = batch.token()
    pairs: list[Word] = []
    for name, vector in zip(batch.ids, batch.vectors, strict=True):
        pairs += (name, vector.tobytes())
    count = len(batch.ids)
    if batch.attributes is None:
        return _Request([("VMADD", key, "IDEM", token, count, *pairs)], count)
    commands: list[tuple[Word, ...]] = [
        ("MULTI",),
        ("IDEM", token),
        ("VMADD", key, count, *pairs),
    ]
    for name, text in zip(batch.ids, batch.attributes, strict=True):
        if text is not None:
            commands.append(("VSETATTR", key, name, text))
    return _Request([*commands, ("EXEC",)], count)


class Sender:
    """A connection that comes back when it is lost.

    *patience*: seconds after which a server that cannot be reached ends the import.
    *done* is called with the number of vectors of each batch that is safe.
    """

    def __init__(
        self, url: str, key: bytes, patience: float, done: Callable[[int], object]
    ) -> None:
        self.key = key
        self.patience = patience
        self.done = done
        #: Vectors that are safe, and how many of them had ids that were not there before.
        self.safe = 0
        self.new = 0
        self._redis = Redis.from_url(
            url, protocol=2, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=10.0
        )
        self._connection: Any = None
        self._waiting: deque[_Request] = deque()

    def call(self, *words: Word) -> Any:
        """One command's reply, once all batches are answered; ServerRefused."""
        self.finish()
        return self._patiently(lambda: self._exchange([words]))[0]

    def send(self, batch: Batch) -> None:
        """Send a batch; waits while too many are under way. ServerRefused."""
        request_ = request(self.key, batch)
        while len(self._waiting) >= WINDOW:
            self._patiently(self._receive)
        self._waiting.append(request_)
        self._patiently(lambda: self._offer(request_))

    def finish(self) -> None:
        """Wait until all batches are safe; ServerRefused."""
        while self._waiting:
            self._patiently(self._receive)

    def close(self) -> None:
        """Give the connection back."""
        self._drop()
        self._redis.close()

    # -- one connection

    def _offer(self, last: _Request) -> None:
        """Write the request that was appended last: a new connection writes all that wait."""
        if self._connection is None:
            self._connected()
        else:
            self._write(last.commands)

    def _connected(self) -> Any:
        if self._connection is None:
            connection = self._redis.connection_pool.get_connection()
            self._connection = connection
            for waiting in self._waiting:
                self._write(waiting.commands)
        return self._connection

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
            self._redis.connection_pool.release(self._connection)
            self._connection = None

    def _write(self, commands: list[tuple[Word, ...]]) -> None:
        connection = self._connection
        connection.send_packed_command(connection.pack_commands(commands))

    def _exchange(self, commands: list[tuple[Word, ...]]) -> list[Any]:
        connection = self._connected()
        self._write(commands)
        return [connection.read_response() for _ in commands]

    def _receive(self) -> None:
        """Take the replies of the batch that was sent first."""
        connection = self._connected()
        waiting = self._waiting[0]
        replies = [connection.read_response() for _ in waiting.commands]
        reply = replies[-1]
        if isinstance(reply, list):  # EXEC's: IDEM's OK, VMADD's, then VSETATTR's
            failed = next((item for item in reply if isinstance(item, Exception)), None)
            if failed is not None:
                raise failed
            reply = reply[1]
        self._waiting.popleft()
        self.new += int(reply)
        self.safe += waiting.vectors
        self.done(waiting.vectors)

    def _patiently(self, act: Callable[[], Any]) -> Any:
        """Do it, on a new connection as long as it fails for want of one."""
        deadline = time.monotonic() + self.patience
        while True:
            try:
                return act()
            except _UNREACHABLE as error:
                self._drop()
                if time.monotonic() > deadline:
                    raise ServerRefused(f"no answer for {self.patience:g} s: {error}") from None
                time.sleep(PAUSE_SECONDS)
            except RedisError as error:
                self._drop()
                raise ServerRefused(str(error)) from None
