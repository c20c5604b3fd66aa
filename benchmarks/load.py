"""A load of WebSocket streams that costs little itself: many connections, each with a step on its way or none.

It speaks just enough of RFC 6455, on asyncio, to leave the processor to the server that is measured.
"""

import asyncio
import base64
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Load", "Socket", "closed_loop", "paced"]

BINARY_FRAME = 0x82
MASK = bytes(4)  # a mask of zeros: the payload goes as it is


class Socket(asyncio.Protocol):
    """One connection: `on_answer` gets each binary message that comes, `on_lost` hears of its end."""

    def __init__(self, path: str, host: str, headers: dict[str, str]) -> None:
        self._request = "".join(
            f"{line}\r\n"
            for line in (
                f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade",
                f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}", "Sec-WebSocket-Version: 13",
                *(f"{name}: {value}" for name, value in headers.items()), "",
            )
        ).encode()  # fmt: skip
        self.opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.on_answer: Callable[[Socket, bytes], None] = lambda *_: None
        self.on_lost: Callable[[], None] = lambda: None
        self.position = 0
        self.due = 0.0
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self._transport = transport
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server has gone."""
        if not self.opened.done():
            self.opened.set_exception(ConnectionError("refused"))
        self.on_lost()

    def send(self, payload: bytes) -> None:
        """One binary message, of less than 126 bytes; raises `ConnectionError` if the server has gone."""
        if self._transport.is_closing():
            raise ConnectionError("the server has gone")
        self._transport.write(bytes((BINARY_FRAME, 0x80 | len(payload))) + MASK + payload)

    def close(self) -> None:
        """Go, without a word."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take whole messages off what has come."""
        data = self._received + data
        if not self.opened.done():
            head, end, data = data.partition(b"\r\n\r\n")
            if not end:
                self._received = head
                return
            if b" 101 " not in head.split(b"\r\n")[0]:
                self.opened.set_exception(ConnectionError(head.decode()))
                return
            self.opened.set_result(None)
        while len(data) >= 2:
            size, begin = data[1] & 0x7F, 2
            if size == 126:
                size, begin = int.from_bytes(data[2:4]), 4
            elif size == 127:
                size, begin = int.from_bytes(data[2:10]), 10
            if len(data) < begin + size:
                break
            kind, payload, data = data[0] & 0x0F, data[begin : begin + size], data[begin + size :]
            if kind == 2:
                self.on_answer(self, payload)
            elif kind == 9:
                self._transport.write(bytes((0x8A, 0x80 | len(payload))) + MASK + payload)
            elif kind == 1:
                raise RuntimeError(f"the server says {json.loads(payload)}")
        self._received = data


@dataclass
class Load:
    """What came of a load: answers, seconds, and how long each took."""

    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Steps a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """In milliseconds."""
        return float(np.percentile(self.latencies, percent)) * 1000


def _step(socket: Socket, symbols: NDArray[np.uint32], due: float) -> None:
    socket.due = due
    symbol = symbols[socket.position % len(symbols)]
    socket.send(socket.position.to_bytes(8, "little") + symbol.tobytes())


def _failing(load: asyncio.Future[None]) -> Callable[[], None]:
    """What ends a load, with an error, if a connection does."""

    def lost() -> None:
        if not load.done():
            load.set_exception(ConnectionError("the server closed a connection"))

    return lost


async def closed_loop(sockets: list[Socket], symbols: NDArray[np.uint32], seconds: float) -> Load:
    """Every stream sends its next step as soon as its last was answered: the most that the server can do."""
    load, clock = Load(), time.perf_counter
    end = clock() + seconds
    idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    going = len(sockets)

    def answered(socket: Socket, payload: bytes) -> None:
        nonlocal going
        now = clock()
        load.latencies.append(now - socket.due)
        socket.position = int.from_bytes(payload[:8], "little")
        if now < end:
            _step(socket, symbols, now)
        elif (going := going - 1) == 0:
            idle.set_result(None)

    begin = clock()
    for socket in sockets:
        socket.on_answer, socket.on_lost = answered, _failing(idle)
        _step(socket, symbols, clock())
    await idle
    load.seconds = clock() - begin
    return load


async def paced(sockets: list[Socket], symbols: NDArray[np.uint32], rate: float, seconds: float) -> Load:
    """`rate` steps a second in all, evenly spread, whatever is late; latencies count from when a step was due."""
    load, clock = Load(), time.perf_counter
    waiting: dict[Socket, list[float]] = {socket: [] for socket in sockets}
    left = total = int(rate * seconds)
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def answered(socket: Socket, payload: bytes) -> None:
        nonlocal left
        load.latencies.append(clock() - socket.due)
        socket.position = int.from_bytes(payload[:8], "little")
        queue = waiting[socket]
        queue.pop(0)
        if queue:
            _step(socket, symbols, queue[0])
        if (left := left - 1) == 0:
            done.set_result(None)

    for socket in sockets:
        socket.on_answer, socket.on_lost = answered, _failing(done)
    begin = clock()
    sent = 0
    while sent < total and not done.done():
        while sent < total and begin + sent / rate <= clock():
            socket, due = sockets[sent % len(sockets)], begin + sent / rate
            waiting[socket].append(due)
            if len(waiting[socket]) == 1:
                _step(socket, symbols, due)
            sent += 1
        await asyncio.sleep(0.001)
    await done
    load.seconds = clock() - begin
    return load
