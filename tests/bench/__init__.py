"""`make bench`: this server's speed as a ratio to a peer's on the same machine."""
