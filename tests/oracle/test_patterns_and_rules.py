"""Glob patterns and ACL rules, judged by this server and by a peer: equal verdicts."""

from __future__ import annotations

import random

from norikv_resp.glob import match
from tests.support.resp import ErrorReply
from tests.support.server import ServerProcess

RULES = """
    +@all -@all +@read -@read +@write -@write +@fast -@fast +@string +get -get +set -set +del
    +publish +subscribe +psubscribe +config -config +config|get -config|set +select|0 -select
    +ping +@pubsub -@pubsub +@dangerous -@admin +@transaction nocommands allcommands ~* ~a*
    %R~r* %W~w* ~x allkeys resetkeys &* &ch* &exact resetchannels clearselectors
"""
SELECTORS = ["(+get ~s*)", "(+@all %R~q* &*)"]

REQUESTS = """
    get a1 | get r1 | get w1 | get s1 | get q1 | append w1 v | append r1 v | del w1 a1
    publish ch1 m | publish zz m | subscribe ch1 exact | subscribe zz | psubscribe ch*
    psubscribe ch1 | config get x | config set a b | select 0 | select 1 | ping | exec
    unsubscribe zz | spublish ch m | spublish zz m | auth a b | acl whoami | watch a1 | watch zz
"""


def test_patterns_match_the_keys_that_a_peer_matches(peer: ServerProcess) -> None:
    rng = random.Random(7)
    with peer.wire() as wire:
        for _ in range(5):
            wire.ok("FLUSHALL")
            keys = {bytes(rng.choices(b"ab]-\\\n^", k=rng.randint(0, 7))) for _ in range(150)}
            wire.pipeline(("SET", key, "v") for key in keys)
            patterns = [
                bytes(rng.choices(b"ab*?[]^-\\\n", k=rng.randint(0, 8))) for _ in range(150)
            ]
            found = wire.pipeline(("KEYS", pattern) for pattern in patterns)
            for pattern, theirs in zip(patterns, found, strict=True):
                # KEYS and SCAN answer a lone star without matching.
                mine = keys if pattern == b"*" else {key for key in keys if match(pattern, key)}
                assert set(theirs) == mine, pattern


def test_rules_allow_what_a_peer_allows(server: ServerProcess, peer: ServerProcess) -> None:
    rng = random.Random(11)
    requests = [part.split() for line in REQUESTS.split("\n") for part in line.split("|")]
    asked = [("ACL", "DRYRUN", "u", *words) for words in requests if words]
    with server.wire() as ours, peer.wire() as theirs:
        for _ in range(60):
            rules = rng.choices([*RULES.split(), *SELECTORS], k=rng.randint(1, 9))
            change = ("ACL", "SETUSER", "u", "reset", *rules)
            mine, expected = ours.call(*change), theirs.call(*change)
            assert _plain(mine) == _plain(expected), rules
            verdicts = zip(asked, ours.pipeline(asked), theirs.pipeline(asked), strict=True)
            for request, verdict, wanted in verdicts:
                assert _plain(verdict) == _plain(wanted), (rules, request)
        ours.ok("ACL", "DELUSER", "u")
        theirs.ok("ACL", "DELUSER", "u")


def _plain(reply: object) -> object:
    """A verdict as text; older servers say "This user" for the name."""
    if isinstance(reply, ErrorReply):
        return reply.text
    return reply.replace(b"This user", b"User u") if isinstance(reply, bytes) else reply
