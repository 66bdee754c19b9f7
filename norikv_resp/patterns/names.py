"""Names inside keys.

A pattern's keys are made of parts with a colon between them. A name that comes from outside (an
account, a tenant, a user) is written by `part`, so that no name reaches into another one's keys,
whatever characters are in it, and none means anything in a pattern of SCAN or of an ACL rule.
"""

from __future__ import annotations

from urllib.parse import quote

__all__ = ["part"]


def part(name: str | bytes) -> str:
    """*name* with everything but letters, digits and ``_.-~`` written as ``%XX``.

    Different names stay different. A text that is not Unicode (lone surrogates) is a ValueError.
    """
    return quote(name, safe="")
