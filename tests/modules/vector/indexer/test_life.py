"""How the index process begins and ends, and what it says to messages that make no sense."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from norikv_resp.vector_rows import I8, IP
from tests.modules import part

from .child import HANDLE, Child, definition, exists, messages
from .conftest import StartChild

ROOT = Path(part("vector.indexer").__file__).resolve().parents[3]


def _ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not exists(pid):
            return True
        time.sleep(0.02)
    return False


def test_it_ends_when_the_socket_is_closed(child: Child) -> None:
    child.attach(definition(16))
    child.add(list(range(1, 5001)), np.random.default_rng(1).standard_normal((5000, 16)))
    child.close()
    assert child.process.returncode == 0


def test_it_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    program = (
        "import time, sys; from pathlib import Path\n"
        "from tests.modules.vector.indexer.child import Child\n"
        "child = Child(Path(sys.argv[1]))\n"
        "print(child.process.pid, flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        try:
            assert exists(pid)
        finally:
            parent.kill()
    assert _ends_within(pid, 20)


def test_stopping_is_not_for_signals_of_the_terminal(child: Child) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        child.process.send_signal(number)
    child.ping()


def test_it_does_not_import_the_server(child: Child) -> None:
    """It starts with the vectors' arithmetic and nothing of commands, loop or LevelDB."""
    maps = Path(f"/proc/{child.process.pid}/maps").read_text()
    assert "usearch" in maps
    for unwanted in ("plyvel", "uvloop", "hiredis", "asyncio"):
        assert unwanted not in maps


@pytest.mark.parametrize(
    ("garbage", "reason"),
    [
        (b"\xff" * 64, b"a frame of 4294967295 bytes"),
        (b"\x05\0\0\0\x63abcd", b"unknown kind 99"),
        (b"\x05\0\0\0\x02abcd", b"Add: "),
    ],
    ids=["length", "kind", "body"],
)
def test_garbage_ends_it_with_the_reason(child: Child, garbage: bytes, reason: bytes) -> None:
    child.socket.sendall(garbage)
    assert reason in child.get(messages.Log).text
    with pytest.raises(EOFError):
        child.get(messages.Pong)
    child.close()
    assert child.process.returncode == 1


def test_a_second_one_waits_for_the_first(start_child: StartChild) -> None:
    first = start_child()
    first.socket.close()
    second = start_child()  # returns when it has said hello
    second.ping()
    assert first.process.wait(20) == 0


def test_messages_about_unknown_sets_are_harmless(child: Child) -> None:
    child.add([1], np.ones((1, 4)), handle=9)
    child.send(
        messages.Remove(9, [1]),
        messages.Attributes(9, [1], [b"{}"]),
        messages.Live(9, True, [1]),
        messages.Detach(9),
        messages.Drop(9),
        messages.Sample(5, 9, [1]),
    )
    assert child.get(messages.Failed).request == 5
    assert b"not attached" in child.search(np.ones(4), handle=9).reason
    assert b"not attached" in child.checkpoint(1, handle=9).reason


def test_queries_that_make_no_sense_fail_alone(child: Child) -> None:
    child.attach(definition(4))
    child.add([1, 2], np.ones((2, 4)))
    assert b"another dimension" in child.search(np.ones(5)).reason
    assert b"nothing is wanted" in child.search(np.ones(4), 0).reason
    assert list(child.search(np.ones(4), 10).labels) == [1, 2]


def test_adds_of_another_dimension_cost_the_set(child: Child) -> None:
    child.attach(definition(4))
    child.add([1], np.ones((1, 5)))
    assert child.get(messages.Lost).handle == HANDLE
    assert child.attach(definition(4)).wanted == 1


@pytest.mark.parametrize(
    "wanted",
    [
        definition(0),
        definition(4, metric=9),
        definition(4, kind=0),
        definition(4, quantisation=6),
        definition(1 << 31),
    ],
)
def test_definitions_that_make_no_sense_are_refused(child: Child, wanted: object) -> None:
    assert isinstance(child.attach(wanted), messages.Lost)
    child.ping()


@pytest.mark.parametrize("m", [0, 1, 2, 100_000, 2**32 - 1])
def test_extreme_parameters_of_the_graph_are_harmless(child: Child, m: int) -> None:
    wanted = definition(8, IP, quantisation=I8)._replace(m=m, ef_construction=m, ef=m)
    child.attach(wanted)
    vectors = np.random.default_rng(2).standard_normal((300, 8))
    child.add(list(range(1, 301)), vectors)
    assert child.settle().graphed == 300
    assert len(child.search(vectors[0], 10, ef=2).labels) == 10
    assert child.resident["Anon"] < 300 << 20


def test_the_same_label_twice_is_one_vector(child: Child) -> None:
    """USearch would leave the first rows of such a batch in place."""
    child.attach(definition(4))
    vectors = np.eye(4)
    child.add([1, 2], vectors[:2])
    child.add([2], vectors[1:2])
    assert sorted(child.search(np.ones(4)).labels) == [1, 2]
    child.add([3, 3], vectors[2:])
    assert b"do not ascend" in child.get(messages.Lost).reason


def test_samples_are_the_vectors_as_given(child: Child) -> None:
    child.attach(definition(4, IP, quantisation=I8))
    vectors = np.array([[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]], np.float32)
    child.add([1, 2, 3], vectors, [b"a", b"b", b"c"])
    child.send(messages.Remove(HANDLE, [2]), messages.Sample(1, HANDLE, [3, 2, 1, 99]))
    found = child.get(messages.Vectors)
    assert (list(found.labels), list(found.ids)) == ([3, 1], [b"c", b"a"])
    assert found.vectors == vectors[[2, 0]].tobytes()


def test_several_sets_at_once(child: Child) -> None:
    rng = np.random.default_rng(3)
    sets = {handle: rng.standard_normal((400, 4 * handle)) for handle in (1, 2, 3)}
    for handle, vectors in sets.items():
        child.attach(definition(4 * handle), handle, cid=handle)
        child.add(list(range(1, 401)), vectors, handle=handle)
    for handle, vectors in sets.items():
        for label in (1, 200, 400):
            assert list(child.search(vectors[label - 1], 1, handle).labels) == [label]
    child.send(messages.Drop(2))
    assert isinstance(child.search(sets[2][0], 1, 2), messages.Failed)
    assert list(child.search(sets[3][5], 1, 3).labels) == [6]
