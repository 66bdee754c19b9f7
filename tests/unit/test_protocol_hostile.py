"""Broken and odd input gives Redis's answers, however the stream is cut."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from norikv_resp.protocol import ProtocolError, RequestReader
from tests.support.resp import encode
from tests.unit.hostile_corpus import CORPUS, UNAUTHENTICATED, Entry

PREFIX = b"ERR Protocol error: "


def outcome(
    chunks: list[bytes], *, authenticated: bool = True, by_gets: bool = False
) -> tuple[list[list[bytes]], bytes | None]:
    reader = RequestReader(authenticated=authenticated)
    requests: list[list[bytes]] = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            if by_gets:
                while (request := reader.gets()) is not None:
                    requests.append(request)
            else:
                while batch := reader.take():
                    requests += batch
    except ProtocolError as error:
        text = error.text
    else:
        return requests, None
    assert text.startswith(PREFIX)
    with pytest.raises(ProtocolError):
        reader.take()
    reader.feed(b"*1\r\n$4\r\nPING\r\n")
    with pytest.raises(ProtocolError):
        reader.take()
    assert reader.buffered == reader.pending == 0
    return requests, text.removeprefix(PREFIX)


def cuts(data: bytes) -> Iterator[list[bytes]]:
    yield [data]
    places = range(1, len(data))
    if len(data) > 200:
        places = range(1, len(data), len(data) // 50)
    for place in places:
        yield [data[:place], data[place:]]
    step = 1 if len(data) <= 200 else 997
    yield [data[i : i + step] for i in range(0, len(data), step)]


CASES = [(entry, True) for entry in CORPUS] + [(entry, False) for entry in UNAUTHENTICATED]


@pytest.mark.parametrize(("entry", "authenticated"), CASES, ids=[repr(c[0][0][:40]) for c in CASES])
def test_the_outcome_does_not_depend_on_the_chunks(entry: Entry, authenticated: bool) -> None:
    data, requests, error = entry
    for chunks in cuts(data):
        for by_gets in (False, True):
            found = outcome(chunks, authenticated=authenticated, by_gets=by_gets)
            assert found == (requests, error), chunks


def test_it_holds_behind_a_long_pipeline() -> None:
    filler = [b"SET", b"key:%012d" % 7, b"x" * 100]
    packed = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000007\r\n$100\r\n" + b"x" * 100 + b"\r\n"
    for data, requests, error in CORPUS:
        for count in (5, 300):
            found = outcome([packed * count + data])
            assert found == ([filler] * count + requests, error), data[:100]


# -- the same from a real server --------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder: Path = tmp_path_factory.mktemp("redis")
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(100):
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield port
        finally:
            process.terminate()


def transcript(port: int, data: bytes) -> tuple[bytes, bool]:
    """All that the server answers to ``data``, and whether it closed the connection itself."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The byte at the limit of a line comes alone, so that the server looks just before it.
        place = data.rfind(b"\n", 0, 30) + 1 if len(data) > 60000 else 0
        limit = place + 65536
        for piece in (data[:limit], data[limit : limit + 1], data[limit + 1 :]):
            if piece:
                connection.sendall(piece)
                time.sleep(0.02 if len(data) > 60000 else 0)
        answer = b""
        connection.settimeout(0.05)
        try:
            while part := connection.recv(65536):
                answer += part
        except TimeoutError:
            return answer, False
        except ConnectionError:
            pass
        return answer, True


def promised(port: int, requests: list[list[bytes]], error: bytes | None) -> tuple[bytes, bool]:
    """What the server answers to whole requests and then an error, in the form of `transcript`."""
    answer = b""
    if requests:
        answer, _ = transcript(port, b"".join(encode(*request) for request in requests))
    if error is not None:
        answer += b"-" + PREFIX + error + b"\r\n"
    return answer, error is not None


def test_redis_gives_the_same_outcome(server: int) -> None:
    for data, requests, error in CORPUS:
        assert transcript(server, data) == promised(server, requests, error), data[:100]


def test_redis_gives_the_same_outcome_before_authentication(server: int) -> None:
    control = socket.create_connection(("127.0.0.1", server), timeout=5)
    control.sendall(encode(b"CONFIG", b"SET", b"requirepass", b"secret"))
    assert control.recv(100) == b"+OK\r\n"
    try:
        for data, requests, error in UNAUTHENTICATED:
            if any(len(request) > 10 for request in requests):
                continue  # only as an inline command, which has no other form to compare with
            assert transcript(server, data) == promised(server, requests, error), data[:100]
    finally:
        control.sendall(encode(b"CONFIG", b"SET", b"requirepass", b""))
        control.recv(100)
        control.close()
