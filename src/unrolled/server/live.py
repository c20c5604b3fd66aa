"""Streams live: a WebSocket on which every message is a request.

`/streams/{id}/live`: bytes in, bytes out (8 of the position, little-endian, then inputs or outputs), or JSON
in, JSON out, as for `feed`. Errors are JSON, and end nothing but a stream that is over. This is an ASGI
application by itself, for it is the way of those who are in a hurry: what stands around a message is paid at
every step.
"""

import json
import re
from collections.abc import Callable

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from unrolled.server import wire
from unrolled.server.boundary import refused
from unrolled.server.connections import ENDED, MESSAGES, Message, Messages
from unrolled.server.feeding import Answer, Feed
from unrolled.server.refusal import Refusal
from unrolled.server.service import Service
from unrolled.store import Key

__all__ = ["Live"]

PATH = re.compile(f"/streams/({wire.NAME})/live")
POSITION = 8
OVER = ("ended", "no_such_stream")


class Live:
    """The WebSockets of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: dict[Messages, Key] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from its handshake to its end."""
        websocket = WebSocket(scope, receive, send)
        service = self._service
        try:
            if not (named := PATH.fullmatch(scope["path"])):
                raise Refusal(404, "not_found", "there is nothing at this address.")
            key = Key(service.admitted(websocket.headers.get("authorization")), named[1])
            await service.keeper.call(key, lambda: service.streams.info(key))
        except Refusal as refusal:
            await websocket.send_denial_response(refused(refusal))
            return
        await websocket.accept()
        messages: Messages = scope["extensions"].pop(MESSAGES)
        messages.listen(_Conversation(service, key, messages).message)
        service.observer.live(1)
        self._open[messages] = key
        try:
            event = await receive()
            if event["type"] == ENDED:
                if isinstance(event["reason"], BaseException):
                    raise event["reason"]
                await send({"type": "websocket.close", "code": 1000, "reason": event["reason"]})
        finally:
            del self._open[messages]
            service.observer.live(-1)

    async def tell_ended(self) -> None:
        """Tell those whose streams are over, and end their connections."""
        service = self._service
        for messages, key in list(self._open.items()):
            try:
                await service.keeper.call(key, lambda key=key: service.streams.info(key))  # type: ignore[misc]
            except Refusal as refusal:
                if refusal.code in OVER:
                    messages.say(json.dumps(refusal.body()))
                    messages.end(refusal.code)


class _Conversation:
    """The messages of one connection, each a request to its stream."""

    def __init__(self, service: Service, key: Key, messages: Messages) -> None:
        self._service, self._key, self._messages = service, key, messages
        self._shown: Callable[[Answer], Message] = _bytes_of

    def message(self, message: Message) -> None:
        """One message, which is answered when its step is stored."""
        try:
            self._service.counted(self._key.tenant)
            feed = self._of_bytes(message) if isinstance(message, bytes) else self._of_json(message)
        except Refusal as refusal:
            self._answer(refusal)
        else:
            self._service.keeper.submit(feed, self._answer)

    def _answer(self, answer: Answer | BaseException) -> None:
        if isinstance(answer, Answer):
            self._messages.answer(self._shown(answer))
        elif isinstance(answer, Refusal):
            self._messages.answer(json.dumps(answer.body()))
            if answer.code in OVER:
                self._messages.end(answer.code)
        else:
            self._messages.end(answer)

    def _of_bytes(self, message: bytes) -> Feed:
        if len(message) < POSITION:
            raise Refusal(
                422,
                "bad_request",
                f"the message has {len(message)} bytes, expected {POSITION} of the position first.",
            )
        self._shown = _bytes_of
        at = int.from_bytes(message[:POSITION], "little")
        return Feed(self._key, at, message[POSITION:], most=self._service.settings.steps)

    def _of_json(self, message: str) -> Feed:
        body = wire.feed_body(message.encode())
        self._shown = lambda answer: json.dumps(wire.answer_json(answer, body.outputs, body.said))
        return Feed(self._key, body.at, body.inputs, reads=body.said, most=self._service.settings.steps)


def _bytes_of(answer: Answer) -> bytes:
    return answer.position.to_bytes(POSITION, "little") + answer.outputs.tobytes()
