"""NoriKV's patterns over any RESP connection: import them from here.

Each class takes a connected `norikv_resp.client.NoriKVClient` first; everything that talks to the
server is async. docs/patterns.md says for each what it sends, what it guarantees and what it costs.
"""

from norikv_resp.patterns.retry import (
    Attempts as Attempts,
)
from norikv_resp.patterns.retry import (
    Backoff as Backoff,
)
from norikv_resp.patterns.retry import (
    cas_retry as cas_retry,
)
from norikv_resp.patterns.retry import (
    deadline as deadline,
)
from norikv_resp.patterns.retry import (
    idempotent as idempotent,
)
