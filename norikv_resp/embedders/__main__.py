"""``python -m norikv_resp.embedders TEXT``: the text's vector as words of a command.

Prints what stands behind VALUES in VADD and VSEARCH: the number of components, then each of them.
"""

from __future__ import annotations

import argparse
import asyncio
import sys

from norikv_resp import embedders


def main() -> int:
    """Print the vector; the exit status is 2 when the embedder cannot be loaded."""
    parser = argparse.ArgumentParser(
        prog="python -m norikv_resp.embedders",
        description="Prints a text's vector as VADD and VSEARCH take it after VALUES.",
    )
    parser.add_argument("text")
    parser.add_argument("--embedder", default="ngrams", choices=list(embedders.NAMES))
    parser.add_argument("--model", help="another model than the embedder's default one")
    options = parser.parse_args()
    try:
        embedder = embedders.load(options.embedder, options.model)
    except (embedders.MissingExtraError, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    vector = asyncio.run(embedder.embed(options.text))
    print(len(vector), *(f"{component:.6g}" for component in vector))
    return 0


if __name__ == "__main__":
    sys.exit(main())
