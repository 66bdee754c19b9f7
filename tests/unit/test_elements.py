"""Rows of collections, and what is told when they are gone."""

from __future__ import annotations

import pytest

from norikv_resp.encoding import VECTORSET, Collection, element_prefix
from norikv_resp.expiry import Sweeper
from tests.unit.keyspace_fakes import Host


@pytest.fixture
def host() -> Host:
    return Host()


def test_elements_are_rows_under_their_collection(host: Host) -> None:
    keyspace = host.write()
    elements = keyspace.databases[0].elements(7)
    elements.put(b"mb", b"2")
    elements.put(b"ma", b"1")
    elements.put(b"v", b"3")
    keyspace.databases[0].elements(8).put(b"a", b"other")
    assert host.store.open[element_prefix(7) + b"ma"] == b"1"
    assert elements.get(b"ma") == b"1"
    assert elements.range() == [(b"ma", b"1"), (b"mb", b"2"), (b"v", b"3")]
    assert elements.range(b"m", b"n", limit=1) == [(b"ma", b"1")]
    assert elements.range(b"mb", reverse=True) == [(b"v", b"3"), (b"mb", b"2")]
    host.turn()
    host.write()
    elements.delete(b"ma")
    assert elements.get(b"ma") is None
    assert elements.range(b"m", b"n") == [(b"mb", b"2")]


def test_a_collection_is_reported_gone_after_its_last_row(host: Host) -> None:
    sweeper = Sweeper(host)
    keyspace = host.write()
    keys = keyspace.databases[0]
    cid = keyspace.new_cid()
    for number in range(1000):
        keys.elements(cid).put(b"v%d" % number, b"x")
    keys.put_record(b"k", VECTORSET, Collection(cid, 1000))
    host.turn()
    host.write()
    keys.delete(b"k")
    host.turn()
    while not host.reclaimed:
        sweeper.step()
        host.turn()
    assert host.reclaimed == [cid]
    assert not host.store.live(b"e")
    while sweeper.step():
        host.turn()
    assert host.reclaimed == [cid]
