"""Streams live: a WebSocket on which every message is a request, and text as it is written."""

import asyncio
import json
from typing import Any

from fastapi import FastAPI
from starlette.websockets import WebSocket, WebSocketDisconnect

from unrolled.server import wire
from unrolled.server.boundary import refused
from unrolled.server.feeding import Answer, Feed
from unrolled.server.refusal import Refusal
from unrolled.server.service import Service
from unrolled.store import Key

__all__ = ["add_live_routes"]

POSITION = 8  # bytes before the inputs or outputs of a binary message: the position, little-endian


def add_live_routes(app: FastAPI, service: Service) -> None:
    """`/streams/{id}/live`: bytes in, bytes out, or JSON in, JSON out; errors are JSON, and end nothing."""

    @app.websocket("/streams/{id}/live")
    async def live(websocket: WebSocket, id: str) -> None:
        try:
            key = Key(service.admitted(websocket.headers.get("authorization")), id)
            await service.keeper.call(key, lambda: service.keeper.info(key))
        except Refusal as refusal:
            await websocket.send_denial_response(refused(refusal))
            return
        await websocket.accept()
        service.observer.live(1)
        try:
            await _answer_all(service, key, websocket)
        except WebSocketDisconnect:
            pass
        finally:
            service.observer.live(-1)


async def _answer_all(service: Service, key: Key, websocket: WebSocket) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] != "websocket.receive":
            return
        content = message.get("bytes")
        try:
            service.counted(key.tenant)
            if content is not None:
                await websocket.send_bytes(await _binary(service, key, content))
            else:
                await websocket.send_text(json.dumps(await _json(service, key, message["text"])))
        except Refusal as refusal:
            await websocket.send_text(json.dumps(refusal.body()))
            if refusal.code in ("ended", "no_such_stream"):
                await websocket.close(1000, refusal.code)
                return


async def _binary(service: Service, key: Key, content: bytes) -> bytes:
    if len(content) < POSITION:
        raise Refusal(
            422, "bad_request", f"the message has {len(content)} bytes, expected 8 for the position first."
        )
    at = int.from_bytes(content[:POSITION], "little")
    future = asyncio.get_running_loop().create_future()
    feed = Feed(key, at, content[POSITION:], future, most=service.settings.steps)
    answer = await service.keeper.feed(feed)
    return answer.position.to_bytes(POSITION, "little") + answer.outputs.tobytes()


async def _json(service: Service, key: Key, content: str) -> dict[str, Any]:
    body = wire.feed_body(content.encode("utf-8", "replace"))
    future = asyncio.get_running_loop().create_future()
    feed = Feed(key, body.at, body.inputs, future, False, body.said, service.settings.steps)
    answer: Answer = await service.keeper.feed(feed)
    return wire.answer_json(answer, body.outputs, body.said)
