"""NoriKV's patterns over any RESP connection: import them from here.

Each class takes a connected `norikv_resp.client.NoriKVClient` first; everything that talks to the
server is async. docs/patterns.md says for each what it sends, what it guarantees and what it costs.
"""

from norikv_resp.patterns.counter import DistributedCounter, ShardedCounter
from norikv_resp.patterns.ratelimit import RateLimitConfig, RateLimiter, RateLimitResult
from norikv_resp.patterns.retry import Attempts, Backoff, cas_retry, deadline, idempotent

__all__ = [
    "Attempts",
    "Backoff",
    "DistributedCounter",
    "RateLimitConfig",
    "RateLimitResult",
    "RateLimiter",
    "ShardedCounter",
    "cas_retry",
    "deadline",
    "idempotent",
]
