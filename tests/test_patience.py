"""Slow clients of a server: each is waited for, and then cut off; others do not notice."""

import json
import socket
from collections.abc import Iterator

import httpx
import pytest

from servers import Server, serving
from small import text_file
from unrolled import modelfile

PATIENCE = 0.3  # seconds
LONG = 20.0  # seconds, by which all of this is over


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("patience")
    modelfile.write(folder / "text.safetensors", text_file())
    with serving(folder / "text.safetensors", "--patience", PATIENCE, store=folder / "streams.db") as server:
        yield server
        assert httpx.get(f"{server.address}/healthz").status_code == 200


@pytest.fixture
def connection(server: Server) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), LONG) as connection:
        yield connection


def heard(connection: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    found = b""
    while part := connection.recv(65_536):
        found += part
    return found


def test_who_says_nothing_is_not_waited_for(connection: socket.socket) -> None:
    assert heard(connection) == b""


def test_headers_that_come_a_byte_at_a_time_are_not_waited_for(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n")
    connection.settimeout(PATIENCE / 10)
    for _ in range(1000):
        try:
            answer = connection.recv(100)
            break
        except TimeoutError:
            connection.sendall(b"x")
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_headers_without_end_are_refused(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: " + b"x" * 80_000)
    assert heard(connection).startswith(b"HTTP/1.1 431 ")


def test_a_body_that_does_not_come_is_refused(connection: socket.socket) -> None:
    connection.sendall(b"POST /streams HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
    answer = heard(connection)
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"code":"timeout"' in answer


def test_a_second_request_on_a_connection_is_waited_for_as_the_first(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
    assert connection.recv(65_536).startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"GET /hea")
    assert heard(connection).startswith(b"HTTP/1.1 408 ")


def test_who_does_not_read_the_answers_of_a_live_stream_is_cut_off(
    server: Server, connection: socket.socket
) -> None:
    name = httpx.post(f"{server.address}/streams", json={}).json()["id"]
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.sendall(
        f"GET /streams/{name}/live HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert connection.recv(12) == b"HTTP/1.1 101"
    with pytest.raises(ConnectionError):
        for number in range(1000):  # each answer has some hundred KB
            body = json.dumps({"at": 4096 * number, "inputs": "a" * 4096}).encode()
            connection.sendall(b"\x81\xfe" + len(body).to_bytes(2) + bytes(4) + body)
        heard(connection)
