"""Versions as the wire writes them, ``<term>-<index>``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class Version:
    """Orders as the pair (term, index)."""

    term: int
    index: int

    @classmethod
    def parse(cls, data: bytes | str) -> Version:
        text = data.decode("ascii") if isinstance(data, bytes) else data
        term, dash, index = text.partition("-")
        if not (dash and term.isdigit() and index.isdigit()):
            raise ValueError(f"not a version: {data!r}")
        return cls(int(term), int(index))

    def __str__(self) -> str:
        return f"{self.term}-{self.index}"


#: What stands for a missing key.
MISSING = Version(0, 0)
