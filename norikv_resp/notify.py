"""Keyspace notifications: what ``notify-keyspace-events`` selects and how events become messages.

The setting is a set of letters. Some select classes of events (``g`` generic commands, ``$``
strings, ``l`` lists and so on, ``A`` for all that belong to writes). The others select channels:
``K`` publishes on ``__keyspace@<db>__:<key>``, ``E`` on ``__keyevent@<db>__:<event>``, and
``S T I V`` on four that also name the fields or elements ("subkeys") that an event touched.
Without a class and a channel nothing is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from norikv_resp.pubsub import Hub

if TYPE_CHECKING:
    from norikv_resp.database import Database
    from norikv_resp.keyspace import Keyspace

__all__ = ["Notifier", "describe", "messages", "parse"]

# Channels.
KEYSPACE = 1 << 0
KEYEVENT = 1 << 1
SUBKEYSPACE = 1 << 2
SUBKEYEVENT = 1 << 3
SUBKEYSPACEITEM = 1 << 4
SUBKEYSPACEEVENT = 1 << 5
# Classes of events.
GENERIC = 1 << 6
STRING = 1 << 7
LIST = 1 << 8
SET = 1 << 9
HASH = 1 << 10
ZSET = 1 << 11
EXPIRED = 1 << 12
EVICTED = 1 << 13
STREAM = 1 << 14
MODULE = 1 << 15
ARRAY = 1 << 16
NEW = 1 << 17
OVERWRITTEN = 1 << 18
TYPE_CHANGED = 1 << 19
KEY_MISS = 1 << 20

SUBKEY_CHANNELS = SUBKEYSPACE | SUBKEYEVENT | SUBKEYSPACEITEM | SUBKEYSPACEEVENT
CHANNELS = KEYSPACE | KEYEVENT | SUBKEY_CHANNELS

#: The letters in the order in which CONFIG GET prints them.
_LETTERS = {
    "g": GENERIC,
    "$": STRING,
    "l": LIST,
    "s": SET,
    "h": HASH,
    "z": ZSET,
    "x": EXPIRED,
    "e": EVICTED,
    "t": STREAM,
    "d": MODULE,
    "a": ARRAY,
    "n": NEW,
    "o": OVERWRITTEN,
    "c": TYPE_CHANGED,
    "K": KEYSPACE,
    "E": KEYEVENT,
    "m": KEY_MISS,
    "S": SUBKEYSPACE,
    "T": SUBKEYEVENT,
    "I": SUBKEYSPACEITEM,
    "V": SUBKEYSPACEEVENT,
}
_IN_ALL = "g$lshzxetda"
ALL = sum(_LETTERS[letter] for letter in _IN_ALL)

#: What CONFIG SET says about any other letter.
INVALID_CLASS = "Invalid event class character. Use 'Ag$lshzxeKEtmdnocaSTIV'."


def parse(text: str) -> int:
    """Return the flags that *text* selects.

    Raises ValueError, worded as CONFIG SET says it, for a letter that selects nothing.
    """
    flags = 0
    for letter in text:
        flag = ALL if letter == "A" else _LETTERS.get(letter)
        if flag is None:
            raise ValueError(INVALID_CLASS)
        flags |= flag
    return flags


def describe(flags: int) -> str:
    """Return letters that select exactly *flags*, the classes of ``A`` abbreviated.

    Redis leaves out ``n``, ``o`` and ``c`` beside ``A``, so that its CONFIG REWRITE forgets them;
    here ``parse(describe(flags)) == flags`` always holds.
    """
    everything = flags & ALL == ALL
    letters = ["A"] if everything else []
    for letter, flag in _LETTERS.items():
        if flags & flag and not (everything and letter in _IN_ALL):
            letters.append(letter)
    return "".join(letters)


def messages(
    flags: int, db: int, event: bytes, key: bytes, subkeys: Sequence[bytes] = ()
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the (channel, message) pairs of an event on the channels that *flags* select.

    Subkeys appear as ``<length>:<subkey>``, joined by commas. An event name with ``|`` or a key
    with a newline would make some subkey channels ambiguous; those are left out, as in Redis.
    """
    at_db = b"@%d__:" % db
    if flags & KEYSPACE:
        yield b"__keyspace" + at_db + key, event
    if flags & KEYEVENT:
        yield b"__keyevent" + at_db + event, key
    if not subkeys or not flags & SUBKEY_CHANNELS:
        return
    listed = b",".join(b"%d:%b" % (len(subkey), subkey) for subkey in subkeys)
    if flags & SUBKEYSPACE and b"|" not in event:
        yield b"__subkeyspace" + at_db + key, event + b"|" + listed
    if flags & SUBKEYEVENT:
        yield b"__subkeyevent" + at_db + event, b"%d:%b|%b" % (len(key), key, listed)
    if flags & SUBKEYSPACEITEM and b"\n" not in key:
        for subkey in subkeys:
            yield b"__subkeyspaceitem" + at_db + key + b"\n" + subkey, event
    if flags & SUBKEYSPACEEVENT and b"|" not in event:
        yield b"__subkeyspaceevent" + at_db + event + b"|" + key, listed


class Notifier:
    """Turns the events of commands into messages that leave when their change is committed.

    ``keyspace.events`` is :meth:`event` while anything is selected and None otherwise, so that a
    server without notifications pays one comparison for an event.
    """

    def __init__(self, hub: Hub[Any], keyspace: Keyspace) -> None:
        self._hub = hub
        self._keyspace = keyspace
        # Indices up to this one have been given up: no commit of them will come any more.
        self._given_up = keyspace.store.staged
        self.flags = 0

    def configure(self, flags: int) -> None:
        """Take over a new setting, for events from now on."""
        self.flags = flags
        armed = flags & CHANNELS and flags & ~CHANNELS
        self._keyspace.events = self.event if armed else None

    def standing_index(self) -> int:
        """Return the index whose commit makes everything last that is staged now.

        What was staged in this loop turn is sealed with the running index; otherwise the last
        frame counts. An index alone may have no frame: a write that changed nothing has none.
        """
        keyspace = self._keyspace
        store = keyspace.store
        if store.open:
            return keyspace.index
        return store.staged if store.staged > self._given_up else store.durable

    def give_up(self) -> None:
        """A commit has failed and took everything staged with it."""
        self._given_up = self._keyspace.store.staged

    @property
    def wants_subkeys(self) -> bool:
        """Whether subkeys of events would be published, and so are worth collecting."""
        return self._keyspace.events is not None and bool(self.flags & SUBKEY_CHANNELS)

    def event(
        self,
        database: Database,
        kind: str,
        event: bytes,
        key: bytes,
        subkeys: Sequence[bytes] = (),
    ) -> None:
        """Record an event of the class whose letter is *kind*; the running command made it true.

        Does nothing while nobody listens. O(selected channels + subkeys).
        """
        if self.flags & _LETTERS[kind] and self._hub.listening:
            index = self.standing_index()
            for channel, message in messages(self.flags, database.number, event, key, subkeys):
                self._hub.defer(index, channel, message)
