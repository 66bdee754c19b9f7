"""Vector commands through a socket: what recordings of Redis cannot say."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from tests.conftest import Connect, StartServer
from tests.support.resp import Wire
from tests.support.server import ServerProcess

from .sets import nearest, noise

pytestmark = pytest.mark.norikv


def fp32(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def error(wire: Wire, *words: Any) -> str:
    reply = wire.reply(*words)
    assert reply.is_error, (words[:3], reply)
    text: str = reply.value.text
    return text


# ---- defining


def test_a_set_that_was_created_keeps_its_definition_and_stays_when_empty(wire: Wire) -> None:
    words = ("VCREATE", "k", "DIM", 2, "METRIC", "L2", "TYPE", "FLAT", "QUANT", "BF16", "M", 8)
    assert wire.ok(*words) == 1
    assert wire.ok(*words) == 0
    assert "its METRIC is L2" in error(wire, "VCREATE", "k", "DIM", 2)
    assert "its DIM is 2" in error(wire, *words[:3], 3, *words[4:])
    assert wire.ok("VADD", "k", "FP32", fp32(1, 2), "a") == 1  # no option is asked for
    assert "quantization mismatch" in error(wire, "VADD", "k", "FP32", fp32(1, 2), "b", "Q8")
    assert "M value mismatch" in error(wire, "VADD", "k", "FP32", fp32(1, 2), "b", "M", "16")
    assert wire.ok("VREM", "k", "a") == 1
    assert wire.ok("VCARD", "k") == 0
    assert wire.ok("TYPE", "k") == b"vectorset"
    assert wire.ok("VSEARCH", "k", 1, "FP32", fp32(1, 2)) == []
    assert wire.ok("VDROP", "k") == 1
    assert wire.ok("VDROP", "k") == 0
    assert wire.ok("EXISTS", "k") == 0


def test_creating_what_a_vadd_has_implied_makes_it_stay(wire: Wire) -> None:
    wire.ok("VADD", "k", "FP32", fp32(1, 2), "a", "NOQUANT")
    assert wire.ok("VCREATE", "k", "DIM", 2) == 0
    wire.ok("VREM", "k", "a")
    assert wire.ok("VDIM", "k") == 2


@pytest.mark.parametrize(
    "words",
    [
        ("METRIC", "L2"),
        ("DIM",),
        ("DIM", "0"),
        ("DIM", "32769"),
        ("DIM", "x"),
        ("DIM", "2", "METRIC", "TAXI"),
        ("DIM", "2", "TYPE", "TREE"),
        ("DIM", "2", "QUANT", "F8"),
        ("DIM", "2", "M", "3"),
        ("DIM", "2", "M", "4097"),
        ("DIM", "2", "EF", "0"),
        ("DIM", "2", "EF_CONSTRUCTION", "1000001"),
        ("DIM", "2", "IDEM"),
        ("DIM", "2", "COLOUR", "red"),
    ],
    ids=" ".join,
)
def test_bad_definitions_are_refused(wire: Wire, words: tuple[str, ...]) -> None:
    assert error(wire, "VCREATE", "k", *words).startswith("ERR ")
    assert wire.ok("EXISTS", "k") == 0


# ---- searching


@pytest.mark.parametrize(
    ("metric", "distances"),
    [("COSINE", [0.0, 0.4, 1.0]), ("L2", [0.0, 20.0, 25.0]), ("IP", [-24.0, -14.0, 1.0])],
)
def test_distances_of_each_metric(wire: Wire, metric: str, distances: list[float]) -> None:
    wire.ok("VCREATE", "k", "DIM", 2, "METRIC", metric)
    wire.ok("VMADD", "k", 3, "a", fp32(3, 4), "zero", fp32(0, 0), "b", fp32(5, 0))
    reply = wire.ok("VSEARCH", "k", 10, "ELE", "a")
    found = dict(zip(reply[::2], map(float, reply[1::2]), strict=True))
    expected = dict(zip((b"a", b"b", b"zero"), distances, strict=True))
    assert found == pytest.approx(expected, abs=1e-12)
    assert list(map(float, reply[1::2])) == sorted(distances)
    bounded = wire.ok("VSEARCH", "k", 10, "ELE", "a", "RADIUS", distances[1])
    assert bounded[::2] == reply[:4:2]


def test_attributes_and_vectors_come_with_hits(connect: Connect) -> None:
    old, new = connect(2), connect(3)
    old.ok("VADD", "k", "FP32", fp32(1, 0), "a", "SETATTR", '{"n":1}')
    old.ok("VADD", "k", "FP32", fp32(0, 1), "b")
    words = ("VSEARCH", "k", 5, "FP32", fp32(1, 0), "WITHATTRIBS", "WITHVECTORS")
    expected = [b"a", 0.0, b'{"n":1}', fp32(1, 0), b"b", 1.0, None, fp32(0, 1)]
    assert new.ok(*words) == expected
    assert old.ok(*words) == [
        str(x).rstrip("0").rstrip(".").encode() or b"0" if isinstance(x, float) else x
        for x in expected
    ]
    found = new.ok("VSEARCH", "k", 5, "FP32", fp32(1, 0), "FILTER", ".n == 1")
    assert found == [b"a", 0.0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((0, "ELE", "a"), "invalid k"),
        ((-1, "ELE", "a"), "invalid k"),
        (("x", "ELE", "a"), "invalid k"),
        ((1, "ELE", "z"), "element not found"),
        ((1, "ELE", "a", "RADIUS", "nan"), "invalid RADIUS"),
        ((1, "ELE", "a", "EF", "0"), "invalid EF"),
        ((1, "ELE", "a", "FILTER", ".n >"), "syntax error in FILTER"),
        ((1, "ELE", "a", "FILTER-EF", "0"), "invalid FILTER-EF"),
        ((1, "ELE", "a", "RADIUS"), "syntax error in VSEARCH"),
        ((1, "ELE", "a", "TRUTH", "1"), "syntax error in VSEARCH"),
        ((1, "FP32", fp32(1, 2, 3)), "dimension mismatch"),
        ((1, "FP32", b"12345"), "invalid vector specification"),
        ((1, "FP32", fp32(1, float("nan"))), "NaN"),
        ((1, "VALUES", "2", "1", "inf"), "infinity"),
        ((1, "VALUES", "1000000000", "1"), "invalid vector specification"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(map(str, value)),
)
def test_bad_searches_are_refused(wire: Wire, words: tuple[Any, ...], said: str) -> None:
    wire.ok("VADD", "k", "FP32", fp32(1, 2), "a")
    assert said in error(wire, "VSEARCH", "k", *words)


def test_more_than_there_is_can_be_asked_for(wire: Wire) -> None:
    wire.ok("VADD", "k", "FP32", fp32(1, 2), "a")
    assert nearest(wire, "k", np.array([1, 2], "<f4"), 2**63 - 1) == [b"a"]
    assert wire.ok("VSIM", "k", "ELE", "a", "COUNT", 2**63 - 1, "EF", 1_000_000) == [b"a"]


# ---- adding


@pytest.mark.parametrize(
    "vector", [fp32(float("nan"), 1), fp32(1, float("inf")), fp32(float("-inf"), 0)]
)
def test_what_is_no_number_is_refused_and_leaves_nothing(wire: Wire, vector: bytes) -> None:
    for words in (("VADD", "k", "FP32", vector, "a"), ("VMADD", "k", 1, "a", vector)):
        assert "NaN, infinity" in error(wire, *words)
    assert "too large" in error(wire, "VADD", "k", "VALUES", 2, "1e39", 1, "a")
    assert "NaN" in error(wire, "VMADD", "k", 2, "a", fp32(1, 2), "b", vector)
    assert wire.ok("EXISTS", "k") == 0


@pytest.mark.parametrize("word", [" 1", "1 ", "1_0", "0x1p2x", "", "1\n", "nan", "1 2"])
def test_words_that_are_no_numbers(wire: Wire, word: str) -> None:
    text = error(wire, "VADD", "k", "VALUES", 2, word, 1, "a")
    assert text == "ERR invalid vector specification"


def test_many_vectors_in_one_command(wire: Wire) -> None:
    rng = np.random.default_rng(1)
    vectors = noise(rng, 10_000, 16)
    words: list[Any] = []
    for number, vector in enumerate(vectors):
        words += (b"id%d" % number, vector.tobytes())
    assert wire.ok("VMADD", "k", 10_000, *words) == 10_000
    assert wire.ok("VMADD", "k", 3, *words[:4], "new", words[1]) == 1
    assert wire.ok("VCARD", "k") == 10_001
    version = wire.ok("VER", "k")
    assert "dimension mismatch" in error(wire, "VMADD", "k", 2, *words[:2], "b", fp32(1))
    assert "n has to be" in error(wire, "VMADD", "k", 3, *words[:4])
    assert "n has to be" in error(wire, "VMADD", "k", 0, *words[:4])
    assert wire.ok("VER", "k") == version
    assert wire.ok("VMADD", "k", 2, "twice", words[1], "twice", words[3]) == 1
    assert wire.ok("VEMB", "k", "twice") == wire.ok("VEMB", "k", "id1")
    assert nearest(wire, "k", vectors[77]) == [b"id77"]


def test_ids_have_a_longest(wire: Wire) -> None:
    assert wire.ok("VADD", "k", "FP32", fp32(1), b"x" * 65535) == 1
    assert "65535 bytes" in error(wire, "VADD", "k", "FP32", fp32(1), b"x" * 65536)
    assert "65535 bytes" in error(wire, "VMADD", "k", 1, b"x" * 65536, fp32(1))
    assert nearest(wire, "k", np.ones(1, "<f4")) == [b"x" * 65535]


def test_projections_are_kept_over_a_restart(start_server: StartServer) -> None:
    server = start_server()
    vectors = noise(np.random.default_rng(2), 50, 64)
    with server.wire() as wire:
        for number, vector in enumerate(vectors):
            words = ("VADD", "k", "REDUCE", 16, "FP32", vector.tobytes(), b"%d" % number)
            assert wire.ok(*words) == 1
        before = wire.ok("VEMB", "k", "7")
        assert "too large a projection" in error(
            wire, "VADD", "l", "REDUCE", 32768, "FP32", bytes(4 * 32768), "a"
        )
        assert wire.ok("EXISTS", "l") == 0
    server.restart(clean=False)
    with server.wire() as wire:
        assert wire.ok("VDIM", "k") == 16
        assert wire.ok("VEMB", "k", "7") == before
        for number, vector in enumerate(vectors):
            assert nearest(wire, "k", vector) == [b"%d" % number]
        assert "Input dimension mismatch" in error(wire, "VSIM", "k", "FP32", fp32(1, 2, 3))
        assert wire.ok("VMADD", "k", 1, "again", vectors[7].tobytes()) == 1
        assert wire.ok("VEMB", "k", "again") == before


# ---- keys


def test_xx_adds_only_to_a_set_that_is_there(wire: Wire) -> None:
    add = ("VADD", "k", "FP32", fp32(1, 2), "a", "XX")
    assert wire.ok(*add) is None and wire.ok(*add, "WITHVER") is None
    assert wire.ok("EXISTS", "k") == 0
    wire.ok("VCREATE", "k", "DIM", 2, "METRIC", "L2")
    assert wire.ok(*add) == 1 and wire.ok(*add) == 0
    assert wire.ok(*add, "IDEM", "t", "WITHVER") == wire.ok("VER", "k")
    wire.ok("VDROP", "k")
    assert wire.ok(*add, "IDEM", "u") is None
    wire.ok("VCREATE", "k", "DIM", 2)
    assert wire.ok(*add, "IDEM", "u") == 1  # a refusal is not what happened once
    wire.ok("SET", "s", "v")
    assert error(wire, "VADD", "s", "FP32", fp32(1, 2), "a", "XX").startswith("WRONGTYPE")


def test_versions_and_tokens(wire: Wire) -> None:
    version = wire.ok("VADD", "k", "FP32", fp32(1, 2), "a", "WITHVER")
    assert version == wire.ok("VER", "k")
    added = ("VADD", "k", "FP32", fp32(2, 1), "b", "IDEM", "token", "WITHVER")
    newer = wire.ok(*added)
    assert newer != version and wire.ok(*added) == newer == wire.ok("VER", "k")
    assert error(wire, *added[:3], fp32(3, 3), *added[4:]).startswith("IDEMMISMATCH")
    removed = ("VREM", "k", "b", "IDEM", "other")
    assert [wire.ok(*removed), wire.ok(*removed), wire.ok("VREM", "k", "b")] == [1, 1, 0]
    many = ("VMADD", "k", "IDEM", "many", 2, "c", fp32(1, 1), "d", fp32(0, 1))
    assert [wire.ok(*many), wire.ok(*many)] == [2, 2]
    made = ("VCREATE", "n", "IDEM", "made", "DIM", 2)
    assert [wire.ok(*made), wire.ok(*made), wire.ok("VCREATE", "n", "DIM", 2)] == [1, 1, 0]
    dropped = ("VDROP", "n", "IDEM", "gone")
    assert [wire.ok(*dropped), wire.ok(*dropped), wire.ok("VDROP", "n")] == [1, 1, 0]
    attributes = ("IDEM", "attr", "VSETATTR", "k", "a", "{}")
    assert [wire.ok(*attributes), wire.ok(*attributes)] == [1, 1]
    values = ("VADD", "k", "VALUES", 2, "IDEM", 1, "IDEM", "IDEM", "t")
    assert "invalid vector specification" in error(wire, *values)
    named = ("VADD", "k", "VALUES", 2, 1, 1, "IDEM", "SETATTR", "IDEM", "IDEM", "t")
    assert [wire.ok(*named), wire.ok(*named)] == [1, 1]
    assert wire.ok("VGETATTR", "k", "IDEM") == b"IDEM"


def test_a_version_changes_when_the_set_does(wire: Wire) -> None:
    wire.ok("VCREATE", "k", "DIM", 1)
    seen = [wire.ok("VER", "k")]
    for words in (
        ("VADD", "k", "FP32", fp32(1), "a"),
        ("VADD", "k", "FP32", fp32(1), "a"),
        ("VSETATTR", "k", "a", "{}"),
        ("VMADD", "k", 1, "b", fp32(2)),
        ("VREM", "k", "a"),
    ):
        wire.ok(*words)
        seen.append(wire.ok("VER", "k"))
    assert len(set(seen)) == len(seen)
    for words in (("VREM", "k", "zz"), ("VSETATTR", "k", "zz", "{}"), ("VCREATE", "k", "DIM", 1)):
        assert wire.ok(*words) == 0
    assert wire.ok("VER", "k") == seen[-1]


def test_watched_sets(connect: Connect) -> None:
    wire, other = connect(2), connect(2)
    wire.ok("VADD", "k", "FP32", fp32(1), "a")
    wire.ok("WATCH", "k")
    other.ok("VSETATTR", "k", "a", "{}")
    wire.ok("MULTI")
    wire.call("VREM", "k", "a")
    assert wire.ok("EXEC") is None
    assert wire.ok("VCARD", "k") == 1


def test_a_document_and_its_vector_in_one_transaction(wire: Wire) -> None:
    wire.ok("MULTI")
    wire.call("SET", "doc", "text")
    wire.call("VADD", "k", "FP32", fp32(1, 0), "doc")
    wire.call("VSEARCH", "k", 1, "FP32", fp32(1, 0))
    replies = wire.ok("EXEC")
    assert replies[2][0] == b"doc"
    assert wire.ok("VER", "doc") == wire.ok("VER", "k")


def test_events(connect: Connect) -> None:
    wire, listener = connect(2), connect(2)
    wire.ok("CONFIG", "SET", "notify-keyspace-events", "KA")
    try:
        listener.ok("SUBSCRIBE", "__keyspace@0__:k")
        wire.ok("VADD", "k", "FP32", fp32(1), "a")
        wire.ok("VSETATTR", "k", "a", "{}")
        wire.ok("VREM", "k", "a")
        events = [listener.read()[2] for _ in range(4)]
    finally:
        wire.ok("CONFIG", "SET", "notify-keyspace-events", "")
    assert events == [b"vadd", b"vsetattr", b"vrem", b"del"]


def test_copies_and_dumps_are_sets_of_their_own(wire: Wire) -> None:
    for number in range(30):
        wire.ok("VADD", "k", "FP32", fp32(number, 1), b"%d" % number, "SETATTR", b"[%d]" % number)
    assert wire.ok("COPY", "k", "copy") == 1
    payload = wire.ok("DUMP", "k")
    assert wire.ok("RESTORE", "restored", 0, payload) == b"OK"
    assert error(wire, "RESTORE", "k", 0, payload).startswith("BUSYKEY")
    wire.ok("SET", "string", "x")
    assert wire.ok("RESTORE", "string", 100_000, payload, "REPLACE") == b"OK"
    wire.ok("VREM", "k", "5")
    wire.ok("RENAME", "copy", "renamed")
    for key in ("renamed", "restored", "string"):
        assert wire.ok("VCARD", key) == 30
        assert wire.ok("VGETATTR", key, "5") == b"[5]"
        assert wire.ok("VSIM", key, "FP32", fp32(5, 1), "COUNT", 1) == [b"5"]
        wire.ok("VADD", key, "FP32", fp32(5, 1.01), "added")
        assert wire.ok("VSIM", key, "FP32", fp32(5, 1.01), "COUNT", 1) == [b"added"]
    assert 0 < wire.ok("PTTL", "string") <= 100_000
    assert wire.ok("VISMEMBER", "k", "added") == 0
    for end in range(12, len(payload), 97):
        assert wire.reply("RESTORE", "bad", 0, payload[:end]).is_error
    assert wire.ok("EXISTS", "bad") == 0
    assert wire.ok("SCAN", 0, "TYPE", "vectorset")[1]


def test_what_a_set_takes_grows_with_it(wire: Wire) -> None:
    wire.ok("VADD", "k", "FP32", bytes(400), "a")
    one = wire.ok("MEMORY", "USAGE", "k")
    assert one > 400
    for number in range(99):
        wire.ok("VADD", "k", "FP32", bytes(400), b"%d" % number)
    assert 90 * 400 < wire.ok("MEMORY", "USAGE", "k") < 100 * one
    assert wire.ok("MEMORY", "USAGE", "k", "SAMPLES", 0) > 100 * 400


def test_expired_and_flushed_sets_are_gone(server: ServerProcess, wire: Wire) -> None:
    wire.ok("VADD", "k", "FP32", fp32(1), "a")
    wire.ok("PEXPIRE", "k", 1)
    wire.ok("VADD", "other", "FP32", fp32(1), "a")
    while wire.ok("EXISTS", "k"):
        pass
    assert wire.ok("VSEARCH", "k", 1, "ELE", "a") == []
    assert wire.ok("VADD", "k", "FP32", fp32(2, 2), "b") == 1  # with other dimensions
    assert nearest(wire, "k", np.ones(2, "<f4"), 5) == [b"b"]
    wire.ok("FLUSHDB")
    assert wire.ok("VSEARCH", "other", 1, "ELE", "a") == []
    assert wire.ok("VADD", "other", "FP32", fp32(1, 2, 3), "c") == 1
    assert nearest(wire, "other", np.ones(3, "<f4"), 5) == [b"c"]


# ---- random elements


def test_random_elements(wire: Wire) -> None:
    for number in range(200):
        wire.ok("VADD", "k", "FP32", fp32(number), b"%d" % number)
    for number in range(150):
        wire.ok("VREM", "k", b"%d" % number)
    alive = {b"%d" % number for number in range(150, 200)}
    seen = {wire.ok("VRANDMEMBER", "k") for _ in range(600)}
    assert seen == alive
    some = wire.ok("VRANDMEMBER", "k", 5)
    assert len(set(some)) == 5 and set(some) <= alive
    assert sorted(wire.ok("VRANDMEMBER", "k", 500)) == sorted(alive)
    assert set(wire.ok("VRANDMEMBER", "k", -2000)) == alive
    assert "out of range" in error(wire, "VRANDMEMBER", "k", -(2**63) + 1)


def test_random_elements_of_a_set_whose_elements_were_replaced_many_times(wire: Wire) -> None:
    names = [b"%d" % number for number in range(20)]
    words: list[Any] = []
    for number in range(2000):
        words += (names[number % 20], fp32(number))
    for _ in range(2):
        wire.ok("VMADD", "k", 2000, *words)
    assert sorted(wire.ok("VRANDMEMBER", "k", 20)) == sorted(names)
    assert len(set(wire.ok("VRANDMEMBER", "k", 2))) == 2
    # One that is never drawn in 400 fair draws is a matter of 1e-8.
    assert {wire.ok("VRANDMEMBER", "k") for _ in range(400)} == set(names)


# ---- looking


@pytest.mark.parametrize(
    ("quantisation", "name", "stored"),
    [
        ("F32", b"f32", fp32(0.6, 0.8)),
        ("F16", b"f16", np.array([0.6, 0.8], np.float16).tobytes()),
        ("BF16", b"bf16", fp32(0.6)[2:] + fp32(0.8)[2:]),
        ("I8", b"int8", bytes((95, 127))),
        ("B1", b"bin", bytes((3, 0, 0, 0, 0, 0, 0, 0))),
    ],
)
def test_a_vector_as_its_quantisation_has_it(
    wire: Wire, quantisation: str, name: bytes, stored: bytes
) -> None:
    wire.ok("VCREATE", "k", "DIM", 2, "QUANT", quantisation)
    wire.ok("VADD", "k", "FP32", fp32(3, 4), "a")
    assert list(map(float, wire.ok("VEMB", "k", "a"))) == [3, 4]
    kind, raw, length, *reach = wire.ok("VEMB", "k", "a", "RAW")
    assert (kind, raw, float(length)) == (name, stored, 5)
    assert [float(each) for each in reach] == pytest.approx([0.8] if name == b"int8" else [])
    info = wire.ok("VINFO", "k")
    fields = info if isinstance(info, dict) else dict(zip(info[::2], info[1::2], strict=True))
    assert fields[b"quant-type"] == name
    assert (fields[b"metric"], fields[b"index-type"]) == (b"cosine", b"hnsw")


def test_neighbours_of_an_element(connect: Connect) -> None:
    old, new = connect(2), connect(3)
    for number in range(8):
        old.ok("VADD", "k", "FP32", fp32(number, 1), b"%d" % number, "M", 4)
    old.ok("VADD", "k", "FP32", fp32(6, 1), "six", "M", 4)
    old.ok("VADD", "k", "FP32", fp32(3, 1), "three", "M", 4)
    assert old.ok("VLINKS", "k", "3") == [[b"three", b"4", b"5", b"2"]]
    scores = new.ok("VLINKS", "k", "3", "WITHSCORES")
    assert list(scores[0]) == [b"three", b"4", b"5", b"2"]
    assert scores[0][b"three"] == 1.0
    assert old.ok("VLINKS", "k", "3", "WITHSCORES")[0][::2] == list(scores[0])
