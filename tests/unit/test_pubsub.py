"""The hub: confirmations, receivers, counts and messages that wait for a commit."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.glob import match
from norikv_resp.protocol import Push
from norikv_resp.pubsub import Delivery, Hub, Kind


class Client:
    """A connection, as far as the hub sees it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.channels: set[bytes] = set()
        self.patterns: set[bytes] = set()
        self.shard_channels: set[bytes] = set()

    def __repr__(self) -> str:
        return self.name


def clients() -> tuple[Hub[Client], Client, Client]:
    """A hub and two clients."""
    return Hub(), Client("a"), Client("b")


def plain(pushes: list[Push]) -> list[list[Any]]:
    """The elements of messages."""
    return [push.items for push in pushes]


def sent(deliveries: list[Delivery[Client]]) -> list[tuple[list[Any], list[Client]]]:
    """The elements of messages, with their receivers."""
    return [(push.items, receivers) for push, receivers in deliveries]


def test_confirmations_count_channels_and_patterns_together() -> None:
    hub, a, b = clients()
    assert plain(hub.subscribe(Kind.CHANNEL, a, [b"one", b"one", b"two"])) == [
        [b"subscribe", b"one", 1],
        [b"subscribe", b"one", 1],
        [b"subscribe", b"two", 2],
    ]
    assert plain(hub.subscribe(Kind.PATTERN, a, [b"n*"])) == [[b"psubscribe", b"n*", 3]]
    assert plain(hub.subscribe(Kind.SHARD, a, [b"sh"])) == [[b"ssubscribe", b"sh", 1]]
    assert plain(hub.unsubscribe(Kind.CHANNEL, a, [b"nope"])) == [[b"unsubscribe", b"nope", 3]]
    assert plain(hub.unsubscribe(Kind.CHANNEL, a, [])) == [
        [b"unsubscribe", b"one", 2],
        [b"unsubscribe", b"two", 1],
    ]
    assert plain(hub.unsubscribe(Kind.CHANNEL, a, [])) == [[b"unsubscribe", None, 1]]
    assert plain(hub.unsubscribe(Kind.SHARD, a, [b"sh"])) == [[b"sunsubscribe", b"sh", 0]]
    assert plain(hub.unsubscribe(Kind.PATTERN, a, [])) == [[b"punsubscribe", b"n*", 0]]
    assert plain(hub.unsubscribe(Kind.PATTERN, b, [])) == [[b"punsubscribe", None, 0]]
    assert not hub.listening
    assert hub.stats()["pubsub_clients"] == 0


def test_a_message_goes_to_channel_subscribers_before_patterns() -> None:
    hub, a, b = clients()
    hub.subscribe(Kind.PATTERN, b, [b"o*"])
    hub.subscribe(Kind.CHANNEL, a, [b"one"])
    hub.subscribe(Kind.CHANNEL, b, [b"one"])
    assert sent(hub.publish(b"one", b"hi")) == [
        ([b"message", b"one", b"hi"], [a, b]),
        ([b"pmessage", b"o*", b"one", b"hi"], [b]),
    ]
    assert hub.receivers(b"one") == 3
    assert sent(hub.publish(b"nobody", b"hi")) == []


def test_shard_channels_are_a_name_space_of_their_own() -> None:
    hub, a, _ = clients()
    hub.subscribe(Kind.SHARD, a, [b"sh"])
    assert not hub.listening
    assert sent(hub.publish(b"sh", b"m")) == []
    assert sent(hub.publish(b"sh", b"m", shard=True)) == [([b"smessage", b"sh", b"m"], [a])]
    assert (hub.receivers(b"sh"), hub.receivers(b"sh", shard=True)) == (0, 1)
    assert (hub.channels(), hub.channels(shard=True)) == ([], [b"sh"])


def test_channels_and_patterns_are_listed_and_counted_while_subscribed() -> None:
    hub, a, b = clients()
    hub.subscribe(Kind.CHANNEL, a, [b"one", b"two"])
    hub.subscribe(Kind.CHANNEL, b, [b"two"])
    hub.subscribe(Kind.PATTERN, a, [b"t*", b"o*"])
    hub.subscribe(Kind.PATTERN, b, [b"t*"])
    assert hub.channels() == [b"one", b"two"]
    assert hub.channels(b"o*") == [b"one"]
    assert hub.numsub([b"one", b"two", b"nope"]) == [b"one", 1, b"two", 2, b"nope", 0]
    assert hub.numsub([], shard=True) == []
    assert hub.numpat() == 2
    hub.drop(a)
    hub.drop(a)
    assert (hub.channels(), hub.numpat(), a.patterns) == ([b"two"], 1, set())


def test_kept_messages_leave_in_order_and_only_when_committed() -> None:
    hub, a, _ = clients()
    hub.subscribe(Kind.CHANNEL, a, [b"c", b"d"])
    hub.defer(5, b"c", b"1")
    hub.defer(6, b"d", b"2")
    hub.defer(7, b"c", b"lost")
    hub.unsubscribe(Kind.CHANNEL, a, [b"c"])
    hub.discard(6)
    assert sent(hub.release(4)) == []
    assert sent(hub.release(7)) == [([b"message", b"d", b"2"], [a])]


NAMES = st.sampled_from([b"a", b"ab", b"b", b"*", b"a*", b"[ab]"])
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["sub", "unsub", "all", "drop"]),
        st.sampled_from(list(Kind)),
        st.integers(0, 2),
        NAMES,
    ),
    max_size=40,
)


@settings(max_examples=200)
@given(STEPS)
def test_agrees_with_a_set_of_triples(steps: list[tuple[str, Kind, int, bytes]]) -> None:
    hub: Hub[Client] = Hub()
    everyone = [Client(str(number)) for number in range(3)]
    model: set[tuple[Kind, int, bytes]] = set()
    for action, kind, number, name in steps:
        client = everyone[number]
        if action == "sub":
            hub.subscribe(kind, client, [name])
            model.add((kind, number, name))
        elif action == "unsub":
            hub.unsubscribe(kind, client, [name])
            model.discard((kind, number, name))
        elif action == "all":
            hub.unsubscribe(kind, client, [])
            model = {held for held in model if held[:2] != (kind, number)}
        else:
            hub.drop(client)
            model = {held for held in model if held[1] != number}
        assert hub.stats()["pubsub_clients"] == len({held[1] for held in model})
    for channel in (b"a", b"ab", b"b"):
        expected = [
            held
            for held in model
            if (held[0] is Kind.CHANNEL and held[2] == channel)
            or (held[0] is Kind.PATTERN and match(held[2], channel))
        ]
        delivered = hub.publish(channel, b"m")
        assert sum(len(receivers) for _, receivers in delivered) == len(expected)
        assert hub.receivers(channel) == len(expected)
    assert hub.numpat() == len({name for kind, _, name in model if kind is Kind.PATTERN})
    assert set(hub.channels()) == {name for kind, _, name in model if kind is Kind.CHANNEL}
