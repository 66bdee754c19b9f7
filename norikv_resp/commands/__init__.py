"""The command families that are part of the server."""

from norikv_resp.commands import (
    connection,
    databases,
    deadlines,
    dump,
    keys,
    objects,
    scan,
    transaction,
)

FAMILIES = [connection, databases, deadlines, dump, keys, objects, scan, transaction]
