"""FILTER expressions: Redis's language, its errors, and the same answer from rows and columns."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.modules import part
from tests.support.effort import scaled, seeded

from . import filter_oracle as oracle

filters = part("vector.filters")
columns = part("vector.columns")

many = settings(max_examples=scaled(300), deadline=None)


def matches(expression: str | bytes, document: Any) -> bool:
    text = expression.encode() if isinstance(expression, str) else expression
    found: bool = filters.parse(text).matches(
        document if document is None or isinstance(document, bytes) else oracle.encoded(document)
    )
    return found


def error(expression: str | bytes) -> str:
    text = expression.encode() if isinstance(expression, str) else expression
    with pytest.raises(filters.FilterError) as caught:
        filters.parse(text)
    return str(caught.value)


# ---- the language


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("2 ** 3 ** 2 == 512", True),  # to the right
        ("10 - 2 - 3 == 5", True),  # to the left
        ("2 + 3 * 4 == 14", True),
        ("(2 + 3) * 4 == 20", True),
        ("1 or 0 and 0", True),
        ("not 0 == 0", False),  # (not 0) == 0
        ("!1 + 1", True),
        ("!!5 == 1 and not not 0 == 0", True),
        ("1 and !!0", False),
        ("3 -2 == 1", True),
        ("3 - -2 == 5", True),
        ("(3) -2 == 1", True),
        ("-2 ** 2 == 4", True),  # the sign belongs to the number
        ("1/0 > 1e300 and -1/0 < 0 and 0/0 != 0/0", True),
        ("5 % 0 == 5 % 0", False),
        ("-7 % 3 == -1", True),
        ("0 ** -1 > 1 and (-8) ** 0.5 != 1", True),
        ("'12' == 12 and '0x10' + 0 == 16 and 'twelve' == 0", True),
        ("'a' < 'b'", False),  # both are 0
        ("'b' == \"b\"", True),
        ("'' or null or 0", False),
        ("[] and 'x'", True),
        ("null == null and null!=0 and !(null)", True),
        ("2 in [1, '2', 3] and 'x' in ['x',]", True),
        ("'ell' in 'hello' and '' in '' and !(1 in '1')", True),
        ("2 in 2", False),
        (r"'it\'s' == " + '"it' + "'" + 's"', True),
        (r"'a\n' == 'a\n' and 'a\n' != 'an'", True),
    ],
)
def test_literals(expression: str, expected: bool) -> None:
    assert matches(expression, {}) is expected


def test_fields() -> None:
    document = {
        "year": 1984,
        "ok": True,
        "no": False,
        "nothing": None,
        "title": "Ünïcode",
        "tags": ["x", 2, [1]],
        "deep": {"er": {"est": 3}},
        "mixed": [{"a": 1}],
        "a-1": 5,
        "5": 6,
    }
    for expression in (
        ".year",
        ".year == '1984'",
        ".ok == 1 and .no == 0 and !.no",
        ".nothing == null",
        "'ïco' in .title",
        ".title == 'Ünïcode'",
        "'x' in .tags and '2' in .tags and 0 in .tags",
        ".deep.er.est == 3",
        ".a-1 == 5",
        ".5 == 6",
    ):
        assert matches(expression, document), expression
    for expression in (".absent", "!.absent", "1 or .absent", ".deep", ".mixed", ".deep.x == null"):
        assert not matches(expression, document), expression


def test_attributes_that_are_no_object_have_no_fields() -> None:
    for text in (b"", b"not json", b"[1]", b"5", b"null", b'{"a":', b"[" * 100_000):
        assert not matches("!.a", text)
        assert matches("1 == 1", text)
    assert not matches("1 == 1", None)
    assert not matches(".", {"": 1})


def test_numbers_of_json() -> None:
    assert matches(".a == 1", b'{"a":1,"a":2}')  # the first one counts
    assert matches(".a > 1e308 ", b'{"a":1' + b"0" * 5000 + b"}")
    assert matches(".a != .b", b'{"a":NaN,"b":1}') is False
    assert matches(".a == 1", b'{"a":1,"b":"\t\n"}')


@pytest.mark.parametrize(
    ("expression", "near"),
    [
        ("", ""),
        (".a >", ".a >"),
        ("(.a", "(.a"),
        (".a)", ".a)"),
        (".a .b", ".a .b"),
        (".a @ 1", "@ 1"),
        (".a == true", ".a == true"),
        (".a == true and .b", " and .b"),
        (".a = 1", " 1"),
        ("nullx", "nullx"),
        (".a == 1e-5", "-5"),
        (".a == 1.2.3 ", " "),
        ("'open", "'open"),
        (".a in [1, x]", "x]"),
        (".a in [1 2]", "2]"),
        (".a in [1", ".a in [1"),
        (".a in [-]", "]"),
        (".é", ".é"),
        (".a AND .b", " .b"),
        ("1" * 300, "1" * 45),
        ("\0.a", ""),
    ],
)
def test_errors_name_the_place_as_redis_does(expression: str, near: str) -> None:
    assert error(expression) == f"ERR syntax error in FILTER expression near: {near}"


def test_a_zero_byte_ends_the_expression() -> None:
    assert matches(b".a == 1\0 @@@", {"a": 1})


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        (b"(" * 100_000, "too long"),
        (b"(" * 60_000, "too many words"),
        (b"(" * 101 + b"1" + b")" * 101, "too many nested parentheses (at most 100)"),
        (b"!" * 2_000 + b"1", "too many operators"),
        (b" or ".join([b".a"] * 1_100), "too many words"),
        (b"x" * 1_000_000, "too long (at most 65536 bytes)"),
    ],
)
def test_filters_are_bounded(expression: bytes, told: str) -> None:
    assert told in error(expression)


def test_large_but_allowed() -> None:
    assert matches("(" * 100 + "1" + ")" * 100, {})
    assert matches("!" * 1_000 + "1", {})
    assert matches("+".join(["1"] * 1_000) + " == 1000", {})
    assert matches("**".join(["1"] * 1_000), {})
    assert matches(f".a in {list(range(9_000))}", {"a": 8_999})


def test_parsed_once() -> None:
    first = filters.parse(b".a == 1 or .b")
    assert filters.parse(b".a == 1 or .b") is first
    assert first.paths == (("a",), ("b",))
    for number in range(filters.CACHED_FILTERS):
        filters.parse(b".a == %d" % number)
    assert filters.parse(b".a == 1 or .b") is not first


# ---- against the oracle


@many
@given(oracle.expressions, oracle.attributes)
def test_a_row_gives_what_python_works_out(expression: oracle.Expression, document: Any) -> None:
    told = matches(expression.text, oracle.encoded(document))
    assert told is oracle.matches(expression, document)


@many
@given(
    oracle.expressions,
    st.lists(st.none() | oracle.attributes, max_size=30),
    st.lists(st.tuples(st.integers(0, 40), st.none() | oracle.attributes), max_size=20),
    st.integers(0, 200),
)
def test_columns_give_what_rows_give(
    expression: oracle.Expression,
    documents: list[Any],
    changes: list[tuple[int, Any]],
    more: int,
) -> None:
    wanted = filters.compile_filter(expression.text.encode())
    table = columns.AttributeTable()
    model: dict[int, bytes | None] = {}

    def check() -> None:
        slots = max(model, default=-1) + 1 + more
        mask = table.mask(wanted, slots)
        assert mask.tolist() == [wanted.matches(model.get(slot)) for slot in range(slots)]
        assert all(table.get(slot) == model.get(slot) for slot in range(slots))

    for slot, document in enumerate(documents):
        model[slot] = None if document is None else oracle.encoded(document)
        table.put(slot, model[slot])
    check()
    for slot, document in changes:
        model[slot] = None if document is None else oracle.encoded(document)
        table.put(slot, model[slot])
    check()


WORDS = """.a .b.c . 1 -2 0.5 1e 'x' "y" 'open [1,'x'] [] [1 null true ( ) ! not and or && || in
== != = > >= < <= + - * ** / % @ ] \0 é"""

_soup = st.lists(st.sampled_from([" ", *WORDS.split()]), max_size=12).map("".join).map(str.encode)


def tried(text: bytes) -> tuple[Any, bytes]:
    """The filter, or the error."""
    try:
        return filters.parse(text), b""
    except filters.FilterError as error:
        return None, error.text


@many
@given(
    _soup | st.binary(max_size=20), st.binary(max_size=10) | oracle.attributes.map(oracle.encoded)
)
def test_whatever_is_written_is_a_filter_or_an_error(text: bytes, attributes: bytes) -> None:
    wanted, told = tried(text)
    if wanted is None:
        start, near, rest = told.partition(b"near: ")
        assert start + near == b"ERR syntax error in FILTER expression near: "
        assert text.partition(b"\0")[0].endswith(rest)
        return
    table = columns.AttributeTable()
    table.put(0, attributes)
    assert table.mask(wanted, 1).tolist() == [wanted.matches(attributes)]


def test_columns_of_many_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks share what they find out about strings and lists; all boundaries are seen."""
    monkeypatch.setattr(part("vector.masks"), "BLOCK", 7)
    rnd = seeded()
    texts = [document(rnd) for _ in range(200)]
    table = columns.AttributeTable()
    for slot, text in enumerate(texts):
        table.put(slot, text)
    for expression in (
        b".tag == 'red'",
        b"'red' in .tags",
        b".tag in .tags",
        b".n in .tags or 'e' in .tag",
        b".tag in ['red', 3, 'x'] and .n ** 2 > 9",
        b".tag in 'redgreen' or .tag == .tags",
        b"!(.n % 3) and .tag != .other",
    ):
        wanted = filters.parse(expression)
        assert table.mask(wanted, 200).tolist() == [wanted.matches(text) for text in texts]


def document(rnd: random.Random) -> bytes:
    """Attributes as people have them, some of them damaged."""
    colours = ("red", "green", "blue", "", "7")
    whole = {
        "n": rnd.choice((rnd.randrange(9), str(rnd.randrange(9)), None)),
        "tag": rnd.choice(colours),
        "other": rnd.choice(colours),
        "tags": rnd.sample([*colours, 3, 5], rnd.randrange(4)),
    }
    for name in rnd.sample(sorted(whole), rnd.choice((0, 0, 0, 1))):
        del whole[name]
    text = json.dumps(whole).encode()
    return text if rnd.random() < 0.95 else text[:-2]


# ---- the table


def test_columns_can_be_built_in_steps() -> None:
    table = columns.AttributeTable()
    for slot in range(2_000):
        table.put(slot, b'{"n":%d}' % slot)
    wanted = filters.parse(b".n >= 1000")
    steps = 0
    while not table.prepare(wanted, 0.0):
        steps += 1
        table.put(slot := steps * 3, b'{"n":%d}' % (5_000 + slot))
        table.put(2_000 + steps, b'{"n":0}')
    assert steps
    mask = table.mask(wanted, 2_000)
    assert mask[1_000:].all()
    assert mask[:1_000].nonzero()[0].tolist() == [step * 3 for step in range(1, steps + 1)]


def test_memory_is_bounded() -> None:
    table = columns.AttributeTable(column_bytes=100_000)
    for slot in range(1_000):
        table.put(slot, b'{"a":"%d","b":%d}' % (slot, slot))
    for number in range(50):
        assert not table.mask(filters.parse(b".a or .b or .f%d" % number), 1_000).any()
    size = table.memory
    assert size < 400_000
    for turn in range(50):  # the same slots again and again, always with new strings
        for slot in range(1_000):
            table.put(slot, b'{"a":"%d-%d","b":%d}' % (turn, slot, slot))
        assert table.mask(filters.parse(b".a and .b >= 0"), 1_000).all()
    assert table.memory < 2 * size
