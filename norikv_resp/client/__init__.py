"""NoriKV's Python client API, over RESP: change the import and the addresses.

::

    from norikv_resp.client import ClientConfig, NoriKVClient, PutOptions

    async with NoriKVClient(ClientConfig(nodes=["localhost:6379"])) as client:
        version = await client.put("user:1", b"ann")
        await client.put("user:1", b"anna", PutOptions(if_match_version=version))

It needs redis-py, which has the connections: ``pip install 'norikv-resp[client]'``.
"""

from __future__ import annotations

try:
    import redis.asyncio  # noqa: F401
except ImportError as _missing:
    raise ImportError(
        "norikv_resp.client needs redis-py: pip install 'norikv-resp[client]'"
    ) from _missing

from norikv_resp import __version__
from norikv_resp.client.client import NoriKVClient, Word, as_client
from norikv_resp.client.ephemeral import (
    EphemeralNoriKV,
    EphemeralServerError,
    create_ephemeral,
)
from norikv_resp.client.errors import (
    AlreadyExistsError,
    ConnectionError,
    DeadlineExceededError,
    IdempotencyMismatchError,
    InvalidArgumentError,
    KeyNotFoundError,
    NoNodesAvailableError,
    NoriKVError,
    NotFoundError,
    NotLeaderError,
    PermissionDeniedError,
    ResourceExhaustedError,
    RetryExhaustedError,
    TimeoutError,
    TransientError,
    UnavailableError,
    VectorDimensionMismatchError,
    VectorIndexAlreadyExistsError,
    VectorIndexNotFoundError,
    VersionMismatchError,
    WrongTypeError,
)
from norikv_resp.client.types import (
    ABSENT,
    ClientConfig,
    ClientStats,
    ClusterNode,
    ClusterView,
    ConsistencyLevel,
    CreateVectorIndexOptions,
    DeleteOptions,
    DistanceFunction,
    DropVectorIndexOptions,
    GetOptions,
    GetResult,
    Key,
    LeaderChange,
    PoolStats,
    PutOptions,
    RequestStats,
    RetryConfig,
    RouterStats,
    ShardInfo,
    ShardReplica,
    TopologyChangeEvent,
    TopologyStats,
    Value,
    VectorDeleteOptions,
    VectorIndexType,
    VectorInsertOptions,
    VectorMatch,
    VectorSearchOptions,
    VectorSearchResult,
    Version,
)

__all__ = [
    "ABSENT",
    "AlreadyExistsError",
    "ClientConfig",
    "ClientStats",
    "ClusterNode",
    "ClusterView",
    "ConnectionError",
    "ConsistencyLevel",
    "CreateVectorIndexOptions",
    "DeadlineExceededError",
    "DeleteOptions",
    "DistanceFunction",
    "DropVectorIndexOptions",
    "EphemeralNoriKV",
    "EphemeralServerError",
    "GetOptions",
    "GetResult",
    "IdempotencyMismatchError",
    "InvalidArgumentError",
    "Key",
    "KeyNotFoundError",
    "LeaderChange",
    "NoNodesAvailableError",
    "NoriKVClient",
    "NoriKVError",
    "NotFoundError",
    "NotLeaderError",
    "PermissionDeniedError",
    "PoolStats",
    "PutOptions",
    "RequestStats",
    "ResourceExhaustedError",
    "RetryConfig",
    "RetryExhaustedError",
    "RouterStats",
    "ShardInfo",
    "ShardReplica",
    "TimeoutError",
    "TopologyChangeEvent",
    "TopologyStats",
    "TransientError",
    "UnavailableError",
    "Value",
    "VectorDeleteOptions",
    "VectorDimensionMismatchError",
    "VectorIndexAlreadyExistsError",
    "VectorIndexNotFoundError",
    "VectorIndexType",
    "VectorInsertOptions",
    "VectorMatch",
    "VectorSearchOptions",
    "VectorSearchResult",
    "Version",
    "VersionMismatchError",
    "Word",
    "WrongTypeError",
    "__version__",
    "as_client",
    "create_ephemeral",
]
