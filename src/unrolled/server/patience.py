"""Connections that wait for slow clients, but not for ever: for headers, and for answers to be taken.

uvicorn bounds neither. (The time of a body is `Boundary`'s to bound, which can say so in an answer.) A time in
which this process did not run is held against nobody.
"""

from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["Deadline", "Http", "Patience"]

MOST_HEADERS = 64 << 10  # bytes
TOO_SLOW = b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"

PAUSED = 0.1  # of a time: a deadline that is heard of so much later was missed by the server itself


class Deadline:
    """Calls a function in so many seconds, unless it is cancelled; anew, if the server stood still meanwhile.

    After a pause (SIGSTOP, a machine asleep, a load that starves it) what clients sent long ago is still unread.
    """

    def __init__(self, loop: Any, seconds: float, over: Callable[[], None]) -> None:
        self._loop, self._seconds, self._over = loop, seconds, over
        self._begin()

    def cancel(self) -> None:
        """It was met."""
        self._timer.cancel()

    def _begin(self) -> None:
        self._due = self._loop.time() + self._seconds
        self._timer = self._loop.call_at(self._due, self._reached)

    def _reached(self) -> None:
        if self._loop.time() > self._due + PAUSED * self._seconds:
            self._begin()
        else:
            self._over()


class Patience:
    """Half of a protocol, the other being uvicorn's: who takes no answers for a time is cut off.

    How long that is, in seconds, is uvicorn's `timeout_keep_alive`.
    """

    config: Any
    loop: Any
    transport: Any
    _stalled: Deadline | None = None

    def pause_writing(self) -> None:
        """The client does not take what it is sent."""
        super().pause_writing()  # type: ignore[misc]
        self._stalled = self._later(self.transport.abort)

    def resume_writing(self) -> None:
        """It does again."""
        super().resume_writing()  # type: ignore[misc]
        _cancel(self._stalled)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone."""
        super().connection_lost(exc)  # type: ignore[misc]
        _cancel(self._stalled)

    def _later(self, function: Callable[[], None]) -> Deadline:
        return Deadline(self.loop, self.config.timeout_keep_alive, function)


class Http(Patience, HttpToolsProtocol):
    """HTTP whose headers are of bounded size and come in bounded time."""

    _due: Deadline | None = None
    _received = 0
    """Bytes of headers that are not whole yet."""
    _answered: Any = None
    """The request that is being answered, as uvicorn has it; those in `pipeline` came behind it."""

    def connection_made(self, transport: Any) -> None:
        """A connection, which is to say something soon."""
        super().connection_made(transport)
        self._expect_headers()

    def on_message_begin(self) -> None:
        """The first bytes of a request."""
        super().on_message_begin()
        if self._due is None:
            self._expect_headers()

    def on_headers_complete(self) -> None:
        """The headers are whole."""
        _cancel(self._due)
        self._due = None
        super().on_headers_complete()
        if not self.pipeline:
            self._answered = self.cycle

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request."""
        super().data_received(data)
        if self._due is not None:
            self._received += len(data)
            if self._received > MOST_HEADERS:
                self._refuse(TOO_LARGE)

    def on_response_complete(self) -> None:
        """All was sent; if the connection is to close then, it does even if the rest is not taken."""
        if self.pipeline:
            self._answered = self.pipeline[-1][0]
        super().on_response_complete()
        if self.transport.is_closing():
            self._stalled = self._later(self.transport.abort)

    def timeout_keep_alive_handler(self) -> None:
        """No request came for a while; what was not taken of the last answer will not be."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        super().connection_lost(exc)
        if self._answered is not None:  # uvicorn tells that to the latest request alone
            self._answered.disconnected = True
        _cancel(self._due)

    def _expect_headers(self) -> None:
        self._received = 0
        self._due = self._later(lambda: self._refuse(TOO_SLOW if self._received else b""))

    def _refuse(self, answer: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(answer)
            self.transport.close()


def _cancel(deadline: Deadline | None) -> None:
    if deadline is not None:
        deadline.cancel()
