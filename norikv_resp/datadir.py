"""Opens the data directory as the configuration says: the commit log and the store over it."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

from norikv_resp.commitlog import SegmentLog
from norikv_resp.config import Config, StartupError
from norikv_resp.store import LevelDBOptions, Policy, Store, StoreOptions, open_store


def store_options(config: Config) -> StoreOptions:
    """The store's part of the configuration."""
    return StoreOptions(
        overlay_limit=config.overlay_size,
        log_budget=config.commit_log_budget,
        min_free_disk=config.min_free_disk,
        leveldb=LevelDBOptions(
            write_buffer=config.leveldb_write_buffer,
            block_cache=config.leveldb_block_cache,
            max_open_files=config.leveldb_max_open_files,
        ),
    )


def log_factory(config: Config) -> Callable[..., Any]:
    """What makes the commit log: SegmentLog, or ``package.module:factory`` of the same signature.

    StartupError if the configured one cannot be imported.
    """
    name = config.commit_log
    if name == "local":
        return SegmentLog
    module_name, _, attribute = name.partition(":")
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise StartupError(f"commit-log {name}: {error}") from None
    if not callable(factory):
        raise StartupError(f"commit-log {name} is not callable")
    return factory  # type: ignore[no-any-return]


def open_data(config: Config, loop: asyncio.AbstractEventLoop) -> Store:
    """Lock, open and recover the data in the configured directory. StoreError, StartupError."""
    factory = log_factory(config)

    def make_log(directory: Path) -> Any:
        return factory(directory, segment_size=config.commit_log_segment_size)

    return open_store(
        config.dir,
        log=make_log,
        options=store_options(config),
        policy=cast(Policy, config.appendfsync),
        call_soon=loop.call_soon_threadsafe,
    )
