"""`norikv-resp check DIR [--repair]`: verify a data directory that no server is using.

What is looked at is in verify.py. A repair changes rows only the way a server does, through the
commit log, and keeps a copy of all that it gives up.

Exit status: 0 whole, 1 damaged, 2 could not be checked.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from norikv_resp import encoding as enc
from norikv_resp.check_report import SHOWN, Report, one_line, say
from norikv_resp.clock import Clock
from norikv_resp.commitlog import encode_rows
from norikv_resp.encoding import FIRST_EPOCH, PRESENT, prefix_end
from norikv_resp.store import (
    Store,
    StoreDamage,
    StoreError,
    inspect_store,
    open_store,
    repair_store,
)
from norikv_resp.verify import Progress, Round

WHOLE, DAMAGED, UNCHECKED = 0, 1, 2

#: Rows in one frame of a repair.
FRAME_ROWS = 500

#: Rounds after which a repair that still finds damage gives up.
ROUNDS = 50


class Keeper:
    """Keeps copies of what a repair gives up, in a directory of their own below the data's."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._path: Path | None = None
        self._files = 0

    @property
    def path(self) -> Path | None:
        """Where the copies are; None while there are none."""
        return self._path

    def _place(self, name: str) -> Path:
        if self._path is None:
            stem = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
            number = 0
            while True:
                path = self._data / "given-up" / (f"{stem}-{number}" if number else stem)
                try:
                    path.mkdir(mode=0o700, parents=True)
                    break
                except FileExistsError:
                    number += 1
            self._path = path
        self._files += 1
        return self._path / f"{self._files:03d}-{name}"

    def copy(self, path: Path) -> None:
        """Copy a file that is about to change."""
        if path.is_file():
            shutil.copy2(path, self._place(path.name))

    def move(self, path: Path) -> None:
        """Take a file over."""
        os.replace(path, self._place(path.name))

    def rows(self, rows: dict[bytes, bytes]) -> None:
        """Write rows as a frame's body holds them."""
        if rows:
            with self._place("rows").open("wb") as file:
                file.write(encode_rows(rows))
                file.flush()
                os.fsync(file.fileno())


def repair_rows(store: Store, report: Report) -> int:
    """Commit what *report* asks for; how many rows were changed."""
    now = Clock(store.clock).now()
    store.staged = max(store.staged, report.least_index)
    index = store.staged + 1
    pending = dict(report.rows)
    for row in sorted(report.restamp):
        raw = pending.get(row, store.get(row))
        if raw:
            record = enc.decode_record(raw)._replace(term=store.term, index=index)
            pending[row] = enc.encode_record(record)
    for row in sorted(report.copies):
        _copy_collection(store, row, pending)
    for kind, number in sorted(report.reclaim):
        pending[enc.reclaim_row(index, kind, number)] = PRESENT
    items = list(pending.items())
    for start in range(0, len(items), FRAME_ROWS):
        store.open.update(items[start : start + FRAME_ROWS])
        store.staged += 1
        store.seal(store.staged, now)
    return len(items)


def _copy_collection(store: Store, row: bytes, pending: dict[bytes, bytes]) -> None:
    """Give a key a collection of its own, with the same elements."""
    raw = store.get(row)
    if raw is None:
        return
    record = enc.decode_record(raw)
    assert not isinstance(record.value, bytes)
    ids = pending.get(enc.IDS_ROW) or store.get(enc.IDS_ROW) or enc.encode_ids(1, FIRST_EPOCH)
    cid, epoch = enc.decode_ids(ids)
    pending[enc.IDS_ROW] = enc.encode_ids(cid + 1, epoch)
    source, target = enc.element_prefix(record.value.cid), enc.element_prefix(cid)
    for element, value in store.range(source, prefix_end(source)):
        pending[target + element[len(source) :]] = value
    pending[row] = enc.encode_record(record._replace(value=record.value._replace(cid=cid)))


# ---- the command


def look(path: Path, report: Report) -> None:
    """One round over a directory. StoreError if it cannot be checked."""
    progress = Progress()
    try:
        with inspect_store(path) as offline:
            found = offline.log
            ending = "ended by a clean stop" if found.closed else "not ended by a clean stop"
            report.facts.append(
                f"commit log: {found.frames:,} frames with {found.rows:,} rows in "
                f"{found.segments} segments, through index {found.last}, {ending}"
            )
            report.facts.append(
                f"LevelDB: settled through index {offline.mark.settled}; "
                f"{offline.replayed.frames:,} frames are to be replayed"
            )
            for finding in found.findings:
                if finding.damage:
                    report.log_damage.append(finding)
                    report.damage("commit log", _without_remedy(finding.text))
                else:
                    report.facts.append(f"commit log: {finding.text}")
            Round(offline, report, progress).run()
    except StoreDamage as damage:
        report.tables_damaged = True
        report.damage("LevelDB", one_line(damage.what))
    finally:
        progress.end()


def repair(path: Path) -> int:
    """Put right what can be, round by round, until nothing is damaged."""
    keeper = Keeper(path)
    changed = False
    for _ in range(ROUNDS):
        report = Report()
        look(path, report)
        if report.whole:
            break
        changed = True
        if report.log_damage or report.tables_damaged:
            for damaged in {finding.path for finding in report.log_damage}:
                keeper.copy(Path(damaged))
            for line in repair_store(path, rebuild=report.tables_damaged):
                say(f"repaired  {one_line(line)}")
            _take_lost_tables(path, keeper)
            continue
        keeper.rows(report.lost)
        store = open_store(path)
        try:
            rows = repair_rows(store, report)
        finally:
            store.close()
        say(f"repaired  {rows:,} rows written")
        if store.durable < store.staged:
            raise StoreError("the repair could not be written: the commit has failed")
    else:
        say(f"{path} is still damaged; restore a backup")
        return DAMAGED
    if keeper.path is not None:
        say(f"what was given up is in {keeper.path}")
    _summary(report)
    say(f"{path} is whole" + (" again" if changed else ""))
    return WHOLE


def _take_lost_tables(path: Path, keeper: Keeper) -> None:
    """Take over the tables that LevelDB has replaced by what could be read of them."""
    lost = path / "db" / "lost"
    if lost.is_dir():
        for name in sorted(os.listdir(lost)):
            keeper.move(lost / name)
        lost.rmdir()


def check(path: Path) -> int:
    """Verify and change nothing."""
    report = Report()
    look(path, report)
    _summary(report)
    if report.whole:
        say(f"{path} is whole")
        return WHOLE
    kinds = ", ".join(f"{count:,} × {kind}" for kind, count in sorted(report.kinds.items()))
    say(f"{path} is damaged: {kinds}")
    if report.full:
        say("there may be more: the rest was not looked at")
    if report.log_damage or report.tables_damaged:
        say("other findings may follow from what cannot be read")
    say("make a copy of the directory, or restore a backup, or give up what is damaged with:")
    say(f"  norikv-resp check {path} --repair")
    return DAMAGED


def _summary(report: Report) -> None:
    for kind, count in sorted(report.kinds.items()):
        if count > SHOWN:
            say(f"DAMAGE  {kind}: {count - SHOWN:,} more")
    for fact in report.facts:
        say(fact)


def main(argv: Sequence[str]) -> int:
    """Run the command; the exit status."""
    parser = argparse.ArgumentParser(
        prog="norikv-resp check",
        description="Verify a data directory that no server is using.",
        epilog="Exit status: 0 whole (with --repair: whole now), 1 damaged, 2 cannot be checked.",
    )
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument(
        "--repair", action="store_true", help="put right what can be; copies go to DIR/given-up"
    )
    options = parser.parse_args(argv)
    path: Path = options.directory
    if not (path / "db").is_dir() and not (path / "log").is_dir():
        reason = "is no data directory: it has no db/ and no log/"
        print(f"norikv-resp: {path} {reason}", file=sys.stderr)
        return UNCHECKED
    try:
        return repair(path) if options.repair else check(path)
    except (StoreError, OSError) as error:
        print(f"norikv-resp: cannot check {path}: {one_line(str(error))}", file=sys.stderr)
        return UNCHECKED
    except KeyboardInterrupt:
        print("norikv-resp: interrupted", file=sys.stderr)
        return UNCHECKED


def _without_remedy(text: str) -> str:
    return one_line(text.partition("; restore a backup")[0])
