"""The error texts that only vector commands have; where Redis has one, its words."""

from __future__ import annotations

from norikv_resp.errors import ReplyError
from norikv_resp.vector_rows import LONGEST_ID

INVALID_SPECIFICATION = ReplyError(b"ERR invalid vector specification")
NOT_FINITE = ReplyError(b"ERR the vector holds NaN, infinity or a number too large for FP32")
INVALID_OPTION_AFTER_ELEMENT = ReplyError(b"ERR invalid option after element")
INVALID_OPTION = ReplyError(b"ERR invalid option")
INVALID_EF = ReplyError(b"ERR invalid EF")
INVALID_M = ReplyError(b"ERR invalid M")
INVALID_EF_CONSTRUCTION = ReplyError(b"ERR invalid EF_CONSTRUCTION")
INVALID_DIM = ReplyError(b"ERR invalid DIM")
INVALID_COUNT = ReplyError(b"ERR invalid COUNT")
INVALID_K = ReplyError(b"ERR invalid k: it has to be a positive integer")
INVALID_EPSILON = ReplyError(b"ERR invalid EPSILON")
INVALID_RADIUS = ReplyError(b"ERR invalid RADIUS")
INVALID_FILTER_EF = ReplyError(b"ERR invalid FILTER-EF")
QUANTISATION_MISMATCH = ReplyError(b"ERR asked quantization mismatch with existing vector set")
M_MISMATCH = ReplyError(b"ERR asked M value mismatch with existing vector set")
NO_PROJECTION = ReplyError(b"ERR cannot add projection to existing set without projection")
PROJECTION_TOO_LARGE = ReplyError(b"ERR REDUCE would need too large a projection matrix")
VSIM_SYNTAX = ReplyError(b"ERR syntax error in VSIM command")
VSEARCH_SYNTAX = ReplyError(b"ERR syntax error in VSEARCH command")
NO_SUCH_ELEMENT = ReplyError(b"ERR element not found in set")
NO_SUCH_SET = ReplyError(b"ERR key does not exist")
RANDOM_COUNT_NOT_AN_INTEGER = ReplyError(b"ERR COUNT value is not an integer")
RANDOM_COUNT_TOO_LARGE = ReplyError(b"ERR COUNT value is out of range")
INVALID_RANGE_COUNT = ReplyError(b"ERR invalid COUNT value")
INVALID_RANGE_START = ReplyError(b"ERR invalid start range format")
INVALID_RANGE_END = ReplyError(b"ERR invalid end range format")
RANGE_ENDS_SWAPPED = ReplyError(b"ERR '-' can only be used as first argument, '+' only as second")
ID_TOO_LONG = ReplyError(b"ERR an element's name may have at most %d bytes" % LONGEST_ID)
BAD_VECTOR_COUNT = ReplyError(b"ERR n has to be the number of ids with their vectors")
PAYLOAD_MALFORMED = ReplyError(b"ERR Bad data format")


class DimensionMismatch(ReplyError):
    """A vector of other dimensions than those of the set."""

    def __init__(self, got: int, has: int) -> None:
        super().__init__(f"ERR Vector dimension mismatch - got {got} but set has {has}")


class InputMismatch(ReplyError):
    """A vector that the set's projection does not take."""

    def __init__(self, got: int, expected: int) -> None:
        super().__init__(
            f"ERR Input dimension mismatch for projection - got {got} but projection "
            f"expects {expected}"
        )


class DefinitionMismatch(ReplyError):
    """VCREATE of an index that exists with another definition."""

    def __init__(self, what: str) -> None:
        super().__init__(f"ERR the index exists with another definition: {what}")
