"""Both clients of a server: they send their token, ask again after a pause, and close what they opened."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from unrolled.client import AsyncClient, Client

NO_STREAMS = b'{"streams": [], "next": null}'

both = pytest.mark.parametrize("kind", [Client, AsyncClient])


@contextmanager
def cutting_off(times: int, told: list[str | None]) -> Iterator[str]:
    """A server that ends so many connections before it answers; `told` gets the Authorization of each request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.append(self.headers["Authorization"])
            if len(told) > times:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(NO_STREAMS)

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def streams_of(client: Any) -> list[Any]:
    """What a client of either kind lists, until it is closed."""
    if isinstance(client, Client):
        with client:
            return list(client.streams())

    async def listed() -> list[Any]:
        async with client:
            return [stream async for stream in client.streams()]

    return asyncio.run(listed())


@both
def test_what_was_cut_off_is_asked_for_again_after_a_pause(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def waited(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(*((time, "sleep", pauses.append) if kind is Client else (asyncio, "sleep", waited)))
    told: list[str | None] = []
    with cutting_off(2, told) as address:
        assert streams_of(kind(address, "secret")) == []
    assert told == ["Bearer secret"] * 3
    assert len(pauses) == 2 and min(pauses) > 0


@both
def test_without_a_token_none_is_sent(kind: Any) -> None:
    told: list[str | None] = []
    with cutting_off(0, told) as address:
        assert streams_of(kind(address)) == []
    assert told == [None]


@both
def test_a_client_is_closed_where_its_block_ends(kind: Any) -> None:
    with cutting_off(0, []) as address:
        client = kind(address)
        streams_of(client)
        with pytest.raises(RuntimeError, match="closed"):
            streams_of(client)


def test_any_number_of_requests_of_an_asynchronous_client_are_on_their_way_at_once() -> None:
    count, waiting = 150, list[asyncio.StreamWriter]()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (
        len(NO_STREAMS),
        NO_STREAMS,
    )

    async def answered_together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        waiting.append(writer)
        if len(waiting) == count:
            for one in waiting:
                one.write(answer)
                one.close()

    async def all_of_them() -> list[list[Any]]:
        async with await asyncio.start_server(answered_together, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            async with AsyncClient(f"http://127.0.0.1:{port}") as client:

                async def one() -> list[Any]:
                    return [stream async for stream in client.streams()]

                return await asyncio.gather(*(one() for _ in range(count)))

    assert asyncio.run(all_of_them()) == [[]] * count
