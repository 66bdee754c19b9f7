"""The command families that are part of the server."""

from norikv_resp.commands import connection, transaction

FAMILIES = [connection, transaction]
