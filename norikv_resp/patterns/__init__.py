"""NoriKV's patterns over any RESP connection: import them from here.

Each class takes a connected `norikv_resp.client.NoriKVClient` first; everything that talks to the
server is async. docs/patterns.md says for each what it sends, what it guarantees and what it costs.
"""

from norikv_resp.patterns.bank import (
    AccountError,
    AccountNotOpenError,
    AlreadyOpenError,
    BankAccountAggregate,
    InsufficientFundsError,
)
from norikv_resp.patterns.cache import CachedClient, CacheStats
from norikv_resp.patterns.counter import DistributedCounter, ShardedCounter
from norikv_resp.patterns.dedup import DeduplicationResult, DocumentDeduplicator
from norikv_resp.patterns.events import Event, EventConflictError, EventStore, Snapshot
from norikv_resp.patterns.inventory import (
    InsufficientStockError,
    InventoryManager,
    ReservationError,
)
from norikv_resp.patterns.leader import FencedError, LeaderElection
from norikv_resp.patterns.ratelimit import RateLimitConfig, RateLimiter, RateLimitResult
from norikv_resp.patterns.recommend import (
    Preference,
    ProductRecommendation,
    RecommendationEngine,
)
from norikv_resp.patterns.retry import Attempts, Backoff, cas_retry, deadline, idempotent
from norikv_resp.patterns.semantic import SearchResult, SemanticSearchEngine
from norikv_resp.patterns.sessions import SessionData, SessionManager
from norikv_resp.patterns.tenants import (
    PLANS,
    Plan,
    QuotaExceededError,
    TenantClient,
    TenantCredentials,
    TenantManager,
    TenantMetadata,
    TenantNotFoundError,
    Usage,
)

__all__ = [
    "PLANS",
    "AccountError",
    "AccountNotOpenError",
    "AlreadyOpenError",
    "Attempts",
    "Backoff",
    "BankAccountAggregate",
    "CacheStats",
    "CachedClient",
    "DeduplicationResult",
    "DistributedCounter",
    "DocumentDeduplicator",
    "Event",
    "EventConflictError",
    "EventStore",
    "FencedError",
    "InsufficientFundsError",
    "InsufficientStockError",
    "InventoryManager",
    "LeaderElection",
    "Plan",
    "Preference",
    "ProductRecommendation",
    "QuotaExceededError",
    "RateLimitConfig",
    "RateLimitResult",
    "RateLimiter",
    "RecommendationEngine",
    "ReservationError",
    "SearchResult",
    "SemanticSearchEngine",
    "SessionData",
    "SessionManager",
    "ShardedCounter",
    "Snapshot",
    "TenantClient",
    "TenantCredentials",
    "TenantManager",
    "TenantMetadata",
    "TenantNotFoundError",
    "Usage",
    "cas_retry",
    "deadline",
    "idempotent",
]
