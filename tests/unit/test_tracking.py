"""Client-side caching: modes, prefixes, redirection, and invalidations that wait for a commit."""

from __future__ import annotations

import pytest

from norikv_resp.errors import ReplyError
from norikv_resp.protocol import Push
from norikv_resp.tracking import Options, Tracking, TrackingState


class Client:
    """A connection, as far as tracking sees it."""

    def __init__(self, world: World, number: int, resp3: bool = True) -> None:
        self.id = number
        self.resp3 = resp3
        self.subscribed = False
        self.tracking: TrackingState | None = None
        self.world = world

    def track(self, **options: object) -> None:
        self.tracking = self.world.tracking.enable(self, Options(**options))  # type: ignore[arg-type]

    def untrack(self) -> None:
        self.world.tracking.disable(self)
        self.tracking = None


class World:
    """Clients by id, and the tracking under test."""

    def __init__(self, max_keys: int = 0) -> None:
        self.clients: dict[int, Client] = {}
        self.tracking = Tracking(self.clients.get, max_keys)

    def connect(self, resp3: bool = True) -> Client:
        number = len(self.clients) + 1
        client = self.clients[number] = Client(self, number, resp3)
        return client

    def flushed(self, settled: int = 99) -> list[tuple[int, list[object]]]:
        return [(client.id, push.items) for client, push in self.tracking.flush(settled)]


def gone(*keys: bytes) -> list[object]:
    return [b"invalidate", list(keys)]


def test_the_first_change_after_a_read_is_announced_once() -> None:
    world = World()
    reader = world.connect()
    reader.track()
    world.tracking.remember(reader, [b"k", b"k"])
    world.tracking.touch(b"k", 1)
    world.tracking.touch(b"k", 2)
    world.tracking.touch(b"other", 2)
    assert world.flushed() == [(1, gone(b"k"))]


def test_nothing_leaves_before_the_commit() -> None:
    world = World()
    reader = world.connect()
    reader.track()
    world.tracking.remember(reader, [b"a", b"b"])
    world.tracking.touch(b"a", 1)
    world.tracking.touch(b"b", 2)
    assert world.flushed(0) == []
    assert world.flushed(1) == [(1, gone(b"a"))]
    assert world.flushed(2) == [(1, gone(b"b"))]


def test_who_reads_a_staged_value_is_tracked_for_the_next_change() -> None:
    world = World()
    reader = world.connect()
    reader.track()
    world.tracking.touch(b"k", 1)
    world.tracking.remember(reader, [b"k"])
    assert world.flushed(1) == []
    world.tracking.touch(b"k", 2)
    assert world.flushed(2) == [(1, gone(b"k"))]


def test_several_readers_in_the_order_of_their_ids() -> None:
    world = World()
    readers = [world.connect() for _ in range(3)]
    for reader in reversed(readers):
        reader.track()
        world.tracking.remember(reader, [b"k"])
    assert world.tracking.stats()["tracking_total_items"] == 3
    world.tracking.touch(b"k", 1)
    assert [number for number, _ in world.flushed()] == [1, 2, 3]
    assert world.tracking.stats() == {
        "tracking_clients": 3,
        "tracking_total_keys": 0,
        "tracking_total_items": 0,
        "tracking_total_prefixes": 0,
    }


def test_broadcast_collects_the_keys_of_a_prefix() -> None:
    world = World()
    users, everything = world.connect(), world.connect()
    users.track(bcast=True, prefixes=[b"user:", b"item:"])
    everything.track(bcast=True)
    world.tracking.remember(users, [b"plain"])
    for index, key in enumerate([b"user:1", b"other", b"user:2", b"user:1", b"u"], 1):
        world.tracking.touch(key, index)
    assert sorted(world.flushed()) == [
        (1, gone(b"user:1", b"user:2")),
        (2, gone(b"user:1", b"other", b"user:2", b"u")),
    ]


def test_noloop_hides_a_clients_own_changes() -> None:
    world = World()
    quiet, broadcast = world.connect(), world.connect()
    quiet.track(noloop=True)
    broadcast.track(noloop=True, bcast=True)
    world.tracking.remember(quiet, [b"a", b"b"])
    world.tracking.touch(b"a", 1, writer=quiet.id)
    world.tracking.touch(b"b", 2, writer=broadcast.id)
    assert world.flushed() == [(1, gone(b"b")), (2, gone(b"a"))]


def test_optin_and_optout_turn_on_the_caching_command() -> None:
    world = World()
    client = world.connect()
    client.track(optin=True)
    state = client.tracking
    assert state is not None
    assert not state.remembers
    with pytest.raises(ReplyError, match=r"CACHING NO is only valid .* OPTOUT"):
        state.set_caching(False)
    state.set_caching(True)
    assert state.remembers
    assert state.flags() == [b"on", b"optin", b"caching-yes"]
    client.untrack()
    client.track(optout=True)
    state = client.tracking
    assert state is not None
    assert state.remembers
    with pytest.raises(ReplyError, match=r"CACHING YES is only valid .* OPTIN"):
        state.set_caching(True)
    state.set_caching(False)
    assert not state.remembers
    assert state.flags() == [b"on", b"optout", b"caching-no"]


def test_resp2_hears_only_through_a_subscribed_redirect() -> None:
    world = World()
    reader, listener = world.connect(resp3=False), world.connect(resp3=False)
    reader.track(redirect=listener.id)
    for index, expected in ((1, 0), (2, 1)):
        world.tracking.remember(reader, [b"k"])
        world.tracking.touch(b"k", index)
        assert len(world.flushed()) == expected
        listener.subscribed = True
    world.tracking.remember(reader, [b"k"])
    world.tracking.touch(b"k", 3)
    assert world.flushed() == [(2, [b"message", b"__redis__:invalidate", [b"k"]])]


def test_a_lost_redirect_is_reported_to_its_owner() -> None:
    world = World()
    reader, listener = world.connect(), world.connect()
    reader.track(redirect=listener.id)
    del world.clients[listener.id]
    world.tracking.remember(reader, [b"k"])
    world.tracking.touch(b"k", 1)
    assert world.flushed() == [(1, [b"tracking-redir-broken", 2])]
    assert reader.tracking is not None
    assert reader.tracking.flags() == [b"on", b"broken_redirect"]


def test_a_flush_invalidates_everything() -> None:
    world = World()
    reader, broadcast, bystander = (world.connect() for _ in range(3))
    reader.track()
    broadcast.track(bcast=True)
    world.tracking.remember(reader, [b"k"])
    world.tracking.touch_all(1)
    assert bystander.tracking is None
    assert world.flushed() == [(1, [b"invalidate", None]), (2, [b"invalidate", None])]
    assert world.tracking.stats()["tracking_total_keys"] == 0


def test_the_table_forgets_the_oldest_keys_with_an_invalidation() -> None:
    world = World(max_keys=2)
    reader = world.connect()
    reader.track()
    world.tracking.remember(reader, [b"a", b"b", b"c"])
    assert world.flushed() == [(1, gone(b"a"))]
    assert world.flushed() == []


def test_gone_clients_are_ignored() -> None:
    world = World()
    first, second = world.connect(), world.connect()
    first.track()
    second.track()
    world.tracking.remember(first, [b"k"])
    world.tracking.remember(second, [b"k"])
    first.untrack()
    world.tracking.touch(b"k", 1)
    assert world.flushed() == [(2, gone(b"k"))]
    second.untrack()
    assert not world.tracking.active


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefixes": [b"a"]}, "PREFIX option requires BCAST mode to be enabled"),
        ({"bcast": True, "optin": True}, "OPTIN and OPTOUT are not compatible with BCAST"),
        ({"optin": True, "optout": True}, "You can't specify both OPTIN mode and OPTOUT mode"),
        (
            {"bcast": True, "prefixes": [b"ab", b"a"]},
            "Prefix 'ab' overlaps with another provided prefix 'a'. %s",
        ),
    ],
)
def test_contradicting_options_are_refused(options: dict[str, object], message: str) -> None:
    world = World()
    client = world.connect()
    with pytest.raises(ReplyError) as caught:
        client.track(**options)
    once = "Prefixes for a single client must not overlap."
    assert str(caught.value) == "ERR " + message.replace("%s", once)
    assert not world.tracking.active


def test_modes_are_not_switched_in_place() -> None:
    world = World()
    client, optin = world.connect(), world.connect()
    client.track(bcast=True, prefixes=[b"a"])
    with pytest.raises(ReplyError, match="switch BCAST mode on/off before disabling"):
        client.track()
    with pytest.raises(ReplyError, match="'ab' overlaps with an existing prefix 'a'"):
        client.track(bcast=True, prefixes=[b"ab"])
    client.track(bcast=True, prefixes=[b"b"])
    assert client.tracking is not None
    assert list(client.tracking.prefixes) == [b"a", b"b"]
    optin.track(optin=True)
    with pytest.raises(ReplyError, match="switch OPTIN/OPTOUT mode before disabling"):
        optin.track(optout=True)


def test_messages_are_pushes() -> None:
    world = World()
    reader = world.connect()
    reader.track()
    world.tracking.remember(reader, [b"k"])
    world.tracking.touch(b"k", 1)
    assert all(isinstance(push, Push) for _, push in world.tracking.flush(1))
