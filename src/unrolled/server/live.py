"""Streams live: a WebSocket on which every message is a request.

`/streams/{id}/live`: bytes in, bytes out (8 of the position, little-endian, then inputs or outputs), or JSON
in, JSON out, as for `feed`. Errors are JSON, and end nothing but a stream that is over. This is an ASGI
application by itself, for it is the way of those who are in a hurry: what stands around a message is paid at
every step.
"""

import asyncio
import json
import re
from typing import Any

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from unrolled.server import wire
from unrolled.server.boundary import refused
from unrolled.server.feeding import Feed
from unrolled.server.refusal import Refusal
from unrolled.server.service import Service
from unrolled.store import Key

__all__ = ["Live"]

PATH = re.compile(r"/streams/([A-Za-z0-9_-]{1,64})/live")
POSITION = 8
OVER = ("ended", "no_such_stream")


class Live:
    """The WebSockets of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._open: dict[WebSocket, Key] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, from its handshake to its end."""
        websocket = WebSocket(scope, receive, send)
        service = self._service
        try:
            if not (named := PATH.fullmatch(scope["path"])):
                raise Refusal(404, "not_found", "there is nothing at this address.")
            key = Key(service.admitted(websocket.headers.get("authorization")), named[1])
            await service.keeper.call(key, lambda: service.keeper.info(key))
        except Refusal as refusal:
            await websocket.send_denial_response(refused(refusal))
            return
        await websocket.accept()
        service.observer.live(1)
        self._open[websocket] = key
        try:
            await self._answer_all(key, receive, send)
        finally:
            del self._open[websocket]
            service.observer.live(-1)

    async def tell_ended(self) -> None:
        """Tell those whose streams are over, and end their connections."""
        for websocket, key in list(self._open.items()):
            try:
                await self._service.keeper.call(key, lambda key=key: self._service.keeper.info(key))  # type: ignore[misc]
            except Refusal as refusal:
                if refusal.code in OVER and websocket in self._open:
                    await websocket.send({"type": "websocket.send", "text": json.dumps(refusal.body())})
                    await websocket.close(1000, refusal.code)

    async def _answer_all(self, key: Key, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return
            content = message.get("bytes")
            try:
                self._service.counted(key.tenant)
                if content is not None:
                    await send({"type": "websocket.send", "bytes": await self._binary(key, content)})
                else:
                    answer = json.dumps(await self._json(key, message["text"]))
                    await send({"type": "websocket.send", "text": answer})
            except Refusal as refusal:
                await send({"type": "websocket.send", "text": json.dumps(refusal.body())})
                if refusal.code in OVER:
                    await send({"type": "websocket.close", "code": 1000, "reason": refusal.code})
                    return

    async def _binary(self, key: Key, content: bytes) -> bytes:
        if len(content) < POSITION:
            raise Refusal(
                422,
                "bad_request",
                f"the message has {len(content)} bytes, expected {POSITION} of the position first.",
            )
        at = int.from_bytes(content[:POSITION], "little")
        future = asyncio.get_running_loop().create_future()
        feed = Feed(key, at, content[POSITION:], future, most=self._service.settings.steps)
        answer = await self._service.keeper.feed(feed)
        return answer.position.to_bytes(POSITION, "little") + answer.outputs.tobytes()

    async def _json(self, key: Key, content: str) -> dict[str, Any]:
        body = wire.feed_body(content.encode("utf-8", "replace"))
        future = asyncio.get_running_loop().create_future()
        feed = Feed(key, body.at, body.inputs, future, False, body.said, self._service.settings.steps)
        answer = await self._service.keeper.feed(feed)
        return wire.answer_json(answer, body.outputs, body.said)
