"""The Redis protocol: reading requests, writing replies, keeping replies for later."""

from norikv_resp.protocol.reply import (
    NO_REPLY,
    NULL_ARRAY,
    OK,
    DoubleText,
    FrozenReplyError,
    Map,
    Push,
    SetReply,
    Simple,
    Verbatim,
    encode,
    encode_into,
    format_double,
    freeze,
    thaw,
)
from norikv_resp.protocol.request import ProtocolError, RequestReader, split_inline

__all__ = [
    "NO_REPLY",
    "NULL_ARRAY",
    "OK",
    "DoubleText",
    "FrozenReplyError",
    "Map",
    "ProtocolError",
    "Push",
    "RequestReader",
    "SetReply",
    "Simple",
    "Verbatim",
    "encode",
    "encode_into",
    "format_double",
    "freeze",
    "split_inline",
    "thaw",
]
