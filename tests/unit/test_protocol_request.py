"""The request reader against a simple reference, on well-formed and on mutated streams."""

from __future__ import annotations

import random
import re
import threading
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.protocol import ProtocolError, RequestReader, split_inline
from tests.support.resp import encode

Requests = list[list[bytes]]
PING = b"*1\r\n$4\r\nPING\r\n"


def chunked(data: bytes, rng: random.Random) -> list[bytes]:
    sizes = rng.choice([(1, 3), (1, 40), (30, 700), (1000, 30000), (len(data) + 1, len(data) + 1)])
    chunks = []
    while data:
        size = rng.randint(*sizes)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


def read(reader: RequestReader, chunks: list[bytes], lazy: bool = False) -> Requests:
    requests: Requests = []
    for chunk in chunks:
        if not lazy and (request := reader.alone(chunk)) is not None:
            requests.append(request)
            continue
        reader.feed(chunk)
        if not lazy:
            while batch := reader.take():
                requests += batch
    while batch := reader.take():
        requests += batch
    return requests


# -- a reference that knows the whole stream ------------------------------------------------------


def reference(data: bytes, authenticated: bool = True) -> tuple[Requests, bytes | None]:
    """Requests and error of a stream, by the rules of Redis, with no thought of speed or chunks."""
    requests: Requests = []

    def length(text: bytes) -> int | None:
        if not re.fullmatch(rb"0|-?[1-9][0-9]*", text) or not -(2**63) <= int(text) < 2**63:
            return None
        return int(text)

    def line(pos: int, end: bytes, error: bytes) -> int:
        rest = data[pos : pos + 65538]
        found = rest.split(b"\0")[0].find(end)
        if found > 65536 or (found < 0 and len(rest) > 65536):
            raise ValueError(error)
        if found < 0 or (end == b"\r" and found + 1 >= len(rest)):
            raise EOFError
        return pos + found

    pos = 0
    try:
        while True:
            if data[pos : pos + 1] != b"*":
                end = line(pos, b"\n", b"too big inline request")
                words = split_inline(data[pos:end])
                if words is None:
                    raise ValueError(b"unbalanced quotes in request")
                pos = end + 1
                if words:
                    requests.append(words)
                continue
            end = line(pos, b"\r", b"too big mbulk count string")
            count = length(data[pos + 1 : end])
            if count is None or count >= 2**31:
                raise ValueError(b"invalid multibulk length")
            if count > 10 and not authenticated:
                raise ValueError(b"unauthenticated multibulk length")
            pos = end + 2
            request = []
            for _ in range(count):
                end = line(pos, b"\r", b"too big bulk count string")
                mark = data[pos : pos + 1]
                if mark != b"$":
                    mark = mark.replace(b"\r", b" ").replace(b"\n", b" ")
                    raise ValueError(b"expected '$', got '" + mark + b"'")
                size = length(data[pos + 1 : end])
                if size is None or not 0 <= size <= 512 * 1024 * 1024:
                    raise ValueError(b"invalid bulk length")
                if size > 16384 and not authenticated:
                    raise ValueError(b"unauthenticated bulk length")
                pos = end + 2
                if len(data) < pos + size + 2:
                    raise EOFError
                request.append(data[pos : pos + size])
                pos += size + 2
            if request:
                requests.append(request)
    except EOFError:
        return requests, None
    except ValueError as error:
        text: bytes = error.args[0]
        return requests, b"ERR Protocol error: " + text


def actual(chunks: list[bytes], authenticated: bool, lazy: bool) -> tuple[Requests, bytes | None]:
    reader = RequestReader(authenticated=authenticated)
    requests: Requests = []
    try:
        for chunk in chunks:
            if not lazy and (request := reader.alone(chunk)) is not None:
                requests.append(request)
                continue
            reader.feed(chunk)
            while not lazy and (batch := reader.take()):
                requests += batch
        while (batch := reader.take()) or reader.unfinished:
            requests += batch
    except ProtocolError as error:
        return requests, error.text
    return requests, None


# -- well-formed streams --------------------------------------------------------------------------

arguments = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"\r\n", b"+=(>~|%", PING, b"\r\n*1\r\n$1\r\n", b"x" * 600, b"*99999"]),
    st.integers(0, 40_000).map(lambda n: b"v" * n),
)
pipelines = st.lists(st.lists(arguments, min_size=1, max_size=20), max_size=30)


@settings(max_examples=150, deadline=None)
@given(pipelines, st.integers(0, 2**32), st.booleans())
def test_every_pipeline_comes_back(requests: Requests, seed: int, lazy: bool) -> None:
    data = b"".join(encode(*request) for request in requests)
    reader = RequestReader()
    assert read(reader, chunked(data, random.Random(seed)), lazy) == requests
    assert reader.buffered == reader.pending == 0


def test_gets_hands_out_one_by_one() -> None:
    reader = RequestReader()
    assert reader.gets() is None
    reader.feed(PING + encode(b"GET", b"k") + b"*1")
    assert reader.gets() == [b"PING"]
    assert reader.gets() == [b"GET", b"k"]
    assert reader.gets() is None
    reader.feed(b"\r\n$4\r\nPING\r\n")
    assert reader.gets() == [b"PING"]
    assert reader.gets() is None


def test_many_arguments_in_small_and_large_chunks() -> None:
    request = [b"RPUSH", *(b"%d" % n for n in range(5000)), b"\r\n", b"x" * 1000, *([b"e"] * 500)]
    data = encode(*request)
    for size in (100, 1448, 4096, len(data)):
        reader = RequestReader()
        assert read(reader, [data[i : i + size] for i in range(0, len(data), size)]) == [request]


def test_readers_of_one_thread_do_not_mix() -> None:
    readers = [RequestReader() for _ in range(3)]
    data = encode(b"SET", b"k", b"v" * 100) * 50
    found: list[Requests] = [[], [], []]
    for start in range(0, len(data), 777):
        for reader, requests in zip(readers, found, strict=True):
            reader.feed(data[start : start + 777])
            requests += reader.take()
    for reader, requests in zip(readers, found, strict=True):
        while batch := reader.take():
            requests += batch
    assert found == [[[b"SET", b"k", b"v" * 100]] * 50] * 3


def test_threads_have_readers_of_their_own() -> None:
    data = encode(b"SET", b"k", b"v" * 100) * 50
    wrong: list[int] = []

    def work() -> None:
        reader = RequestReader()
        for _ in range(50):
            if len(read(reader, [data[:4000], data[4000:]])) != 50:
                wrong.append(1)  # noqa: PERF401

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# -- limits -----------------------------------------------------------------------------------


def test_the_limits_before_authentication_end_with_it() -> None:
    reader = RequestReader(authenticated=False)
    large = encode(b"SET", b"k", b"v" * 20000)
    reader.feed(encode(b"AUTH", b"secret") + large + PING * 20)
    assert reader.take() == [[b"AUTH", b"secret"]]
    reader.authenticated = True
    assert reader.take() == [[b"SET", b"k", b"v" * 20000]]
    assert sum(len(reader.take()) for _ in range(20)) == 20
    reader.authenticated = False
    reader.feed(large)
    with pytest.raises(ProtocolError, match="unauthenticated bulk length"):
        reader.take()


def test_limits_can_be_lowered() -> None:
    reader = RequestReader(max_bulk=100, max_elements=3)
    reader.feed(encode(b"SET", b"k", b"v" * 100))
    assert len(reader.take()) == 1
    reader.feed(encode(b"SET", b"k", b"v" * 101))
    with pytest.raises(ProtocolError, match="invalid bulk length"):
        reader.take()
    reader = RequestReader()
    reader.max_elements = 3
    reader.feed(encode(*[b"a"] * 4))
    with pytest.raises(ProtocolError, match="invalid multibulk length"):
        reader.take()
    reader = RequestReader()
    reader.max_bulk = 2**30
    reader.feed(b"*1\r\n$%d\r\n" % 2**30)
    assert reader.take() == []


# -- memory and time -----------------------------------------------------------------------------


def test_claims_take_no_memory() -> None:
    claims = [
        b"*2147483647\r\n",
        b"*99999\r\n$1\r\na\r\n",
        PING * 20 + b"*1000000000\r\n",
        b"*1\r\n*1000000000\r\n",
        b"*1\r\n>1000000000\r\n",
        b">1000000000\r\n",
        b"~1000000000\r\n" + PING,
        b"|1000000000\r\n" + PING,
        b"%1000000000\r\n" + PING,
        PING * 20 + b">1000000000\r\n" + PING,
        PING * 20 + b"~1000000000\r\n" + PING,
        PING * 20 + b"|1000000000\r\n" + PING,
        b"*3\r\n$536870912\r\nabc",
    ]
    actual([PING * 20], True, False)
    tracemalloc.start()
    try:
        for claim in claims:
            for step in (1, 2, 7, len(claim)):
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                actual([claim[i : i + step] for i in range(0, len(claim), step)], True, False)
                assert tracemalloc.get_traced_memory()[1] - before < 1_000_000, claim
    finally:
        tracemalloc.stop()


def test_a_large_value_is_held_once() -> None:
    size = 20_000_000
    head, chunk = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$%d\r\n" % size, b"v" * 65536
    reader = RequestReader()
    tracemalloc.start()
    try:
        reader.feed(head)
        assert reader.take() == []
        for left in range(size, 0, -len(chunk)):
            reader.feed(chunk[:left])
            assert reader.take() == []
        assert reader.buffered == size
        reader.feed(b"\r\n" + PING)
        batch = reader.take()
        assert [len(a) for a in batch[0]] == [3, 1, size]
        assert batch[1:] + reader.take() == [[b"PING"]]
        # The buffer grows by an eighth and becomes the value itself.
        assert tracemalloc.get_traced_memory()[1] < 2 * size
    finally:
        tracemalloc.stop()


def test_what_is_held_is_counted() -> None:
    reader = RequestReader()
    assert (reader.buffered, reader.pending) == (0, 0)
    reader.feed(b"*3\r\n$3\r\nSET\r\n$5\r\nab")
    assert reader.buffered == 19
    assert reader.take() == []
    assert reader.buffered == 2
    assert reader.pending >= 3
    reader.feed(b"cde\r\n$100000\r\n" + b"x" * 50_000)
    assert reader.take() == []
    assert reader.buffered == 50_000
    assert reader.pending >= 8
    reader.feed(b"x" * 50_000)
    reader.feed(b"\r\n" + PING)
    assert len(reader.take()) == 1
    assert reader.buffered == len(PING)
    assert len(reader.take()) == 1
    assert (reader.buffered, reader.pending) == (0, 0)


@pytest.mark.parametrize("nothing", [b"\n", b" \r\n", b"*0\r\n", b"*-1\r\n"])
def test_a_flood_of_nothing_is_skipped_in_portions(nothing: bytes) -> None:
    reader = RequestReader()
    reader.feed(PING + nothing * 10_000 + PING)
    assert reader.take() == [[b"PING"]]
    portions = 0
    while not (batch := reader.take()):
        assert reader.unfinished
        portions += 1
    assert batch == [[b"PING"]]
    assert 1 <= portions <= 3
    assert not reader.take()
    assert not reader.unfinished
    reader.feed(nothing * 10_000 + PING)
    assert reader.gets() == [b"PING"]


# -- damaged streams --------------------------------------------------------------------------

SEEDS = [
    PING,
    b"*0\r\n",
    b"*-1\r\n",
    b"PING\r\n",
    b"ECHO \"a b\" 'c'\r\n",
    b"\r\n",
    b"*3\r\n:1\r\n_\r\n#t\r\n",
    b"*1\r\n-\xff\r\n",
    b"*1\r\n+\r\n",
    b"*2\r\n$4\r\nECHO\r\n=8\r\ntxt:abcd\r\n",
    b"*1\r\n(1\r\n",
    b"*1\r\n,inf\r\n",
    b"%1\r\n$1\r\na\r\n$1\r\nb\r\n",
    b"~1\r\n$1\r\na\r\n",
    b"|1\r\n$1\r\na\r\n$1\r\nb\r\n",
    b">1\r\n$1\r\na\r\n",
    b"*1\r\n" * 12 + b"$1\r\na\r\n",
    b"*99999\r\n",
    b"*2147483648\r\n",
    b"*1\r\n$536870913\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"$0\r\n\r\n",
    b"+\r\n",
    encode(b"SET", b"k", b"a+b=c(d>e~f|g%h"),
    encode(b"SET", b"key:%012d" % 7, b"x" * 64),
    encode(b"SET", b"k", b"y" * 17000),
    encode(b"MSET", *([b"k", b"v"] * 30)),
]
NOISE = [b"\r", b"\n", b"\r\n", b"*", b"$", b"+", b":", b"-", b"\0", b"1", b"0", b'"', b"'", b"\\"]


def mutated(rng: random.Random) -> bytes:
    data = bytearray(
        b"".join(rng.choices(SEEDS[:1] * 20 + SEEDS[-4:] * 3 + SEEDS, k=rng.randint(1, 40)))
    )
    for _ in range(rng.choice([0, 0, 1, 1, 2, 5])):
        place = rng.randrange(len(data))
        action = rng.random()
        if action < 0.3:
            data[place] = rng.randrange(256)
        elif action < 0.5:
            del data[place : place + rng.randint(1, 5)]
        elif action < 0.8:
            data[place:place] = rng.choice(NOISE)
        else:
            data[place:place] = rng.choice(SEEDS)
        if not data:
            return PING
    return bytes(data)


@pytest.mark.parametrize("authenticated", [True, False])
def test_damaged_streams_give_what_the_reference_gives(authenticated: bool) -> None:
    rng = random.Random(8)
    until = time.monotonic() + 4
    for _ in range(1500):
        data = mutated(rng)
        expected = reference(data, authenticated)
        for lazy in (False, True):
            chunks = chunked(data, rng)
            assert actual(chunks, authenticated, lazy) == expected, (data, chunks)
        if time.monotonic() > until:
            break


@pytest.mark.parametrize(
    "request_", [[b"PING"], [b"GET", b"k\r\n"], [b"SET", b"", b"$1"], [b"MGET", *[b"k"] * 9]]
)
def test_a_request_alone_is_whole_and_well_formed(request_: list[bytes]) -> None:
    data = encode(*request_)
    rng = random.Random(9)
    assert RequestReader(authenticated=False).alone(data) is None
    assert RequestReader().alone(encode(b"SET", b"k", b"v" * 600)) is None
    found = 0
    for _ in range(2000):
        damaged = bytearray(data)
        place = rng.randrange(len(data))
        if rng.random() < 0.5:
            damaged[place : place + rng.randint(0, 2)] = rng.choice([*NOISE, *SEEDS[:6]])
        else:
            damaged[place] = rng.choice(b"$*\r\n0123456789")
        alone = RequestReader().alone(bytes(damaged))
        if alone is not None:
            found += 1
            assert reference(bytes(damaged)) == ([alone], None), bytes(damaged)
            assert encode(*alone) == damaged
    assert found or b"\r\n" in b"".join(request_)


def test_a_request_behind_the_start_of_another_is_not_alone() -> None:
    for start in (b"*1\r\n", b"*", b"*2\r\n$4\r\nECHO\r\n", b"*1\r\n$20\r\n"):
        reader = RequestReader()
        reader.feed(start)
        assert reader.take() == []
        assert reader.alone(PING) is None


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 2**32))
def test_noise_gives_what_the_reference_gives(data: bytes, seed: int) -> None:
    for stream in (data, PING * 3 + data, b"*1\r\n" + data, PING * 60 + data):
        chunks = chunked(stream, random.Random(seed))
        assert actual(chunks, True, False) == reference(stream)


# -- inline -------------------------------------------------------------------------------------


def split_by_characters(line: bytes) -> list[bytes] | None:
    """sdssplitargs, character by character."""
    text = line.partition(b"\0")[0] + b"\0"
    blanks, hexadecimal = b" \t\n\v\f\r", b"0123456789abcdefABCDEF"
    words: list[bytes] = []
    at = 0
    while True:
        while text[at] in blanks:
            at += 1
        if not text[at]:
            return words
        word = bytearray()
        quote = 0
        while True:
            byte = text[at]
            if quote and not byte:
                return None
            if quote == 34 and byte == 92 and text[at + 1]:
                digits = text[at + 2 : at + 4]
                if (
                    text[at + 1] == 120
                    and len(digits) == 2
                    and all(d in hexadecimal for d in digits)
                ):
                    word.append(int(digits, 16))
                    at += 4
                else:
                    escapes = {110: 10, 114: 13, 116: 9, 98: 8, 97: 7}
                    word.append(escapes.get(text[at + 1], text[at + 1]))
                    at += 2
                continue
            if quote == 39 and byte == 92 and text[at + 1] == 39:
                word.append(39)
                at += 2
                continue
            if quote and byte == quote:
                at += 1
                if text[at] and text[at] not in blanks:
                    return None
                break
            if not quote and byte in b" \n\r\t\0":
                break
            if not quote and byte in b"\"'":
                quote = byte
            else:
                word.append(byte)
            at += 1
        words.append(bytes(word))


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from([bytes((b,)) for b in b" \t\v\f\r\"'\\xnAf0ab\0\xff"])).map(b"".join)
)
def test_lines_split_as_sdssplitargs_does(line: bytes) -> None:
    assert split_inline(line) == split_by_characters(line)


def test_a_long_quoted_line_takes_little_time() -> None:
    start = time.monotonic()
    for line in (b'"' + b"\\" * 65534, b"'" + b"\\'" * 32767, b'"' * 65536, b"a'" * 32768):
        split_inline(line)
    assert time.monotonic() - start < 1
