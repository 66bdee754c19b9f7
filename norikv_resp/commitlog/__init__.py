"""The commit log: the one order of all writes, and the first place where they are safe.

`interface` says what a log is, `log` is the local one and the place to start reading; `state`,
`pipeline`, `failures` and `spares` are its parts, `frame` and `segment` its byte grammar.
"""

from norikv_resp.commitlog.files import Files, OsFiles
from norikv_resp.commitlog.frame import decode_rows, encode_rows
from norikv_resp.commitlog.interface import (
    CommitError,
    CommitLog,
    Frame,
    LogDamage,
    LogError,
    LogListener,
)
from norikv_resp.commitlog.log import SegmentLog
from norikv_resp.commitlog.pipeline import Limits
from norikv_resp.commitlog.segment import Finding, Inspection, inspect

__all__ = [
    "CommitError",
    "CommitLog",
    "Files",
    "Finding",
    "Frame",
    "Inspection",
    "Limits",
    "LogDamage",
    "LogError",
    "LogListener",
    "OsFiles",
    "SegmentLog",
    "decode_rows",
    "encode_rows",
    "inspect",
]
