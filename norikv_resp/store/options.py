"""What can be configured of the store; every size in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

from norikv_resp.store.leveldb import LevelDBOptions


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Defaults fit a sidecar on a machine with a few hundred MB to spare."""

    overlay_limit: int = 96 << 20
    """Memory for records that are not in LevelDB yet; writers are slowed from half of it."""
    settle_from: float = 0.3
    """Share of the overlay that synced records fill before they settle; below it they wait for
    overwrites. They and what gathers while they settle fit below the half that slows writers."""
    log_budget: int = 64 << 20
    """Bytes of frames between checkpoints."""
    log_records: int = 600_000
    """Records in frames between checkpoints."""
    batch_records: int = 1000
    """Records that one LevelDB batch takes; the loop builds it in about a millisecond."""
    idle_after: float = 1.0
    """Seconds without a commit after which everything settles."""
    sync_every: float = 1.0
    """Seconds between syncs under `everysec`."""
    sync_no_later: float = 30.0
    """Seconds between syncs under `no`, which settling needs."""
    min_free_disk: int = 256 << 20
    """Writes are refused while less is free; 0 never refuses."""
    leveldb: LevelDBOptions = field(default_factory=LevelDBOptions)
