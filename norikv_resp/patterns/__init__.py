"""NoriKV's patterns over any RESP connection: import them from here.

Each class takes a connected `norikv_resp.client.NoriKVClient` first; everything that talks to the
server is async. docs/patterns.md says for each what it sends, what it guarantees and what it costs.
"""

from norikv_resp.patterns.cache import CachedClient, CacheStats
from norikv_resp.patterns.counter import DistributedCounter, ShardedCounter
from norikv_resp.patterns.inventory import (
    InsufficientStockError,
    InventoryManager,
    ReservationError,
)
from norikv_resp.patterns.leader import FencedError, LeaderElection
from norikv_resp.patterns.ratelimit import RateLimitConfig, RateLimiter, RateLimitResult
from norikv_resp.patterns.retry import Attempts, Backoff, cas_retry, deadline, idempotent
from norikv_resp.patterns.sessions import SessionData, SessionManager

__all__ = [
    "Attempts",
    "Backoff",
    "CacheStats",
    "CachedClient",
    "DistributedCounter",
    "FencedError",
    "InsufficientStockError",
    "InventoryManager",
    "LeaderElection",
    "RateLimitConfig",
    "RateLimitResult",
    "RateLimiter",
    "ReservationError",
    "SessionData",
    "SessionManager",
    "ShardedCounter",
    "cas_retry",
    "deadline",
    "idempotent",
]
