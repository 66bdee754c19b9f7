"""What NoriKV's client takes and gives: versions, options, results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, NamedTuple

Key = str | bytes
Value = str | bytes | bytearray | memoryview


@dataclass(frozen=True, order=True)
class Version:
    """A version of a key. Versions of one key only ever grow, also over delete and re-create.

    Attributes:
        term: the incarnation of the server's commit order.
        index: the position in that order of the write that made the version.
    """

    term: int
    index: int

    @classmethod
    def parse(cls, text: bytes | str) -> Version:
        """The version written as ``<term>-<index>``, or ``0``. ValueError for anything else."""
        word = text.decode("ascii") if isinstance(text, bytes) else text
        if word == "0":
            return ABSENT
        term, dash, index = word.partition("-")
        if not (dash and term.isdecimal() and index.isdecimal()):
            raise ValueError(f"not a version: {word!r}")
        return cls(int(term), int(index))

    def __str__(self) -> str:
        return f"{self.term}-{self.index}"


#: The version of a key that does not exist.
ABSENT = Version(0, 0)


class ConsistencyLevel(str, Enum):
    """How fresh a read has to be. The server has one answer to all of them: linearizable."""

    LEASE = "lease"
    LINEARIZABLE = "linearizable"
    STALE_OK = "stale_ok"


@dataclass
class PutOptions:
    """Options of a put.

    Attributes:
        ttl_ms: milliseconds until the key expires; None or 0 for never.
        if_not_exists: write only if the key does not exist (AlreadyExistsError).
        if_match_version: write only over this version (VersionMismatchError).
        idempotency_key: puts to one key under one idempotency key happen once; the repeat gets the
            first one's version. Without it the client makes one that covers its own retries.
    """

    ttl_ms: int | None = None
    if_not_exists: bool = False
    if_match_version: Version | None = None
    idempotency_key: str | None = None


@dataclass
class GetOptions:
    """Options of a get. Every consistency level reads the latest committed value."""

    consistency: ConsistencyLevel | Literal["lease", "linearizable", "stale_ok"] = (
        ConsistencyLevel.LEASE
    )


@dataclass
class DeleteOptions:
    """Options of a delete.

    Attributes:
        if_match_version: delete only this version (VersionMismatchError).
        idempotency_key: as in PutOptions.
    """

    if_match_version: Version | None = None
    idempotency_key: str | None = None


@dataclass(frozen=True)
class GetResult:
    """A value and the version under which it was read; ``metadata`` is there for NoriKV's sake."""

    value: bytes
    version: Version
    metadata: dict[str, str] | None = None


# -- configuration -------------------------------------------------------------


@dataclass
class RetryConfig:
    """When and how often a request is repeated.

    The pause before attempt n + 1 is drawn evenly between 0 and
    ``min(max_delay_ms, initial_delay_ms * backoff_multiplier ** (n - 1) + jitter_ms)``.

    Attributes:
        max_attempts: attempts in all; 1 means that nothing is repeated.
        initial_delay_ms: see above.
        max_delay_ms: see above.
        backoff_multiplier: see above.
        jitter_ms: see above.
        retry_on_not_leader: ask the next node when one says that it does not take writes.
        deadline_ms: milliseconds after which no attempt begins and none goes on.
    """

    max_attempts: int = 3
    initial_delay_ms: int = 10
    max_delay_ms: int = 1000
    backoff_multiplier: float = 2.0
    jitter_ms: int = 100
    retry_on_not_leader: bool = True
    deadline_ms: int = 30_000


@dataclass
class ClientConfig:
    """How to reach the server.

    Attributes:
        nodes: addresses of one data set: ``host:port``, or URLs (``redis://``, ``rediss://`` for
            TLS, ``unix://``). The next one is tried when one cannot be reached.
        total_shards: NoriKV's number of shards; only `get_shard_for_key` and the cluster view
            look at it.
        timeout: milliseconds that one attempt may take, waiting for a connection included.
        retry: the retry policy.
        watch_cluster: accepted; there is nothing to watch.
        max_connections_per_node: requests that wait for a reply at one time; more of them queue.
            Writes that wait together share one sync of the server's disk.
        timeout_ms: ``timeout`` by its plain name; it wins when both are given.
        token_ttl_ms: how long the server remembers the idempotency keys that the client makes,
            after ``retry.deadline_ms``: longer than any network delays a request, and than an
            application takes to repeat a call under the key that RetryExhaustedError tells.
        redis_options: passed to redis-py's ``Redis``: username, password, db, ssl_ca_certs …
    """

    nodes: list[str]
    total_shards: int = 1024
    timeout: int = 5000
    retry: RetryConfig = field(default_factory=RetryConfig)
    watch_cluster: bool = True
    max_connections_per_node: int = 64
    timeout_ms: int | None = None
    token_ttl_ms: int = 300_000
    redis_options: Mapping[str, Any] = field(default_factory=dict)

    def wrong(self) -> str | None:
        """Why this cannot be, if it cannot."""
        retry = self.retry
        if self.total_shards < 1:
            return "total_shards must be at least 1"
        if self.attempt_seconds <= 0 or retry.deadline_ms <= 0 or self.token_ttl_ms <= 0:
            return "timeout, deadline_ms and token_ttl_ms must be positive"
        if self.max_connections_per_node < 1 or retry.max_attempts < 1:
            return "max_connections_per_node and max_attempts must be at least 1"
        if min(retry.initial_delay_ms, retry.max_delay_ms, retry.jitter_ms) < 0:
            return "a delay cannot be negative"
        if retry.backoff_multiplier < 1:
            return "backoff_multiplier must be at least 1"
        return None

    @property
    def attempt_seconds(self) -> float:
        """Seconds that one attempt may take."""
        return (self.timeout if self.timeout_ms is None else self.timeout_ms) / 1000


# -- the cluster that is one server --------------------------------------------


@dataclass(frozen=True)
class ClusterNode:
    """An address of the server; ``role`` is "leader" for the one in use."""

    id: str
    addr: str
    role: str


class ShardReplica(NamedTuple):
    """Where a shard is."""

    node_id: str
    leader: bool


class ShardInfo(NamedTuple):
    """A shard and where it is."""

    id: int
    replicas: list[ShardReplica]


@dataclass(frozen=True)
class ClusterView:
    """What the client knows of the cluster. ``epoch`` grows by one whenever that changes."""

    epoch: int
    nodes: list[ClusterNode]
    shards: list[ShardInfo]


class LeaderChange(NamedTuple):
    """The addresses that led a shard before and that lead it now; None for nobody."""

    old_leader: str | None
    new_leader: str | None


@dataclass(frozen=True)
class TopologyChangeEvent:
    """What has changed in the cluster view.

    Attributes:
        previous_epoch: the epoch of the view before.
        current_epoch: the epoch of the view now.
        added_nodes: addresses that were lost and have answered again.
        removed_nodes: addresses that could not be reached, or whose connection broke.
        leader_changes: shards whose leader is another one: all of them, or none.
    """

    previous_epoch: int | None
    current_epoch: int
    added_nodes: list[str]
    removed_nodes: list[str]
    leader_changes: dict[int, LeaderChange]


# -- figures -------------------------------------------------------------------


@dataclass(frozen=True)
class RouterStats:
    """The nodes and shards between which the client chooses."""

    total_nodes: int
    total_shards: int
    cached_leaders: int

    @property
    def cache_hit_ratio(self) -> float:
        """The part of the shards whose leader is known, from 0 to 1."""
        return self.cached_leaders / self.total_shards


@dataclass(frozen=True)
class PoolStats:
    """The client's connections.

    Attributes:
        active_connections: connections that are open, over all nodes.
        in_use: those of them that a request has at the moment.
        max_connections_per_node: how many there can be to one node.
        closed: whether the pool takes no requests.
    """

    active_connections: int
    in_use: int
    max_connections_per_node: int
    closed: bool


@dataclass(frozen=True)
class TopologyStats:
    """The cluster view in figures; ``listener_count`` is that of on_topology_change."""

    current_epoch: int
    total_nodes: int
    total_shards: int
    cached_leaders: int
    listener_count: int


@dataclass(frozen=True)
class RequestStats:
    """Requests since the client was made, with the few that it makes for itself.

    A pipeline or a transaction is one request.

    Attributes:
        total: requests that were begun.
        in_progress: those of them that have not ended.
        retries: attempts beyond a request's first.
        failed: requests that ended with an error, of the server or of the way to it. That a key
            is missing or has another version is an answer, not an error.
        errors: how many of the failed ones had which ``NoriKVError.code``.
    """

    total: int
    in_progress: int
    retries: int
    failed: int
    errors: dict[str, int]


@dataclass(frozen=True)
class ClientStats:
    """What `NoriKVClient.get_stats` returns: a snapshot."""

    router: RouterStats
    pool: PoolStats
    topology: TopologyStats
    requests: RequestStats
    closed: bool


# -- vectors -------------------------------------------------------------------


class DistanceFunction(str, Enum):
    """How far apart two vectors are; smaller is nearer."""

    EUCLIDEAN = "euclidean"
    COSINE = "cosine"
    INNER_PRODUCT = "inner_product"


class VectorIndexType(str, Enum):
    """Exact search over everything, or an approximate graph."""

    BRUTE_FORCE = "brute_force"
    HNSW = "hnsw"


@dataclass(frozen=True)
class VectorMatch:
    """A vector that was found; ``vector`` is there when it was asked for."""

    id: str
    distance: float
    vector: list[float] | None = None


@dataclass(frozen=True)
class VectorSearchResult:
    """What was found, nearest first, and how long it took as the client saw it."""

    matches: list[VectorMatch]
    search_time_us: int


@dataclass
class CreateVectorIndexOptions:
    """Options of vector_create_index."""

    idempotency_key: str | None = None


@dataclass
class DropVectorIndexOptions:
    """Options of vector_drop_index."""

    idempotency_key: str | None = None


@dataclass
class VectorInsertOptions:
    """Options of vector_insert."""

    idempotency_key: str | None = None


@dataclass
class VectorDeleteOptions:
    """Options of vector_delete."""

    idempotency_key: str | None = None


@dataclass
class VectorSearchOptions:
    """Options of vector_search."""

    include_vectors: bool = False
