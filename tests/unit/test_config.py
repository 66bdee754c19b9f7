"""The option table and what it drives: files, flags, CONFIG GET, SET and REWRITE."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from norikv_resp.config import Config, ConfigError, StartupError
from norikv_resp.option_types import (
    Directive,
    OptionError,
    OutputLimit,
    quote,
    split_words,
    with_unit,
)
from norikv_resp.options import BY_NAME, TABLE


def read(*lines: str, directory: Path) -> Config:
    """A Config from a file of these lines."""
    path = directory / "norikv.conf"
    path.write_text("\n".join(lines) + "\n")
    return Config.from_argv([str(path)])


def refusal(config: Config, *pairs: bytes) -> bytes:
    """The error of a CONFIG SET."""
    with pytest.raises(ConfigError) as error:
        config.set(list(zip(pairs[::2], pairs[1::2], strict=True)))
    return error.value.text


# -- words -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"", []),
        (b"  \t ", []),
        (b"port 1", [b"port", b"1"]),
        (b' save "" ', [b"save", b""]),
        (b'a "b c"', [b"a", b"b c"]),
        (rb'"\x41\n\r\t\b\a\"\\\q"', [b'A\n\r\t\b\a"\\q']),
        (rb'"\xzz"', [b"xzz"]),
        (rb"'a\'b\n' c", [rb"a'b\n", b"c"]),
        (b'foo"bar baz"', [b"foobar baz"]),
        (rb"a\b", [rb"a\b"]),
    ],
)
def test_words_are_split_as_redis_does(line: bytes, words: list[bytes]) -> None:
    assert split_words(line) == words


@pytest.mark.parametrize("line", [b'"a', b"'a", b'"a"b', b"'a'b", b'"a\\"', rb"'a\'", rb"'a\\'"])
def test_unbalanced_quotes_are_refused(line: bytes) -> None:
    with pytest.raises(OptionError, match="Unbalanced quotes"):
        split_words(line)


@given(st.lists(st.binary(max_size=12), max_size=6))
def test_quoted_words_come_back(words: list[bytes]) -> None:
    line = b" ".join(map(quote, words))
    assert split_words(line) == words
    assert line.isascii()
    assert b"\n" not in line


@given(st.binary(max_size=40) | st.text("\"'\\ xaf0\t", max_size=20).map(str.encode))
def test_splitting_never_fails_otherwise(line: bytes) -> None:
    try:
        words = split_words(line)
    except OptionError:
        return
    assert split_words(b" ".join(map(quote, words))) == words


def test_splitting_takes_linear_time() -> None:
    with pytest.raises(OptionError):
        split_words(b'"' + b"\\" * 200_001)
    with pytest.raises(OptionError):
        split_words(b"'" + b"\\'" * 100_000)
    assert split_words(b"a" * 500_000) == [b"a" * 500_000]


# -- the table ---------------------------------------------------------------


def test_every_default_can_be_written_and_read() -> None:
    for row in TABLE:
        value: Any = () if row.repeatable else row.default
        for line in row.lines(row.default):
            value = row.parse(split_words(line), value)
        assert value == row.default, row.name
        assert row.ignored or row.doc.endswith("."), row.name


def test_names_and_aliases_are_unique() -> None:
    assert len(BY_NAME) == sum(len(row.names) for row in TABLE)


def test_values_are_typed_attributes() -> None:
    config = Config()
    port: int = config.port
    limits: dict[str, OutputLimit] = config.client_output_buffer_limit
    assert port == 6379
    assert limits["pubsub"].soft == 8 << 20
    assert Config.port.name == "port"


@given(st.integers(0, 1 << 50))
def test_sizes_come_back(size: int) -> None:
    config = Config()
    config.set([(b"min-free-disk", with_unit(size))])
    assert config.min_free_disk == size


# -- files and flags ---------------------------------------------------------


def test_a_file_with_comments_quotes_and_includes(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("timeout 7\r\nhz 20\n")
    config = read(
        "# a comment",
        "  PORT 7001  ",
        'logfile "/tmp/a b.log"',
        "bind 127.0.0.1 -::1",
        "user alice on >secret ~* +@all",
        "user bob off",
        "loadmodule /some/where --flag",
        "client-output-buffer-limit replica 1mb 2mb 3",
        "timeout 5",
        f"include {tmp_path}/m*.conf",
        f"include {tmp_path}/none-*.conf",
        "hz 30",
        directory=tmp_path,
    )
    assert config.port == 7001
    assert config.logfile == "/tmp/a b.log"
    assert config.bind == ("127.0.0.1", "-::1")
    assert config.user == (("alice", "on", ">secret", "~*", "+@all"), ("bob", "off"))
    assert config.loadmodule == (("/some/where", "--flag"),)
    assert config.client_output_buffer_limit["slave"] == OutputLimit(1 << 20, 2 << 20, 3)
    assert config.client_output_buffer_limit["pubsub"] == OutputLimit(32 << 20, 8 << 20, 60)
    assert (config.timeout, config.hz) == (7, 30)
    assert config.path == str(tmp_path / "norikv.conf")
    assert config.warnings == []


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["--port", "7000"], {"port": 7000}),
        (["--port 7000", "--hz", "11"], {"port": 7000, "hz": 11}),
        (["--bind", "::1", "10.0.0.1", "--port", "0"], {"bind": ("::1", "10.0.0.1"), "port": 0}),
        (["--save", "--port", "1"], {"save": (), "port": 1}),
        (["--port", "1", "--save"], {"save": (), "port": 1}),
        (["--save", "900", "1", "--save", "60", "5"], {"save": ("900", "1", "60", "5")}),
        (["--requirepass", "--secret"], {"requirepass": b"--secret"}),
        (["--requirepass", "a b\\"], {"requirepass": b"a b\\"}),
        (["--logfile", ""], {"logfile": ""}),
        (["--slave-priority", "5"], {"replica_priority": 5}),
        (["--appendfsync", "EVERYSEC"], {"appendfsync": "everysec"}),
        (["--unixsocketperm", "700"], {"unixsocketperm": 0o700}),
    ],
)
def test_flags_set_options(argv: list[str], expected: dict[str, object]) -> None:
    config = Config.from_argv(argv)
    assert {name: getattr(config, name) for name in expected} == expected
    assert os.path.isabs(config.dir)


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.conf"
    path.write_text("port 7001\nhz 20\n")
    config = Config.from_argv([str(path), "--port", "7002"])
    assert (config.port, config.hz) == (7002, 20)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["", "prot 1"], "line 2: unknown option 'prot'; did you mean 'port'?"),
        (["qqqq 1"], "line 1: unknown option 'qqqq'"),
        (["port"], "line 1: port: wrong number of arguments"),
        (["port 1 2"], "line 1: port: wrong number of arguments"),
        (["port 70000"], "line 1: port: argument must be between 0 and 65535 inclusive"),
        (["daemonize maybe"], "line 1: daemonize: argument must be 'yes' or 'no'"),
        (['bind "a'], "line 1: Unbalanced quotes in configuration line"),
        (["rename-command FLUSHALL ''"], "line 1: rename-command is not supported; take commands"),
        (["unixsocketperm 999"], "argument couldn't be parsed as an octal number"),
        (["user"], "line 1: user: wrong number of arguments"),
        (["include"], "line 1: include: wrong number of arguments"),
        (["include /nowhere/x.conf"], "can't read configuration file /nowhere/x.conf: No such"),
        (["include {self}"], "files include each other"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(lines: list[str], message: str, tmp_path: Path) -> None:
    own_path = tmp_path / "norikv.conf"
    with pytest.raises(StartupError) as error:
        read(*(line.replace("{self}", str(own_path)) for line in lines), directory=tmp_path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["/nowhere.conf"], "can't read configuration file /nowhere.conf: No such file"),
        (["--port", "x"], "command line: port: argument couldn't be parsed into an integer"),
        (["--port"], "command line: port: wrong number of arguments"),
        (["--"], "command line: '--' is not an option"),
        (["--save", "60"], "command line: save: Invalid save parameters"),
        (["--nosuch", "1"], "command line: unknown option 'nosuch'"),
        (["a.conf", "b"], "command line: 'b' is not an option"),
    ],
)
def test_bad_flags_are_refused_in_one_line(argv: list[str], message: str) -> None:
    with pytest.raises(StartupError, match=message):
        Config.from_argv(argv)


def test_options_without_effect_are_named_once_per_reason() -> None:
    argv = [
        "--save",
        "",
        "--appendonly",
        "yes",
        "--io-threads",
        "4",
        "--list-max-ziplist-value",
        "9",
    ]
    warnings = Config.from_argv(argv).warnings
    assert any(line.startswith("save, appendonly have no effect: ") for line in warnings)
    assert any(line.startswith("io-threads has no effect: ") for line in warnings)
    assert any(line.startswith("list-max-ziplist-value has no effect: ") for line in warnings)
    assert len(warnings) == 3


@given(st.lists(st.text(st.characters(exclude_characters="\0"), max_size=12), max_size=5))
def test_any_command_line_is_taken_or_refused_with_a_line(argv: list[str]) -> None:
    try:
        Config.from_argv([word for word in argv if word not in ("-",)])
    except StartupError:
        pass


# -- CONFIG GET --------------------------------------------------------------


def test_get_by_name_and_pattern() -> None:
    config = Config()
    assert config.get(b"MAXMEMORY") == {b"MAXMEMORY": b"0"}
    assert config.get(b"maxmemory", b"maxmemory") == {b"maxmemory": b"0"}
    assert config.get(b"nosuch", b"user", b"include") == {}
    assert set(config.get(b"SLOWLOG-*")) == {
        b"slowlog-log-slower-than",
        b"slowlog-max-len",
        b"slowlog-entry-max-argc",
        b"slowlog-entry-max-string-len",
    }
    assert set(config.get(b"*max-*-entries*")) == {
        b"zset-max-listpack-entries",
        b"hash-max-ziplist-entries",
        b"set-max-listpack-entries",
        b"hash-max-listpack-entries",
        b"zset-max-ziplist-entries",
        b"set-max-intset-entries",
    }
    directives = sum(isinstance(row, Directive) for row in TABLE)
    assert len(config.get(b"*")) == len(BY_NAME) - directives


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        (b"maxmemory", b"100mb", b"104857600"),
        (b"maxmemory", b"1000k", b"1000000"),
        (b"maxmemory-clients", b"5%", b"5%"),
        (b"maxmemory-policy", b"ALLKEYS-LRU", b"allkeys-lru"),
        (b"notify-keyspace-events", b"KEA", b"AKE"),
        (b"notify-keyspace-events", b"gKEn", b"gnKE"),
        (b"notify-keyspace-events", b"Kl", b"lK"),
        (b"save", b"200 1 300 5", b"200 1 300 5"),
        (b"save", b"", b""),
        (b"requirepass", b"a b", b"a b"),
        (b"latency-tracking-info-percentiles", b"50 99.5", b"50 99.5"),
        (b"list-max-ziplist-size", b"-2", b"-2"),
        (
            b"client-output-buffer-limit",
            b"replica 1mb 2 3",
            b"normal 0 0 0 slave 1048576 2 3 pubsub 33554432 8388608 60",
        ),
    ],
)
def test_set_is_shown_as_redis_shows_it(name: bytes, value: bytes, shown: bytes) -> None:
    config = Config()
    config.set([(name, value)])
    assert config.get(name) == {name: shown}


# -- CONFIG SET --------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (b"maxmemory", b"abc", "argument must be a memory value"),
        (b"maxmemory", b"-1", "argument must be a memory value"),
        (b"hz", b"abc", "argument couldn't be parsed into an integer"),
        (b"hz", b" 5", "argument couldn't be parsed into an integer"),
        (b"databases", b"4", "can't set immutable config"),
        (b"maxclients", b"0", "argument must be between 1 and 2147483647 inclusive"),
        (b"maxmemory-clients", b"101%", "percentage argument must be less or equal to 100"),
        (b"maxmemory-clients", b"x", "argument must be a memory or percent value"),
        (b"appendonly", b"maybe", "argument must be 'yes' or 'no'"),
        (b"save", b"100", "Invalid save parameters"),
        (b"appendfsync", b"x", "argument(s) must be one of the following: everysec, always, no"),
        (
            b"notify-keyspace-events",
            b"Q",
            "Invalid event class character. Use 'Ag$lshzxeKEtmdnocaSTIV'.",
        ),
        (
            b"client-output-buffer-limit",
            b"normal 1 2",
            "Wrong number of arguments in buffer limit configuration.",
        ),
        (
            b"client-output-buffer-limit",
            b"foo 1 2 3",
            "Invalid client class specified in buffer limit configuration.",
        ),
        (
            b"client-output-buffer-limit",
            b"normal a 2 3",
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        (b"save", b'"1', "Unbalanced quotes in configuration line"),
    ],
)
def test_set_refuses_with_redis_texts(name: bytes, value: bytes, reason: str) -> None:
    config = Config()
    before = config.get(name)
    text = f"ERR CONFIG SET failed (possibly related to argument '{name.decode()}') - {reason}"
    assert refusal(config, name, value) == text.encode()
    assert config.get(name) == before


def test_set_is_all_or_nothing() -> None:
    config = Config()
    assert refusal(config, b"hz", b"20", b"nosuch", b"1") == (
        b"ERR Unknown option or number of arguments for CONFIG SET - 'nosuch'"
    )
    assert refusal(config, b"hz", b"20", b"timeout", b"x").endswith(b"into an integer")
    assert refusal(config, b"hz", b"1", b"HZ", b"2") == (
        b"ERR CONFIG SET failed (possibly related to argument 'HZ') - duplicate parameter"
    )
    assert config.hz == 10
    config.set([(b"hz", b"20"), (b"TIMEOUT", b"5")])
    assert (config.hz, config.timeout) == (20, 5)


def test_followers_hear_of_changes_only() -> None:
    config = Config()
    heard: list[object] = []
    config.on_change(Config.hz, heard.append)
    config.on_change("timeout", heard.append)
    config.set([(b"hz", b"10"), (b"timeout", b"5")])
    config.put(Config.hz, 50)
    assert heard == [5, 50]
    assert config.hz == 50


@pytest.mark.parametrize(
    "problem", [OptionError("it is taken"), OSError(98, "it is taken")], ids=["option", "os"]
)
def test_a_follower_can_refuse_and_everything_is_undone(problem: Exception) -> None:
    config = Config()
    heard: list[object] = []

    def refuse(value: int) -> None:
        raise problem

    config.on_change(Config.hz, heard.append)
    config.on_change(Config.timeout, refuse)
    assert refusal(config, b"hz", b"20", b"maxclients", b"7", b"timeout", b"5") == (
        b"ERR CONFIG SET failed (possibly related to argument 'timeout') - it is taken"
    )
    assert heard == [20, 10]
    assert (config.hz, config.maxclients, config.timeout) == (10, 10000, 0)


# -- CONFIG REWRITE ----------------------------------------------------------


def test_rewrite_needs_a_file() -> None:
    with pytest.raises(ConfigError) as error:
        Config().rewrite()
    assert error.value.text == b"ERR The server is running without a config file"


def test_rewrite_keeps_comments_order_and_what_did_not_change(tmp_path: Path) -> None:
    config = read(
        "# head",
        "timeout   5   ",
        "",
        "slave-priority 7",
        "save 900 1",
        "save 300 10",
        "# hz 10",
        'requirepass "x"',
        "user alice on",
        directory=tmp_path,
    )
    path = tmp_path / "norikv.conf"
    path.chmod(0o640)
    config.set([(b"replica-priority", b"9"), (b"save", b"60 1"), (b"hz", b"20")])
    config.set([(b"requirepass", b'a "quote" \xff')])
    config.rewrite()
    assert path.read_text().split("\n") == [
        "# head",
        "timeout   5   ",
        "",
        "slave-priority 9",
        "save 60 1",
        "# hz 10",
        'requirepass "a \\"quote\\" \\xff"',
        "user alice on",
        "",
        "# Generated by CONFIG REWRITE",
        "hz 20",
        "",
    ]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["norikv.conf"]
    before = path.read_bytes()
    config.rewrite()
    assert path.read_bytes() == before
    config.set([(b"timeout", b"0")])
    config.rewrite()
    assert b"timeout 0\n" in path.read_bytes()


def test_rewrite_is_not_overruled_by_an_include(tmp_path: Path) -> None:
    (tmp_path / "more.conf").write_text("timeout 7\n")
    config = read("timeout 5", f"include {tmp_path}/more.conf", "hz 20", directory=tmp_path)
    config.set([(b"timeout", b"9"), (b"hz", b"30")])
    config.rewrite()
    again = Config.from_argv([str(tmp_path / "norikv.conf")])
    assert (again.timeout, again.hz) == (9, 30)
    assert (tmp_path / "more.conf").read_text() == "timeout 7\n"


def test_rewrite_reports_what_went_wrong(tmp_path: Path) -> None:
    directory = tmp_path / "gone"
    directory.mkdir()
    config = read("hz 20", directory=directory)
    (directory / "norikv.conf").write_text("nonsense\n")
    with pytest.raises(ConfigError, match="unknown option 'nonsense'"):
        config.rewrite()
    (directory / "norikv.conf").unlink()
    directory.rmdir()
    with pytest.raises(ConfigError) as error:
        config.rewrite()
    assert error.value.text == b"ERR Rewriting config file: No such file or directory"


LINES = st.sampled_from(
    [
        "",
        "# timeout 1",
        "timeout 5",
        "TIMEOUT 6",
        'requirepass "a b"',
        "save 900 1",
        'save ""',
        "save 1 1 2 2",
        "client-output-buffer-limit normal 1 2 3",
        "client-output-buffer-limit pubsub 0 0 0",
        "slave-priority 3",
        "replica-priority 4",
        "notify-keyspace-events KEAn",
        "user bob on",
        "cache-size 10mb",
        "maxmemory-clients 5%",
    ]
)
CHANGES = st.dictionaries(
    st.sampled_from([b"timeout", b"replica-priority", b"cache-size", b"hz"]),
    st.integers(1, 400).map(lambda number: b"%d" % number),
    max_size=3,
)


@settings(max_examples=40)
@given(lines=st.lists(LINES, max_size=8), changes=CHANGES, more=st.binary(max_size=8))
def test_a_rewritten_file_means_the_same_as_the_values(
    lines: list[str], changes: dict[bytes, bytes], more: bytes, tmp_path_factory: Any
) -> None:
    config = read(*lines, directory=tmp_path_factory.mktemp("rewrite"))
    assert config.path is not None
    config.set([*changes.items(), (b"save", b""), (b"requirepass", more)])
    config.set([(b"notify-keyspace-events", b"gxE"), (b"maxmemory-clients", b"7%")])
    config.rewrite()
    again = Config.from_argv([config.path])
    for row in TABLE:
        assert getattr(again, row.attribute) == getattr(config, row.attribute), row.name
    content = Path(config.path).read_text()
    assert content.count("# timeout 1") == lines.count("# timeout 1")
