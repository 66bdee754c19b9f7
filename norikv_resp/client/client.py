"""NoriKVClient: NoriKV's Python client API over RESP."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from redis.asyncio import Redis

from norikv_resp.client import vectors
from norikv_resp.client.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    KeyNotFoundError,
    NoNodesAvailableError,
    RetryExhaustedError,
    TransientError,
    VectorIndexNotFoundError,
    VersionMismatchError,
)
from norikv_resp.client.hash import get_shard_for_key, key_to_bytes, value_to_bytes
from norikv_resp.client.kinds import Kind, Kinds
from norikv_resp.client.nodes import Request, nodes_of, nodes_over
from norikv_resp.client.replies import exec_reply, exec_results, raise_first, single
from norikv_resp.client.retry import RetryPolicy
from norikv_resp.client.topology import Listener
from norikv_resp.client.types import (
    ABSENT,
    ClientConfig,
    ClientStats,
    ClusterView,
    CreateVectorIndexOptions,
    DeleteOptions,
    DistanceFunction,
    DropVectorIndexOptions,
    GetOptions,
    GetResult,
    Key,
    PutOptions,
    RetryConfig,
    RouterStats,
    Value,
    VectorDeleteOptions,
    VectorIndexType,
    VectorInsertOptions,
    VectorSearchOptions,
    VectorSearchResult,
    Version,
)

#: A word of a command. Numbers are sent as decimals, text as UTF-8.
Word = str | bytes | bytearray | memoryview | int | float | Version


class NoriKVClient:
    """An asynchronous client with NoriKV's methods. One client serves any number of tasks.

    It connects when it is first used; `connect` does so at once and says whether it works.
    Cancelling a call is safe: its connection is closed, the client stays usable, and a write that
    was under way may or may not have happened.

    Example:
        >>> async with NoriKVClient.from_url("redis://localhost:6379") as client:
        ...     version = await client.put("user:1", b"ann")
        ...     await client.put("user:1", b"anna", PutOptions(if_match_version=version))
    """

    def __init__(self, config: ClientConfig, redis: Redis | None = None) -> None:
        """Make a client.

        Args:
            config: where the server is and how patient to be with it.
            redis: an asynchronous redis-py client whose connections are to be used in place of
                ``config.nodes``; it stays its owner's to close.

        Raises:
            InvalidArgumentError: no address, one that cannot be read, or a number that cannot be.
        """
        wrong = config.wrong()
        if wrong is not None:
            raise InvalidArgumentError(wrong)
        self.config = config
        self._nodes = nodes_of(config) if redis is None else nodes_over(redis, config)
        self._policy = RetryPolicy(config.retry, self._nodes, config.attempt_seconds)
        self._kinds = Kinds(self._ask)
        self._connected = False

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout_ms: int = 5000,
        retry: RetryConfig | None = None,
        max_connections: int = 64,
        redis_options: Mapping[str, Any] | None = None,
    ) -> NoriKVClient:
        """A client for one server: ``redis://``, ``rediss://`` (TLS) or ``unix://``.

        Args:
            url: as redis-py reads it, with user, password, database and TLS parameters.
            timeout_ms: see ClientConfig.
            retry: see RetryConfig.
            max_connections: see ClientConfig.max_connections_per_node.
            redis_options: see ClientConfig.

        Raises:
            InvalidArgumentError: the URL cannot be read.
        """
        return cls(
            ClientConfig(
                nodes=[url],
                timeout_ms=timeout_ms,
                retry=retry or RetryConfig(),
                max_connections_per_node=max_connections,
                redis_options=redis_options or {},
            )
        )

    # -- life ------------------------------------------------------------------

    async def connect(self) -> None:
        """Reach the server, with the retries of the configuration.

        Raises:
            NoNodesAvailableError: no node answers.
            PermissionDeniedError: the server does not accept the user or the password.
        """
        self._nodes.open()
        try:
            await self._send([b"PING"])
        except (TransientError, RetryExhaustedError) as error:
            raise NoNodesAvailableError(f"no node can be reached: {error}") from error

    async def close(self) -> None:
        """Close all connections. Calls under way fail; later ones raise ConnectionError."""
        self._connected = False
        await self._nodes.close()

    async def __aenter__(self) -> NoriKVClient:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def is_connected(self) -> bool:
        """Whether the server has answered, and the client has not been closed since."""
        return self._connected

    @property
    def redis(self) -> Redis:
        """redis-py's client of the node in use, for what this one does not do.

        ``decode_responses`` is off, nothing is retried and no reply is given up, unless the
        client was made from a Redis with other settings.
        """
        return self._nodes.current.redis

    def get_cluster_view(self) -> ClusterView:
        """The configured nodes, with the one in use as leader of every shard unless it is lost."""
        return self._nodes.topology.view()

    def on_topology_change(self, callback: Listener) -> Callable[[], None]:
        """Have *callback* called whenever the cluster view has changed.

        What changes it is found out by the client's own requests; one that sends none hears
        nothing. It changes when the connection to a node is lost or there again, when another
        node comes into use, and when a put or vector_insert has met a server that was started
        anew. A node that does not answer in time may be slow; it does not count as lost.

        Args:
            callback: a plain function, called within the event loop in the middle of a request:
                it should return soon. What it raises is logged and goes no further.

        Returns:
            A function that ends the subscription; calling it again does nothing.
        """
        return self._nodes.topology.subscribe(callback)

    def get_stats(self) -> ClientStats:
        """What the client has done since it was made, and what it holds open now."""
        topology = self._nodes.topology.stats()
        return ClientStats(
            router=RouterStats(
                topology.total_nodes, topology.total_shards, topology.cached_leaders
            ),
            pool=self._nodes.stats(),
            topology=topology,
            requests=self._policy.stats(),
            closed=self._nodes.closed,
        )

    def get_shard_for_key(self, key: Key) -> int:
        """The shard in which NoriKV would keep *key*; nothing depends on it here."""
        return get_shard_for_key(key, self.config.total_shards)

    # -- keys ------------------------------------------------------------------

    async def put(self, key: Key, value: Value, options: PutOptions | None = None) -> Version:
        """Store a value.

        Args:
            key: the key, text as UTF-8.
            value: the value, text as UTF-8.
            options: expiry, conditions, idempotency key.

        Returns:
            The version that the write made. A repeat under the same idempotency key returns the
            first one's, whatever has happened to the key since.

        Raises:
            AlreadyExistsError: if_not_exists, and the key is there.
            VersionMismatchError: if_match_version is not the key's version, or the key is gone.
            IdempotencyMismatchError: the idempotency key belongs to another write to this key.
            RetryExhaustedError, TransientError: see `execute`.
        """
        chosen = options or PutOptions()
        name, expected = key_to_bytes(key), chosen.if_match_version
        request = [b"SETVER", name, value_to_bytes(value)]
        if chosen.if_not_exists:
            if expected is not None:
                raise InvalidArgumentError("if_not_exists excludes if_match_version")
            expected = ABSENT
        if expected is not None:
            request += [b"VER", str(expected).encode()]
        if chosen.ttl_ms:
            request += [b"TTL", _word(chosen.ttl_ms)]
        version = await self._write(request, chosen.idempotency_key)
        if version is not None:
            return self._written(version)
        if chosen.if_not_exists:
            raise AlreadyExistsError(f"the key exists: {name!r}", name)
        raise await self._mismatch(name, expected)

    async def get(self, key: Key, options: GetOptions | None = None) -> GetResult:
        """Read a value and its version.

        Args:
            key: the key.
            options: the consistency level; all of them give the latest committed value.

        Raises:
            KeyNotFoundError: there is no such key.
            WrongTypeError: the key does not hold a string.
            RetryExhaustedError, TransientError: see `execute`.
        """
        name = key_to_bytes(key)
        found = await self._send([b"GETVER", name])
        if found is None:
            raise KeyNotFoundError(name)
        value, version = found
        return GetResult(value, Version.parse(version))

    async def delete(self, key: Key, options: DeleteOptions | None = None) -> bool:
        """Delete a key of any type.

        Args:
            key: the key.
            options: condition, idempotency key.

        Returns:
            Whether there was something to delete.

        Raises:
            VersionMismatchError: if_match_version is not the key's version, or the key is gone.
            RetryExhaustedError, TransientError: see `execute`.
        """
        chosen = options or DeleteOptions()
        name, expected = key_to_bytes(key), chosen.if_match_version
        request = [b"DELEX", name]
        if expected is not None:
            request += [b"VER", str(expected).encode()]
        done = await self._write(request, chosen.idempotency_key)
        if not done and expected is not None:
            raise await self._mismatch(name, expected)
        return bool(done)

    async def _mismatch(self, key: bytes, expected: Version | None) -> VersionMismatchError:
        found = await self._send([b"VER", key])
        actual = Version.parse(found) if found is not None else None
        text = f"{key!r} has version {actual or 'none'}, not {expected}"
        return VersionMismatchError(text, key, expected, actual)

    # -- vectors ---------------------------------------------------------------

    async def vector_create_index(
        self,
        namespace: str,
        dimensions: int,
        distance: DistanceFunction = DistanceFunction.COSINE,
        index_type: VectorIndexType = VectorIndexType.HNSW,
        options: CreateVectorIndexOptions | None = None,
    ) -> bool:
        """Create a vector index.

        Args:
            namespace: its name, which is a key of the server.
            dimensions: of every vector in it.
            distance: how far apart two vectors are.
            index_type: exact or approximate.
            options: idempotency key.

        Returns:
            True if it was made, False if there is one with the same definition.

        Raises:
            VectorIndexAlreadyExistsError: there is one with another definition.
        """
        request = vectors.create(namespace, dimensions, distance, index_type)
        token = options.idempotency_key if options else None
        with vectors.translated(namespace):
            return bool(await self._write(request, token))

    async def vector_drop_index(
        self, namespace: str, options: DropVectorIndexOptions | None = None
    ) -> bool:
        """Drop a vector index with its vectors. Returns whether there was one."""
        token = options.idempotency_key if options else None
        return bool(await self._write(vectors.drop(namespace), token))

    async def vector_insert(
        self,
        namespace: str,
        id: str,
        vector: Sequence[float],
        options: VectorInsertOptions | None = None,
    ) -> Version:
        """Insert a vector, or replace the one of that id.

        The next search of any client finds it.

        Returns:
            The version that the write made: that of the whole index.

        Raises:
            VectorIndexNotFoundError: there is no such index.
            VectorDimensionMismatchError: the vector is shorter or longer than the index says.
        """
        request = vectors.insert(namespace, id, vector)
        token = options.idempotency_key if options else None
        with vectors.translated(namespace):
            version = await self._write(request, token)
        if version is None:
            raise VectorIndexNotFoundError(f"no such vector index: {namespace}", namespace)
        return self._written(version)

    async def vector_delete(
        self,
        namespace: str,
        id: str,
        options: VectorDeleteOptions | None = None,
    ) -> bool:
        """Delete a vector. Returns whether there was one."""
        token = options.idempotency_key if options else None
        return bool(await self._write(vectors.delete(namespace, id), token))

    async def vector_get(
        self,
        namespace: str,
        id: str,
    ) -> list[float] | None:
        """The vector of an id as it was given, in 32-bit precision; None if there is none."""
        return vectors.vector_of(await self._send(vectors.get(namespace, id)))

    async def vector_search(
        self,
        namespace: str,
        query: Sequence[float],
        k: int,
        include_vectors: bool | VectorSearchOptions = False,
        options: VectorSearchOptions | None = None,
    ) -> VectorSearchResult:
        """The *k* nearest vectors.

        Args:
            namespace: the index.
            query: a vector of the index's dimensions.
            k: how many at most.
            include_vectors: whether the matches carry their vectors; NoriKV's options are
                understood in this place too.
            options: the same as an object.

        Returns:
            The matches, nearest first, with NoriKV's distances: euclidean, 1 - cosine, or the
            negated inner product.

        Raises:
            VectorIndexNotFoundError: there is no such index.
            VectorDimensionMismatchError: the query is shorter or longer than the index says.
        """
        if isinstance(include_vectors, VectorSearchOptions):
            options = include_vectors
        with_vectors = options.include_vectors if options else bool(include_vectors)
        requests = vectors.search(namespace, query, k, with_vectors)
        begun = time.perf_counter()
        with vectors.translated(namespace):
            information, hits = await self._run(requests, raise_first, repeatable=True)
        if information is None:
            raise VectorIndexNotFoundError(f"no such vector index: {namespace}", namespace)
        matches = vectors.matches(information, hits, with_vectors)
        return VectorSearchResult(matches, round((time.perf_counter() - begun) * 1e6))

    # -- any command -----------------------------------------------------------

    async def execute(self, *command: Word, token: str | bytes | None = None) -> Any:
        """Send one command of the server, with the retries that suit it.

        A read is repeated as it is. A write goes under an idempotency key, *token* or one that the
        client makes for this call, so that it happens once however often it is sent. Blocking
        commands, PUBLISH and administration are not repeated once they may have been executed.
        Which is which is asked of the server, once for each command; for a user who may not run
        COMMAND only what has a *token* is repeated. What belongs to one connection (MULTI, WATCH,
        SUBSCRIBE, SELECT …) is refused.

        Args:
            command: the command's words. Leave its own IDEM option out.
            token: the idempotency key. Its scope is the command's first key.

        Returns:
            The reply as RESP2 has it: bytes, integers, None, lists.

        Raises:
            RetryExhaustedError: the attempts are used up, or the time is; the write may have
                happened if ``outcome_unknown``, and can be repeated under ``idempotency_key``.
            TransientError: ConnectionError, DeadlineExceededError or UnavailableError of a
                request that was not to be repeated.
            NoriKVError: the server refused the command.
        """
        if not command:
            raise InvalidArgumentError("a command has at least one word")
        request = [_word(word) for word in command]
        if token is not None:
            return await self._write(request, token)
        kind = await self._kinds.of(request)
        if kind is Kind.WRITE:
            return await self._write(request, None)
        return await self._run([request], single, repeatable=kind is not Kind.ONCE)

    async def pipeline(self, commands: Sequence[Sequence[Word]]) -> list[Any]:
        """Send *commands* in one write, each a step of its own; their replies.

        For reads, and for writes that do no harm when they happen twice, such as GETEX: no token
        is made, and after a broken connection all of them are sent again. Others may come between
        two of the commands.

        Raises:
            NoriKVError: the server refused one of the commands; the others have been executed.
            RetryExhaustedError, TransientError: see `execute`.
        """
        requests = [[_word(word) for word in words] for words in commands]
        return list(await self._run(requests, raise_first, repeatable=True))

    async def transaction(
        self,
        commands: Sequence[Sequence[Word]],
        checks: Mapping[Key, Version | str | bytes | None] | None = None,
        token: str | bytes | None = None,
        *,
        errors_in_place: bool = False,
    ) -> list[Any] | None:
        """Run *commands* as one transaction in one round trip, at most once.

        Args:
            commands: the commands, each a sequence of words.
            checks: the version that every key must have, None for a key that must not exist.
            token: the idempotency key, one scope for all transactions of the database. The client
                makes one that covers its own retries.
            errors_in_place: return the NoriKVError of a command that failed while it ran in its
                place among the replies. What is raised then has kept everything from running.

        Returns:
            The commands' replies, or None if a check failed: then nothing was applied.

        Raises:
            NoriKVError: a command was refused before anything ran, or failed while it ran. In
                the second case the others have been applied, as with Redis's EXEC.
            RetryExhaustedError, TransientError: see `execute`.
        """
        guards = [
            [b"CHECK", key_to_bytes(key), _word(version or ABSENT)]
            for key, version in (checks or {}).items()
        ]
        queued = [[_word(word) for word in words] for words in commands]
        under, repeatable = self._token(token)
        requests = [[b"MULTI"], *guards, *queued, [*under, b"EXEC"]]
        replies = await self._run(
            requests,
            exec_results if errors_in_place else exec_reply,
            repeatable=repeatable,
            token=under[1] if under else None,
        )
        return replies[len(guards) :] if replies is not None else None

    # -- requests --------------------------------------------------------------

    def _token(self, given: str | bytes | None) -> tuple[list[bytes], bool]:
        """The words that put a write under an idempotency key; whether it may be repeated.

        A key made here lives as long as a late repeat could arrive; one that was given lives as
        long as the server's configuration says. Without retries there is no need to make one.
        """
        if given is not None:
            return [b"IDEM", _word(given)], True
        if self.config.retry.max_attempts <= 1:
            return [], False
        made = secrets.token_hex(16).encode()
        ttl = self.config.retry.deadline_ms + self.config.token_ttl_ms
        return [b"IDEM", made, b"TTL", b"%d" % ttl], True

    async def _write(self, request: Request, token: str | bytes | None) -> Any:
        under, repeatable = self._token(token)
        return await self._run(
            [[*under, *request]],
            single,
            repeatable=repeatable,
            token=under[1] if under else None,
        )

    def _written(self, text: bytes) -> Version:
        """The version that a write made."""
        version = Version.parse(text)
        self._nodes.topology.wrote(version)
        return version

    async def _send(self, request: Request) -> Any:
        """Send a read."""
        return await self._run([request], single, repeatable=True)

    async def _ask(self, *request: bytes) -> Any:
        return await self._send(request)

    async def _run(
        self,
        requests: Sequence[Request],
        parse: Callable[[list[Any]], Any],
        *,
        repeatable: bool,
        token: bytes | None = None,
    ) -> Any:
        reply = await self._policy.run(requests, parse, repeatable=repeatable, token=token)
        self._connected = not self._nodes.closed
        return reply


def as_client(client: NoriKVClient | Redis) -> NoriKVClient:
    """*client* itself, or a NoriKVClient over the connections of a plain asynchronous Redis.

    Protocol, decoding and retries of that Redis do not matter.
    """
    if isinstance(client, NoriKVClient):
        return client
    if isinstance(client, Redis):
        return NoriKVClient(ClientConfig(nodes=[]), client)
    raise InvalidArgumentError(f"not a NoriKVClient or redis.asyncio.Redis: {client!r}")


# -- words ---------------------------------------------------------------------


def _word(word: Word) -> bytes:
    if type(word) is str:
        return word.encode()
    if type(word) is bytes:
        return word
    if isinstance(word, bool):
        raise InvalidArgumentError("a word is text, bytes or a number, not bool")
    if isinstance(word, (int, float, Version)):
        return str(word).encode()
    return value_to_bytes(word)
