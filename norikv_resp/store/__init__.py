"""The store: everything between a staged row and LevelDB's tables.

Start reading in core.py (layers and commit), then settle.py (LevelDB and checkpoints) and
recovery.py (what a start finds). Only leveldb.py imports plyvel.
"""

from norikv_resp.store.core import Policy, Store, StoreListener
from norikv_resp.store.errors import (
    DirectoryInUse,
    NewerFormat,
    ReadFailed,
    StoreDamage,
    StoreError,
)
from norikv_resp.store.leveldb import LevelDBOptions
from norikv_resp.store.opening import Offline, inspect_store, open_store, repair_store
from norikv_resp.store.options import StoreOptions

__all__ = [
    "DirectoryInUse",
    "LevelDBOptions",
    "NewerFormat",
    "Offline",
    "Policy",
    "ReadFailed",
    "Store",
    "StoreDamage",
    "StoreError",
    "StoreListener",
    "StoreOptions",
    "inspect_store",
    "open_store",
    "repair_store",
]
