"""The command families that are part of the server."""

from norikv_resp.commands import (
    acl,
    connection,
    databases,
    deadlines,
    dump,
    keys,
    objects,
    pubsub,
    scan,
    tracking,
    transaction,
)

FAMILIES = [
    connection,
    tracking,
    acl,
    transaction,
    keys,
    deadlines,
    scan,
    objects,
    dump,
    databases,
    pubsub,
]
