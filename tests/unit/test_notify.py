"""notify-keyspace-events: the letters, the channels, and what waits for a commit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from norikv_resp import notify
from norikv_resp.notify import Notifier, describe, messages, parse
from norikv_resp.pubsub import Hub, Kind


class Listener:
    """A subscriber."""

    def __init__(self) -> None:
        self.channels: set[bytes] = set()
        self.patterns: set[bytes] = set()
        self.shard_channels: set[bytes] = set()


LETTERS = "Ag$lshzxeKEtmdnocaSTIV"


@pytest.mark.parametrize(
    ("text", "printed"),
    [("", ""), ("KEA", "AKE"), ("Kl", "lK"), ("EK$g", "g$KE"), ("AKEmSTIV", "AKEmSTIV")],
)
def test_settings_print_in_one_order(text: str, printed: str) -> None:
    assert describe(parse(text)) == printed


@given(st.text(alphabet=LETTERS))
def test_printing_loses_nothing(text: str) -> None:
    assert parse(describe(parse(text))) == parse(text)


def test_unknown_letters_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^Invalid event class character\. Use 'Ag\$lshz"):
        parse("KQ")


def test_a_means_the_events_of_writes() -> None:
    assert parse("A") == parse("g$lshzxetda")
    assert not parse("A") & (notify.NEW | notify.KEY_MISS | notify.CHANNELS)


def test_an_event_goes_to_the_keyspace_and_the_keyevent_channel() -> None:
    assert list(messages(parse("KEA"), 3, b"set", b"k")) == [
        (b"__keyspace@3__:k", b"set"),
        (b"__keyevent@3__:set", b"k"),
    ]


def test_subkeys_go_to_the_channels_asked_for() -> None:
    assert list(messages(parse("hSTIV"), 0, b"hset", b"h", [b"f", b"a,b"])) == [
        (b"__subkeyspace@0__:h", b"hset|1:f,3:a,b"),
        (b"__subkeyevent@0__:hset", b"1:h|1:f,3:a,b"),
        (b"__subkeyspaceitem@0__:h\nf", b"hset"),
        (b"__subkeyspaceitem@0__:h\na,b", b"hset"),
        (b"__subkeyspaceevent@0__:hset|h", b"1:f,3:a,b"),
    ]


def test_ambiguous_subkey_messages_are_left_out() -> None:
    channels = [channel for channel, _ in messages(parse("hSTIV"), 0, b"a|b", b"x\ny", [b"f"])]
    assert channels == [b"__subkeyevent@0__:a|b"]


class Keyspace:
    """A keyspace, as far as the notifier sees it."""

    def __init__(self) -> None:
        self.index = 0
        self.events: Any = None
        self.store = SimpleNamespace(open={b"row": b""}, staged=0, durable=0)


class Database:
    """A database of it."""

    number = 0


def notifier_with(text: str) -> tuple[Notifier, Keyspace, Hub[Listener]]:
    """A notifier with its surroundings."""
    hub: Hub[Listener] = Hub()
    keyspace = Keyspace()
    notifier = Notifier(hub, cast(Any, keyspace))
    notifier.configure(parse(text))
    return notifier, keyspace, hub


def test_events_wait_for_their_commit() -> None:
    _, keyspace, hub = notifier_with("KA")
    database = Database()
    keyspace.index = 1
    keyspace.events(database, "$", b"set", b"unheard")
    hub.subscribe(Kind.PATTERN, Listener(), [b"__key*__:*"])
    keyspace.index = 2
    keyspace.events(database, "$", b"set", b"k")
    keyspace.events(database, "m", b"keymiss", b"k")
    keyspace.index = 3
    keyspace.events(database, "g", b"del", b"k")
    keyspace.index = 4
    keyspace.events(database, "g", b"del", b"lost")
    assert hub.release(1) == []
    hub.discard(3)
    assert [push.items for push, _ in hub.release(9)] == [
        [b"pmessage", b"__key*__:*", b"__keyspace@0__:k", b"set"],
        [b"pmessage", b"__key*__:*", b"__keyspace@0__:k", b"del"],
    ]


@pytest.mark.parametrize("text", ["", "A", "KE", "STIV"])
def test_a_class_without_a_channel_arms_nothing_and_the_reverse(text: str) -> None:
    notifier, keyspace, _ = notifier_with(text)
    assert keyspace.events is None
    assert not notifier.wants_subkeys


def test_subkeys_are_wanted_only_for_their_channels() -> None:
    assert notifier_with("hS")[0].wants_subkeys
    assert not notifier_with("hKE")[0].wants_subkeys


def test_an_event_without_a_change_waits_for_the_last_frame() -> None:
    _, keyspace, hub = notifier_with("Km")
    hub.subscribe(Kind.CHANNEL, Listener(), [b"__keyspace@0__:k"])
    keyspace.index = 7
    keyspace.store.staged = 5
    keyspace.store.open = {}
    keyspace.events(Database(), "m", b"keymiss", b"k")
    assert len(hub.release(5)) == 1


def test_no_message_waits_for_a_commit_that_will_never_come() -> None:
    notifier, keyspace, _ = notifier_with("K")
    assert notifier.standing_index() == 0
    keyspace.index = keyspace.store.staged = 9
    assert notifier.standing_index() == 9
    keyspace.store.open = {}
    keyspace.store.durable = 4
    assert notifier.standing_index() == 9
    notifier.give_up()
    assert notifier.standing_index() == 4


def test_turning_notifications_off_disarms_the_keyspace() -> None:
    notifier, keyspace, _ = notifier_with("KEA")
    assert keyspace.events is not None
    notifier.configure(0)
    assert keyspace.events is None
