"""Messages between the server and the index process: what is read is what was written."""

from __future__ import annotations

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.modules import part

messages = part("vector.indexer.messages")

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
text = st.binary(max_size=40)
number = st.floats(allow_nan=False)
labels = st.lists(u64, max_size=6)
version = st.tuples(u64, u64)
definition = st.builds(messages.Definition, u32, u8, u8, u8, u32, u32, u32)
note = st.builds(messages.CheckpointNote, u64, u64, u32, u32, text)


@st.composite
def labelled(draw: st.DrawFn, *columns: st.SearchStrategy[Any]) -> list[list[Any]]:
    """Labels, and columns of the same length."""
    n = draw(st.integers(0, 5))
    return [draw(st.lists(each, min_size=n, max_size=n)) for each in (u64, *columns)]


def _add(handle: int, columns: list[list[Any]], dimensions: int) -> Any:
    names, ids = columns
    vectors = bytes(range(256))[: 4 * dimensions] * len(names)
    return messages.Add(handle, names, ids, vectors)


requests = st.one_of(
    st.builds(messages.Attach, u32, u64, definition, st.booleans()),
    st.builds(_add, u32, labelled(text), st.integers(1, 20)),
    st.builds(messages.Remove, u32, labels),
    st.builds(lambda h, c: messages.Attributes(h, *c), u32, labelled(text)),
    st.builds(messages.Live, u32, st.booleans(), labels),
    st.builds(
        messages.Search, u64, u32, u32, st.integers(0, 9).map(lambda n: b"abcd" * n), u32,
        st.booleans(), number, text, u32,
    ),
    st.builds(messages.Sample, u64, u32, labels),
    st.builds(messages.Checkpoint, u32, u64, version, u32, u32, text, labels),
    st.builds(messages.Drop, u64),
    st.builds(messages.Detach, u32),
    st.builds(messages.Ping, u64),
)  # fmt: skip
answers = st.one_of(
    st.builds(messages.Hello, u32, st.lists(note, max_size=4)),
    st.builds(messages.Attached, u32, u64, u64, version, st.booleans(), text),
    st.builds(
        lambda r, c: messages.Result(r, c[1], c[0], c[2]), u64, labelled(number, text)
    ),
    st.builds(lambda r, c, v: messages.Vectors(r, *c, v), u64, labelled(text), text),
    st.builds(messages.Failed, u64, text),
    st.builds(messages.Lost, u32, text),
    st.builds(messages.Progress, u32, u64, u64, u64, u64, u64, u64, u64, number),
    st.builds(messages.Checkpointed, u32, u64, u64, number, text),
    st.builds(messages.Pong, u64),
    st.builds(messages.Busy, number, text),
    st.builds(messages.Log, u8, text),
)  # fmt: skip


def plain(message: Any) -> tuple[Any, ...]:
    """Its type and fields, sequences as lists."""
    fields = (list(each) if isinstance(each, (list, tuple)) else each for each in message)
    return type(message), *fields


@pytest.mark.parametrize("direction", ["requests", "answers"])
@given(data=st.data())
def test_a_stream_cut_anywhere_gives_the_messages_that_were_sent(
    direction: str, data: st.DataObject
) -> None:
    strategy, kinds = {
        "requests": (requests, messages.REQUESTS),
        "answers": (answers, messages.ANSWERS),
    }[direction]
    sent = data.draw(st.lists(strategy, max_size=4))
    stream = b"".join(map(messages.encode, sent))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=4)))
    reader = messages.Reader(kinds)
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        got += list(reader.feed(stream[start:end]))
    assert [plain(each) for each in got] == [plain(each) for each in sent]


@settings(max_examples=300)
@given(kind=st.sampled_from([*range(1, 12), *range(65, 76), 0, 12, 255]), body=st.binary())
def test_any_body_is_a_message_or_a_message_error(kind: int, body: bytes) -> None:
    frame = struct.pack("<IB", len(body) + 1, kind) + body
    for kinds in (messages.REQUESTS, messages.ANSWERS):
        try:
            (message,) = messages.Reader(kinds).feed(frame)
        except messages.MessageError:
            continue
        assert kind in kinds and isinstance(message, kinds[kind])


@given(message=st.one_of(requests, answers), data=st.data())
def test_a_body_that_lost_its_end_is_refused_or_shorter(message: Any, data: st.DataObject) -> None:
    """No cut makes a reader hang or read beyond the body."""
    kind = messages.encode(message)[4]
    body = message.body()
    cut = body[: data.draw(st.integers(0, len(body)))]
    kinds = messages.REQUESTS if kind < 64 else messages.ANSWERS
    try:
        (read,) = messages.Reader(kinds).feed(struct.pack("<IB", len(cut) + 1, kind) + cut)
    except messages.MessageError:
        return
    assert read.body() == cut


@pytest.mark.parametrize("length", [0, messages.MAX_FRAME + 1, 2**32 - 1])
def test_a_frame_of_impossible_length_is_refused_at_once(length: int) -> None:
    with pytest.raises(messages.MessageError, match=f"a frame of {length} bytes"):
        list(messages.Reader(messages.REQUESTS).feed(struct.pack("<IB", length, 1)))


def test_a_claimed_number_of_elements_allocates_nothing() -> None:
    body = struct.pack("<QI", 1, 2**32 - 1)
    frame = struct.pack("<IB", len(body) + 1, 67) + body
    with pytest.raises(messages.MessageError, match="Result: it is cut"):
        list(messages.Reader(messages.ANSWERS).feed(frame))


def test_golden_bytes() -> None:
    """What each kind looks like, for whoever writes another end."""
    search = messages.Search(7, 1, 10, struct.pack("<2f", 1, 2), 128, True, 0.5, b".a>1", 9)
    assert messages.encode(search) == bytes.fromhex(
        "35000000 06 0700000000000000 000000000000e03f 01000000 0a000000 80000000 "
        "09000000 01000000 02000000 0000803f 00000040 2e613e31"
    )
    add = messages.Add(1, [5, 6], [b"a", b"bc"], struct.pack("<2f", 1, 2))
    assert messages.encode(add) == bytes.fromhex(
        "30000000 02 01000000 02000000 01000000 0500000000000000 0600000000000000 "
        "0000803f 00000040 01000000 02000000 616263"
    )
    result = messages.Result(7, [0.5], [5], [b"a"])
    assert messages.encode(result) == bytes.fromhex(
        "22000000 43 0700000000000000 01000000 000000000000e03f 0500000000000000 01000000 61"
    )
    assert math.isnan(messages.Search(1, 1, 1, b"").radius)
