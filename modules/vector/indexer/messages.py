"""The messages between the server and the index process.

Both ends of one stream socket, in order, never answered out of order within a set::

    frame     u32 length of what follows, u8 kind, body
    ids       u32 length each, then the bytes of all        (numbers are little-endian)
    labels    u64 each
    vectors   f32 * dimensions each

A *set* is named by a handle, a number that the server chooses when it attaches the set and does
not use again before it has detached or dropped it. A search sees exactly the changes that were
sent before it.

Server to index process::

    1 ATTACH      u32 handle, u64 cid, u32 dimensions, u8 metric, u8 kind, u8 quantisation,
                  u8 flags (1: ignore the checkpoint), u32 m, u32 ef construction, u32 ef
    2 ADD         u32 handle, u32 n, u32 dimensions, labels, vectors, ids
    3 REMOVE      u32 handle, labels
    4 ATTRIBUTES  u32 handle, u32 n, labels, u32 length each, JSON texts (length 0: none)
    5 LIVE        u32 handle, u8 final, labels
    6 SEARCH      u64 request, f64 radius (NaN: none), u32 handle, u32 k, u32 ef (0: the set's),
                  u32 filter ef (0: no bound), u32 flags (1: exact), u32 dimensions, vector,
                  rest: filter (empty: none)
    7 SAMPLE      u64 request, u32 handle, labels
    8 CHECKPOINT  u32 handle, u64 next label, u64 term, u64 index, u32 database, u32 epoch,
                  u32 length of key, key, labels
    9 DROP        u64 cid
    10 DETACH     u32 handle
    11 PING       u64 number

Index process to server::

    65 HELLO         u32 process id, u32 n, n times: u64 cid, u64 next label, u32 database,
                     u32 epoch, u32 length of key, key
    66 ATTACHED      u32 handle, u64 first label wanted, u64 alive, u64 term, u64 index,
                     u8 from a checkpoint, rest: why not
    67 RESULT        u64 request, u32 n, f64 distances, labels, ids
    68 VECTORS       u64 request, u32 n, labels, ids, rest: vectors
    69 FAILED        u64 request, rest: why
    70 LOST          u32 handle, rest: why
    71 PROGRESS      u32 handle, u64 alive, u64 pending, u64 graphed, u64 dead, u64 rebuilt,
                     u64 to rebuild, u64 anonymous memory of the process, f64 adds per second
    72 CHECKPOINTED  u32 handle, u64 next label, u64 bytes, f64 seconds, rest: why it failed
    73 PONG          u64 number
    74 BUSY          f64 seconds, rest: with what
    75 LOG           u8 level (of Python's logging), rest: text

What they promise:

* HELLO is the first message. It names the checkpoints found, not yet verified, so that the server
  can attach their sets before anybody asks.
* ATTACH is answered by one ATTACHED. Everything is wanted from the label that it names on: 1, or
  the *next label* of the checkpoint. Then ADD carries ascending labels above all that came
  before; a label that was removed may come again (a commit that failed is undone so), with the
  same vector.
* Attributes are in no checkpoint: after ATTACHED the server sends those of all labels, unless
  there are none. ATTRIBUTES for a label that is not there are ignored, as is REMOVE.
* After an attachment from a checkpoint the server sends LIVE with all labels below *first label
  wanted* that exist, in any order and any number of pieces, the last one final; until then
  searches may find what has been removed since. A label that exists and that the checkpoint lacks
  is answered by LOST. Whoever attaches from a checkpoint should also compare some labels' VECTORS,
  the newest ones among them, with the truth: data that was restored from a copy may use a label
  again.
* SEARCH is answered by RESULT (nearest first, equal distances by label) or FAILED, SAMPLE by
  VECTORS with those of the labels that are there.
* CHECKPOINT covers the labels below *next label*; the list names removed labels whose removal is
  not durable yet, which are alive in the checkpoint. It is answered by CHECKPOINTED, later, from
  beside. One that comes while another of the set is being written fails.
* LOST: the set is detached and its checkpoint deleted; attach it again and send everything.
* DROP deletes the files of a set, attached or not. DETACH frees its memory and keeps them.
* PROGRESS comes a few times a second while the numbers change. BUSY announces that nothing else
  will be said for about so long; it is said again when it takes longer, where that is possible.
* Bytes that are no message end the index process, with a LOG that says why.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

#: A frame above it is refused by both sides; senders divide what is longer.
MAX_FRAME = 256 << 20

_HEADER = struct.Struct("<IB")
_ATTACH = struct.Struct("<IQIBBBBIII")
_ADD = struct.Struct("<III")
_TWO = struct.Struct("<II")
_ONE = struct.Struct("<I")
_LIVE = struct.Struct("<IB")
_SEARCH = struct.Struct("<QdIIIIII")
_REQUEST_HANDLE = struct.Struct("<QI")
_CHECKPOINT = struct.Struct("<IQQQIII")
_LONG = struct.Struct("<Q")
_CHECKPOINT_NOTE = struct.Struct("<QQIII")
_ATTACHED = struct.Struct("<IQQQQB")
_PROGRESS = struct.Struct("<IQQQQQQQd")
_CHECKPOINTED = struct.Struct("<IQQd")
_SECONDS = struct.Struct("<d")
_LEVEL = struct.Struct("<B")

_IGNORE_CHECKPOINT = 1
_EXACT = 1


class MessageError(Exception):
    """These bytes are no message; the text says why."""


class Definition(NamedTuple):
    """How a set is indexed: the numbers of its metadata record."""

    dimensions: int
    metric: int
    kind: int
    quantisation: int
    m: int
    ef_construction: int
    ef: int


class CheckpointNote(NamedTuple):
    """What the name part of a checkpoint says; nothing of it is verified."""

    cid: int
    next_label: int
    database: int
    epoch: int
    key: bytes


# -- server to index process ----------------------------------------------------


class Attach(NamedTuple):
    """Serve a set, from its checkpoint if there is a good one."""

    handle: int
    cid: int
    definition: Definition
    ignore_checkpoint: bool = False

    def body(self) -> bytes:
        d = self.definition
        flags = _IGNORE_CHECKPOINT if self.ignore_checkpoint else 0
        return _ATTACH.pack(
            self.handle, self.cid, d.dimensions, d.metric, d.kind, d.quantisation, flags,
            d.m, d.ef_construction, d.ef,
        )  # fmt: skip

    @classmethod
    def parse(cls, body: bytes) -> Attach:
        handle, cid, dimensions, metric, kind, quantisation, flags, *rest = _ATTACH.unpack(body)
        definition = Definition(dimensions, metric, kind, quantisation, *rest)
        return cls(handle, cid, definition, bool(flags & _IGNORE_CHECKPOINT))


class Add(NamedTuple):
    """Vectors that are new under their labels. `vectors` are the f32 of all, one after another."""

    handle: int
    labels: Sequence[int]
    ids: Sequence[bytes]
    vectors: bytes

    def body(self) -> bytes:
        n = len(self.labels)
        header = _ADD.pack(self.handle, n, len(self.vectors) // (4 * n) if n else 0)
        return b"".join((header, _labels(self.labels), self.vectors, *_texts(self.ids)))

    @classmethod
    def parse(cls, body: bytes) -> Add:
        handle, n, dimensions = _ADD.unpack_from(body)
        labels = _read_labels(body, _ADD.size, n)
        start = _ADD.size + 8 * n
        end = start + 4 * n * dimensions
        ids, after = _read_texts(body, end, n)
        _nothing_after(body, after)
        return cls(handle, labels, ids, body[start:end])


class Remove(NamedTuple):
    """Labels that are gone."""

    handle: int
    labels: Sequence[int]

    def body(self) -> bytes:
        return _ONE.pack(self.handle) + _labels(self.labels)

    @classmethod
    def parse(cls, body: bytes) -> Remove:
        (handle,) = _ONE.unpack_from(body)
        return cls(handle, _labels_to_end(body, _ONE.size))


class Attributes(NamedTuple):
    """New attributes of labels, JSON texts; an empty one stands for none."""

    handle: int
    labels: Sequence[int]
    texts: Sequence[bytes]

    def body(self) -> bytes:
        header = _TWO.pack(self.handle, len(self.labels))
        return b"".join((header, _labels(self.labels), *_texts(self.texts)))

    @classmethod
    def parse(cls, body: bytes) -> Attributes:
        handle, n = _TWO.unpack_from(body)
        labels = _read_labels(body, _TWO.size, n)
        texts, end = _read_texts(body, _TWO.size + 8 * n, n)
        _nothing_after(body, end)
        return cls(handle, labels, texts)


class Live(NamedTuple):
    """Labels that exist; the final piece ends the comparison with the checkpoint."""

    handle: int
    final: bool
    labels: Sequence[int]

    def body(self) -> bytes:
        return _LIVE.pack(self.handle, self.final) + _labels(self.labels)

    @classmethod
    def parse(cls, body: bytes) -> Live:
        handle, final = _LIVE.unpack_from(body)
        return cls(handle, bool(final), _labels_to_end(body, _LIVE.size))


class Search(NamedTuple):
    """The `k` nearest to `vector` (f32s). `radius` NaN, `ef` and `filter_ef` 0: not given."""

    request: int
    handle: int
    k: int
    vector: bytes
    ef: int = 0
    exact: bool = False
    radius: float = float("nan")
    filter: bytes = b""
    filter_ef: int = 0

    def body(self) -> bytes:
        return (
            _SEARCH.pack(
                self.request, self.radius, self.handle, self.k, self.ef, self.filter_ef,
                _EXACT if self.exact else 0, len(self.vector) >> 2,
            )
            + self.vector
            + self.filter
        )  # fmt: skip

    @classmethod
    def parse(cls, body: bytes) -> Search:
        request, radius, handle, k, ef, filter_ef, flags, dimensions = _SEARCH.unpack_from(body)
        end = _SEARCH.size + 4 * dimensions
        if end > len(body):
            raise MessageError("the vector is cut")
        vector = body[_SEARCH.size : end]
        exact = bool(flags & _EXACT)
        return cls(request, handle, k, vector, ef, exact, radius, body[end:], filter_ef)


class Sample(NamedTuple):
    """Ask for the vectors of labels."""

    request: int
    handle: int
    labels: Sequence[int]

    def body(self) -> bytes:
        return _REQUEST_HANDLE.pack(self.request, self.handle) + _labels(self.labels)

    @classmethod
    def parse(cls, body: bytes) -> Sample:
        request, handle = _REQUEST_HANDLE.unpack_from(body)
        return cls(request, handle, _labels_to_end(body, _REQUEST_HANDLE.size))


class Checkpoint(NamedTuple):
    """Write a checkpoint that covers the labels below `next_label`, all of them durable.

    `unsettled` are removed labels whose removal is not durable. Where the set lives and the
    version (term, index) are only noted.
    """

    handle: int
    next_label: int
    version: tuple[int, int]
    database: int
    epoch: int
    key: bytes
    unsettled: Sequence[int] = ()

    def body(self) -> bytes:
        header = _CHECKPOINT.pack(
            self.handle, self.next_label, *self.version, self.database, self.epoch, len(self.key)
        )  # fmt: skip
        return header + self.key + _labels(self.unsettled)

    @classmethod
    def parse(cls, body: bytes) -> Checkpoint:
        handle, next_label, term, index, database, epoch, length = _CHECKPOINT.unpack_from(body)
        end = _CHECKPOINT.size + length
        if end > len(body):
            raise MessageError("the key is cut")
        key = body[_CHECKPOINT.size : end]
        unsettled = _labels_to_end(body, end)
        return cls(handle, next_label, (term, index), database, epoch, key, unsettled)


class Drop(NamedTuple):
    """Delete all that is kept of a set."""

    cid: int

    def body(self) -> bytes:
        return _LONG.pack(self.cid)

    @classmethod
    def parse(cls, body: bytes) -> Drop:
        return cls(*_LONG.unpack(body))


class Detach(NamedTuple):
    """Free a set's memory."""

    handle: int

    def body(self) -> bytes:
        return _ONE.pack(self.handle)

    @classmethod
    def parse(cls, body: bytes) -> Detach:
        return cls(*_ONE.unpack(body))


class Ping(NamedTuple):
    """Ask for a PONG with this number."""

    number: int

    def body(self) -> bytes:
        return _LONG.pack(self.number)

    @classmethod
    def parse(cls, body: bytes) -> Ping:
        return cls(*_LONG.unpack(body))


# -- index process to server ----------------------------------------------------


class Hello(NamedTuple):
    """The index process is ready; these checkpoints lie in its directory."""

    pid: int
    checkpoints: Sequence[CheckpointNote]

    def body(self) -> bytes:
        parts = [_TWO.pack(self.pid, len(self.checkpoints))]
        for cid, next_label, database, epoch, key in self.checkpoints:
            parts.append(_CHECKPOINT_NOTE.pack(cid, next_label, database, epoch, len(key)))
            parts.append(key)
        return b"".join(parts)

    @classmethod
    def parse(cls, body: bytes) -> Hello:
        pid, n = _TWO.unpack_from(body)
        at = _TWO.size
        notes = []
        for _ in range(n):
            cid, label, database, epoch, length = _CHECKPOINT_NOTE.unpack_from(body, at)
            at += _CHECKPOINT_NOTE.size
            if at + length > len(body):
                raise MessageError("a key is cut")
            notes.append(CheckpointNote(cid, label, database, epoch, body[at : at + length]))
            at += length
        _nothing_after(body, at)
        return cls(pid, notes)


class Attached(NamedTuple):
    """A set is served. `version` is that of its checkpoint, (0, 0) without one."""

    handle: int
    wanted: int
    alive: int
    version: tuple[int, int]
    from_checkpoint: bool
    reason: bytes

    def body(self) -> bytes:
        header = _ATTACHED.pack(
            self.handle, self.wanted, self.alive, *self.version, self.from_checkpoint
        )
        return header + self.reason

    @classmethod
    def parse(cls, body: bytes) -> Attached:
        handle, wanted, alive, term, index, loaded = _ATTACHED.unpack_from(body)
        return cls(handle, wanted, alive, (term, index), bool(loaded), body[_ATTACHED.size :])


class Result(NamedTuple):
    """The hits of a search, nearest first: three sequences of one length."""

    request: int
    distances: Sequence[float]
    labels: Sequence[int]
    ids: Sequence[bytes]

    def body(self) -> bytes:
        n = len(self.labels)
        numbers = struct.pack(
            f"<QI{n}d{n}Q{n}I", self.request, n, *self.distances, *self.labels, *map(len, self.ids)
        )
        return numbers + b"".join(self.ids)

    @classmethod
    def parse(cls, body: bytes) -> Result:
        request, n = _REQUEST_HANDLE.unpack_from(body)
        _room_for(body, _REQUEST_HANDLE.size, n, 20)
        numbers = struct.unpack_from(f"<{n}d{n}Q{n}I", body, _REQUEST_HANDLE.size)
        at = _REQUEST_HANDLE.size + 20 * n
        ids = []
        for length in numbers[2 * n :]:
            ids.append(body[at : at + length])
            at += length
        _nothing_after(body, at)
        return cls(request, numbers[:n], numbers[n : 2 * n], ids)


class Vectors(NamedTuple):
    """What a SAMPLE found. `vectors` are the f32 of all, one after another."""

    request: int
    labels: Sequence[int]
    ids: Sequence[bytes]
    vectors: bytes

    def body(self) -> bytes:
        header = _REQUEST_HANDLE.pack(self.request, len(self.labels))
        return b"".join((header, _labels(self.labels), *_texts(self.ids), self.vectors))

    @classmethod
    def parse(cls, body: bytes) -> Vectors:
        request, n = _REQUEST_HANDLE.unpack_from(body)
        labels = _read_labels(body, _REQUEST_HANDLE.size, n)
        ids, end = _read_texts(body, _REQUEST_HANDLE.size + 8 * n, n)
        return cls(request, labels, ids, body[end:])


class Failed(NamedTuple):
    """A request cannot be answered."""

    request: int
    reason: bytes

    def body(self) -> bytes:
        return _LONG.pack(self.request) + self.reason

    @classmethod
    def parse(cls, body: bytes) -> Failed:
        (request,) = _LONG.unpack_from(body)
        return cls(request, body[_LONG.size :])


class Lost(NamedTuple):
    """A set is not served any more and has to be attached again."""

    handle: int
    reason: bytes

    def body(self) -> bytes:
        return _ONE.pack(self.handle) + self.reason

    @classmethod
    def parse(cls, body: bytes) -> Lost:
        (handle,) = _ONE.unpack_from(body)
        return cls(handle, body[_ONE.size :])


class Progress(NamedTuple):
    """How far a set is: numbers of vectors, but for the last two.

    `pending` wait to be added to the graph, `graphed` are in it (what it cannot hold, such as zero
    vectors with cosine, is neither), `dead` were removed and still take room. While a new graph
    replaces one that is half dead, `rebuilt` of `to_rebuild` are in it; both are 0 otherwise.
    """

    handle: int
    alive: int
    pending: int
    graphed: int
    dead: int
    rebuilt: int
    to_rebuild: int
    anonymous: int
    adds_per_second: float

    def body(self) -> bytes:
        return _PROGRESS.pack(*self)

    @classmethod
    def parse(cls, body: bytes) -> Progress:
        return cls(*_PROGRESS.unpack(body))


class Checkpointed(NamedTuple):
    """A checkpoint is on disk, or with a reason: it is not."""

    handle: int
    next_label: int
    size: int
    seconds: float
    reason: bytes

    def body(self) -> bytes:
        return _CHECKPOINTED.pack(*self[:4]) + self.reason

    @classmethod
    def parse(cls, body: bytes) -> Checkpointed:
        handle, next_label, size, seconds = _CHECKPOINTED.unpack_from(body)
        return cls(handle, next_label, size, seconds, body[_CHECKPOINTED.size :])


class Pong(NamedTuple):
    """The answer to PING."""

    number: int

    def body(self) -> bytes:
        return _LONG.pack(self.number)

    @classmethod
    def parse(cls, body: bytes) -> Pong:
        return cls(*_LONG.unpack(body))


class Busy(NamedTuple):
    """Nothing else will be said for about so many seconds."""

    seconds: float
    reason: bytes

    def body(self) -> bytes:
        return _SECONDS.pack(self.seconds) + self.reason

    @classmethod
    def parse(cls, body: bytes) -> Busy:
        (seconds,) = _SECONDS.unpack_from(body)
        return cls(seconds, body[_SECONDS.size :])


class Log(NamedTuple):
    """A line for the server's log."""

    level: int
    text: bytes

    def body(self) -> bytes:
        return _LEVEL.pack(self.level) + self.text

    @classmethod
    def parse(cls, body: bytes) -> Log:
        (level,) = _LEVEL.unpack_from(body)
        return cls(level, body[_LEVEL.size :])


Request = (
    Attach | Add | Remove | Attributes | Live | Search | Sample | Checkpoint | Drop | Detach | Ping
)
Answer = (
    Hello | Attached | Result | Vectors | Failed | Lost | Progress | Checkpointed | Pong | Busy
    | Log
)  # fmt: skip
Message = Request | Answer

#: What the index process reads, and what the server reads, by kind.
REQUESTS: dict[int, type[Any]] = {
    1: Attach, 2: Add, 3: Remove, 4: Attributes, 5: Live, 6: Search, 7: Sample, 8: Checkpoint,
    9: Drop, 10: Detach, 11: Ping,
}  # fmt: skip
ANSWERS: dict[int, type[Any]] = {
    65: Hello, 66: Attached, 67: Result, 68: Vectors, 69: Failed, 70: Lost, 71: Progress,
    72: Checkpointed, 73: Pong, 74: Busy, 75: Log,
}  # fmt: skip
_KINDS = {cls: kind for kinds in (REQUESTS, ANSWERS) for kind, cls in kinds.items()}


# -- frames ------------------------------------------------------------------------


def encode(message: Message) -> bytes:
    """A message as a frame. MessageError if it is longer than MAX_FRAME."""
    body = message.body()
    if len(body) >= MAX_FRAME:
        raise MessageError(f"a message of {len(body)} bytes is too long")
    return _HEADER.pack(len(body) + 1, _KINDS[type(message)]) + body


class Reader:
    """Cuts a stream into messages of one direction: `REQUESTS` or `ANSWERS`."""

    def __init__(self, kinds: dict[int, type[Any]]) -> None:
        self._kinds = kinds
        self._held = bytearray()

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that `data` completes, to be consumed before the next call.

        Raises MessageError where the stream is damaged; nothing can be read after that.
        """
        held = self._held
        held += data
        at, end = 0, len(held)
        try:
            while end - at >= _HEADER.size:
                length, kind = _HEADER.unpack_from(held, at)
                if not 0 < length <= MAX_FRAME:
                    raise MessageError(f"a frame of {length} bytes")
                if end - at < 4 + length:
                    break
                body = bytes(memoryview(held)[at + _HEADER.size : at + 4 + length])
                at += 4 + length
                yield self._message(kind, body)
        finally:
            del held[:at]

    def _message(self, kind: int, body: bytes) -> Any:
        cls = self._kinds.get(kind)
        if cls is None:
            raise MessageError(f"a message of unknown kind {kind}")
        try:
            return cls.parse(body)
        except (MessageError, struct.error) as error:
            raise MessageError(f"{cls.__name__}: {error}") from None


# -- parts -------------------------------------------------------------------------

_T = TypeVar("_T")


def _labels(labels: Sequence[int]) -> bytes:
    return struct.pack(f"<{len(labels)}Q", *labels)


def _read_labels(body: bytes, at: int, n: int) -> tuple[int, ...]:
    _room_for(body, at, n, 8)
    return struct.unpack_from(f"<{n}Q", body, at)


def _labels_to_end(body: bytes, at: int) -> tuple[int, ...]:
    n, left = divmod(len(body) - at, 8)
    if left or n < 0:
        raise MessageError("a label is cut")
    return struct.unpack_from(f"<{n}Q", body, at)


def _texts(texts: Sequence[bytes]) -> tuple[bytes, bytes]:
    return struct.pack(f"<{len(texts)}I", *map(len, texts)), b"".join(texts)


def _read_texts(body: bytes, at: int, n: int) -> tuple[list[bytes], int]:
    """The `n` texts whose lengths begin at `at`, and where they end."""
    _room_for(body, at, n, 4)
    lengths = struct.unpack_from(f"<{n}I", body, at)
    at += 4 * n
    texts = []
    for length in lengths:
        texts.append(body[at : at + length])
        at += length
    if at > len(body):
        raise MessageError("a text is cut")
    return texts, at


def _room_for(body: bytes, at: int, n: int, size: int) -> None:
    """Checked before a format is made of `n`: it may be any number."""
    if at + n * size > len(body):
        raise MessageError("it is cut")


def _nothing_after(body: bytes, end: int) -> None:
    if end != len(body):
        raise MessageError(f"{len(body) - end} bytes too many")
