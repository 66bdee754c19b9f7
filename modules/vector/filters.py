"""The FILTER language of Redis's vector sets: an expression over one element's JSON attributes.

    .year >= 1980 and (.genre == "action" or "short" in .tags) and .rating ** 2 > 50

    ( )                     7    the strongest
    !  not                  6
    **                      5    to the right: 2 ** 3 ** 2 is 512
    *  /  %                 4
    +  -                    3
    >  >=  <  <=  ==  !=  in  2
    and  &&                 1
    or  ||                  0

Operands are numbers, strings in either quotes, null, lists of numbers and strings, and selectors
such as ``.year``. An operator gives a number, 1 and 0 for true and false. An element of which any
field that the expression names is missing does not match, whatever the rest says; nor does one
without attributes.

As Redis 8.8 reads it, in particular:

* there is no true and no false in expressions; in attributes they are 1 and 0;
* ``-`` begins a number only at the start, after an operator and in lists; letters, digits, ``_``
  and ``-`` belong to a selector's name, so ``.a-1`` is the field ``a-1``;
* a number has no sign in its exponent;
* strings are taken between their quotes as they are, escapes included;
* an error of reading is told from where it was noticed, which for an unknown word is behind it,
  or from the beginning if nothing follows; an error of grammar always from the beginning.

More than Redis 8.8 understands: ``.a.b`` looks into objects, ``!!`` and ``not not`` negate twice,
``null`` may touch parentheses and operators, and in a string a backslash before its own quote
goes away. Filters are bounded in length, operators and nesting, since everybody waits for
whoever runs one.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import islice
from typing import Final, NamedTuple

from norikv_resp.errors import ReplyError

from .attributes import (
    MISSING,
    Path,
    Value,
    is_equal,
    is_in,
    is_true,
    read,
    select,
    to_number,
)

#: A filter may have so many bytes,
MAX_LENGTH = 64 * 1024
#: so many operators, parentheses included,
MAX_OPERATORS = 1024
#: so many parentheses inside each other,
MAX_DEPTH = 100
#: and so many operators and operands.
MAX_TOKENS = 2 * MAX_OPERATORS + 1

#: Parsed filters that are kept, and how many bytes of text they may have together.
CACHED_FILTERS = 256
CACHED_BYTES = 1 << 20


class FilterError(ReplyError):
    """The expression cannot be used; the text says why, in Redis's words where it has them."""


# ---- operators


def power(left: float, right: float) -> float:
    """C's pow: never an error."""
    try:
        return math.pow(left, right)
    except OverflowError:
        negative = left < 0 and math.fmod(right, 2) != 0
        return -math.inf if negative else math.inf
    except ValueError:
        if left == 0:  # to a negative power
            odd = math.fmod(right, 2) != 0
            return math.copysign(math.inf, left) if odd and right.is_integer() else math.inf
        return math.nan


def divide(left: float, right: float) -> float:
    """C's division: never an error."""
    if right:
        return left / right
    if not left or left != left or right != right:
        return math.nan
    return math.copysign(math.inf, left) * math.copysign(1.0, right)


def remainder(left: float, right: float) -> float:
    """C's fmod: never an error, the sign is the left one's."""
    try:
        return math.fmod(left, right)
    except ValueError:
        return math.nan


class Operator(Enum):
    """What can stand between or before operands: spelling, precedence, operands."""

    OPEN = ("(", 7, 0)
    CLOSE = (")", 7, 0)
    NOT = ("!", 6, 1)
    POWER = ("**", 5, 2)
    MULTIPLY = ("*", 4, 2)
    DIVIDE = ("/", 4, 2)
    REMAINDER = ("%", 4, 2)
    ADD = ("+", 3, 2)
    SUBTRACT = ("-", 3, 2)
    GREATER = (">", 2, 2)
    GREATER_EQUAL = (">=", 2, 2)
    LESS = ("<", 2, 2)
    LESS_EQUAL = ("<=", 2, 2)
    EQUAL = ("==", 2, 2)
    NOT_EQUAL = ("!=", 2, 2)
    IN = ("in", 2, 2)
    AND = ("and", 1, 2)
    OR = ("or", 0, 2)

    def __init__(self, spelling: str, precedence: int, arity: int) -> None:
        self.spelling = spelling
        self.precedence = precedence
        self.arity = arity


#: Every operator on two values; each gives a number.
BINARY: Final[dict[Operator, Callable[[Value, Value], float]]] = {
    Operator.POWER: lambda left, right: power(to_number(left), to_number(right)),
    Operator.MULTIPLY: lambda left, right: to_number(left) * to_number(right),
    Operator.DIVIDE: lambda left, right: divide(to_number(left), to_number(right)),
    Operator.REMAINDER: lambda left, right: remainder(to_number(left), to_number(right)),
    Operator.ADD: lambda left, right: to_number(left) + to_number(right),
    Operator.SUBTRACT: lambda left, right: to_number(left) - to_number(right),
    Operator.GREATER: lambda left, right: float(to_number(left) > to_number(right)),
    Operator.GREATER_EQUAL: lambda left, right: float(to_number(left) >= to_number(right)),
    Operator.LESS: lambda left, right: float(to_number(left) < to_number(right)),
    Operator.LESS_EQUAL: lambda left, right: float(to_number(left) <= to_number(right)),
    Operator.EQUAL: lambda left, right: float(is_equal(left, right)),
    Operator.NOT_EQUAL: lambda left, right: float(not is_equal(left, right)),
    Operator.IN: lambda left, right: float(is_in(left, right)),
    Operator.AND: lambda left, right: float(is_true(left) and is_true(right)),
    Operator.OR: lambda left, right: float(is_true(left) or is_true(right)),
}


# ---- tokens


class Constant(NamedTuple):
    """A literal."""

    value: Value


class Selector(NamedTuple):
    """A field."""

    path: Path


Operand = Constant | Selector
Token = Operand | Operator

_WORDS = {operator.spelling.encode(): operator for operator in Operator}
_WORDS |= {b"not": Operator.NOT, b"&&": Operator.AND, b"||": Operator.OR}

_SPACES = re.compile(rb"[ \t\n\v\f\r]*")
_NUMBER = re.compile(rb"-?[0-9.eE]*")
_WORD = re.compile(rb"[A-Za-z+\-*%/!()<>=|&]*")
_NULL = re.compile(rb"null(?![A-Za-z])")
_OPERATOR = re.compile(rb"|".join(re.escape(word) for word in sorted(_WORDS, key=len)[::-1]))
# A dot at the very end is a selector without a name.
_SELECTOR = re.compile(rb"\.([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*|\Z)")
_STRING = re.compile(rb"""'((?:\\.|[^'\\])*)'|"((?:\\.|[^"\\])*)\"""", re.DOTALL)
_ESCAPE = re.compile(rb"\\(.)", re.DOTALL)

#: Redis's buffer for a number ends here.
_NUMBER_SIZE = 255


class _Unreadable(Exception):
    """The text cannot be read on from `position`."""

    def __init__(self, position: int) -> None:
        super().__init__()
        self.position = position


class _Reader:
    """Tokens from a text, one after the other."""

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.position = 0

    def tokens(self) -> Iterator[Token]:
        """All tokens; _Unreadable where there is none."""
        last: Token | None = None
        while True:
            self._skip_spaces()
            if self.position == len(self.text):
                return
            last = self._token(last)
            yield last

    def _token(self, last: Token | None) -> Token:
        text, position = self.text, self.position
        first = text[position : position + 1]
        if first.isdigit() or (
            first == b"-"
            and text[position + 1 : position + 2].isdigit()
            and (last is None or (isinstance(last, Operator) and last is not Operator.CLOSE))
        ):
            return Constant(self._number())
        if first in (b"'", b'"'):
            return Constant(self._string())
        if first == b"[":
            return Constant(self._list())
        if (selector := _SELECTOR.match(text, position)) is not None:
            self.position = selector.end()
            name = selector[1].decode()
            return Selector(tuple(name.split(".")) if name else ())
        if (null := _NULL.match(text, position)) is not None:
            self.position = null.end()
            return Constant(None)
        return self._operator()

    def _operator(self) -> Operator:
        found = _OPERATOR.match(self.text, self.position)
        if found is None:
            self._match(_WORD)
            raise _Unreadable(self.position)
        self.position = found.end()
        return _WORDS[found[0]]

    def _number(self) -> float:
        digits = self._match(_NUMBER)
        if len(digits) > _NUMBER_SIZE:
            raise _Unreadable(self.position - len(digits) + _NUMBER_SIZE)
        try:
            return float(digits)
        except ValueError:
            raise _Unreadable(self.position) from None

    def _string(self) -> str:
        found = _STRING.match(self.text, self.position)
        if found is None:
            raise _Unreadable(len(self.text))
        quote = self.text[self.position : self.position + 1]
        self.position = found.end()
        inside = found[1] if found[1] is not None else found[2]
        if b"\\" in inside:
            inside = _ESCAPE.sub(lambda pair: quote if pair[1] == quote else pair[0], inside)
        return inside.decode("utf-8", "surrogateescape")

    def _list(self) -> tuple[Value, ...]:
        elements: list[Value] = []
        self.position += 1
        while not self._skips(b"]"):
            first = self.text[self.position : self.position + 1]
            if first.isdigit() or first == b"-":
                elements.append(self._number())
            elif first in (b"'", b'"'):
                elements.append(self._string())
            else:
                raise _Unreadable(self.position)
            if self._skips(b"]"):
                break
            if not self._skips(b","):
                raise _Unreadable(self.position)
        return tuple(elements)

    def _skips(self, sign: bytes) -> bool:
        """Whether *sign* comes next, spaces aside; then it is taken."""
        self._skip_spaces()
        if not self.text.startswith(sign, self.position):
            return False
        self.position += len(sign)
        return True

    def _skip_spaces(self) -> None:
        self._match(_SPACES)

    def _match(self, pattern: re.Pattern[bytes]) -> bytes:
        found = pattern.match(self.text, self.position)
        assert found is not None  # patterns given here match the empty text too
        self.position = found.end()
        return found[0]


# ---- grammar


class _Compiler:
    """From tokens to a program: operands and, after them, what is done with them.

    The shunting-yard algorithm, so that no nesting of the text becomes one of Python's calls.
    """

    def __init__(self) -> None:
        self.program: list[Token] = []
        self._waiting: list[Operator] = []
        #: Values on the stack once the program so far has run.
        self._values = 0
        self._operators = 0
        self._depth = 0

    def add(self, token: Token) -> None:
        """The next token; _Unreadable(0) if it cannot stand there."""
        if not isinstance(token, Operator):
            self.program.append(token)
            self._values += 1
            return
        self._count(token)
        if token is Operator.CLOSE:
            while self._waiting and self._waiting[-1] is not Operator.OPEN:
                self._emit()
            if not self._waiting:
                raise _Unreadable(0)
            self._waiting.pop()
            return
        if token is not Operator.OPEN and token is not Operator.NOT:
            while self._waiting and self._goes_first(self._waiting[-1], token):
                self._emit()
        self._waiting.append(token)

    def finish(self) -> tuple[Token, ...]:
        """The program; _Unreadable(0) if it does not give one value."""
        while self._waiting:
            self._emit()
        if self._values != 1:
            raise _Unreadable(0)
        return tuple(self.program)

    @staticmethod
    def _goes_first(waiting: Operator, token: Operator) -> bool:
        if waiting is Operator.OPEN:
            return False
        if token is Operator.POWER:
            return waiting.precedence > token.precedence
        return waiting.precedence >= token.precedence

    def _emit(self) -> None:
        operator = self._waiting.pop()
        if operator is Operator.OPEN or self._values < operator.arity:
            raise _Unreadable(0)
        self._values -= operator.arity - 1
        self.program.append(operator)

    def _count(self, token: Operator) -> None:
        self._operators += 1
        self._depth += (token is Operator.OPEN) - (token is Operator.CLOSE)
        if self._depth > MAX_DEPTH:
            raise _too_many("nested parentheses", MAX_DEPTH)
        if self._operators > MAX_OPERATORS:
            raise _too_many("operators", MAX_OPERATORS)


def _too_many(what: str, limit: int) -> FilterError:
    return FilterError(f"ERR FILTER expression has too many {what} (at most {limit})")


class Filter:
    """A parsed expression. Immutable; make one with `parse`."""

    __slots__ = ("paths", "program", "text")

    def __init__(self, text: bytes, program: tuple[Token, ...]) -> None:
        self.text = text
        #: Operands and operators in the order of a stack machine.
        self.program = program
        #: Every field that the expression names, each once.
        self.paths = tuple(dict.fromkeys(t.path for t in program if isinstance(t, Selector)))

    def __repr__(self) -> str:
        return f"Filter({self.text!r})"

    def matches(self, attributes: bytes | None) -> bool:
        """Whether an element with this JSON text (None: without attributes) matches. O(n)."""
        if attributes is None:
            return False
        document = read(attributes) if self.paths else {}
        stack: list[Value] = []
        for step in self.program:
            if isinstance(step, Selector):
                value = select(document, step.path)
                if value is MISSING:
                    return False
                stack.append(value)
            elif isinstance(step, Constant):
                stack.append(step.value)
            else:
                right = stack.pop()
                stack.append(
                    float(not is_true(right))
                    if step is Operator.NOT
                    else BINARY[step](stack.pop(), right)
                )
        return is_true(stack[0])


def compile_filter(text: bytes) -> Filter:
    """Parse an expression, however often it has been seen; FilterError. O(n)."""
    if len(text) > MAX_LENGTH:
        raise FilterError(f"ERR FILTER expression is too long (at most {MAX_LENGTH} bytes)")
    expression = text.partition(b"\0")[0]  # where Redis's, a C string, ends
    compiler = _Compiler()
    try:
        # All is read before grammar is judged: what cannot be read is told first.
        tokens = list(islice(_Reader(expression).tokens(), MAX_TOKENS + 1))
        if len(tokens) > MAX_TOKENS:
            raise _too_many("words", MAX_TOKENS)
        for token in tokens:
            compiler.add(token)
        return Filter(text, compiler.finish())
    except _Unreadable as error:
        position = error.position if error.position < len(text) else 0
        raise FilterError(
            b"ERR syntax error in FILTER expression near: " + expression[position:]
        ) from None


class _Cache:
    """The filters that were parsed last, bounded in number and bytes."""

    def __init__(self) -> None:
        self._filters: OrderedDict[bytes, Filter] = OrderedDict()
        self._bytes = 0

    def get(self, text: bytes) -> Filter:
        """The filter of this text; FilterError. O(1) when it is known."""
        found = self._filters.get(text)
        if found is not None:
            self._filters.move_to_end(text)
            return found
        found = compile_filter(text)
        self._filters[text] = found
        self._bytes += len(text)
        while len(self._filters) > CACHED_FILTERS or self._bytes > CACHED_BYTES:
            dropped, _ = self._filters.popitem(last=False)
            self._bytes -= len(dropped)
        return found


#: The filter of a text: parsed once, then kept for a while; FilterError.
parse: Final = _Cache().get
