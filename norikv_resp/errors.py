"""Errors that a command answers."""


class ReplyError(Exception):
    """An error reply. ``text`` is what goes on the wire between ``-`` and CRLF."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text.decode("utf-8", "backslashreplace"))
        self.text = text
