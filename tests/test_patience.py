"""Slow clients of a server: each is waited for, and then cut off; others do not notice."""

import json
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

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
    answer = connection.recv(65_536)
    while not answer.endswith(b"}"):
        answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 200 ")
    connection.sendall(b"GET /hea")
    assert heard(connection).startswith(b"HTTP/1.1 408 ")


def live(server: Server, connection: socket.socket) -> None:
    """Make the connection one to a new stream."""
    name = httpx.post(f"{server.address}/streams", json={}).json()["id"]
    connection.sendall(
        f"GET /streams/{name}/live HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert connection.recv(12) == b"HTTP/1.1 101"
    while connection.recv(1, socket.MSG_PEEK) != b"\x89":  # until the first ping is the next to be read
        connection.recv(1)


def test_who_does_not_read_the_answers_of_a_live_stream_is_cut_off(
    server: Server, connection: socket.socket
) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    live(server, connection)
    with pytest.raises(ConnectionError):
        for number in range(1000):  # each answer has some hundred KB
            body = json.dumps({"at": 4096 * number, "inputs": "a" * 4096}).encode()
            connection.sendall(b"\x81\xfe" + len(body).to_bytes(2) + bytes(4) + body)
        heard(connection)


def test_who_does_not_answer_a_ping_is_cut_off(server: Server, connection: socket.socket) -> None:
    live(server, connection)
    assert b"keepalive ping timeout" in heard(connection)


def test_a_reset_amid_requests_that_follow_each_other_is_no_error_of_the_server(tmp_path: Path) -> None:
    modelfile.write(tmp_path / "text.safetensors", text_file())
    get = b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n"
    with serving(tmp_path / "text.safetensors", store=tmp_path / "streams.db") as server:
        for number in range(10, 50):
            post = b"POST /streams HTTP/1.1\r\nHost: here\r\nContent-Type: application/json\r\n"
            post += b'Content-Length: 12\r\n\r\n{"id":"a%d"}' % number
            with socket.create_connection(("127.0.0.1", server.port), LONG) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                connection.sendall(get + post + get if number % 2 else post + get)
                while number % 2 and not connection.recv(1000).endswith(b"}"):
                    pass  # until the first answer is whole, and the second request begins
        assert server.stop() == 0
        *requests, stopped = server.records()
    assert stopped["event"] == "stopped"
    assert [one for one in requests if one["event"] != "request" or one["status"] not in (200, 201)] == []
    assert sum(one["route"] == "/streams" for one in requests) >= 20


def test_a_client_is_not_blamed_for_a_pause_of_the_server(server: Server, connection: socket.socket) -> None:
    live(server, connection)
    ping = connection.recv(6)
    server.process.send_signal(signal.SIGSTOP)
    connection.settimeout(3 * PATIENCE)
    with pytest.raises(TimeoutError):
        connection.recv(1)
    server.process.send_signal(signal.SIGCONT)
    connection.settimeout(LONG)
    pong, step = b"\x8a\x84" + bytes(4) + ping[2:], json.dumps({"at": 0, "inputs": "a"}).encode()
    connection.sendall(pong + b"\x81" + bytes([0x80 | len(step)]) + bytes(4) + step)
    while (kind := connection.recv(1)) == b"\x89":
        connection.recv(connection.recv(1)[0])  # another ping
    assert kind == b"\x81"  # a text: the step's answer
