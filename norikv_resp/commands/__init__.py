"""The command families that are part of the server."""
