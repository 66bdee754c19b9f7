"""Users and their rules: texts, judgement, passwords, the log, and files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.acl import AccessControl, Acl, genpass
from norikv_resp.acl_user import Channel, ChannelPattern, Denial, User
from norikv_resp.command import Bytes, Command, Flag, Key, KeySpec, Registry
from norikv_resp.config import Config, StartupError
from norikv_resp.errors import ReplyError

SECRET = hashlib.sha256(b"secret").hexdigest()


def _commands() -> Registry:
    """A small command table with every kind of argument that access control looks at."""
    fast_read = Flag.READONLY | Flag.FAST
    registry = Registry()
    pubsub: dict[str, Any] = {"group": "pubsub", "flags": Flag.PUBSUB}
    for declared in (
        Command("GET", None, args=(Key(),), flags=fast_read, group="string"),
        Command(
            "SET",
            None,
            args=(Key(access="OW", does=("update",)), Bytes("value")),
            flags=Flag.WRITE,
            group="string",
        ),
        Command(
            "GETSET",
            None,
            args=(Key(access="RW", does=("access", "update")), Bytes("value")),
            flags=Flag.WRITE,
            group="string",
        ),
        Command(
            "COPY",
            None,
            args=(Key("source"), Key("destination", access="OW", does=("update",))),
            flags=Flag.WRITE,
        ),
        Command(
            "LPUSH",
            None,
            args=(Key(access="RW", does=("insert",)), Bytes("element", multiple=True)),
            flags=Flag.WRITE | Flag.FAST,
            group="list",
        ),
        Command("MGET", None, args=(Key(multiple=True),), flags=fast_read, group="string"),
        Command("SELECT", None, args=(Bytes("index"),), flags=Flag.FAST, group="connection"),
        Command("PING", None, flags=Flag.FAST, group="connection"),
        Command("AUTH", None, args=(Bytes("p"),), flags=Flag.NO_AUTH, group="connection"),
        Command("CONFIG", None, group="server", min_arity=2),
        Command("CONFIG GET", None, args=(Bytes("o"),), flags=Flag.ADMIN, group="server"),
        Command("CONFIG SET", None, args=(Bytes("o"),), flags=Flag.ADMIN, group="server"),
        Command("PUBLISH", None, args=(Channel("channel"), Bytes("message")), **pubsub),
        Command("SUBSCRIBE", None, args=(Channel("channel", multiple=True),), **pubsub),
        Command("PSUBSCRIBE", None, args=(ChannelPattern("pattern", multiple=True),), **pubsub),
        Command(
            "SPUBLISH",
            None,
            args=(Channel("shardchannel"), Bytes("message")),
            extra_key_specs=(KeySpec(("not_key",), 1),),
            **pubsub,
        ),
    ):
        registry.add(declared)
    return registry


REGISTRY = _commands()


@pytest.fixture
def acl() -> Acl:
    return Acl(REGISTRY)


def set_user(acl: Acl, rules: str, name: str = "alice") -> User:
    """ACL SETUSER, rules separated by spaces."""
    return acl.set_user(name.encode(), rules.encode().split(b" "))[0]


def judged(acl: Acl, user: User, request: str) -> Denial | None:
    """The verdict on a request."""
    words = request.encode().split()
    command = REGISTRY.resolve(words)
    assert command is not None
    return acl.judge(user, command, words)


def allowed(acl: Acl, user: User, request: str) -> bool:
    return judged(acl, user, request) is None


# Printing.


@pytest.mark.parametrize(
    ("rules", "printed"),
    [
        ("", "off sanitize-payload resetchannels -@all"),
        ("on nopass allkeys allchannels allcommands", "on nopass sanitize-payload ~* &* +@all"),
        (
            "on >secret ~a:* +get +set",
            f"on sanitize-payload #{SECRET} ~a:* resetchannels -@all +get +set",
        ),
        ("skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"),
        ("~a %R~b %W~b %RW~c %rW~d", "off sanitize-payload ~a ~b ~c ~d resetchannels -@all"),
        ("%R~r %W~w &c1 &c2", "off sanitize-payload %R~r %W~w resetchannels &c1 &c2 -@all"),
        ("+get -@read +GET", "off sanitize-payload resetchannels -@all -@read +get"),
        ("+config|get -config +config", "off sanitize-payload resetchannels -@all +config"),
        (
            "+@all -config +config|get",
            "off sanitize-payload resetchannels +@all -config +config|get",
        ),
        ("+select|0 +select|1", "off sanitize-payload resetchannels -@all +select|0 +select|1"),
        ("+get -@all +set", "off sanitize-payload resetchannels -@all +set"),
        (
            "~a (+get ~b) (+@list %W~c &x)",
            (
                "off sanitize-payload ~a resetchannels -@all (~b resetchannels -@all +get)"
                " (%W~c resetchannels &x -@all +@list)"
            ),
        ),
        ("~a (+get ~b) clearselectors", "off sanitize-payload ~a resetchannels -@all"),
        ("on >secret ~* +@all reset", "off sanitize-payload resetchannels -@all"),
        ("~* resetkeys &* resetchannels", "off sanitize-payload resetchannels -@all"),
    ],
)
def test_users_print_as_redis_prints_them(acl: Acl, rules: str, printed: str) -> None:
    user = set_user(acl, rules)
    assert user.describe().decode() == printed
    again = set_user(acl, printed, name="again")
    assert again.describe() == user.describe()


def test_the_default_user_may_do_everything(acl: Acl) -> None:
    assert acl.lines() == [b"user default on nopass sanitize-payload ~* &* +@all"]
    assert acl.default.unrestricted
    assert acl.default.allows_anyone


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("allkeys allchannels +@all", True),
        ("allkeys allchannels +@all -get +get", True),
        ("allkeys allchannels +@all -get", False),
        ("~a allchannels +@all", False),
        ("allkeys +@all", False),
        ("allkeys allchannels -@all +@read", False),
        ("+get (allkeys allchannels +@all)", True),
    ],
)
def test_unrestricted_users_are_known_as_such(acl: Acl, rules: str, expected: bool) -> None:
    assert set_user(acl, rules).unrestricted is expected


# Errors.

AFTER_ALL_KEYS = (
    "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have"
    " any effect. Try 'resetkeys' to start with an empty list of patterns"
)
AFTER_ALL_CHANNELS = (
    "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not"
    " have any effect. Try 'resetchannels' to start with an empty list of channels"
)
BAD_HASH = (
    "The password hash must be exactly 64 characters and contain only lowercase hexadecimal"
    " characters"
)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (b"BOGUS", "Syntax error"),
        (b"+nosuch", "Unknown command or category name in ACL"),
        (b"-nosuch", "Unknown command or category name in ACL"),
        (b"+@nosuch", "Unknown command or category name in ACL"),
        (b"+", "Unknown command or category name in ACL"),
        (b"+config get", "Unknown command or category name in ACL"),
        (b"+config|nosuch", "Unknown command or category name in ACL"),
        (b"-select|0", "Unknown command or category name in ACL"),
        (b"+config|get|x", "Allowing first-arg of a subcommand is not supported"),
        (b"+select|", "Syntax error"),
        (b"+config|", "Syntax error"),
        (b"%~a", "Syntax error"),
        (b"%RX~a", "Syntax error"),
        (b"%RR~a", "Syntax error"),
        (b"%R", "Syntax error"),
        (b"~a b", "Syntax error"),
        (b"&a\0b", "Syntax error"),
        (b"<nosuch", "The password you are trying to remove from the user does not exist"),
        (b"#abc", BAD_HASH),
        (b"!" + b"A" * 64, BAD_HASH),
        (b"(+nosuch)", "Unknown command or category name in ACL"),
        (b"(on)", "Syntax error"),
    ],
)
def test_a_bad_rule_is_refused_and_changes_nothing(acl: Acl, rule: bytes, text: str) -> None:
    before = set_user(acl, "on ~x +get").describe()
    with pytest.raises(ReplyError) as caught:
        acl.set_user(b"alice", [b"~y", rule])
    assert str(caught.value) == f"ERR Error in ACL SETUSER modifier '{rule.decode()}': {text}"
    user = acl.get(b"alice")
    assert user is not None
    assert user.describe() == before


@pytest.mark.parametrize(
    ("rules", "text"), [("~* ~b", AFTER_ALL_KEYS), ("&* &b", AFTER_ALL_CHANNELS)]
)
def test_patterns_after_an_all_rule_are_refused(acl: Acl, rules: str, text: str) -> None:
    rule = rules.split()[1]
    with pytest.raises(ReplyError) as caught:
        set_user(acl, rules)
    assert str(caught.value) == f"ERR Error in ACL SETUSER modifier '{rule}': {text}"
    assert acl.get(b"alice") is None


def test_an_open_parenthesis_is_refused(acl: Acl) -> None:
    with pytest.raises(ReplyError) as caught:
        set_user(acl, "~a (+get ~k")
    assert str(caught.value) == "ERR Unmatched parenthesis in acl selector starting at '(+get'."


def test_names_with_spaces_and_the_end_of_default_are_refused(acl: Acl) -> None:
    with pytest.raises(ReplyError, match="Usernames can't contain spaces or null characters"):
        set_user(acl, "on", name="a b")
    with pytest.raises(ReplyError, match="The 'default' user cannot be removed"):
        acl.delete_users([b"alice", b"default"])


# Judgement.


def test_rules_for_commands_and_categories_apply_in_order(acl: Acl) -> None:
    user = set_user(acl, "~* &* +@read -mget +config|get")
    assert allowed(acl, user, "get k")
    assert not allowed(acl, user, "mget k")
    assert not allowed(acl, user, "set k v")
    assert allowed(acl, user, "config get x")
    assert not allowed(acl, user, "config set x")
    assert allowed(acl, user, "auth p")
    set_user(acl, "+config -config|set")
    assert allowed(acl, user, "config get x")
    assert not allowed(acl, user, "config set x")
    set_user(acl, "-@all +@string -@write")
    assert allowed(acl, user, "mget k")
    assert not allowed(acl, user, "set k v")


def test_a_first_argument_can_be_allowed_alone(acl: Acl) -> None:
    user = set_user(acl, "+select|0 +ping")
    assert allowed(acl, user, "select 0")
    assert not allowed(acl, user, "select 1")
    set_user(acl, "-@fast")
    assert not allowed(acl, user, "select 0")
    set_user(acl, "+select|1")
    assert not allowed(acl, user, "select 0")
    assert allowed(acl, user, "select 1")


def test_keys_are_judged_by_what_is_done_to_them(acl: Acl) -> None:
    user = set_user(acl, "+@all &* %R~r:* %W~w:* ~rw:*")
    for request, expected in (
        ("get r:1", True),
        ("get w:1", False),
        ("get rw:1", True),
        ("set w:1 v", True),
        ("set r:1 v", False),
        ("getset rw:1 v", True),
        ("getset r:1 v", False),
        ("getset w:1 v", False),
        ("copy r:1 w:1", True),
        ("copy w:1 r:1", False),
        ("mget r:1 rw:1", True),
        ("mget r:1 other", False),
        ("lpush w:1 x", True),
    ):
        assert allowed(acl, user, request) is expected, request


def test_channels_match_by_pattern_and_patterns_literally(acl: Acl) -> None:
    user = set_user(acl, "+@all ~* &news.* &exact")
    for request, expected in (
        ("publish news.1 m", True),
        ("publish other m", False),
        ("subscribe news.1 exact", True),
        ("subscribe news.1 other", False),
        ("psubscribe news.*", True),
        ("psubscribe news.1", False),
        ("spublish news.1 m", True),
        ("spublish other m", False),
    ):
        assert allowed(acl, user, request) is expected, request


def test_one_selector_must_allow_all_of_a_request(acl: Acl) -> None:
    user = set_user(acl, "+get ~a (+set ~b)")
    assert allowed(acl, user, "get a")
    assert allowed(acl, user, "set b v")
    assert not allowed(acl, user, "get b")
    assert not allowed(acl, user, "set a v")


def test_the_selector_that_came_furthest_gives_the_reason(acl: Acl) -> None:
    user = set_user(acl, "+get ~a (+get ~b) (+set ~c)")
    denial = judged(acl, user, "get x")
    assert denial is not None
    assert (denial.reason, denial.object) == ("key", b"x")
    denial = judged(acl, user, "ping")
    assert denial is not None
    assert (denial.reason, denial.object) == ("command", b"ping")


@pytest.mark.parametrize(
    ("request_", "error", "explanation"),
    [
        (
            "config get x",
            "NOPERM User alice has no permissions to run the 'config|get' command",
            "User alice has no permissions to run the 'config|get' command",
        ),
        (
            "get b",
            "NOPERM No permissions to access a key",
            "User alice has no permissions to access the 'b' key",
        ),
        (
            "publish c m",
            "NOPERM No permissions to access a channel",
            "User alice has no permissions to access the 'c' channel",
        ),
    ],
)
def test_denials_say_what_was_not_allowed(
    acl: Acl, request_: str, error: str, explanation: str
) -> None:
    denial = judged(acl, set_user(acl, "~a:* +get +publish"), request_)
    assert denial is not None
    assert str(denial.error()) == error
    assert denial.explanation.decode() == explanation
    assert str(denial.error_in_exec()).startswith("NOPERM ACLs rules changed between the moment")


RULES = [
    *("+@all", "-@all", "+@read", "-@read", "+@write", "+@fast", "-@fast", "+@string"),
    *("+get", "-get", "+config", "-config", "+config|get", "-config|get", "+select|0", "-select"),
]


@settings(max_examples=300)
@given(st.lists(st.sampled_from(RULES), max_size=12))
def test_pruned_rules_mean_what_all_of_them_mean(rules: list[str]) -> None:
    acl = Acl(REGISTRY)
    user = set_user(acl, " ".join(["~*", "&*", *rules]))
    for request in ("get k", "set k v", "config get x", "config set x", "select 0", "select 1"):
        words = request.encode().split()
        command = REGISTRY.resolve(words)
        assert command is not None
        # What each rule says, one after the other, about this one request.
        verdict = False
        argument = False
        for rule in rules:
            name = rule[1:]
            if name == "select|0":
                argument |= request == "select 0"
            elif name in ("@all", command.full_name, command.full_name.partition("|")[0]) or (
                name[1:] in command.categories
            ):
                verdict, argument = rule[0] == "+", False
        assert allowed(acl, user, request) is (verdict or argument), request


# Passwords.


def test_any_password_of_an_enabled_user_opens(acl: Acl) -> None:
    set_user(acl, "on >secret >other")
    assert acl.authenticate(b"alice", b"secret") is acl.get(b"alice")
    assert acl.authenticate(b"alice", b"other") is not None
    assert acl.authenticate(b"alice", b"wrong") is None
    assert acl.authenticate(b"nobody", b"secret") is None
    set_user(acl, f"<other !{SECRET}")
    assert acl.authenticate(b"alice", b"secret") is None
    set_user(acl, f"#{SECRET}")
    assert acl.authenticate(b"alice", b"secret") is not None
    set_user(acl, "off")
    assert acl.authenticate(b"alice", b"secret") is None
    set_user(acl, "on nopass")
    assert acl.authenticate(b"alice", b"anything") is not None
    set_user(acl, "resetpass")
    assert acl.authenticate(b"alice", b"anything") is None


def test_requirepass_is_the_default_users_password(acl: Acl) -> None:
    acl.set_requirepass(b"secret")
    assert not acl.default.allows_anyone
    assert acl.default.unrestricted
    assert acl.default.describe().decode() == f"on sanitize-payload #{SECRET} ~* &* +@all"
    assert acl.authenticate(b"default", b"secret") is acl.default
    acl.set_requirepass(b"")
    assert acl.default.allows_anyone


def test_generated_passwords_have_the_length_asked_for() -> None:
    assert [len(genpass(bits)) for bits in (1, 4, 5, 256, 4096)] == [1, 1, 2, 64, 1024]
    assert len(genpass()) == 64
    assert genpass() != genpass()
    int(genpass(4096), 16)


# Users in place.


def test_users_change_in_place_and_are_kept_by_those_who_hold_them(acl: Acl) -> None:
    user = set_user(acl, "on nopass ~* &* +@all")
    assert user.unrestricted
    assert set_user(acl, "-get") is user
    assert not user.unrestricted
    assert [gone.name for gone in acl.delete_users([b"alice", b"nobody"])] == [b"alice"]
    assert [user.name for user in acl] == [b"default"]


def test_new_users_may_begin_with_all_channels() -> None:
    acl = Acl(REGISTRY, all_channels=True)
    user = set_user(acl, "+get (+get)")
    assert user.describe() == b"off sanitize-payload &* -@all +get (&* -@all +get)"
    assert set_user(acl, "reset").describe() == b"off sanitize-payload &* -@all"


def test_subscriptions_that_are_no_longer_allowed(acl: Acl) -> None:
    set_user(acl, "on &a* &b")
    held = [(b"a1", False), (b"a*", True)]
    for rules, taken in (
        ("&c", False),
        ("resetchannels &a*", False),
        ("resetchannels &a1", True),
        ("allchannels", False),
        ("resetchannels &a* &x", False),
        ("resetchannels", True),
    ):
        user, before = acl.set_user(b"alice", rules.encode().split())
        assert user.channels_taken_from(before)(held) is taken, rules


# The log.


def context(user: User, now: int, queue: list[Any] | None = None) -> Any:
    """A connection, as far as the log sees it."""
    return SimpleNamespace(user=user, queue=queue, executing=False, now=now)


def test_denials_are_logged_once_while_they_repeat(acl: Acl) -> None:
    acl.describe_client = lambda ctx: b"id=%d" % ctx.now
    user = set_user(acl, "+get ~a")
    get = cast(Command, REGISTRY.find(b"get"))
    for now in (1000, 2000, 62_001):
        with pytest.raises(ReplyError, match="NOPERM No permissions to access a key"):
            acl.authorize(context(user, now), get, [b"get", b"x"])
    with pytest.raises(ReplyError):
        acl.authorize(context(user, 62_002, queue=[]), get, [b"get", b"x"])
    acl.failed_login(context(acl.default, 62_003), b"bob", b"AUTH")
    acl.authorize(context(user, 62_004), get, [b"get", b"a"])
    entries = [
        (entry.id, entry.count, entry.reason, entry.context, entry.object, entry.user, entry.client)
        for entry in acl.log.entries
    ]
    assert entries == [
        (3, 1, "auth", "toplevel", b"AUTH", b"bob", b"id=62003"),
        (2, 1, "key", "multi", b"x", b"alice", b"id=62002"),
        (1, 1, "key", "toplevel", b"x", b"alice", b"id=62001"),
        (0, 2, "key", "toplevel", b"x", b"alice", b"id=2000"),
    ]
    assert acl.denials == {"auth": 1, "command": 0, "key": 4, "channel": 0}


def test_the_log_is_bounded(acl: Acl) -> None:
    acl.log.max_len = 3
    for number in range(10):
        acl.failed_login(context(acl.default, 0), b"user%d" % number, b"AUTH")
    assert [entry.user for entry in acl.log.entries] == [b"user9", b"user8", b"user7"]
    acl.log.max_len = 0
    acl.failed_login(context(acl.default, 0), b"x", b"AUTH")
    assert not acl.log.entries


# Files.


def test_an_aclfile_brings_back_what_was_saved(acl: Acl, tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    alice = set_user(acl, "on >secret ~a:* &c +@read (+set %W~w)")
    set_user(acl, "on", name="bob")
    acl.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]
    described = acl.lines()
    set_user(acl, "reset")
    set_user(acl, "on", name="carol")
    gone, stayed = acl.load(path)
    assert acl.lines() == described
    assert acl.get(b"alice") is alice
    assert [user.name for user in gone] == [b"carol"]
    assert sorted(now.name for now, _ in stayed) == [b"alice", b"bob", b"default"]


def test_a_file_without_the_default_user_opens_it(acl: Acl, tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text("\n  user alice on nopass +get  \r\n\n")
    acl.set_requirepass(b"secret")
    default = acl.default
    acl.load(path)
    assert acl.get(b"default") is default is acl.default
    assert default.allows_anyone
    assert [user.name for user in acl] == [b"alice", b"default"]


def test_a_bad_file_changes_nothing_and_names_every_mistake(acl: Acl, tmp_path: Path) -> None:
    path = tmp_path / "users.acl"
    path.write_text(
        "user alice on >secret\nalice on\nuser bob +nosuch on #bad <secret\nuser alice on\n"
        "user carol (+get\n"
    )
    set_user(acl, "on ~kept")
    before = acl.lines()
    with pytest.raises(ReplyError) as caught:
        acl.load(path)
    assert acl.lines() == before
    assert str(caught.value) == (
        f"ERR {path}:2 should start with user keyword followed by the username. "
        f"{path}:3: Error in applying operation '+nosuch': Unknown command or category name in"
        f" ACL. {path}:3: {BAD_HASH}. WARNING: Duplicate user 'alice' found on line 4. "
        f"{path}:5: Unmatched parenthesis in selector definition. "
        "WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
    )
    with pytest.raises(ReplyError, match=r"Error loading ACLs, opening file .*: No such file"):
        acl.load(tmp_path / "none")


def test_users_are_read_from_lines_and_listed_as_lines(acl: Acl) -> None:
    acl.load_line([b"user", b"default", b"on", b">secret", b"~*", b"+@all"])
    acl.load_line([b"user", b"alice", b"on", b"nopass", b"(+get", b"~x)"])
    assert acl.lines() == [
        b"user alice on nopass sanitize-payload resetchannels -@all (~x resetchannels -@all +get)",
        b"user default on sanitize-payload #%b ~* resetchannels +@all" % SECRET.encode(),
    ]
    with pytest.raises(ReplyError):
        acl.load_line([b"user"])


# With a configuration.


def configured(*lines: str, tmp_path: Path | None = None) -> AccessControl:
    """Users as a configuration of these lines begins with."""
    config = Config()
    config._read_lines("\n".join(lines).encode(), "test", 0)
    config.dir = str(tmp_path or "/")
    return AccessControl(REGISTRY, config)


def test_a_configuration_declares_users_and_follows_them() -> None:
    control = configured("requirepass secret", "user alice on nopass ~a (+get ~x)")
    assert not control.default.allows_anyone
    config = control._config
    control.changed()
    (line,) = config.user
    assert " ".join(line) == (
        "alice on nopass sanitize-payload ~a resetchannels -@all (~x resetchannels -@all +get)"
    )
    control.set_user(b"default", [b">two"])
    control.changed()
    assert [line[0] for line in config.user] == ["alice", "default"]
    config.set([(b"requirepass", b"")])
    assert control.default.allows_anyone
    assert [line[0] for line in config.user] == ["alice"]
    config.set([(b"acl-pubsub-default", b"allchannels"), (b"acllog-max-len", b"1")])
    assert control.set_user(b"bob", [])[0].selectors[0].all_channels
    assert control.log.max_len == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["user a on", "user a on"], "user a is declared twice in the configuration"),
        (["user a +nosuch"], "user a: '+nosuch': Unknown command or category name in ACL"),
        (["aclfile none"], "Error loading ACLs, opening file '/none': No such file or directory"),
        (["aclfile none", "user a on"], "users are declared both in the configuration and in"),
    ],
)
def test_bad_configurations_stop_the_start(lines: list[str], message: str) -> None:
    with pytest.raises(StartupError) as caught:
        configured(*lines)
    assert str(caught.value).startswith(message)


def test_an_aclfile_keeps_its_users_out_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "users.acl").write_text("user alice on nopass\n")
    control = configured("aclfile users.acl", tmp_path=tmp_path)
    assert control.file == tmp_path / "users.acl"
    control.changed()
    assert control._config.user == ()
    assert [user.name for user in control] == [b"alice", b"default"]
