"""WebSockets as uvicorn makes them, but with a short way for their messages.

A message costs a call here, not a task: what stands around a step is paid at every one. The next message is begun
when the last was answered, so answers go out in the order of messages. Nothing here knows streams.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from unrolled.server.patience import Patience

__all__ = ["ENDED", "MESSAGES", "Message", "Messages"]

Message = bytes | str
MESSAGES = "unrolled.messages"
"""The ASGI extension under which the `Messages` of a WebSocket is found."""
ENDED = "unrolled.ended"
"""The type of the ASGI event that `Messages.end` gives."""


class Messages(Patience, WebSocketsSansIOProtocol):
    """A WebSocket whose messages go to a function, from when `listen` is called; until then they wait."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._messages: deque[Message] = deque()
        self._on_message: Callable[[Message], None] | None = None
        self._unanswered = False
        self._beginning = False

    def listen(self, on_message: Callable[[Message], None]) -> None:
        """From now on `on_message` gets every message, and has `answer` called once for it, now or later."""
        self._on_message = on_message
        self._begin()

    def answer(self, content: Message) -> None:
        """Answer the last message."""
        self.say(content)
        self._unanswered = False
        self._begin()

    def say(self, content: Message) -> None:
        """Send a message; nothing, if the connection is over."""
        if self.conn.state is not State.OPEN or self.transport.is_closing():
            return
        if isinstance(content, str):
            self.conn.send_text(content.encode())
        else:
            self.conn.send_binary(content)
        self.transport.write(b"".join(self.conn.data_to_send()))

    def end(self, reason: str | BaseException) -> None:
        """No message is begun any more; the ASGI application hears why, by an event among those it receives."""
        self._on_message = None
        self.queue.put_nowait({"type": ENDED, "reason": reason})  # type: ignore[arg-type]

    def _begin(self) -> None:
        """Begin messages while there are any and their answers are taken."""
        if self._beginning or self._on_message is None:
            return
        self._beginning = True
        while self._messages and not self._unanswered and self.writable.is_set():
            self._unanswered = True
            self._on_message(self._messages.popleft())
        self._beginning = False
        if self.read_paused and not self._messages:
            self.read_paused = False
            self.transport.resume_reading()

    # What uvicorn's class calls.

    def handle_connect(self, event: Any) -> None:
        """A handshake, whose ASGI application will find this connection."""
        super().handle_connect(event)
        if self.handshake_initiated and not self.handshake_complete:
            self.scope["extensions"][MESSAGES] = self  # type: ignore[assignment]

    async def send(self, message: Any) -> None:
        """What the application says. A refusal ends a handshake: else uvicorn logs that nothing did."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

    def send_receive_event_to_app(self) -> None:
        """A whole message has come."""
        if self.close_sent:
            return
        content = b"".join(self.frames)
        self.frames = []
        if self.curr_msg_data_type == "bytes":
            self._messages.append(content)
        else:
            try:
                self._messages.append(content.decode())
            except UnicodeDecodeError:
                self.conn.fail(1007)
                self.handle_parser_exception()
                return
        self._begin()
        if self._messages and not self.read_paused:
            self.read_paused = True
            self.transport.pause_reading()

    def send_keepalive_ping(self) -> None:
        """A ping, whose answer is waited for as all else is."""
        super().send_keepalive_ping()
        if self.pong_timer is not None:
            self.pong_timer.cancel()
            self.pong_timer = self._later(self.keepalive_timeout)  # type: ignore[assignment]

    def keepalive_timeout(self) -> None:
        """The client did not answer a ping, and will not take what it was sent before."""
        super().keepalive_timeout()
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """It has gone, and nothing of it waits for Python's collector, which `run` has look seldom."""
        super().connection_lost(exc)
        self._on_message = None
        self.conn.parser.close()

    def resume_writing(self) -> None:
        """The client takes its answers again."""
        super().resume_writing()
        self._begin()
