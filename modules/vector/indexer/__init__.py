"""The index process: USearch indexes and exact searches, beside the server's loop."""

from __future__ import annotations

import sys
from pathlib import Path


def command(fd: int, directory: Path, threads: int) -> list[str]:
    """The words that start one, over the inherited socket `fd`, for files in `directory`."""
    import norikv_resp

    library = Path(norikv_resp.__file__).resolve().parent.parent
    script = Path(__file__).resolve().parent / "__main__.py"
    return [sys.executable, str(script), str(fd), str(directory), str(threads), str(library)]
