"""From the words of a request to the arguments of a handler, by the declaration alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from norikv_resp.arguments import (
    Arg,
    Block,
    Counted,
    DeclarationError,
    Idem,
    OneOf,
    Request,
    Rest,
    Token,
    parse_int,
)
from norikv_resp.errors import ReplyError, SyntaxProblem, WrongArity


class _Option:
    """What the parser does when it meets a token."""

    __slots__ = ("argument", "in_group", "slot", "token")

    def __init__(self, slot: int, token: bytes, argument: Arg, in_group: bool) -> None:
        self.slot = slot
        self.token = token
        self.argument = argument
        self.in_group = in_group


class Parser:
    """Turns a request into handler arguments, by the declaration alone.

    ``parse`` returns one value per handler parameter. ``idem_at`` finds the
    position of an IDEM option, 0 if there is none.
    """

    def __init__(
        self,
        name: str,
        words: int,
        args: Sequence[Arg],
        blocks: Sequence[tuple[bytes, bytes]],
        *,
        described: bool = False,
    ) -> None:
        self.name = name
        #: Another parser stands in for this one: the arguments may have any order.
        self.described = described
        self.words = words
        #: For each token those that must not have come before it.
        self.blockers: dict[bytes, set[bytes]] = {}
        for one, other in blocks:
            self.blockers.setdefault(other, set()).add(one)
        self.positional: list[Arg] = []
        self.options: dict[bytes, _Option] = {}
        self.defaults: list[Any] = []
        self.params: list[str] = []
        self.idem = any(isinstance(arg, Idem) for arg in args)
        self._build(args)

    def unknown_option(self, word: bytes) -> ReplyError:
        """The error for a word that is no option; a declaration may bring its own."""
        return SyntaxProblem()

    def _build(self, args: Sequence[Arg]) -> None:
        for arg in args:
            slot = len(self.params)
            if isinstance(arg, OneOf):
                for choice in arg.choices:
                    if choice.token is None:
                        raise DeclarationError(f"{self.name}: a choice of {arg.name} has no token")
                    self._add_option(_Option(slot, choice.token.encode(), choice, True))
            elif isinstance(arg, Idem):
                self._add_option(_Option(-1, b"IDEM", arg, False))
                continue
            elif arg.token is not None:
                self._add_option(_Option(slot, arg.token.encode(), arg, False))
            else:
                if self.options and not self.described:
                    raise DeclarationError(f"{self.name}: {arg.name} must come before the options")
                self.positional.append(arg)
            self.params.append(arg.param)
            self.defaults.append(False if isinstance(arg, Token) else None)

    def _add_option(self, option: _Option) -> None:
        if option.token in self.options:
            raise DeclarationError(f"{self.name}: token {option.token.decode()} is declared twice")
        self.options[option.token] = option

    def parse(self, request: Request) -> list[Any]:
        """The handler's arguments. ReplyError as Redis words it. O(words)."""
        values = self.defaults.copy()
        at = self.words
        end = len(request)
        for slot, arg in enumerate(self.positional):
            if isinstance(arg, Rest):
                values[slot] = request[at:]
                at = end
            elif isinstance(arg, Block):
                values[slot], at = self._repeat(arg, request, at, end), end
            elif isinstance(arg, Counted):
                values[slot], at = self._counted(arg, request, at)
            elif arg.multiple:
                values[slot] = [arg.convert(word) for word in request[at:]]
                at = end
            elif at < end:
                values[slot] = arg.convert(request[at])
                at += 1
            elif not arg.optional:
                raise WrongArity(self.name)
        if at < end:
            self._parse_options(request, at, end, values)
        return values

    def _parse_options(self, request: Request, at: int, end: int, values: list[Any]) -> None:
        options = self.options
        if not options:
            raise SyntaxProblem
        blockers = self.blockers
        given: set[bytes] | None = set() if blockers else None
        while at < end:
            option = options.get(request[at]) or options.get(request[at].upper())
            if option is None:
                raise self.unknown_option(request[at])
            if given is not None:
                if not given.isdisjoint(blockers.get(option.token, ())):
                    raise SyntaxProblem
                given.add(option.token)
            at += 1
            argument = option.argument
            value: Any = True
            if argument.width == 2:
                if at >= end:
                    raise SyntaxProblem
                value = argument.convert(request[at])
                at += 1
            if option.slot < 0:
                continue
            if option.in_group:
                before = values[option.slot]
                if before is not None and before[0] != option.token:
                    raise SyntaxProblem
                value = (option.token, value)
            values[option.slot] = value

    def _repeat(self, block: Block, request: Request, at: int, end: int) -> list[Any]:
        width = block.width
        if end == at or (end - at) % width:
            raise WrongArity(self.name)
        converters = [part.convert for part in block.parts]
        return [
            tuple(
                convert(word)
                for convert, word in zip(converters, request[i : i + width], strict=True)
            )
            for i in range(at, end, width)
        ]

    def _counted(self, arg: Counted, request: Request, at: int) -> tuple[list[Any], int]:
        try:
            count = parse_int(request[at])
        except ReplyError:
            raise arg.bad_count from None
        if count < 1 or count > 2**31 - 1:
            raise arg.bad_count
        at += 1
        end = at + count * arg.of.width
        if end > len(request):
            raise arg.short
        if isinstance(arg.of, Block):
            return self._repeat(arg.of, request, at, end), end
        return [arg.of.convert(word) for word in request[at:end]], end

    def idem_at(self, request: Request) -> int:
        """The position of the IDEM option, 0 if there is none or it lacks its token."""
        at = self.words + len(self.positional)
        end = len(request)
        if self.positional and isinstance(self.positional[-1], Counted):
            counted = self.positional[-1]
            first = self.words + len(self.positional) - 1
            at = first + 1 + int(request[first]) * counted.of.width
        while at < end:
            option = self.options.get(request[at].upper())
            if option is None:
                return 0
            if option.slot < 0:
                return at if at + 1 < end else 0
            at += option.argument.width
        return 0
