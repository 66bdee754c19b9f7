"""What the store raises. Every text is one clear line, fit for a log or a terminal."""


class StoreError(Exception):
    """The store cannot do what was asked; the text says why."""


class DirectoryInUse(StoreError):
    """Another process holds the lock of the data directory."""


class NewerFormat(StoreError):
    """The data was written by a version of the server that is newer than this one."""


class ReadFailed(StoreError):
    """LevelDB could not answer a read: a checksum did not match, or the disk failed."""


class StoreDamage(StoreError):
    """The data directory contradicts itself; nothing was changed.

    `saved` says what a repair would keep, and `hint` how to ask for one.
    """

    def __init__(self, what: str, saved: str, directory: str) -> None:
        self.what = what
        self.saved = saved
        self.hint = f"norikv-resp check {directory} --repair"
        super().__init__(f"{what}. {saved}. To do that: {self.hint}")
