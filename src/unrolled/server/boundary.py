"""The outermost layer: bodies of bounded size that come in bounded time; a request id, a log line, metrics."""

import asyncio
import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unrolled.server.observe import Observer, log
from unrolled.server.refusal import Refusal
from unrolled.server.settings import ServeSettings

__all__ = ["Boundary", "refused"]

REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


def refused(refusal: Refusal) -> JSONResponse:
    """A refusal as a response."""
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "1"}, 503: {"Retry-After": "1"}}
    return JSONResponse(refusal.body(), refusal.status, headers.get(refusal.status))


class Boundary:
    """The ASGI application that a server runs: `app` for HTTP and for start and end, `live` for WebSockets."""

    def __init__(self, app: ASGIApp, live: ASGIApp, observer: Observer, settings: ServeSettings) -> None:
        self._app, self._live, self._observer = app, live, observer
        self._body_bytes, self._patience = settings.body_bytes, settings.patience

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, whose errors become an answer without details, and a line in the log."""
        if scope["type"] == "websocket":
            await self._live(scope, receive, send)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status, begun = time.perf_counter(), 500, False
        method = scope["method"]
        if method == "HEAD":  # what GET gives; uvicorn leaves its body out
            scope = {**scope, "method": "GET"}
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex

        async def sending(message: Message) -> None:
            nonlocal status, begun
            if message["type"] == "http.response.start":
                status, begun = message["status"], True
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            await self._app(scope, self._bounded(scope, receive), sending)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, sending)
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            if not begun:  # else the connection ends amid the answer, which a client sees
                stopping = Refusal(503, "stopping", "the server stops; send the same request again.")
                await refused(stopping)(scope, receive, sending)
        except Exception as error:  # logged without what users sent, then raised as it is
            log("error", request_id=request_id, error=type(error).__name__, where=_where(error))
            raise
        finally:
            route = getattr(scope.get("route"), "path", "none")
            seconds = time.perf_counter() - begin
            self._observer.request(route, status, seconds)
            log(
                "request", request_id=request_id, method=method, route=route, status=status,
                milliseconds=round(1000 * seconds, 3),
            )  # fmt: skip

    def _bounded(self, scope: Scope, receive: Receive) -> Receive:
        length = Headers(scope=scope).get("content-length", "0")
        if length.isdigit() and int(length) > self._body_bytes:
            raise self._too_large()
        seen, deadline, complete = 0, asyncio.get_running_loop().time() + self._patience, False

        async def bounded() -> Message:
            nonlocal seen, complete
            if complete:
                return await receive()  # until the client goes
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError as error:
                raise Refusal(408, "timeout", f"the body took longer than {self._patience:g} seconds.") from error
            if message["type"] == "http.disconnect":  # which the log has; nobody reads the answer
                raise Refusal(400, "gone", "the client went before its body was whole.")
            seen += len(message.get("body", b""))
            complete = not message.get("more_body", False)
            if seen > self._body_bytes:
                raise self._too_large()
            return message

        return bounded

    def _too_large(self) -> Refusal:
        return Refusal(413, "too_large", f"the body is larger than {self._body_bytes} bytes.")


def _where(error: BaseException) -> str:
    """File and line of an error, and nothing that came from a client."""
    at: Any = error.__traceback__
    while at is not None and at.tb_next is not None:
        at = at.tb_next
    return f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at is not None else "unknown"
