"""`norikv-resp vectors import FILE KEY`: vectors from files into a running server."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from norikv_resp.vectors.files import VectorFile
    from norikv_resp.vectors.sender import Sender, Word

#: A batch is about so many bytes of vectors: large enough for few commands, small enough that
#: other clients of the server do not wait for one.
BATCH_BYTES = 256 * 1024

#: Options of VCREATE: any of them makes the index.
_DEFINITION = {
    "metric": ("METRIC", ("COSINE", "L2", "IP"), "how distances are measured (COSINE)"),
    "type": ("TYPE", ("HNSW", "FLAT"), "a graph, or always exact (HNSW)"),
    "quant": ("QUANT", ("F32", "F16", "BF16", "I8", "B1"), "what the index keeps (F32)"),
    "m": ("M", None, "links of a node of the graph (16)"),
    "ef_construction": ("EF_CONSTRUCTION", None, "effort of adding to the graph"),
    "ef": ("EF", None, "effort of a search that does not say"),
}


class Refused(Exception):
    """The import cannot begin or go on; the text says why."""


def main(argv: Sequence[str]) -> int:
    """Run the tool; 0 when all vectors are in, 1 when not, 2 for misuse."""
    options = _parser().parse_args(list(argv))
    try:
        import redis  # noqa: F401
    except ImportError:
        print("vectors import uses redis-py: pip install 'norikv-resp[import]'", file=sys.stderr)
        return 2
    from norikv_resp.vectors.files import BadFile, Names, open_file
    from norikv_resp.vectors.sender import Sender, ServerRefused

    names = Names(options.id, options.vector, options.attributes)
    key = options.key.encode("utf-8", "surrogateescape")
    sender: Sender | None = None
    try:
        file = open_file(options.file, names, options.prefix)
        with _progress(file.count, options.quiet) as done:
            sender = Sender(options.url, key, options.patience, done)
            _prepare(sender, file, options)
            try:
                for batch in file.batches(options.batch or _batch_size(file.dimensions)):
                    sender.send(batch)
            except BadFile:
                sender.finish()  # what came before it counts
                raise
            sender.finish()
        held = sender.call("VCARD", key)
    except (BadFile, ServerRefused, Refused) as error:
        print(f"vectors import: {error}", file=sys.stderr)
        if sender is not None and sender.safe:
            print(f"{sender.safe:,} vectors are in; run it again to go on", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vectors import: interrupted; run it again to go on", file=sys.stderr)
        return 128 + signal.SIGINT
    finally:
        if sender is not None:
            sender.close()
    print(
        f"{file.count:,} vectors of {file.dimensions} dimensions, {sender.new:,} new ids;", end=" "
    )
    print(f"{options.key} holds {held:,}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="norikv-resp vectors", description=__doc__)
    tools = parser.add_subparsers(required=True, metavar="import")
    tool = tools.add_parser(
        "import",
        help="vectors from a file into a running server",
        description="Adds the vectors of a file to a vector set. An import that was interrupted,"
        " on either side, is run again: what the server has is skipped.",
        epilog="FILE.npy has a row for each vector; FILE.npz has an array of them, and maybe ids"
        " and attributes (JSON texts); FILE.jsonl has an object a line, such as"
        ' {"id": "a", "vector": [1, 2], "attributes": {"year": 1990}}.',
    )
    tool.add_argument("file", type=Path, metavar="FILE", help="a .npy, .npz or .jsonl file")
    tool.add_argument("key", metavar="KEY", help="the vector set")
    tool.add_argument("--url", default="redis://127.0.0.1:6379", help="the server (%(default)s)")
    tool.add_argument("--create", action="store_true", help="create the index: VCREATE")
    for name, (_, choices, text) in _DEFINITION.items():
        tool.add_argument(
            "--" + name.replace("_", "-"),
            type=int if choices is None else str.upper,
            choices=choices,
            metavar="N" if choices is None else "|".join(choices),
            help=f"create it so: {text}",
        )
    tool.add_argument("--prefix", default="", help="goes before the row numbers that are the ids")
    for name in ("id", "vector", "attributes"):
        tool.add_argument(
            f"--{name}", default=name, metavar="NAME", help="what the file calls it (%(default)s)"
        )
    tool.add_argument("--batch", type=_positive, metavar="N", help="vectors of one command")
    tool.add_argument(
        "--patience", type=float, default=60.0, metavar="S", help="wait so long for a lost server"
    )
    tool.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _batch_size(dimensions: int) -> int:
    return max(1, min(10_000, BATCH_BYTES // (4 * dimensions)))


def _prepare(sender: Sender, file: VectorFile, options: argparse.Namespace) -> None:
    """Create the index if asked to; Refused if the set has other dimensions than the file."""
    given = {name: getattr(options, name) for name in _DEFINITION}
    words: list[Word] = []
    for name, value in given.items():
        if value is not None:
            words += (_DEFINITION[name][0], value)
    if words or options.create:
        sender.call("VCREATE", sender.key, "DIM", file.dimensions, *words)
    elif sender.call("EXISTS", sender.key):
        dimensions = sender.call("VDIM", sender.key)
        if dimensions != file.dimensions:
            raise Refused(
                f"{options.key} has {dimensions} dimensions, {options.file} {file.dimensions}"
            )


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[int], object]]:
    """What to call with the number of vectors of each batch that is safe."""
    try:
        from tqdm import tqdm
    except ImportError:
        quiet = True
    if quiet:
        yield lambda _: None
        return
    # disable=None: only where a terminal shows it.
    with tqdm(total=total, unit=" vectors", unit_scale=True, disable=None) as bar:
        yield bar.update
