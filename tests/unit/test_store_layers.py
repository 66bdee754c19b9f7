"""The sorted index of the overlay's keys and the layers' accounting, against plain models."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.store.layers import Layer, cost
from norikv_resp.store.ordered import FamilyIndex, SortedKeys

keys = st.binary(min_size=0, max_size=3).map(lambda tail: b"m" + tail)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ard"), st.sets(keys, max_size=12), keys, keys)))
def test_sorted_keys_agree_with_a_set(steps: list[tuple[str, set[bytes], bytes, bytes]]) -> None:
    class Small(SortedKeys):
        LOAD = 4

    model: set[bytes] = set()
    index = Small([])
    for step, some, start, stop in steps:
        if step == "a":
            new = some - model
            index.add(list(new))
            model |= new
        elif step == "d":
            for key in some & model:
                index.discard(key)
            model -= some
        expected = sorted(key for key in model if start <= key < stop)
        assert list(index.between(start, stop)) == expected
        assert list(index.between_reversed(start, stop)) == expected[::-1]
        index.check()


def test_sorted_keys_take_many_at_the_start() -> None:
    rng = random.Random(5)
    all_keys = list({b"%d" % rng.randrange(10**6) for _ in range(30_000)})
    index = SortedKeys(all_keys)
    index.check()
    assert list(index.between(b"3", b"5")) == sorted(k for k in all_keys if b"3" <= k < b"5")
    assert list(index.between_reversed(b"", b"\xff")) == sorted(all_keys, reverse=True)
    index.check()


def test_a_family_is_grouped_by_collection_and_follows_the_open_dict() -> None:
    index = FamilyIndex(ord("e"))
    first, second = b"e" + bytes(8), b"e" + bytes(7) + b"\1"
    open_rows = {first + b"a": b"1", b"mx": b"1"}
    index.fold(open_rows)
    open_rows[second + b"b"] = b"1"
    open_rows[first + b"a"] = b""
    index.fold(open_rows)
    index.seal(open_rows)
    index.fold({first + b"0": b"1"})
    (group,) = index.groups(first, first + b"\xff")
    assert list(group.between(first, second)) == [first + b"0", first + b"a"]
    assert len(index.groups(b"e", b"f")) == 2
    index.discard([first + b"0", second + b"b", b"unknown"])
    assert list(group.between(b"e", b"f")) == [first + b"a"]
    assert len(index) == 1


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.binary(min_size=3, max_size=3), st.binary(max_size=9))))
def test_a_layer_knows_its_cost(frames: list[dict[bytes, bytes]]) -> None:
    layer = Layer({}, 0, 0)
    for rows in frames:
        layer.absorb(rows, cost(rows))
        assert layer.size == cost(layer.rows)
    while layer.rows:
        piece = layer.newest(2)
        layer.drop_newest(len(piece), cost(piece))
        assert layer.size == cost(layer.rows)
