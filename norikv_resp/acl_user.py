"""One user's permissions: the rules that shape them and the judgement of requests.

A user has passwords, switches and a list of *selectors*. A selector allows a set of commands, of
key patterns and of channel patterns; a request is allowed when one selector allows all of it. The
first selector is the user's own rules, the others were given in parentheses.

The commands of a selector are kept as an ordered list of rules (``+get``, ``-@write``, …) over a
base of all or nothing, as ACL LIST prints them. What the rules say about one command is computed
when it is first asked and remembered until the rules change. ``User.unrestricted`` is the one
attribute that the path of a request reads for users who may do everything.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Sequence

from norikv_resp.command import CATEGORIES, Arg, Command, Flag, Registry, Request
from norikv_resp.errors import ReplyError
from norikv_resp.glob import Matcher, compile_glob

__all__ = [
    "AclError",
    "Channel",
    "ChannelPattern",
    "ChannelUse",
    "Denial",
    "KeyUse",
    "Selector",
    "User",
    "digest",
    "is_clean_name",
]

#: A key of a request, and whether the command reads its value and changes it.
KeyUse = tuple[bytes, bool, bool]
#: A channel of a request, and whether it is a pattern (PSUBSCRIBE).
ChannelUse = tuple[bytes, bool]

READ, WRITE = 1, 2
_PREFIX_OF_ACCESS = {READ | WRITE: b"~", READ: b"%R~", WRITE: b"%W~"}

# Bytes that separate rules wherever they are printed, and so cannot be part of a name or pattern.
_SEPARATORS = frozenset(b" \t\n\v\f\r\0")


class Channel(Arg):
    """An argument that names a channel, which ACL channel rules judge."""

    #: Whether the argument is a pattern, which must be allowed word for word.
    is_pattern = False


class ChannelPattern(Channel):
    """An argument that is a pattern over channel names."""

    type = "pattern"
    is_pattern = True


class AclError(Exception):
    """A rule cannot be applied. ``text`` says why in Redis's words.

    ``unknown`` is set when the rule names a command or category that does not exist (yet).
    """

    def __init__(self, text: str, *, unknown: bool = False) -> None:
        super().__init__(text)
        self.text = text
        self.unknown = unknown


SYNTAX = "Syntax error"
UNKNOWN_NAME = "Unknown command or category name in ACL"
KEYS_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have"
    " any effect. Try 'resetkeys' to start with an empty list of patterns"
)
CHANNELS_AFTER_ALL = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not"
    " have any effect. Try 'resetchannels' to start with an empty list of channels"
)
NO_SUCH_PASSWORD = "The password you are trying to remove from the user does not exist"
BAD_HASH = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal"
    " characters"
)
ARGUMENT_OF_SUBCOMMAND = "Allowing first-arg of a subcommand is not supported"


class Denial:
    """Why a request is not allowed: ``reason`` is command, key or channel, as ACL LOG says it."""

    __slots__ = ("object", "progress", "reason", "user")

    _REASONS = ("command", "key", "channel")

    def __init__(self, user: bytes, what: bytes, stage: int, at: int = 0) -> None:
        #: How far the judgement came: of several selectors' reasons the furthest one is told.
        self.progress = (stage, at)
        self.reason = self._REASONS[stage]
        self.user = user
        #: The command's full name, or the key or channel.
        self.object = what

    @property
    def text(self) -> bytes:
        """What the client is told: keys and channels are not repeated."""
        if self.reason == "command":
            return self.explanation
        return b"No permissions to access a %b" % self.reason.encode()

    @property
    def explanation(self) -> bytes:
        """What ACL DRYRUN tells an administrator."""
        if self.reason == "command":
            return b"User %b has no permissions to run the '%b' command" % (self.user, self.object)
        return b"User %b has no permissions to access the '%b' %b" % (
            self.user,
            self.object,
            self.reason.encode(),
        )

    def error(self) -> ReplyError:
        """The error reply."""
        return ReplyError(b"NOPERM " + self.text)

    def error_in_exec(self) -> ReplyError:
        """The error reply of a command that was allowed when MULTI queued it."""
        why = {
            "command": b"no permission to execute the command or subcommand",
            "key": b"no permission to touch the specified keys",
            "channel": b"no permission to access one of the channels used as arguments to the"
            b" command",
        }[self.reason]
        return ReplyError(
            b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the"
            b" EXEC call. This command is no longer allowed for the following reason: " + why
        )


# --------------------------------------------------------------------------
# Selectors


class Selector:
    """A set of commands, of key patterns and of channel patterns."""

    __slots__ = (
        "_decisions",
        "_keys",
        "all_channels",
        "all_keys",
        "channels",
        "from_all",
        "patterns",
        "rules",
    )

    def __init__(self, *, all_channels: bool = False) -> None:
        self.all_keys = False
        self.all_channels = all_channels
        #: Allowed key patterns with READ, WRITE or both.
        self.patterns: dict[bytes, int] = {}
        self.channels: dict[bytes, None] = {}
        #: Whether the rules start from +@all (and so allow commands yet to come) or from -@all.
        self.from_all = False
        #: Rules in the order in which they apply: ``+`` or ``-`` and a lower-case name.
        self.rules: list[str] = []
        self._forget()

    def _forget(self) -> None:
        self._decisions: dict[Command, bool | frozenset[bytes]] = {}
        self._keys: list[tuple[int, Matcher]] | None = None

    def copy(self) -> Selector:
        """Return a selector with the same rules."""
        twin = Selector()
        twin.all_keys, twin.all_channels = self.all_keys, self.all_channels
        twin.patterns, twin.channels = dict(self.patterns), dict(self.channels)
        twin.from_all, twin.rules = self.from_all, list(self.rules)
        return twin

    @property
    def unrestricted(self) -> bool:
        """Whether nothing at all is forbidden."""
        return (
            self.all_keys
            and self.all_channels
            and self.from_all
            and not any(rule.startswith("-") for rule in self.rules)
        )

    # Changing.

    def apply(self, rule: bytes, registry: Registry) -> None:
        """Apply a rule about commands, keys or channels. AclError, and no change, if it is bad."""
        self._forget()
        word = rule.lower()
        if word in (b"allkeys", b"~*"):
            self.all_keys = True
            self.patterns.clear()
        elif word == b"resetkeys":
            self.all_keys = False
            self.patterns.clear()
        elif word in (b"allchannels", b"&*"):
            self.all_channels = True
            self.channels.clear()
        elif word == b"resetchannels":
            self.all_channels = False
            self.channels.clear()
        elif word in (b"allcommands", b"+@all", b"nocommands", b"-@all"):
            self.from_all = word in (b"allcommands", b"+@all")
            self.rules.clear()
        elif rule[:1] in (b"~", b"%"):
            self._add_keys(rule)
        elif rule[:1] == b"&":
            self._add_channels(rule[1:])
        elif rule[:1] in (b"+", b"-"):
            self._add_commands(rule[:1].decode(), word[1:].decode("latin-1"), registry)
        else:
            raise AclError(SYNTAX)

    def _add_keys(self, rule: bytes) -> None:
        if self.all_keys:
            raise AclError(KEYS_AFTER_ALL)
        access = READ | WRITE
        marker, tilde, pattern = rule.partition(b"~")
        if marker:
            letters = marker[1:].upper()
            if not tilde or letters not in (b"R", b"W", b"RW", b"WR"):
                raise AclError(SYNTAX)
            access = (READ if b"R" in letters else 0) | (WRITE if b"W" in letters else 0)
        if not _SEPARATORS.isdisjoint(pattern):
            raise AclError(SYNTAX)
        self.patterns[pattern] = self.patterns.get(pattern, 0) | access

    def _add_channels(self, pattern: bytes) -> None:
        if self.all_channels:
            raise AclError(CHANNELS_AFTER_ALL)
        if not _SEPARATORS.isdisjoint(pattern):
            raise AclError(SYNTAX)
        self.channels[pattern] = None

    def _add_commands(self, sign: str, name: str, registry: Registry) -> None:
        if name.startswith("@"):
            if name[1:] not in CATEGORIES:
                raise AclError(UNKNOWN_NAME, unknown=True)
        elif _find(registry, name) is None:
            # Not a command: perhaps one with the only first argument that it may have.
            container, bar, argument = name.rpartition("|")
            command = _find(registry, container)
            if sign == "-" or not bar or command is None:
                raise AclError(UNKNOWN_NAME, unknown=True)
            if "|" in container:
                raise AclError(ARGUMENT_OF_SUBCOMMAND)
            if not argument:
                raise AclError(SYNTAX)
            if command.subcommands:
                raise AclError(UNKNOWN_NAME, unknown=True)
        # The rule replaces the ones that it makes pointless: its own and those of its subcommands.
        self.rules = [
            rule for rule in self.rules if rule[1:] != name and not rule[1:].startswith(name + "|")
        ]
        self.rules.append(sign + name)

    # Judging.

    def allows_command(self, command: Command, request: Request) -> bool:
        """Tell whether the rules allow a command, perhaps only with its first argument."""
        decision = self._decisions.get(command)
        if decision is None:
            decision = self._decisions[command] = self._decide(command)
        if isinstance(decision, bool):
            return decision
        return len(request) > command.words and request[command.words].lower() in decision

    def _decide(self, command: Command) -> bool | frozenset[bytes]:
        if command.flags & Flag.NO_AUTH:
            return True
        name = command.full_name.lower()
        container = name.partition("|")[0]
        allowed = self.from_all
        arguments: set[bytes] = set()
        for rule in self.rules:
            what = rule[1:]
            if what.startswith("@"):
                if what[1:] not in command.categories:
                    continue
            elif what not in (name, container):
                if what.startswith(name + "|") and not command.subcommands:
                    arguments.add(what[len(name) + 1 :].encode("latin-1"))
                continue
            allowed = rule.startswith("+")
            arguments.clear()
        if allowed or not arguments:
            return allowed
        return frozenset(arguments)

    def denied_key(self, keys: Sequence[KeyUse]) -> int | None:
        """Return the position of the first key that no pattern allows for its use."""
        if self.all_keys:
            return None
        if self._keys is None:
            self._keys = [
                (access, compile_glob(pattern)) for pattern, access in self.patterns.items()
            ]
        for at, (key, reads, writes) in enumerate(keys):
            needed = (READ if reads else 0) | (WRITE if writes else 0)
            for access, matches in self._keys:
                if access & needed == needed and matches(key):
                    break
            else:
                return at
        return None

    def denied_channel(self, channels: Sequence[ChannelUse]) -> int | None:
        """Return the position of the first channel that no pattern allows."""
        if not self.all_channels:
            for at, (channel, is_pattern) in enumerate(channels):
                if not _covers(self.channels, channel, is_pattern):
                    return at
        return None

    # Printing.

    def describe_commands(self) -> bytes:
        """Return the command rules, from ``+@all`` or ``-@all`` on."""
        base = "+@all" if self.from_all else "-@all"
        return " ".join([base, *self.rules]).encode("latin-1")

    def describe_keys(self) -> bytes:
        """Return the key rules; nothing if no key is allowed."""
        if self.all_keys:
            return b"~*"
        return b" ".join(
            _PREFIX_OF_ACCESS[access] + pattern for pattern, access in self.patterns.items()
        )

    def describe_channels(self) -> bytes:
        """Return the channel rules; nothing if no channel is allowed."""
        if self.all_channels:
            return b"&*"
        return b" ".join(b"&" + pattern for pattern in self.channels)

    def describe(self) -> bytes:
        """Return rules that make an empty selector this one."""
        channels = self.describe_channels()
        if not self.all_channels:
            channels = b"resetchannels " + channels
        parts = (self.describe_keys(), channels.strip(), self.describe_commands())
        return b" ".join(part for part in parts if part)


def _find(registry: Registry, name: str) -> Command | None:
    """The command that Redis prints as *name* (``config|get``)."""
    return None if " " in name else registry.commands.get(name.upper().replace("|", " "))


def _covers(allowed: Iterable[bytes], channel: bytes, is_pattern: bool) -> bool:
    """Whether one of the allowed patterns matches a channel, or is the same pattern."""
    if is_pattern:
        return channel in allowed
    return any(compile_glob(pattern)(channel) for pattern in allowed)


# --------------------------------------------------------------------------
# Users


class User:
    """A user. The object lives as long as the name does: rules change in place.

    ``unrestricted`` and ``allows_anyone`` are plain attributes because every request, or every
    new connection, reads them.
    """

    __slots__ = (
        "allows_anyone",
        "enabled",
        "name",
        "nopass",
        "passwords",
        "sanitize",
        "selectors",
        "unrestricted",
    )

    def __init__(self, name: bytes, *, all_channels: bool = False) -> None:
        self.name = name
        self.enabled = False
        #: Any password will do.
        self.nopass = False
        self.sanitize = True
        #: SHA-256 of the passwords, in lower-case hexadecimal, in the order in which they came.
        self.passwords: dict[bytes, None] = {}
        self.selectors = [Selector(all_channels=all_channels)]
        self.refresh()

    def refresh(self) -> None:
        """Derive the attributes that are read often; call it after a change."""
        #: Every request is allowed, so that none needs to be judged.
        self.unrestricted = any(selector.unrestricted for selector in self.selectors)
        #: A connection is authenticated as this user without a password.
        self.allows_anyone = self.enabled and self.nopass

    def copy(self) -> User:
        """Return a user of the same name with the same rules."""
        twin = User(self.name)
        twin.take(self)
        return twin

    def take(self, other: User) -> None:
        """Become like *other*, but for the name."""
        self.enabled, self.nopass, self.sanitize = other.enabled, other.nopass, other.sanitize
        self.passwords = dict(other.passwords)
        self.selectors = [selector.copy() for selector in other.selectors]
        self.refresh()

    # Passwords.

    def accepts(self, password: bytes) -> bool:
        """Tell whether the user may log in with *password*; takes as long whatever it is."""
        given = digest(password)
        found = False
        for known in self.passwords:
            found |= hmac.compare_digest(known, given)
        return self.enabled and (self.nopass or found)

    def _add_password(self, hashed: bytes) -> None:
        self.passwords[hashed] = None
        self.nopass = False

    def _remove_password(self, hashed: bytes) -> None:
        if hashed not in self.passwords:
            raise AclError(NO_SUCH_PASSWORD)
        del self.passwords[hashed]

    # Changing.

    def apply(self, rule: bytes, registry: Registry, *, all_channels: bool = False) -> None:
        """Apply one rule of ACL SETUSER; the caller refreshes.

        *all_channels* is acl-pubsub-default, for ``reset`` and new selectors. Raises AclError.
        """
        word = rule.lower()
        mark = rule[:1]
        if not rule:
            return
        if word in (b"on", b"off"):
            self.enabled = word == b"on"
        elif word in (b"sanitize-payload", b"skip-sanitize-payload"):
            self.sanitize = word == b"sanitize-payload"
        elif word in (b"nopass", b"resetpass"):
            self.nopass = word == b"nopass"
            self.passwords.clear()
        elif mark == b">":
            self._add_password(digest(rule[1:]))
        elif mark == b"#":
            self._add_password(_checked_hash(rule[1:]))
        elif mark == b"<":
            self._remove_password(digest(rule[1:]))
        elif mark == b"!":
            self._remove_password(_checked_hash(rule[1:]))
        elif mark == b"(" and rule.endswith(b")"):
            selector = Selector(all_channels=all_channels)
            for part in rule[1:-1].split():
                selector.apply(part, registry)
            self.selectors.append(selector)
        elif word == b"clearselectors":
            del self.selectors[1:]
        elif word == b"reset":
            self.take(User(self.name, all_channels=all_channels))
        else:
            self.selectors[0].apply(rule, registry)

    # Judging.

    def check(
        self,
        command: Command,
        request: Request,
        keys: Sequence[KeyUse],
        channels: Sequence[ChannelUse] = (),
    ) -> Denial | None:
        """Judge a request by its keys and channels: None if one selector allows all of it.

        O(selectors * (keys * key patterns + channels * channel patterns)).
        """
        furthest: Denial | None = None
        for selector in self.selectors:
            denial = self._judge(selector, command, request, keys, channels)
            if denial is None:
                return None
            if furthest is None or denial.progress > furthest.progress:
                furthest = denial
        return furthest

    def _judge(
        self,
        selector: Selector,
        command: Command,
        request: Request,
        keys: Sequence[KeyUse],
        channels: Sequence[ChannelUse],
    ) -> Denial | None:
        if not selector.allows_command(command, request):
            return Denial(self.name, command.full_name.encode(), 0)
        at = selector.denied_key(keys)
        if at is not None:
            return Denial(self.name, keys[at][0], 1, at)
        at = selector.denied_channel(channels)
        if at is not None:
            return Denial(self.name, channels[at][0], 2, at)
        return None

    def _channel_rules(self) -> set[bytes] | None:
        """All channel patterns of all selectors; None when every channel is allowed."""
        if any(selector.all_channels for selector in self.selectors):
            return None
        return {pattern for selector in self.selectors for pattern in selector.channels}

    def channels_taken_from(self, before: User) -> Callable[[Iterable[ChannelUse]], bool]:
        """Return a function that tells whether subscriptions of *before* are no longer allowed.

        Clients for whose (name, is a pattern) pairs it says True have to go.
        """
        after, earlier = self._channel_rules(), before._channel_rules()
        if after is None or (earlier is not None and earlier <= after):
            return lambda held: False
        return lambda held: not all(_covers(after, name, pattern) for name, pattern in held)

    # Printing.

    def flags(self) -> list[bytes]:
        """Return the switches as ACL GETUSER lists them."""
        shown = [b"on" if self.enabled else b"off"]
        if self.nopass:
            shown.append(b"nopass")
        shown.append(b"sanitize-payload" if self.sanitize else b"skip-sanitize-payload")
        return shown

    def describe(self) -> bytes:
        """Return rules that make a new user this one, as ACL LIST and aclfiles have them."""
        root, *others = self.selectors
        return b" ".join(
            [
                *self.flags(),
                *(b"#" + hashed for hashed in self.passwords),
                root.describe(),
                *(b"(" + selector.describe() + b")" for selector in others),
            ]
        )

    def line(self) -> bytes:
        """Return the user as a line of the configuration."""
        return b"user " + self.name + b" " + self.describe()


def digest(password: bytes) -> bytes:
    """Return a password as it is kept: SHA-256 in hexadecimal."""
    return hashlib.sha256(password).hexdigest().encode()


def _checked_hash(hashed: bytes) -> bytes:
    if len(hashed) != 64 or hashed.strip(b"0123456789abcdef"):
        raise AclError(BAD_HASH)
    return hashed


def is_clean_name(name: bytes) -> bool:
    """Tell whether *name* has no byte that separates rules where they are printed."""
    return _SEPARATORS.isdisjoint(name)
