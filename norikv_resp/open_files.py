"""How many clients the operating system's limit on open files leaves room for."""

from __future__ import annotations

import resource

from norikv_resp.config import Config, StartupError
from norikv_resp.logs import log
from norikv_resp.option_types import OptionError

#: Descriptors for everything that is neither a client nor LevelDB's.
RESERVED_FILES = 64


def clients_at_start(config: Config) -> int:
    """maxclients, or as many as fit. StartupError if not even one does."""
    fitting = min(_room(config), config.maxclients)
    if fitting < 1:
        raise StartupError(
            f"the limit on open files ({_soft_limit()}) is too low: raise it (ulimit -n) or lower "
            "leveldb-max-open-files"
        )
    if fitting < config.maxclients:
        log.warning(
            "maxclients is %d instead of %d: the limit on open files is %d (ulimit -n)",
            fitting,
            config.maxclients,
            _soft_limit(),
        )
    return fitting


def make_room_for(config: Config) -> None:
    """Raise the limit so that maxclients fit; OptionError if that cannot be."""
    room = _room(config)
    if room < config.maxclients:
        raise OptionError(
            "The operating system is not able to handle the specified number of clients, try"
            f" with {max(room, 0)}"
        )


def _room(config: Config) -> int:
    """How many clients fit, once the soft limit is as high as maxclients need and may have it."""
    others = config.leveldb_max_open_files + RESERVED_FILES
    need = config.maxclients + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft - others


def _soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
