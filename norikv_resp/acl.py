"""Access control for the server: all users, logins, denials, and the files that keep users.

What one user may do is in :mod:`norikv_resp.acl_user`.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from norikv_resp.acl_user import (
    AclError,
    Channel,
    ChannelUse,
    Denial,
    KeyUse,
    User,
    digest,
    is_clean_name,
)
from norikv_resp.command import Command, Registry, Request
from norikv_resp.config import Config, StartupError
from norikv_resp.durable import replace_file
from norikv_resp.errors import ReplyError
from norikv_resp.option_types import to_bytes, to_text

if TYPE_CHECKING:
    from norikv_resp.context import Context

__all__ = ["DEFAULT_USER", "AccessControl", "Acl", "AclLog", "LogEntry", "User", "genpass"]

DEFAULT_USER = b"default"

_WRITING_KEY_FLAGS = frozenset(("insert", "delete", "update"))

SETUSER_ERROR = "Error in ACL SETUSER modifier "
NOT_LOADED = (
    "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
)


def genpass(bits: int = 256) -> bytes:
    """Return random hexadecimal digits for a password of at least *bits* bits."""
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits].encode()


# --------------------------------------------------------------------------
# The log of denials


class LogEntry:
    """A denial, and how often it has happened lately. Times are Unix milliseconds."""

    __slots__ = (
        "client",
        "context",
        "count",
        "created",
        "id",
        "object",
        "reason",
        "updated",
        "user",
    )

    def __init__(
        self, ident: int, reason: str, context: str, what: bytes, user: bytes, now: int
    ) -> None:
        self.id = ident
        self.count = 1
        self.reason = reason
        #: toplevel or multi.
        self.context = context
        self.object = what
        self.user = user
        self.created = self.updated = now
        #: The last client it happened to, as CLIENT INFO shows it.
        self.client = b""

    def is_like(self, other: LogEntry) -> bool:
        """Whether the two are one event that repeats."""
        return (
            self.reason == other.reason
            and self.context == other.context
            and abs(self.updated - other.updated) <= 60_000
            and self.object == other.object
            and self.user == other.user
        )


class AclLog:
    """The latest denials, newest first; repetitions are counted, not listed."""

    # How many entries are looked at for a repetition.
    _COMPARED = 10

    def __init__(self, max_len: int) -> None:
        self.max_len = max_len
        self.entries: deque[LogEntry] = deque()
        self._next_id = 0

    def add(
        self, reason: str, context: str, what: bytes, user: bytes, client: bytes, now: int
    ) -> None:
        fresh = LogEntry(self._next_id, reason, context, what, user, now)
        for entry in islice(self.entries, self._COMPARED):
            if entry.is_like(fresh):
                self.entries.remove(entry)
                entry.count += 1
                entry.updated = now
                fresh = entry
                break
        else:
            self._next_id += 1
        fresh.client = client
        self.entries.appendleft(fresh)
        self.trim()

    def trim(self) -> None:
        """Forget the oldest entries beyond max_len."""
        while len(self.entries) > self.max_len:
            self.entries.pop()


# --------------------------------------------------------------------------
# All users


class Acl:
    """The users of the server, who is logged in as whom elsewhere, and the log of denials."""

    def __init__(
        self, registry: Registry, *, all_channels: bool = False, log_max_len: int = 128
    ) -> None:
        self._registry = registry
        #: acl-pubsub-default: whether new users and selectors begin with all channels.
        self.all_channels = all_channels
        #: What ACL LOG shows of a client; the server knows.
        self.describe_client: Callable[[Context], bytes] = lambda ctx: b""
        self.log = AclLog(log_max_len)
        #: Denials since the start, by reason, for INFO.
        self.denials = dict.fromkeys(("auth", "command", "key", "channel"), 0)
        self.default = self._open_default()
        self._users = {DEFAULT_USER: self.default}
        # The channel arguments of a command: their position, how many, and whether patterns.
        self._channels: dict[Command, tuple[int, bool, bool] | None] = {}

    @staticmethod
    def _open_default() -> User:
        """The default user of a server that nobody has configured: it may do everything."""
        user = User(DEFAULT_USER, all_channels=True)
        user.enabled = user.nopass = True
        root = user.selectors[0]
        root.all_keys = root.from_all = True
        user.refresh()
        return user

    # Users.

    def get(self, name: bytes) -> User | None:
        """Return the user of that name."""
        return self._users.get(name)

    def __iter__(self) -> Iterator[User]:
        """Iterate over the users in the order of their names."""
        return (self._users[name] for name in sorted(self._users))

    def set_user(self, name: bytes, rules: Sequence[bytes]) -> tuple[User, User]:
        """Create or change a user; return it and what it was before.

        All rules apply or none. Raises ReplyError as ACL SETUSER words it.
        """
        if not is_clean_name(name):
            raise ReplyError(b"ERR Usernames can't contain spaces or null characters")
        user = self._users.get(name)
        draft = user.copy() if user is not None else self._new_user(name)
        for rule in self._merged(rules):
            try:
                draft.apply(rule, self._registry, all_channels=self.all_channels)
            except AclError as error:
                where = SETUSER_ERROR.encode() + b"'%b': " % rule
                raise ReplyError(b"ERR " + where + error.text.encode()) from None
        draft.refresh()
        if user is None:
            before = self._new_user(name)
            user = self._users[name] = draft
        else:
            before = user.copy()
            user.take(draft)
        return user, before

    def _new_user(self, name: bytes) -> User:
        return User(name, all_channels=self.all_channels)

    @staticmethod
    def _merged(rules: Sequence[bytes]) -> list[bytes]:
        """Join what was split inside parentheses. Raises ReplyError for one that stays open."""
        merged: list[bytes] = []
        opened: list[bytes] = []
        for rule in rules:
            if opened:
                opened.append(rule)
            elif rule.startswith(b"(") and not rule.endswith(b")"):
                opened = [rule]
            else:
                merged.append(rule)
                continue
            if rule.endswith(b")"):
                merged.append(b" ".join(opened))
                opened = []
        if opened:
            raise ReplyError(
                b"ERR Unmatched parenthesis in acl selector starting at '%b'." % opened[0]
            )
        return merged

    def delete_users(self, names: Sequence[bytes]) -> list[User]:
        """Delete the users that exist and return them; their connections have to go.

        Raises ReplyError, and deletes nothing, if the default user is among them.
        """
        if DEFAULT_USER in names:
            raise ReplyError(b"ERR The 'default' user cannot be removed")
        found = [self._users.pop(name, None) for name in names]
        return [user for user in found if user is not None]

    def set_requirepass(self, password: bytes) -> None:
        """Give the default user this one password; none (empty) lets everyone in."""
        user = self.default
        user.apply(b"resetpass", self._registry)
        user.apply(b">" + password if password else b"nopass", self._registry)
        user.refresh()

    # Judging.

    def authenticate(self, name: bytes, password: bytes) -> User | None:
        """Return the user whom these credentials let in. Failures: see :meth:`failed_login`."""
        user = self._users.get(name)
        if user is None:
            digest(password)  # an unknown name takes as long to refuse as a wrong password
            return None
        return user if user.accepts(password) else None

    def failed_login(self, ctx: Context, name: bytes, how: bytes) -> None:
        """Record that a connection gave wrong credentials; *how* is the command's first word."""
        self._record(ctx, "auth", how, name)

    def authorize(self, ctx: Context, command: Command, request: Request) -> None:
        """Raise ReplyError, and record it, if the connection's user may not run a request."""
        denial = self.judge(ctx.user, command, request)
        if denial is not None:
            self._record(ctx, denial.reason, denial.object, denial.user)
            raise denial.error_in_exec() if ctx.executing else denial.error()

    def judge(self, user: User, command: Command, request: Request) -> Denial | None:
        """Return why *user* may not run a request, or None. A request must have a fitting arity."""
        keys: list[KeyUse] = []
        if command.key_specs or command.dynamic_keys is not None:
            try:
                found = command.keys(request)
            except ReplyError:
                found = []  # no keys can be told: the command refuses the request by itself
            for key, flags in found:
                if "not_key" not in flags:
                    writes = not _WRITING_KEY_FLAGS.isdisjoint(flags)
                    keys.append((key, "access" in flags, writes))
        return user.check(command, request, keys, self._channels_of(command, request))

    def _channels_of(self, command: Command, request: Request) -> list[ChannelUse]:
        if command not in self._channels:
            self._channels[command] = None
            for at, arg in enumerate(command.args, command.words):
                if isinstance(arg, Channel):
                    self._channels[command] = (at, arg.multiple, arg.is_pattern)
        place = self._channels[command]
        if place is None:
            return []
        at, multiple, is_pattern = place
        return [(word, is_pattern) for word in request[at : None if multiple else at + 1]]

    def _record(self, ctx: Context, reason: str, what: bytes, user: bytes) -> None:
        self.denials[reason] += 1
        context = "multi" if ctx.queue is not None or ctx.executing else "toplevel"
        self.log.add(reason, context, what, user, self.describe_client(ctx), ctx.now)

    # Files.

    def lines(self) -> list[bytes]:
        """Return all users as lines of the configuration or of an aclfile."""
        return [user.line() for user in self]

    def load_line(self, words: Sequence[bytes]) -> None:
        """Create a user from a ``user <name> <rules>`` line of the configuration.

        A ``user default`` line replaces the default user. Raises ReplyError.
        """
        if len(words) < 2 or words[0].lower() != b"user":
            raise ReplyError(b"ERR a user line starts with 'user' and a name")
        self.set_user(words[1], [b"reset", *words[2:]])

    def load(self, path: Path) -> tuple[list[User], list[tuple[User, User]]]:
        """Replace all users by those of an aclfile.

        Returns the users that are gone and, as (now, before) pairs, those that stay; connections
        keep the objects of those. The default user always stays. If anything in the file is
        wrong, nothing changes and a ReplyError names every mistake.
        """
        fresh, errors = self._read(path)
        if errors:
            raise ReplyError(f"ERR {errors}{NOT_LOADED}")
        fresh.setdefault(DEFAULT_USER, self._open_default())
        old, self._users = self._users, {}
        stayed = []
        for name, user in fresh.items():
            known = old.pop(name, None)
            if known is not None:
                stayed.append((known, known.copy()))
                known.take(user)
            self._users[name] = known or user
        return list(old.values()), stayed

    def _read(self, path: Path) -> tuple[dict[bytes, User], str]:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ReplyError(
                f"ERR Error loading ACLs, opening file '{path}': {error.strerror}"
            ) from None
        fresh: dict[bytes, User] = {}
        errors = ""
        for number, raw in enumerate(content.split(b"\n"), 1):
            words = raw.strip(b" \t\r\n").split(b" ")
            if words == [b""]:
                continue
            if words[0] != b"user" or len(words) < 2:
                errors += (
                    f"{path}:{number} should start with user keyword followed by the username. "
                )
                continue
            name = words[1]
            shown = name.decode("utf-8", "surrogateescape")
            if not is_clean_name(name):
                errors += f"{path}:{number}: username '{shown}' contains invalid characters. "
            elif name in fresh:
                errors += f"WARNING: Duplicate user '{shown}' found on line {number}. "
            else:
                user = fresh[name] = self._new_user(name)
                errors += self._apply_line(user, words[2:], f"{path}:{number}")
        return fresh, errors

    def _apply_line(self, user: User, rules: Sequence[bytes], where: str) -> str:
        """Apply an aclfile's rules and return what is wrong with them.

        Only rules with unknown names are quoted: others may hold passwords.
        """
        try:
            merged = self._merged(rules)
        except ReplyError:
            return f"{where}: Unmatched parenthesis in selector definition. "
        errors = ""
        told = False
        for rule in merged:
            try:
                user.apply(rule.strip(b"\t\r\n"), self._registry, all_channels=self.all_channels)
            except AclError as error:
                if error.unknown:
                    shown = rule.decode("utf-8", "surrogateescape")
                    errors += f"{where}: Error in applying operation '{shown}': {error.text}. "
                elif not told:
                    told = True
                    errors += f"{where}: {error.text}. "
        user.refresh()
        return errors

    def save(self, path: Path) -> None:
        """Write all users to an aclfile, durably, replacing it as a whole. Raises OSError."""
        replace_file(path, b"\n".join(self.lines()) + b"\n", 0o600)


class AccessControl(Acl):
    """The users of a configured server: they begin as the options say, and follow them."""

    def __init__(self, registry: Registry, config: Config) -> None:
        super().__init__(
            registry,
            all_channels=config.acl_pubsub_default == "allchannels",
            log_max_len=config.acllog_max_len,
        )
        self._config = config
        config.on_change(Config.acl_pubsub_default, self._follow_default)
        config.on_change(Config.acllog_max_len, self._follow_log_length)
        config.on_change(Config.requirepass, self._follow_requirepass)
        if config.requirepass:
            self.set_requirepass(config.requirepass)
        self._load_configured()

    @property
    def file(self) -> Path | None:
        """Where ACL LOAD and ACL SAVE keep the users; None without an aclfile."""
        return Path(self._config.dir, self._config.aclfile) if self._config.aclfile else None

    def _load_configured(self) -> None:
        if self.file is not None:
            if self._config.user:
                raise StartupError(
                    "users are declared both in the configuration and in an aclfile: use one of"
                    " the two"
                )
            try:
                self.load(self.file)
            except ReplyError as error:
                raise StartupError(str(error).removeprefix("ERR ")) from None
        names = set()
        for name, *rules in self._config.user:
            if name in names:
                raise StartupError(f"user {name} is declared twice in the configuration")
            names.add(name)
            try:
                self.load_line([b"user", to_bytes(name), *map(to_bytes, rules)])
            except ReplyError as error:
                reason = str(error).removeprefix("ERR ").removeprefix(SETUSER_ERROR)
                raise StartupError(f"user {name}: {reason}") from None

    def _follow_default(self, value: str) -> None:
        self.all_channels = value == "allchannels"

    def _follow_requirepass(self, value: bytes) -> None:
        self.set_requirepass(value)
        self.changed()

    def _follow_log_length(self, value: int) -> None:
        self.log.max_len = value
        self.log.trim()

    def changed(self) -> None:
        """Users were changed: CONFIG REWRITE is to write them, unless an aclfile keeps them.

        The default user is left out while it is what requirepass alone makes of it.
        """
        if self.file is not None:
            return
        plain = Acl(self._registry)
        plain.set_requirepass(self._config.requirepass)
        usual = plain.default.describe()
        lines = [
            (user.name, *user.describe().split(b" "))
            for user in self
            if user is not self.default or user.describe() != usual
        ]
        self._config.put(Config.user, tuple(tuple(map(to_text, line)) for line in lines))
