"""One client: bytes in, requests, replies out in order, and back-pressure both ways.

Replies that depend on a commit which is still to come are held, and all later
ones behind them. At most ``commands-per-turn`` requests run before the loop
gets back to the other clients.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from norikv_resp.command import Request
from norikv_resp.context import REPLY_ON, REPLY_SKIP, REPLY_SKIP_NEXT, Context
from norikv_resp.dispatch import is_waiting
from norikv_resp.errors import INTERNAL, CommitFailed, ReplyError
from norikv_resp.logs import log
from norikv_resp.protocol import NO_REPLY, ProtocolError, RequestReader, encode

if TYPE_CHECKING:
    from norikv_resp.server import Server

#: Replies held back or not yet taken by the socket, in bytes, above which no more requests run.
HELD_LIMIT = 1 << 20


class Connection(asyncio.Protocol):
    """The protocol object of one client socket."""

    def __init__(self, server: Server) -> None:
        # For the life of the connection.
        self.server = server
        self.loop = server.loop
        self.transport: asyncio.Transport = cast(asyncio.Transport, None)
        self.context: Context = cast(Context, None)
        self.reader = RequestReader()
        #: What is left of the requests that were taken from the reader together.
        self.requests: Iterator[Request] = iter(())
        self.peer = self.local = ""
        self.created = self.active = 0.0

        # Why no request runs at the moment; any of them stops processing.
        #: A reply that is still to come.
        self.waiting_for: asyncio.Future[Any] | None = None
        #: ``process`` is already scheduled for the next turn.
        self.scheduled = False
        #: The socket does not take more.
        self.choked = False
        #: Nothing is read from the socket.
        self.paused_reading = False
        #: CLIENT PAUSE holds this request.
        self.postponed: Request | None = None
        #: No request is read any more.
        self.closing = False

        #: Since when the output is above the soft limit, in loop time; 0 for not at all.
        self.over_soft_since = 0.0

        # Replies held until their commit: (index needed, replies).
        self.held: deque[tuple[int, list[bytes]]] = deque()
        self.held_bytes = 0

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.created = self.active = self.loop.time()
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            self.server.tune_socket(sock)
        self.peer = _address(transport.get_extra_info("peername"), self.server.config.unixsocket)
        self.local = _address(transport.get_extra_info("sockname"), self.server.config.unixsocket)
        refusal = self.server.admit(self)
        if refusal is not None:
            self.transport.write(b"-" + refusal + b"\r\n")
            self.closing = True
            self.transport.close()
            return
        self.context = self.server.register(self)
        self.apply_limits()

    def apply_limits(self) -> None:
        """Take over what a request may be at most."""
        reader, config = self.reader, self.server.config
        reader.authenticated = self.context.authenticated
        reader.max_bulk = config.proto_max_bulk_len
        reader.max_elements = config.max_multibulk_elements

    def data_received(self, data: bytes) -> None:
        if self.closing:
            return
        self.active = self.loop.time()
        self.reader.feed(data)
        self.server.stats.bytes_in += len(data)
        if not self.scheduled:
            self.process()
        held = self.reader.buffered
        if held > HELD_LIMIT and not self.closing:
            if held + self.reader.pending > self.server.query_buffer_limit:
                log.warning("closing client %s: query buffer limit reached", self.peer)
                self.abort()
            elif self._is_blocked():
                self._pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered."""
        if self._is_idle():
            return False
        self.closing_after_replies()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.closing = True
        self.held.clear()
        if self.waiting_for is not None:
            self.waiting_for.cancel()
        if self.context is not None:
            self.server.unregister(self)

    def pause_writing(self) -> None:
        self.choked = True
        self._update_reading()

    def resume_writing(self) -> None:
        self.choked = False
        self._update_reading()
        self.schedule()

    # ---- requests

    def process(self) -> None:
        """Run the requests that have arrived, a bounded number at a time."""
        self.scheduled = False
        if self.choked or self.waiting_for is not None or self.closing:
            return
        if self.paused_reading:
            self._update_reading()
        server = self.server
        ctx = self.context
        server.keyspace.begin_batch()
        server.writer = ctx.id
        replies: list[bytes] = []
        reply: bytes | None
        budget = server.turn_commands
        fast = ctx.fast
        requests = self.requests
        try:
            if self.postponed is not None and not self._execute(self.postponed, replies):
                requests = iter(())
            while not self._is_blocked():
                for request in requests:
                    hot = fast.get(request[0])
                    if hot is not None:
                        reply = hot(ctx, request)
                        if reply is not None:
                            replies.append(reply)
                            continue
                    if not self._execute(request, replies):
                        break
                    fast = ctx.fast
                else:
                    budget -= 1
                    batch = self.reader.take() if budget > 0 else None
                    if batch:
                        budget -= len(batch)
                        requests = self.requests = iter(batch)
                        continue
                    if batch is None:
                        self.schedule()
                break
        except ProtocolError as error:
            server.stats.protocol_errors += 1
            replies.append(encode(error, False))
            self.closing_after_replies()
        except Exception:
            log.exception("defect in a hot path")
            replies.append(encode(INTERNAL, False))
            self.schedule()
        self._deliver(replies)

    def _execute(self, request: Request, replies: list[bytes]) -> bool:
        """Run a request that has no hot path; False if the next one has to wait."""
        server = self.server
        ctx = self.context
        if server.paused and server.pauses(ctx, request):
            self.postponed = request
            server.postpone(self)
            return False
        self.postponed = None
        reply = server.dispatcher.execute(ctx, request)
        if is_waiting(reply):
            self._wait(reply)
            return False
        self._add(reply, replies)
        server.keyspace.now = server.clock.now()
        return not self.closing and self.waiting_for is None

    def _add(self, reply: Any, replies: list[bytes]) -> None:
        ctx = self.context
        if ctx.reply_mode != REPLY_ON:
            if ctx.reply_mode == REPLY_SKIP_NEXT:
                ctx.reply_mode = REPLY_SKIP
                return
            if ctx.reply_mode == REPLY_SKIP:
                ctx.reply_mode = REPLY_ON
                ctx.refresh()
            return
        if reply is not NO_REPLY:
            replies.append(encode(reply, ctx.resp3))

    def _wait(self, reply: Any) -> None:
        """The reply comes later; the client's next requests wait, others run."""
        self.waiting_for = asyncio.ensure_future(reply, loop=self.loop)
        self.context.blocked_since = self.loop.time()
        self.waiting_for.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[Any]) -> None:
        self.waiting_for = None
        if self.closing and not self.transport:
            return
        if future.cancelled():
            return
        error = future.exception()
        if error is not None and not isinstance(error, ReplyError):
            log.error("defect in a waiting command", exc_info=error)
            error = ReplyError(b"ERR internal error, see the server's log")
        replies: list[bytes] = []
        self._add(error if error is not None else future.result(), replies)
        # What a waiting command has seen is not known here: its reply waits for all of it.
        self.server.keyspace.depend_on_all()
        self._deliver(replies)
        self.schedule()

    # ---- replies

    def _deliver(self, replies: list[bytes]) -> None:
        """Send what may leave now, hold what depends on a commit; end the batch."""
        server = self.server
        keyspace = server.keyspace
        if keyspace.store.open:
            server.schedule_seal()
        if not replies:
            self._finish_closing()
            return
        need = max(keyspace.need, keyspace.barrier)
        if need > keyspace.store.durable or self.held:
            self.hold(need, replies)
        else:
            self.write(replies)
        self._finish_closing()
        slowdown = keyspace.store.slowdown
        if slowdown and keyspace.need == keyspace.index:
            self._brake(slowdown)

    def hold(self, need: int, replies: list[bytes]) -> None:
        """Keep replies until *need* is durable."""
        if not self.held:
            self.server.holders.append(self)
        self.held.append((need, replies))
        self.held_bytes += sum(map(len, replies))
        if self.held_bytes > HELD_LIMIT:
            self.choked = True
            self._update_reading()

    def release(self, durable: int) -> bool:
        """Send the held replies that *durable* covers; True if none is left."""
        held = self.held
        ready: list[bytes] = []
        while held and held[0][0] <= durable:
            ready += held.popleft()[1]
        self._released(ready)
        return not held

    def fail(self, durable: int, error: CommitFailed) -> bool:
        """A commit has failed: held replies beyond *durable* become errors."""
        encoded = encode(error, False)
        ready: list[bytes] = []
        for need, replies in self.held:
            ready += replies if need <= durable else [encoded] * len(replies)
        self.held.clear()
        self._released(ready)
        return True

    def _released(self, ready: list[bytes]) -> None:
        if ready:
            self.write(ready)
            if self.held_bytes:
                self.held_bytes -= sum(map(len, ready))
                if not self.held:
                    self.held_bytes = 0
                    self._unchoke()
        self._finish_closing()

    def _unchoke(self) -> None:
        if self.choked and not self.transport.is_closing():
            self.choked = self.transport.get_write_buffer_size() > HELD_LIMIT
            if not self.choked:
                self._update_reading()
                self.schedule()

    def write(self, replies: list[bytes]) -> None:
        """Hand replies to the socket."""
        data = replies[0] if len(replies) == 1 else b"".join(replies)
        self.server.stats.bytes_out += len(data)
        self.transport.write(data)

    def push(self, message: Any) -> None:
        """Send what was not asked for: a message, an invalidation, a MONITOR line."""
        self.push_encoded(encode(message, self.context.resp3))

    def push_encoded(self, data: bytes) -> None:
        """Send a message that is encoded already, behind the replies that are held.

        Otherwise a message could overtake the confirmation of its subscription.
        """
        if self.closing or self.transport.is_closing():
            return
        if self.held:
            self.hold(0, [data])
        else:
            self.write([data])
        self.server.check_output_limit(self)

    # ---- flow

    def schedule(self) -> None:
        """Go on with the requests in the next loop turn."""
        if not self.scheduled and not self.closing:
            self.scheduled = True
            self.loop.call_soon(self.process)

    def resume_postponed(self) -> None:
        """CLIENT PAUSE is over."""
        self.schedule()

    def _brake(self, seconds: float) -> None:
        """Let settling catch up with a writer: no request of it runs for a while."""
        if not self.scheduled and not self.closing:
            self.scheduled = True
            self._pause_reading()
            self.loop.call_later(seconds, self._brake_off)

    def _brake_off(self) -> None:
        if not self.closing:
            self._update_reading()
            self.process()

    def _update_reading(self) -> None:
        if self.choked:
            self._pause_reading()
        elif self.paused_reading and not self.transport.is_closing():
            self.paused_reading = False
            self.transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self.paused_reading and not self.transport.is_closing():
            self.paused_reading = True
            self.transport.pause_reading()

    def _is_blocked(self) -> bool:
        """Whether requests that have arrived have to wait."""
        return (
            self.choked
            or self.scheduled
            or self.closing
            or self.waiting_for is not None
            or self.postponed is not None
        )

    def _is_idle(self) -> bool:
        return not (self.held or self.waiting_for or self.scheduled or self.postponed)

    def closing_after_replies(self) -> None:
        """Read no more requests; close once everything owed has been sent."""
        self.closing = True

    def _finish_closing(self) -> None:
        if self.closing and not self.held and self.waiting_for is None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once, dropping what has not been sent."""
        self.closing = True
        self.transport.abort()


def _address(name: Any, unix_path: str) -> str:
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{unix_path}:0"


