"""Streams that break the protocol, or come close, with what they must give.

Each entry: the bytes, the requests in them, and the text of the protocol error that follows them
(without ``ERR Protocol error: ``), or None. redis-server 7.0 answers the same; a test asks it.
"""

from __future__ import annotations

from typing import Final

Entry = tuple[bytes, list[list[bytes]], bytes | None]

PING: Final = b"*1\r\n$4\r\nPING\r\n"
_P: Final = [b"PING"]
_MULTIBULK: Final = b"invalid multibulk length"
_BULK: Final = b"invalid bulk length"
_QUOTES: Final = b"unbalanced quotes in request"


def _got(mark: bytes) -> bytes:
    return b"expected '$', got '" + mark + b"'"


CORPUS: Final[list[Entry]] = [
    # Ordinary
    (PING * 3, [_P] * 3, None),
    (b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n" + PING, [[b"ECHO", b""], _P], None),
    (b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n" + PING, [[b"ECHO", b"\r\n\r\n"], _P], None),
    (b"*2\r\n$4\r\nECHO\r\n$14\r\n" + PING + b"\r\n" + PING, [[b"ECHO", PING], _P], None),
    (b"*2\r\n$4\r\nECHO\r\n$6\r\n+=(>~|\r\n" + PING, [[b"ECHO", b"+=(>~|"], _P], None),
    (b"*2\r\n$4\r\nECHO\r\n$7\r\n*99999%\r\n" + PING, [[b"ECHO", b"*99999%"], _P], None),
    # Arrays that hold nothing
    (b"*0\r\n" + PING, [_P], None),
    (b"*-1\r\n" + PING, [_P], None),
    (b"*-9223372036854775808\r\n" + PING, [_P], None),
    (PING + b"*0\r\n*-5\r\n" + PING, [_P, _P], None),
    # Only the first byte of a line end is looked at, and none of that behind an argument.
    (b"*1\rX$4\rYPINGab" + PING, [_P, _P], None),
    (b"*1\r\r$4\r\rPING\r\r" + PING, [_P, _P], None),
    # The number of arguments
    (b"*\r\n", [], _MULTIBULK),
    (b"* 1\r\n", [], _MULTIBULK),
    (b"*+1\r\n", [], _MULTIBULK),
    (b"*01\r\n", [], _MULTIBULK),
    (b"*-0\r\n", [], _MULTIBULK),
    (b"*-\r\n", [], _MULTIBULK),
    (b"*1.0\r\n", [], _MULTIBULK),
    (b"*1e3\r\n", [], _MULTIBULK),
    (b"*x\r\n", [], _MULTIBULK),
    (b"*?\r\n", [], _MULTIBULK),
    (b"*\n1\r\n", [], _MULTIBULK),
    (b"*2147483648\r\n", [], _MULTIBULK),
    (b"*9223372036854775808\r\n", [], _MULTIBULK),
    (b"*-9223372036854775809\r\n", [], _MULTIBULK),
    (b"*99999999999999999999999999\r\n", [], _MULTIBULK),
    (b"*2147483647\r\n$4\r\nPING\r\n", [], None),
    (b"*2000000000\r\n$4\r\nPING\r\n:1\r\n", [], _got(b":")),
    (PING + b"*2000000000\r\n$6\r\n\r\n*1\r\n\r\n-1\r\n", [_P], _got(b"-")),
    # What is no bulk string
    (b"*1\r\n:1\r\n", [], _got(b":")),
    (b"*1\r\n+PING\r\n", [], _got(b"+")),
    (b"*1\r\n-ERR\r\n", [], _got(b"-")),
    (b"*1\r\n-\xff\xfe\r\n", [], _got(b"-")),
    (b"*1\r\n_\r\n", [], _got(b"_")),
    (b"*1\r\n#t\r\n", [], _got(b"#")),
    (b"*1\r\n,1.5\r\n", [], _got(b",")),
    (b"*1\r\n(123\r\n", [], _got(b"(")),
    (b"*1\r\n!3\r\nERR\r\n", [], _got(b"!")),
    (b"*1\r\n=8\r\ntxt:PING\r\n", [], _got(b"=")),
    (b"*1\r\n*1\r\n$4\r\nPING\r\n", [], _got(b"*")),
    (b"*1\r\n*0\r\n", [], _got(b"*")),
    (b"*1\r\n%1\r\n$1\r\na\r\n$1\r\nb\r\n", [], _got(b"%")),
    (b"*1\r\n~1\r\n$1\r\na\r\n", [], _got(b"~")),
    (b"*1\r\n>1\r\n$1\r\na\r\n", [], _got(b">")),
    (b"*1\r\n|1\r\n$1\r\na\r\n$1\r\nb\r\n$4\r\nPING\r\n", [], _got(b"|")),
    (b"*1\r\n4\r\nPING\r\n", [], _got(b"4")),
    (b"*1\r\nPING\r\n", [], _got(b"P")),
    (b"*1\r\n \r\n", [], _got(b" ")),
    (b"*1\r\n\xff\r\n", [], _got(b"\xff")),
    (b"*1\r\n\r\n", [], _got(b" ")),
    (b"*1\r\n\n\r\n", [], _got(b" ")),
    (b"*2\r\n$4\r\nECHO\r\n:7\r\n", [], _got(b":")),
    (b"*2\r\n$4\r\nECHOab+x\r\n", [], _got(b"+")),
    (PING * 2 + b"*1\r\n:1\r\n" + PING, [_P, _P], _got(b":")),
    # The length of an argument
    (b"*1\r\n$\r\n", [], _BULK),
    (b"*1\r\n$-1\r\n", [], _BULK),
    (b"*1\r\n$-0\r\n", [], _BULK),
    (b"*1\r\n$+4\r\nPING\r\n", [], _BULK),
    (b"*1\r\n$04\r\nPING\r\n", [], _BULK),
    (b"*1\r\n$4 \r\nPING\r\n", [], _BULK),
    (b"*1\r\n$x\r\n", [], _BULK),
    (b"*1\r\n$?\r\n", [], _BULK),
    (b"*1\r\n$536870913\r\n", [], _BULK),
    (b"*1\r\n$9223372036854775807\r\n", [], _BULK),
    (b"*1\r\n$9223372036854775808\r\n", [], _BULK),
    (b"*1\r\n$536870912\r\nabc", [], None),
    (PING + b"*2\r\n$4\r\nECHO\r\n$-1\r\n" + PING, [_P], _BULK),
    # Lines without an end
    (b"*" + b"1" * 65535, [], None),
    (b"*" + b"1" * 65536, [], b"too big mbulk count string"),
    (b"*" + b"1" * 65535 + b"\r\n", [], _MULTIBULK),
    (b"*1\r\n$" + b"1" * 65535, [], None),
    (b"*1\r\n$" + b"1" * 65536, [], b"too big bulk count string"),
    (b"*1\r\n" + b"x" * 65537, [], b"too big bulk count string"),
    (b"*1\x00\r\n", [], None),
    (b"*1\r\n$4\x00\r\nPING\r\n", [], None),
    (b"*1\r\n\x00\r\n", [], None),
    (b"*1\x00" + b"x" * 65600, [], b"too big mbulk count string"),
    (b"PING" + b" " * 65532, [], None),
    (b"PING" + b" " * 65533, [], b"too big inline request"),
    (b"PING" + b" " * 65532 + b"\n", [_P], None),
    # Inline commands
    (b"PING\r\n" + PING, [_P, _P], None),
    (b"PING\nPING\r\n", [_P, _P], None),
    (b"\r\n\n  \r\n \t\v\f\n" + PING, [_P], None),
    (b"  ECHO \t a \r\n" + PING, [[b"ECHO", b"a"], _P], None),
    (b"ECHO a\rb\r\n", [[b"ECHO", b"a", b"b"]], None),
    (b"ECHO a\vb\r\n", [[b"ECHO", b"a\vb"]], None),
    (b"ECHO \va\r\n", [[b"ECHO", b"a"]], None),
    (b'ECHO "a b"\r\n' + PING, [[b"ECHO", b"a b"], _P], None),
    (b"ECHO ''\r\n", [[b"ECHO", b""]], None),
    (b'ECHO ""\r\n', [[b"ECHO", b""]], None),
    (b"ECHO '\"'\r\n", [[b"ECHO", b'"']], None),
    (b"ECHO 'it\\'s'\r\n", [[b"ECHO", b"it's"]], None),
    (b"ECHO 'a\\nb'\r\n", [[b"ECHO", b"a\\nb"]], None),
    (b'ECHO "\\n\\r\\t\\b\\a\\\\\\"\\q"\r\n', [[b"ECHO", b'\n\r\t\b\a\\"q']], None),
    (b'ECHO "\\x41\\xfF\\x00"\r\n', [[b"ECHO", b"A\xff\x00"]], None),
    (b'ECHO "\\x4"\r\n', [[b"ECHO", b"x4"]], None),
    (b'ECHO "\\xgg"\r\n', [[b"ECHO", b"xgg"]], None),
    (b'ECHO ab"c d"\r\n', [[b"ECHO", b"abc d"]], None),
    (b"ECHO ab'c d'\r\n", [[b"ECHO", b"abc d"]], None),
    (b"ECHO a\\b\r\n", [[b"ECHO", b"a\\b"]], None),
    (b"ECHO \xff\xfe\r\n", [[b"ECHO", b"\xff\xfe"]], None),
    (b'ECHO "a"b\r\n', [], _QUOTES),
    (b"ECHO 'a'b\r\n", [], _QUOTES),
    (b'ECHO "a\r\n', [], _QUOTES),
    (b"ECHO 'a\r\n", [], _QUOTES),
    (b"ECHO 'a\\'\r\n", [], _QUOTES),
    (b'ECHO "a\\"\r\n', [], _QUOTES),
    (b'ECHO "a\\\r\n', [], _QUOTES),
    (b'"\r\n', [], _QUOTES),
    (b'""""\r\n', [], _QUOTES),
    (PING + b"ECHO 'a\r\n" + PING, [_P], _QUOTES),
    (b"PING\x00\r\n", [], None),
    # Replies sent as requests are inline commands.
    (b"+PING\r\n", [[b"+PING"]], None),
    (b":1\r\n", [[b":1"]], None),
    (b"$4\r\nPING\r\n", [[b"$4"], _P], None),
    (b">1\r\n$1\r\na\r\n", [[b">1"], [b"$1"], [b"a"]], None),
    (b"%0\r\n" + PING, [[b"%0"], _P], None),
    (b"~0\r\n" + PING, [[b"~0"], _P], None),
    (b"|0\r\n" + PING, [[b"|0"], _P], None),
    (b"_\r\n" + PING, [[b"_"], _P], None),
    (PING + b"+OK\r\n" + PING, [_P, [b"+OK"], _P], None),
    (PING + b"+\r\n", [_P, [b"+"]], None),
    (PING + b"$0\r\n\r\n*3\r\n", [_P, [b"$0"]], None),
    (PING + b"+\r\n*3\r\n", [_P, [b"+"]], None),
    (PING + b"+end\r\n*1\r\n", [_P, [b"+end"]], None),
    (b"*1\r\n$0\r\n\r\n*1\r\n,inf\r\n", [[b""]], _got(b",")),
    (b"+\r\n+\r\n", [[b"+"], [b"+"]], None),
    (b"\x16\x03\x01\x02\x00\x01\x00\n" + PING, [], None),
    (b"\xff\xfe\xfd\r\n" + PING, [[b"\xff\xfe\xfd"], _P], None),
]

#: The same for a connection that has not authenticated.
UNAUTHENTICATED: Final[list[Entry]] = [
    (b"*10\r\n" + b"$1\r\na\r\n" * 10, [[b"a"] * 10], None),
    (b"*11\r\n", [], b"unauthenticated multibulk length"),
    (b"*2147483648\r\n", [], _MULTIBULK),
    (b"*1\r\n$16384\r\n" + b"x" * 16384 + b"\r\n" + PING, [[b"x" * 16384], _P], None),
    (b"*1\r\n$16385\r\n", [], b"unauthenticated bulk length"),
    (b"*1\r\n$536870913\r\n", [], _BULK),
    (b"*1\r\n$-1\r\n", [], _BULK),
    (PING + b"*1\r\n:1\r\n", [_P], _got(b":")),
    (
        b"PING a b c d e f g h i j k l m\r\n",
        [[b"PING", *(b"%c" % c for c in b"abcdefghijklm")]],
        None,
    ),
    (b"x" * 65537, [], b"too big inline request"),
]
