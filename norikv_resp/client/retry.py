"""Repeating what may be repeated: backoff with full jitter, a deadline, the next node."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from norikv_resp.client.errors import (
    ConnectionError,
    DeadlineExceededError,
    NoriKVError,
    NotLeaderError,
    RetryExhaustedError,
    TransientError,
)
from norikv_resp.client.nodes import Nodes, Request
from norikv_resp.client.types import RequestStats, RetryConfig

T = TypeVar("T")


class RetryPolicy:
    """Runs requests, each as often as its kind and the configuration allow."""

    def __init__(self, config: RetryConfig, nodes: Nodes, attempt_seconds: float) -> None:
        self.config = config
        self._nodes = nodes
        self._attempt_seconds = attempt_seconds
        self._begun = self._ended = self._retries = 0
        self._errors: Counter[str] = Counter()

    async def run(
        self,
        requests: Sequence[Request],
        parse: Callable[[list[Any]], T],
        *,
        repeatable: bool,
        token: bytes | None = None,
    ) -> T:
        """Send *requests* until *parse* gets their replies and does not raise TransientError.

        What is not *repeatable* is still sent again when it is certain that it has not been
        executed. *token* is the idempotency key that RetryExhaustedError tells.

        Raises:
            RetryExhaustedError: after several attempts.
            TransientError: after the only attempt.
            NoriKVError: at once, if it cannot pass.
        """
        self._begun += 1
        try:
            return await self._run(requests, parse, repeatable, token)
        except NoriKVError as error:
            self._errors[error.code or type(error).__name__] += 1
            raise
        finally:
            self._ended += 1

    async def _run(
        self,
        requests: Sequence[Request],
        parse: Callable[[list[Any]], T],
        repeatable: bool,
        token: bytes | None,
    ) -> T:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.config.deadline_ms / 1000
        attempts = 0
        unknown = False
        while True:
            attempts += 1
            try:
                return await self._on_any_node(requests, parse, deadline)
            except TransientError as error:
                unknown = unknown or error.outcome_unknown
                error.outcome_unknown = unknown
                pause = self.pause(attempts)
                final = (
                    self._nodes.closed
                    or (unknown and not repeatable)
                    or attempts >= self.config.max_attempts
                    or loop.time() + pause >= deadline
                    or (isinstance(error, NotLeaderError) and not self.config.retry_on_not_leader)
                )
                if final:
                    if attempts == 1:
                        raise
                    raise _exhausted(attempts, error, token) from error
                self._retries += 1
                await asyncio.sleep(pause)

    async def _on_any_node(
        self, requests: Sequence[Request], parse: Callable[[list[Any]], T], deadline: float
    ) -> T:
        """One attempt; when a node cannot be reached at all, the next one is tried at once."""
        loop = asyncio.get_running_loop()
        for left in reversed(range(len(self._nodes))):
            node = self._nodes.current
            seconds = min(self._attempt_seconds, deadline - loop.time())
            try:
                replies = await node.round_trip(requests, seconds)
                self._nodes.answered(node)
                return parse(replies)
            except TransientError as error:
                self._nodes.failed(node, error)
                unreached = isinstance(error, (ConnectionError, DeadlineExceededError))
                if error.outcome_unknown or not unreached or not left:
                    raise
        raise AssertionError("there is at least one node")

    def stats(self) -> RequestStats:
        """The requests so far."""
        return RequestStats(
            total=self._begun,
            in_progress=self._begun - self._ended,
            retries=self._retries,
            failed=self._errors.total(),
            errors=dict(self._errors),
        )

    def pause(self, attempts: int) -> float:
        """Seconds to wait after that many attempts."""
        config = self.config
        step = config.initial_delay_ms * config.backoff_multiplier ** (attempts - 1)
        return random.uniform(0, min(config.max_delay_ms, step + config.jitter_ms)) / 1000


def _exhausted(attempts: int, last: TransientError, token: bytes | None) -> RetryExhaustedError:
    text = f"{attempts} attempts failed, the last with: {last}"
    error = RetryExhaustedError(text, attempts, last, token)
    error.outcome_unknown = last.outcome_unknown
    return error
