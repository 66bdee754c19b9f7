"""The index process: USearch indexes and exact searches, beside the server's loop."""
