"""From bytes to requests: as fast as hiredis on ordinary input, as strict as Redis on any.

Three ways lead from bytes to a request, and all give the same answers:

* A chunk that is one small request, the most common one, is split at its line ends (``alone``);
  when the length lines found are those that the arguments call for, the split was right.
* A window of a longer pipeline goes through hiredis in C. hiredis reads replies, so it also takes
  what no request may contain; a window is handed out only if it is proven to be nothing but
  arrays of bulk strings that end where the window ends.
* Everything else (inline commands, errors, requests cut by the end of a chunk, large values, and
  connections that have not authenticated) is read by ``_step``, which follows Redis's own parser
  rule by rule. It is the definition; the other two only may not differ from it.

What Redis answers depends a little on how its reads cut the stream; here the answer is always the
one that Redis gives when the bytes come one by one.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Final

import hiredis

from norikv_resp.errors import ReplyError

#: A line without its end may be this long, in bytes (Redis's PROTO_INLINE_MAX_SIZE).
MAX_LINE: Final = 64 * 1024

#: Before authentication a request has at most this many arguments, each of at most so many bytes.
UNAUTHENTICATED_ELEMENTS: Final = 10
UNAUTHENTICATED_BULK: Final = 16 * 1024

DEFAULT_MAX_BULK: Final = 512 * 1024 * 1024
DEFAULT_MAX_ELEMENTS: Final = 2**31 - 1

#: Bytes that go through hiredis at a time. It moves what is left of its buffer after every 1,024
#: bytes read, which is quadratic in this size.
WINDOW: Final = 16 * 1024

#: A chunk up to this size is first tried as a single request; up to the second size where the last
#: one was no pipeline (a vector of 1,536 dimensions has 6 KB).
SMALL: Final = 512
MEDIUM: Final = 8192

#: With more bytes a request than this, _step is faster than the proof that hiredis needs.
_BULKY: Final = 1024

#: Missing arguments from which on _step reads them a block at a time, and the size of a block.
_MANY: Final = 16
_BLOCK: Final = 4096

#: Empty lines and empty arrays that one take() skips: some milliseconds.
_MOST_SKIPPED: Final = 4096

#: An incomplete argument above this size gets a buffer of its own.
_LARGE: Final = 16 * 1024

#: What an argument takes beside its bytes: object header, list slot, allocator rounding.
_ELEMENT_OVERHEAD: Final = 48

_LENGTH = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch
_SMALL_LENGTHS: Final = {b"%d" % n: n for n in range(1024)}
_BULK_HEADERS: Final = [b"$%d" % n for n in range(MEDIUM)]
_bulk_header = _BULK_HEADERS.__getitem__
_ARRAY_HEADERS: Final = {b"*%d" % n: 2 * n + 2 for n in range(1, SMALL // 4)}
_join = b"".join


class ProtocolError(ReplyError):
    """The client broke the protocol: send the text, then close."""

    def __init__(self, reason: bytes) -> None:
        super().__init__(b"ERR Protocol error: " + reason)


# ---------------------------------------------------------------------------------------------
# Inline commands
# ---------------------------------------------------------------------------------------------

_PLAIN_WORDS = re.compile(rb"[^\"'\v\f\0]*").fullmatch
_BLANKS = re.compile(rb"[ \t\n\v\f\r]*").match
_UNQUOTED = re.compile(rb"[^ \t\r\n\"'\0]+").match
_DOUBLE = re.compile(rb'"((?:[^"\\]|\\.)*)"(?=[ \t\n\v\f\r]|\Z)', re.DOTALL).match
_SINGLE = re.compile(rb"'((?:[^'\\]|\\'|\\(?!'))*)'(?=[ \t\n\v\f\r]|\Z)", re.DOTALL).match
_ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL).sub
_ESCAPES: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes((int(code[1:], 16),))
    return _ESCAPES.get(code, code)


def split_inline(line: bytes) -> list[bytes] | None:
    """Split a line into arguments as Redis's sdssplitargs does; None if quotes do not match.

    Double quotes know ``\\n \\r \\t \\b \\a \\xHH``, single quotes know ``\\'``. A quote may begin
    inside a word, but what follows a closing quote must be a blank. O(len(line)).
    """
    if _PLAIN_WORDS(line):
        return line.split()
    line = line.partition(b"\0")[0]
    words: list[bytes] = []
    pos = _end(_BLANKS(line))
    while pos < len(line):
        word = b""
        if plain := _UNQUOTED(line, pos):
            word = plain[0]
            pos = plain.end()
        mark = line[pos : pos + 1]
        if mark == b'"':
            quoted = _DOUBLE(line, pos)
            if quoted is None:
                return None
            word += _ESCAPE(_unescape, quoted[1])
            pos = quoted.end()
        elif mark == b"'":
            quoted = _SINGLE(line, pos)
            if quoted is None:
                return None
            word += quoted[1].replace(b"\\'", b"'")
            pos = quoted.end()
        words.append(word)
        pos = _end(_BLANKS(line, pos))
    return words


def _end(match: re.Match[bytes] | None) -> int:
    assert match is not None
    return match.end()


# ---------------------------------------------------------------------------------------------
# Pipelines through hiredis
# ---------------------------------------------------------------------------------------------

_NOTHING: Final = object()

#: Fed behind a window that has been drained. It comes back as this value only if the window ended
#: where a request did: no prefix of it, taken for the rest of anything else, gives the value.
_END_MARK: Final = b"+end\r\n"
_END_VALUE: Final = b"end"

#: hiredis allocates for the length that is claimed, before the elements are there.
_LARGE_ARRAY = re.compile(rb"\*[0-9]{5}").search
_LARGE_PUSH = re.compile(rb">[0-9]{5}").search
_LARGE_SET = re.compile(rb"~[0-9]{5}").search
_LARGE_ATTRIBUTE = re.compile(rb"\|[0-9]{5}").search

#: Types that hiredis also turns into bytes, or at the top into something to iterate over.
_ODD_TYPES: Final = b"+=(>~|%"
_NOT_ODD: Final = bytes(byte for byte in range(256) if byte not in _ODD_TYPES)


class _Pipeline:
    """A hiredis reader, empty between calls, so that all connections of a thread share it."""

    __slots__ = ("_feed", "_gets")

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._feed = reader.feed
        self._gets = reader.gets

    def decode(self, window: bytes) -> list[list[bytes]] | None:
        """The requests of a window of at most WINDOW bytes; None if it is anything but arrays of
        bulk strings, one or more, none of them empty, up to its very end.

        The proof: hiredis reads lengths as Redis does, and the mark shows that it has read all.
        What is no array at the top, and what is no bulk string in an array, shows in one of two
        ways. Either joining it raises TypeError; or it is of an odd type, and then the byte that
        names the type is in the window outside of all arguments.
        """
        if _LARGE_ARRAY(window) is not None:
            return None
        odd = (
            43 in window
            or 61 in window
            or 40 in window
            or 62 in window
            or 126 in window
            or 124 in window
            or 37 in window
        )
        if odd and (
            (62 in window and _LARGE_PUSH(window))
            or (126 in window and _LARGE_SET(window))
            or (124 in window and _LARGE_ATTRIBUTE(window))
        ):
            return None
        feed = self._feed
        gets = self._gets
        feed(window)
        try:
            batch: list[list[bytes]] = list(iter(gets, _NOTHING))
            feed(_END_MARK)
            if gets() == _END_VALUE and batch:
                # Stops at the first request without a byte in it: no argument, or only empty ones.
                if not all(map(_join, batch)) and not all(map(_is_request, batch)):
                    return None
                if odd and not _odd_bytes_are_in_arguments(window, batch):
                    return None
                return batch
        except Exception:  # Whatever hiredis stumbles over, _step judges it.
            pass
        self._renew()
        return None


def _is_request(value: object) -> bool:
    return type(value) is list and bool(value) and all(type(item) is bytes for item in value)


def _odd_bytes_are_in_arguments(window: bytes, batch: list[list[bytes]]) -> bool:
    # The arguments are pieces of the window: as many odd bytes means the same odd bytes.
    arguments = _join(map(_join, batch))
    return len(window.translate(None, _NOT_ODD)) == len(arguments.translate(None, _NOT_ODD))


class _Shared(threading.local):
    def __init__(self) -> None:
        self.pipeline = _Pipeline()


_shared = _Shared()


# ---------------------------------------------------------------------------------------------
# The reader
# ---------------------------------------------------------------------------------------------


class RequestReader:
    """The requests of one connection, in order.

    ``feed`` takes what the socket gave; ``take`` returns the next requests as a batch, and an empty
    list when more bytes are needed. A request is a non-empty list of bytes. After a protocol error
    the requests before it are still handed out; then every ``take`` raises the ProtocolError.

    Not thread-safe: use it on the thread that made it.
    """

    __slots__ = (
        "_alone",
        "_argv",
        "_authenticated",
        "_bulky",
        "_cut",
        "_data",
        "_error",
        "_fast",
        "_large",
        "_left",
        "_max_bulk",
        "_max_elements",
        "_more",
        "_more_bytes",
        "_need",
        "_pending",
        "_pipeline",
        "_pos",
        "_ready",
        "_unfinished",
    )

    def __init__(
        self,
        *,
        authenticated: bool = True,
        max_bulk: int = DEFAULT_MAX_BULK,
        max_elements: int = DEFAULT_MAX_ELEMENTS,
    ) -> None:
        self._pipeline = _shared.pipeline
        # Limits
        self._authenticated = authenticated
        self._max_bulk = max_bulk
        self._max_elements = max_elements
        self._fast = False
        self._judge_limits()
        # Bytes not read yet: _data from _pos on, then _more.
        self._data = b""
        self._pos = 0
        self._more: list[bytes] = []
        self._more_bytes = 0
        self._cut = False  # _data holds no complete request
        self._bulky = False  # the last requests were large
        self._alone = SMALL  # the largest chunk that is tried as a single request
        self._unfinished = False  # what was skipped so far is not all
        # The request that _step is in: its arguments so far and what is missing of it.
        self._argv: list[bytes] = []
        self._left = 0  # arguments still missing; 0 between requests
        self._need = -1  # length of the argument being read; -1 before its length line
        self._large: BytesIO | None = None  # the start of a large argument
        self._pending = 0  # bytes in _argv
        # The end
        self._error: ProtocolError | None = None
        self._ready: Iterator[list[bytes]] = iter(())

    # -- limits, which may change between two requests ------------------------------------------

    @property
    def authenticated(self) -> bool:
        """False while the client may not send more than 10 arguments of 16 KB.

        Then requests are handed out one by one, so that the one after AUTH is judged by its
        outcome. Setting it to False applies to requests that have not been handed out by then.
        """
        return self._authenticated

    @authenticated.setter
    def authenticated(self, value: bool) -> None:
        self._authenticated = value
        self._judge_limits()

    @property
    def max_bulk(self) -> int:
        """The largest argument, in bytes."""
        return self._max_bulk

    @max_bulk.setter
    def max_bulk(self, value: int) -> None:
        self._max_bulk = value
        self._judge_limits()

    @property
    def max_elements(self) -> int:
        """The largest number of arguments of a request. Memory is taken as they come."""
        return self._max_elements

    @max_elements.setter
    def max_elements(self, value: int) -> None:
        self._max_elements = value
        self._judge_limits()

    def _judge_limits(self) -> None:
        # Nothing that fits into a window can then be over a limit.
        self._fast = (
            self._authenticated and self._max_bulk >= WINDOW and self._max_elements >= WINDOW
        )

    # -- memory ---------------------------------------------------------------------------------

    @property
    def buffered(self) -> int:
        """Bytes held that are not arguments yet: Redis's query buffer."""
        large = self._large
        return (
            len(self._data) - self._pos + self._more_bytes + (0 if large is None else large.tell())
        )

    @property
    def pending(self) -> int:
        """Memory of the complete arguments of the incomplete request, about, in bytes."""
        return self._pending + _ELEMENT_OVERHEAD * len(self._argv)

    @property
    def has_input(self) -> bool:
        """Whether a take() may give anything without more bytes."""
        return bool(self._data) or self._error is not None

    @property
    def unfinished(self) -> bool:
        """True if take() returned nothing only because it met very many empty lines or arrays.

        Then call it again, after the other connections had their turn.
        """
        return self._unfinished

    # -- reading --------------------------------------------------------------------------------

    def feed(self, data: bytes) -> None:
        """Add bytes from the socket. O(1)."""
        if self._data:
            self._more.append(data)
            self._more_bytes += len(data)
        elif self._error is None:
            self._data = data

    def alone(self, data: bytes) -> list[bytes] | None:
        """The request that *data* is, if it is a small one, whole, and nothing waits before it.

        Otherwise None, and *data* is to be fed.
        """
        if len(data) > self._alone or self._data or not self._fast or self._left or self._error:
            return None
        parts = data.split(b"\r\n")
        count = len(parts)
        if count == 8:  # SET and its like: the general rule below, spelled out
            head, size1, arg1, size2, arg2, size3, arg3, rest = parts
            if (
                head == b"*3"
                and size1 == _BULK_HEADERS[len(arg1)]
                and size2 == _BULK_HEADERS[len(arg2)]
                and size3 == _BULK_HEADERS[len(arg3)]
                and not rest
            ):
                return [arg1, arg2, arg3]
        elif count == 6:  # GET and its like
            head, size1, arg1, size2, arg2, rest = parts
            if (
                head == b"*2"
                and size1 == _BULK_HEADERS[len(arg1)]
                and size2 == _BULK_HEADERS[len(arg2)]
                and not rest
            ):
                return [arg1, arg2]
        elif _ARRAY_HEADERS.get(parts[0]) == count and not parts[-1]:
            request = parts[2::2]
            if parts[1:-1:2] == [_BULK_HEADERS[len(argument)] for argument in request]:
                return request
        return None

    def gets(self) -> list[bytes] | None:
        """The next request, or None when more bytes are needed. Not to be mixed with take()."""
        request = next(self._ready, None)
        if request is None:
            batch = self.take()
            while self._unfinished and not batch:
                batch = self.take()
            self._ready = iter(batch)
            request = next(self._ready, None)
        return request

    def take(self) -> list[list[bytes]]:
        """The next complete requests, at most a window of them; an empty list when more bytes are
        needed, or if ``unfinished``.

        Raises ProtocolError once everything before the error has been taken.
        """
        data = self._data
        if not data:
            if self._error is not None:
                raise self._error
            return []
        if self._cut:
            if not self._more:
                return []
            self._refill()
            data = self._data
        if not self._fast or self._left:
            return self._take_slowly([], 0)
        pos = self._pos
        size = len(data) - pos
        if data[pos] != 42:
            return self._take_slowly([], 0)
        until = min(pos + WINDOW, len(data))
        if self._bulky:
            batch = self._take_slowly([], until)
            self._bulky = until - pos > len(batch) * _BULKY
            self._alone = MEDIUM if len(batch) == 1 else SMALL
            return batch
        if size <= WINDOW and data[-1] == 10:
            decoded = self._pipeline.decode(data[pos:])
            if decoded is not None:
                self._bulky = size > len(decoded) * _BULKY
                self._alone = MEDIUM if len(decoded) == 1 else SMALL
                self._consumed()
                return decoded
        # Most likely the last request of the window is cut. The one before it ends here:
        end = data.rfind(b"\r\n*", pos, until) + 2
        if end > pos:
            decoded = self._pipeline.decode(data[pos:end])
            if decoded is not None:
                self._bulky = end - pos > len(decoded) * _BULKY
                self._pos = end
                return decoded if size > WINDOW else self._take_slowly(decoded, 0)
        return self._take_slowly([], until)

    def _consumed(self) -> None:
        """All of _data has been used."""
        self._unfinished = False
        self._data = b""
        self._pos = 0
        if self._more:
            self._refill()

    def _refill(self) -> None:
        """Make one piece of what is left of _data and what came after it."""
        more = self._more
        if self._pos < len(self._data):
            more.insert(0, self._data[self._pos :])
        self._data = more[0] if len(more) == 1 else _join(more)
        self._pos = 0
        self._more = []
        self._more_bytes = 0
        self._cut = False

    def _take_slowly(self, batch: list[list[bytes]], until: int) -> list[list[bytes]]:
        """Add requests to ``batch`` by _step: one, and all that begin before ``until`` in _data."""
        try:
            while True:
                request = self._step()
                if request is not None:
                    batch.append(request)
                    if self._pos >= until or not self._authenticated:
                        break
                elif self._unfinished:
                    break
                elif batch or not self._more:
                    self._cut = True
                    break
                else:
                    self._refill()
                    until = 0
        except ProtocolError as error:
            self._error = error
            self._data = b""
            self._pos = 0
            self._more = []
            self._more_bytes = 0
            self._argv = []
            self._pending = 0
            self._large = None
            if not batch:
                raise
            return batch
        if self._pos == len(self._data):
            self._cut = False
            self._consumed()
        return batch

    def _step(self) -> list[bytes] | None:
        """The next request by Redis's rules; None when more bytes are needed.

        Reads from _pos on and leaves there what it cannot use yet: less than a line, or less than
        an argument of _LARGE bytes.
        """
        data = self._data
        size = len(data)
        pos = self._pos
        self._unfinished = False
        skipped = 0
        while not self._left:
            self._pos = pos
            if pos == size:
                return None
            if skipped > _MOST_SKIPPED:
                self._unfinished = True
                return None
            skipped += 1
            if data[pos] != 42:
                end = data.find(b"\n", pos, pos + MAX_LINE + 1)
                if end < 0 or data.find(0, pos, end) >= 0:
                    if size - pos > MAX_LINE:
                        raise ProtocolError(b"too big inline request")
                    return None
                # A CR before the end is a blank to split_inline.
                words = split_inline(data[pos:end])
                if words is None:
                    raise ProtocolError(b"unbalanced quotes in request")
                pos = end + 1
                if words:
                    self._pos = pos
                    return words
            else:
                end = self._line_end(data, pos, b"too big mbulk count string")
                if end < 0:
                    return None
                count = _read_length(data[pos + 1 : end])
                if count is None or count > self._max_elements:
                    raise ProtocolError(b"invalid multibulk length")
                if count > UNAUTHENTICATED_ELEMENTS and not self._authenticated:
                    raise ProtocolError(b"unauthenticated multibulk length")
                pos = end + 2
                if count > 0:
                    self._left = count

        argv = self._argv
        append = argv.append
        left = self._left
        need = self._need
        pending = self._pending
        # What the loop itself may judge; _bulk_length has all the rules.
        max_bulk = min(self._max_bulk, WINDOW)
        # The number of missing arguments from which on a block may be tried (again).
        try_block = left if max_bulk >= SMALL else 0
        while left:
            if _MANY <= left <= try_block and need < 0:
                block, size_of_block = _read_block(data, pos, left)
                if block:
                    argv += block
                    pending += sum(map(len, block))
                    left -= len(block)
                    pos += size_of_block
                    continue
                try_block = left - _MANY
            if need < 0:
                end = data.find(b"\r", pos, pos + 6)
                length = -1
                if 0 < end < size - 1 and data[pos] == 36:
                    length = _SMALL_LENGTHS.get(data[pos + 1 : end], -1)
                if not 0 <= length <= max_bulk:
                    end = self._line_end(data, pos, b"too big bulk count string")
                    if end < 0:
                        break
                    length = self._bulk_length(data, pos, end)
                need = length
                pos = end + 2
            if self._large is not None:
                missing = need - self._large.tell()
                if missing:
                    self._large.write(memoryview(data)[pos : pos + missing])
                    pos = min(pos + missing, size)
                if size - pos < 2:
                    break
                append(self._large.getvalue())
                self._large = None
                pos += 2
            else:
                stop = pos + need
                if stop + 2 > size:
                    if need > _LARGE:
                        self._large = BytesIO()
                        self._large.write(memoryview(data)[pos:stop])
                        pos = min(stop, size)
                    break
                append(data[pos:stop])
                pos = stop + 2
            pending += need
            need = -1
            left -= 1
        self._pos = pos
        self._left = left
        self._need = need
        if left:
            self._pending = pending
            return None
        self._argv = []
        self._pending = 0
        return argv

    def _line_end(self, data: bytes, pos: int, too_long: bytes) -> int:
        """Where the CR of the line at ``pos`` is, if a byte follows it; else -1."""
        end = data.find(b"\r", pos, pos + MAX_LINE + 1)
        if end < 0 or data.find(0, pos, end) >= 0:
            # Redis looks for the CR with strchr, so it never sees one behind a NUL.
            if len(data) - pos > MAX_LINE:
                raise ProtocolError(too_long)
            return -1
        return end if end + 1 < len(data) else -1

    def _bulk_length(self, data: bytes, pos: int, end: int) -> int:
        """The length in the line from ``pos`` to ``end``, judged as Redis does."""
        if data[pos] != 36:
            got = bytes(data[pos : pos + 1]).replace(b"\r", b" ").replace(b"\n", b" ")
            raise ProtocolError(b"expected '$', got '" + got + b"'")
        length = _read_length(data[pos + 1 : end])
        if length is None or length < 0 or length > self._max_bulk:
            raise ProtocolError(b"invalid bulk length")
        if length > UNAUTHENTICATED_BULK and not self._authenticated:
            raise ProtocolError(b"unauthenticated bulk length")
        return length


def _read_block(data: bytes, pos: int, most: int) -> tuple[list[bytes], int]:
    """Small arguments from ``pos`` on, at most ``most``, and their size in the stream; none if the
    block has anything else in it."""
    parts = data[pos : pos + _BLOCK].split(b"\r\n")
    count = min((len(parts) - 1) // 2, most)
    del parts[2 * count :]
    arguments = parts[1::2]
    sizes = list(map(len, arguments))
    if not count or max(sizes) >= SMALL or parts[::2] != list(map(_bulk_header, sizes)):
        return [], 0
    return arguments, sum(map(len, parts)) + 4 * count


def _read_length(text: bytes) -> int | None:
    """A decimal as string2ll takes it: no sign but "-", no leading zero, 64 bits; else None."""
    if not _LENGTH(text):
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None
