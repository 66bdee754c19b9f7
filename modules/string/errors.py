"""The error texts that only string commands have."""

from __future__ import annotations

from norikv_resp.errors import ReplyError

STRING_TOO_LONG = ReplyError(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")
OFFSET_OUT_OF_RANGE = ReplyError(b"ERR offset is out of range")
INCREMENT_OVERFLOW = ReplyError(b"ERR increment or decrement would overflow")
DECREMENT_OVERFLOW = ReplyError(b"ERR decrement would overflow")
NOT_FINITE = ReplyError(b"ERR increment would produce NaN or Infinity")

BAD_DIGEST = ReplyError(b"ERR must be exactly 16 hexadecimal characters")
BAD_CONDITION = ReplyError(b"ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE")
CONDITION_NEEDS_STRING = ReplyError(b"ERR Key should be of string type if conditions are specified")

BAD_NUMKEYS = ReplyError(b"ERR invalid numkeys value")
UNPAIRED = ReplyError(b"ERR wrong number of key-value pairs")

BOUNDS_CROSSED = ReplyError(b"ERR LBOUND can't be greater than UBOUND")
INFINITE_INCREMENT = ReplyError(b"ERR BYFLOAT increment cannot be Infinity")
ENX_NEEDS_EXPIRY = ReplyError(b"ERR ENX flag requires an expiration")
APPLIED_OVERFLOW = ReplyError(b"ERR applied increment would overflow")
APPLIED_INFINITE = ReplyError(b"ERR applied increment would be Infinity")

LCS_NEEDS_STRINGS = ReplyError(b"ERR The specified keys must contain string values")
LCS_LEN_AND_IDX = ReplyError(b"ERR If you want both the length and indexes, please just use IDX.")
LCS_TOO_LARGE = ReplyError(
    b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
)


class InvalidFloat(ReplyError):
    """An argument that has to be a number is none; INCREX names the argument."""

    def __init__(self, what: str) -> None:
        super().__init__(f"ERR {what} is not a valid float")
