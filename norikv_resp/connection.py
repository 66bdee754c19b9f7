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
from operator import length_hint
from typing import TYPE_CHECKING, Any, cast

from norikv_resp.command import Request
from norikv_resp.context import REPLY_ON, REPLY_SKIP, REPLY_SKIP_NEXT, Context
from norikv_resp.dispatch import is_waiting
from norikv_resp.errors import INTERNAL, CommitFailed, ReplyError
from norikv_resp.listeners import tune_socket
from norikv_resp.logs import log
from norikv_resp.protocol import NO_REPLY, ProtocolError, RequestReader, encode

if TYPE_CHECKING:
    from norikv_resp.server import Server

#: Replies held back or not yet taken by the socket, in bytes, above which no more requests run.
HELD_LIMIT = 1 << 20

#: The loop's clock moves in steps of this many seconds: a timer may seem to come that much early.
CLOCK_STEP = 0.001

# Why a connection runs no request.
#: The socket does not take more, or too many replies wait for commits.
CHOKED = 1
#: A reply is still to come.
WAITING = 2
#: ``process`` is already scheduled for a later turn.
SCHEDULED = 4
#: CLIENT PAUSE holds a request.
POSTPONED = 8
#: No request is read any more.
CLOSING = 16


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
        self.is_unix = False
        #: Unix milliseconds: when the client came, and when it last sent something.
        self.created = self.active = 0
        self.bytes_in = self.bytes_out = 0

        #: Why no request runs at the moment: a sum of the reasons above, 0 for none.
        self.stops = 0
        #: A reply that is still to come.
        self.waiting_for: asyncio.Future[Any] | None = None
        #: The request that CLIENT PAUSE holds.
        self.postponed: Request | None = None
        #: The client sends no more; once all it has sent is answered, the connection closes.
        self.ended = False
        #: Until when a brake holds the requests, in loop time.
        self.braked_until = 0.0
        #: Nothing is read from the socket.
        self.paused_reading = False
        #: Since when the output is above the soft limit, in loop time; 0 for not at all.
        self.over_soft_since = 0.0

        # Replies held until their commit: (index needed, how many replies, their bytes).
        self.held: deque[tuple[int, int, bytes]] = deque()
        self.held_bytes = 0

    # ---- the transport's calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.created = self.active = self.server.keyspace.clock.now()
        sock = transport.get_extra_info("socket")
        self.is_unix = sock is not None and sock.family == socket.AF_UNIX
        if sock is not None and not self.is_unix:
            tune_socket(sock, self.server.config.tcp_keepalive)
        self.peer = _address(transport.get_extra_info("peername"), self.server.config.unixsocket)
        self.local = _address(transport.get_extra_info("sockname"), self.server.config.unixsocket)
        refusal = self.server.admit(self)
        if refusal is not None:
            self.transport.write(b"-" + refusal + b"\r\n")
            self.stops |= CLOSING
            self.transport.close()
            return
        self.context = self.server.register(self)
        self.apply_limits()

    @property
    def is_local(self) -> bool:
        """Whether the client is on this machine."""
        return self.is_unix or self.peer.startswith(("127.", "[::1]", "[::ffff:127."))

    def apply_limits(self) -> None:
        """Take over what a request may be at most."""
        reader, config = self.reader, self.server.config
        reader.authenticated = self.context.authenticated
        reader.max_bulk = config.proto_max_bulk_len
        reader.max_elements = config.max_multibulk_elements

    @property
    def closing(self) -> bool:
        """Whether the connection reads no more requests."""
        return bool(self.stops & CLOSING)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        if not self.stops:
            request = self.reader.alone(data)
            if request is not None:
                self._answer(request)
                return
        self.reader.feed(data)
        if not self.stops:
            self.process()
        if self.reader.buffered > HELD_LIMIT:
            self._much_is_buffered()

    def _much_is_buffered(self) -> None:
        if self.closing:
            return
        if self.reader.buffered + self.reader.pending > self.server.live.query_buffer_limit:
            log.warning("closing client %s: query buffer limit reached", self.peer)
            self.abort()
        elif self.stops:
            self._pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; what it has sent is still answered."""
        if self.stops:
            self.ended = True
            return True
        self.closing_after_replies()
        return bool(self.held)

    def connection_lost(self, exc: Exception | None) -> None:
        self.stops |= CLOSING
        self.held.clear()
        if self.waiting_for is not None:
            self.waiting_for.cancel()
        if self.context is not None:
            self.server.unregister(self)

    def pause_writing(self) -> None:
        self._choke()

    def resume_writing(self) -> None:
        self._unchoke()

    # ---- requests

    def _answer(self, request: Request) -> None:
        """Run a request that came alone: what ``process`` does, without what only many need."""
        ctx = self.context
        hot = ctx.fast.get(request[0])
        if hot is not None:
            server = self.server
            keyspace = server.keyspace
            keyspace.need = 0
            if not server.seal_scheduled:  # Else this turn has begun with a look at the clock.
                keyspace.now = keyspace.clock.now()
            self.active = keyspace.now
            server.writer = ctx.id
            try:
                reply = hot(ctx, request)
            except Exception:
                log.exception("defect in a hot path")
                reply = encode(INTERNAL, False)
            if reply is not None:
                self._reply(1, reply)
                return
        self.requests = iter((request,))
        self.process()

    def process(self) -> None:
        """Run the requests that have arrived, a bounded number at a time."""
        server = self.server
        ctx = self.context
        keyspace = server.keyspace
        keyspace.need = 0
        keyspace.now = self.active = keyspace.clock.now()
        server.writer = ctx.id
        replies: list[bytes] = []
        reply: bytes | None
        budget = server.live.turn_commands
        fast = ctx.fast
        requests = self.requests
        take = self.reader.take
        try:
            while not self.stops:
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
                    if budget <= 0:
                        self.schedule()
                        break
                    batch = take()
                    if batch:
                        budget -= len(batch)
                        requests = self.requests = iter(batch)
                        continue
                    if self.reader.unfinished:
                        self.schedule()
                    elif self.ended:
                        self.closing_after_replies()
                    elif self.paused_reading:
                        self._resume_reading()
                    break
        except ProtocolError as error:
            server.stats.protocol_errors += 1
            replies.append(encode(error, False))
            self.closing_after_replies()
        except Exception:
            log.exception("defect in a hot path")
            replies.append(encode(INTERNAL, False))
            self.schedule()
        self._reply(len(replies), b"".join(replies))
        if self.stops:
            self._finish_closing()

    def _reply(self, count: int, data: bytes) -> None:
        """End a batch: its *count* replies leave, or wait for the commit of what it has seen."""
        server = self.server
        keyspace = server.keyspace
        store = keyspace.store
        if store.open and not server.seal_scheduled:
            server.schedule_seal()
        if not data:
            return
        need = keyspace.need
        if need < keyspace.barrier:
            need = keyspace.barrier
        if need > store.durable or self.held:
            self.hold(need, count, data)
            wrote = keyspace.need == keyspace.index
            if store.slowdown and wrote and not self.stops & SCHEDULED:
                self.brake(store.slowdown)
        else:
            self.bytes_out += len(data)
            self.transport.write(data)

    def go_on(self) -> None:
        """The later turn has come: run what has arrived since, unless a brake was put on."""
        left = self.braked_until - self.loop.time()
        if left > CLOCK_STEP:
            self.loop.call_later(left, self.go_on)
            return
        self.stops &= ~(SCHEDULED | POSTPONED)
        postponed, self.postponed = self.postponed, None
        if self.stops:
            self._finish_closing()
            return
        if postponed is not None:
            self.requests = iter([postponed, *self.requests])
        self.process()

    def _execute(self, request: Request, replies: list[bytes]) -> bool:
        """Run a request that has no hot path; False if the next one has to wait."""
        server = self.server
        ctx = self.context
        if server.pause.active and server.pause.holds(ctx, request):
            self.postponed = request
            self.stops |= POSTPONED
            server.pause.postpone(self)
            return False
        reply = server.dispatcher.execute(ctx, request)
        if is_waiting(reply):
            self._wait(reply)
            return False
        self._add(reply, replies)
        server.keyspace.now = server.keyspace.clock.now()
        return not self.stops

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
        self.stops |= WAITING
        self.waiting_for.add_done_callback(self._answered)

    def _answered(self, future: asyncio.Future[Any]) -> None:
        self.waiting_for = None
        self.stops &= ~WAITING
        if future.cancelled() or self.transport.is_closing():
            return
        error = future.exception()
        if error is not None and not isinstance(error, ReplyError):
            log.error("defect in a waiting command", exc_info=error)
            error = INTERNAL
        replies: list[bytes] = []
        self._add(error if error is not None else future.result(), replies)
        if replies:
            # What a waiting command has seen is not known here: its reply waits for all of it.
            keyspace = self.server.keyspace
            if keyspace.store.open:
                self.server.schedule_seal()
            keyspace.depend_on_all()
            self.send(keyspace.need, replies)
        if length_hint(self.requests) or self.reader.has_input or self.ended or self.paused_reading:
            self.schedule()
        self._finish_closing()

    # ---- replies

    def send(self, need: int, replies: list[bytes]) -> None:
        """Send replies, or hold them until *need* is durable and those before them have left."""
        data = b"".join(replies)
        if need > self.server.keyspace.store.durable or self.held:
            self.hold(need, len(replies), data)
        else:
            self._write(data)

    def hold(self, need: int, count: int, data: bytes) -> None:
        """Keep *count* replies until *need* is durable."""
        if not self.held:
            self.server.holders.append(self)
        self.held.append((need, count, data))
        self.held_bytes += len(data)
        if self.held_bytes > HELD_LIMIT:
            self._choke()

    def release(self, durable: int) -> bool:
        """Send the held replies that *durable* covers; True if none is left."""
        held = self.held
        write = self.transport.write
        while held and held[0][0] <= durable:
            data = held.popleft()[2]
            size = len(data)
            self.held_bytes -= size
            self.bytes_out += size
            write(data)
        if self.stops:
            self._released()
        return not held

    def fail(self, durable: int, error: CommitFailed) -> None:
        """A commit has failed: held replies beyond *durable* become errors."""
        encoded = encode(error, False)
        for need, count, data in self.held:
            # A held message (count 0) depends on nothing but its place.
            self._write(data if need <= durable or not count else encoded * count)
        self.held.clear()
        self.held_bytes = 0
        if self.stops:
            self._released()

    def _released(self) -> None:
        if self.stops & CHOKED and self.transport.get_write_buffer_size() <= HELD_LIMIT:
            self._unchoke()
        self._finish_closing()

    def _write(self, data: bytes) -> None:
        self.bytes_out += len(data)
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
            self.hold(0, 0, data)
        else:
            self._write(data)
        self.server.check_output_limit(self)

    # ---- flow

    def schedule(self) -> None:
        """Go on with the requests in the next loop turn."""
        if not self.stops & SCHEDULED:
            self.stops |= SCHEDULED
            self.loop.call_soon(self.go_on)

    def brake(self, seconds: float) -> None:
        """Let what follows writes catch up with a writer: no request of it runs for a while.

        Of several calls the longest counts.
        """
        self.braked_until = max(self.braked_until, self.loop.time() + seconds)
        self._pause_reading()
        if not self.stops & SCHEDULED:
            self.stops |= SCHEDULED
            self.loop.call_later(seconds, self.go_on)

    def _choke(self) -> None:
        self.stops |= CHOKED
        self._pause_reading()

    def _unchoke(self) -> None:
        if self.stops & CHOKED and self.held_bytes <= HELD_LIMIT:
            self.stops &= ~CHOKED
            self._resume_reading()
            self.schedule()

    def _resume_reading(self) -> None:
        if self.paused_reading and not self.transport.is_closing():
            self.paused_reading = False
            self.transport.resume_reading()

    def _pause_reading(self) -> None:
        if not self.paused_reading and not self.transport.is_closing():
            self.paused_reading = True
            self.transport.pause_reading()

    def closing_after_replies(self) -> None:
        """Read no more requests; close once everything owed has been sent."""
        self.stops |= CLOSING

    def _finish_closing(self) -> None:
        if self.stops & CLOSING and not self.held and self.waiting_for is None:
            self.transport.close()

    def abort(self) -> None:
        """Close at once, dropping what has not been sent."""
        self.stops |= CLOSING
        self.transport.abort()


def _address(name: Any, unix_path: str) -> str:
    if isinstance(name, tuple):
        host, port = name[0], name[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"{unix_path}:0"
