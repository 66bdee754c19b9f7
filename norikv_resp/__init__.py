"""A Redis-protocol server with versions, compare-and-set and idempotency on every key."""

__version__ = "0.1.0"
