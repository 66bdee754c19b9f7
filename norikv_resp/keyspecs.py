"""Where the keys are in a request: what COMMAND INFO, ACL rules and IDEM go by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from norikv_resp.arguments import Arg, Block, Counted, Key, Request
from norikv_resp.errors import ReplyError


@dataclass(frozen=True)
class KeySpec:
    """Where keys are, as COMMAND INFO tells it: an index, then a range or a counted run.

    ``last`` counts from the end when negative; for a counted run ``counted``
    is True and the word at ``index`` holds the number of keys. A negative
    ``index`` goes with ``keyword``: the search is backwards from there.
    """

    flags: tuple[str, ...]
    index: int
    last: int = 0
    step: int = 1
    counted: bool = False
    #: The keys follow this word, which is looked for from ``index`` on.
    keyword: str = ""

    def positions(self, request: Request) -> Iterator[int]:
        """Positions of the keys in a request of sufficient length."""
        if self.keyword:
            yield from self._positions_after_keyword(request)
            return
        if not self.counted:
            last = len(request) + self.last if self.last < 0 else self.index + self.last
            yield from range(self.index, min(last, len(request) - 1) + 1, self.step)
            return
        try:
            count = int(request[self.index])
        except (ValueError, IndexError):
            raise ReplyError(b"ERR Invalid arguments specified for command") from None
        first = self.index + 1
        if count < 1 or first + (count - 1) * self.step >= len(request):
            raise ReplyError(b"ERR Invalid arguments specified for command")
        yield from range(first, first + count * self.step, self.step)

    def _positions_after_keyword(self, request: Request) -> Iterator[int]:
        wanted = self.keyword.encode()
        places = range(max(self.index, 0), len(request))
        if self.index < 0:
            places = range(len(request) + self.index, 0, -1)
        for at in places:
            if request[at].upper() == wanted:
                last = len(request) + self.last if self.last < 0 else at + 1 + self.last
                yield from range(at + 1, min(last, len(request) - 1) + 1, self.step)
                return


def key_specs_of(args: Sequence[Arg], words: int) -> tuple[KeySpec, ...]:
    """The key specs that follow from *args*, of a command whose name has *words* words."""
    specs: list[KeySpec] = []
    position = words
    for arg in args:
        if isinstance(arg, Key) and arg.token is None:
            flags = (arg.access, *arg.does)
            before = specs[-1] if specs else None
            if before and before.flags == flags and before.index + before.last + 1 == position:
                # Neighbours that are used alike are one range (LCS).
                specs[-1] = KeySpec(flags, before.index, -1 if arg.multiple else before.last + 1)
            else:
                specs.append(KeySpec(flags, position, -1 if arg.multiple else 0))
        elif isinstance(arg, Block):
            for offset, part in enumerate(arg.parts):
                if isinstance(part, Key):
                    flags = (part.access, *part.does)
                    specs.append(KeySpec(flags, position + offset, -1, arg.width))
        elif isinstance(arg, Counted):
            key = arg.of.parts[0] if isinstance(arg.of, Block) else arg.of
            assert isinstance(key, Key)
            specs.append(KeySpec((key.access, *key.does), position, 0, arg.of.width, counted=True))
        position += arg.width
    return tuple(specs)
