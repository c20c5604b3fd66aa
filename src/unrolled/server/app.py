"""The addresses of the server, and what each answers."""

import contextlib
import uuid
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from unrolled.errors import InputError
from unrolled.server import wire, writing
from unrolled.server.boundary import Boundary, refused
from unrolled.server.feeding import Answer, Feed
from unrolled.server.live import Live
from unrolled.server.observe import CONTENT_TYPE
from unrolled.server.pages import add_page
from unrolled.server.refusal import Refusal
from unrolled.server.service import Service
from unrolled.server.wire import BINARY, ErrorBody, FeedBody
from unrolled.snapshot import Snapshot
from unrolled.store import Key

__all__ = ["create_app"]

JSON = "application/json"
SAFETENSORS = "application/x-safetensors"
Id = Annotated[str, Path(pattern=f"^{wire.NAME}$", description="The stream's name.")]
At = Annotated[int | None, Query(ge=0, le=wire.MOST, description="The position that the client expects.")]

MEANINGS = {
    401: "No valid token.",
    404: "There is no such stream, or it is another tenant's.",
    408: "The body came too slowly.",
    409: "The stream is not as the client thinks (`wrong_position`: the error has the true one), or cannot go on.",
    410: "The stream's life time is over.",
    413: "The body is too large, or has too many steps.",
    415: "The body is neither JSON nor bytes.",
    422: "The request cannot be used; the message says why.",
    429: "Too many requests a second.",
    503: "The store cannot be used just now; the same request may be sent again.",
}


def _errors(*statuses: int) -> dict[int | str, dict[str, Any]]:
    always = (401, 408, 413, 422, 429, 503)
    return {
        status: {"model": ErrorBody, "description": MEANINGS[status]} for status in sorted({*always, *statuses})
    }


OF_STREAM = _errors(404, 409, 410)
STREAM_OR_TYPE = _errors(404, 409, 410, 415)
EVENTS = {"content": {"text/event-stream": {}}, "description": "Server-sent events."}
THERE = {"model": wire.StreamBody, "description": "It was there before."}


def _body_doc() -> dict[str, Any]:
    """Of requests that may come in JSON or in bytes."""
    binary = {"schema": {"type": "string", "format": "binary"}}
    content = {JSON: {"schema": FeedBody.model_json_schema()}, BINARY: binary}
    return {"requestBody": {"required": True, "content": content}}


def _answer_doc() -> dict[int | str, dict[str, Any]]:
    binary = {
        "description": "In JSON; if the request accepts bytes, outputs as float32, the position in X-Position.",
        "content": {BINARY: {"schema": {"type": "string", "format": "binary"}}},
        "model": wire.FeedAnswer,
    }
    return {200: binary, **STREAM_OR_TYPE}


def create_app(service: Service) -> ASGIApp:
    """The ASGI application of a service, which it opens when it starts and closes when it ends."""
    live = Live(service)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with service.running(live.tell_ended):
            yield

    app = FastAPI(
        title="unrolled",
        description="Streams through recurrent networks: a state that lasts, a position that is never lost.",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
        redirect_slashes=False,  # to an address that the server cannot know behind a balancer with TLS
    )
    app.add_exception_handler(Refusal, _refusal)
    app.add_exception_handler(InputError, _bad_input)
    app.add_exception_handler(RequestValidationError, _bad_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _defect)
    add_page(app)
    _add_operator_routes(app, service)
    _add_stream_routes(app, service)
    _add_state_routes(app, service)
    _add_feed_routes(app, service)
    return Boundary(app, live, service.observer, service.settings)


async def _defect(_: Request, error: Exception) -> Response:
    return refused(
        Refusal(500, "defect", "the server could not do this, by a fault of its own; its log says where.")
    )


async def _refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return refused(error)


async def _bad_input(_: Request, error: Exception) -> Response:
    return refused(Refusal(422, "bad_input", str(error)))


async def _bad_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    kind = _kind_of(request)
    if kind != JSON and error.errors()[0]["loc"][:1] == ("body",):
        return refused(_not_of_kind(kind, JSON))
    return refused(Refusal(422, "bad_request", wire.sentence_of(error.errors())))


def _kind_of(request: Request) -> str:
    """What a request says that its body is."""
    return request.headers.get("content-type", JSON).partition(";")[0].strip().lower()


def _not_of_kind(kind: str, expected: str) -> Refusal:
    return Refusal(415, "bad_type", f"the body is {kind[:100]!r}, expected {expected}.")


async def _http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, Refusal):  # of a body that was too large or too slow, while FastAPI read it
        return refused(error.__cause__)
    code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
    # FastAPI says 400 of a body that is no JSON: here that is one more request that cannot be used.
    status = 422 if error.status_code == 400 else error.status_code
    response = refused(Refusal(status, code, str(error.detail)))
    response.headers.update(error.headers or {})
    return response


def _add_operator_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", tags=["operator"])
    async def healthz() -> dict[str, str]:
        """The process runs."""
        return {"status": "ok"}

    @app.get("/readyz", tags=["operator"], responses={503: {"model": ErrorBody, "description": MEANINGS[503]}})
    async def readyz() -> dict[str, str]:
        """It can serve: the store answers."""
        await service.check_store()
        return {"status": "ok"}

    @app.get(
        "/metrics", tags=["operator"], response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    async def metrics() -> Response:
        """Prometheus metrics."""
        return Response(service.observer.page(), media_type=CONTENT_TYPE)


def _tenant_of(service: Service) -> Any:
    async def tenant(authorization: Annotated[str | None, Header(include_in_schema=False)] = None) -> str:
        return service.admitted(authorization)

    return Depends(tenant)


def _add_stream_routes(app: FastAPI, service: Service) -> None:
    tenant_of = _tenant_of(service)

    @app.get("/models", tags=["models"], responses=_errors())
    async def models(tenant: str = tenant_of) -> list[wire.ModelInfo]:
        """The models that are served."""
        return service.model_infos()

    @app.post(
        "/streams", tags=["streams"], status_code=201,
        responses={200: THERE, **STREAM_OR_TYPE},
    )  # fmt: skip
    async def create(
        response: Response, body: wire.CreateBody | None = None, tenant: str = tenant_of
    ) -> wire.StreamBody:
        """A new stream, at position 0."""
        wanted = body or wire.CreateBody()
        key = Key(tenant, wanted.id or uuid.uuid4().hex)
        info, new = await service.create(key, wanted.model)
        response.status_code = 201 if new else 200
        return wire.StreamBody(**vars(info))

    @app.get("/streams", tags=["streams"], responses=_errors())
    async def listed(
        after: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
        tenant: str = tenant_of,
    ) -> wire.StreamList:
        """The streams there are, in the order of their names."""
        found = await service.keeper.call(None, lambda: service.streams.listed(tenant, after, limit))
        streams = [wire.StreamBody(**vars(summary)) for summary in found]
        return wire.StreamList(streams=streams, next=streams[-1].id if len(streams) == limit else None)

    @app.get("/streams/{id}", tags=["streams"], responses=OF_STREAM)
    async def info(id: Id, tenant: str = tenant_of) -> wire.StreamBody:
        """Where a stream is."""
        key = Key(tenant, id)
        return wire.StreamBody(**vars(await service.keeper.call(key, lambda: service.streams.info(key))))

    @app.delete("/streams/{id}", tags=["streams"], status_code=204, responses=_errors(404))
    async def delete(id: Id, tenant: str = tenant_of) -> None:
        """Forget a stream."""
        key = Key(tenant, id)
        await service.keeper.call(key, lambda: service.streams.delete(key))

    @app.post(
        "/streams/{id}/fork", tags=["streams"], status_code=201,
        responses={200: THERE, **STREAM_OR_TYPE},
    )  # fmt: skip
    async def fork(
        id: Id, response: Response, body: wire.ForkBody | None = None, tenant: str = tenant_of
    ) -> wire.StreamBody:
        """A second stream that goes on from here on its own."""
        key, other = Key(tenant, id), Key(tenant, (body and body.id) or uuid.uuid4().hex)
        info, new = await service.fork(key, other)
        response.status_code = 201 if new else 200
        return wire.StreamBody(**vars(info))

    @app.post("/streams/{id}/rewind", tags=["streams"], responses=STREAM_OR_TYPE)
    async def rewind(id: Id, body: wire.RewindBody, tenant: str = tenant_of) -> wire.StreamBody:
        """Go back to a position where one of the latest requests began or ended."""
        key = Key(tenant, id)
        found = await service.keeper.call(key, lambda: service.streams.rewind(key, body.position))
        return wire.StreamBody(**vars(found))


def _add_state_routes(app: FastAPI, service: Service) -> None:
    tenant_of = _tenant_of(service)
    state_doc: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}

    @app.get(
        "/streams/{id}/state", tags=["streams"], response_class=Response,
        responses={200: {"content": {SAFETENSORS: state_doc}}, **OF_STREAM},
    )  # fmt: skip
    async def download(id: Id, tenant: str = tenant_of) -> Response:
        """The state, as a safetensors file."""
        key = Key(tenant, id)
        snapshot: Snapshot = await service.keeper.call(key, lambda: service.streams.download(key))
        return Response(snapshot.to_bytes(), media_type=SAFETENSORS)

    @app.put(
        "/streams/{id}/state", tags=["streams"], responses=OF_STREAM,
        openapi_extra={"requestBody": {"required": True, "content": {BINARY: state_doc}}},
    )  # fmt: skip
    async def upload(id: Id, request: Request, tenant: str = tenant_of) -> wire.StreamBody:
        """Go on from a state that was downloaded, here or elsewhere, of the same model."""
        key = Key(tenant, id)
        snapshot = Snapshot.from_bytes(await request.body())
        return wire.StreamBody(
            **vars(await service.keeper.call(key, lambda: service.streams.upload(key, snapshot)))
        )


def _add_feed_routes(app: FastAPI, service: Service) -> None:
    tenant_of = _tenant_of(service)

    async def fed(id: str, request: Request, tenant: str, at: int | None, peek: bool) -> Response:
        content = await request.body()
        kind = _kind_of(request)
        body: FeedBody | None = None
        if kind == BINARY:
            if at is None:
                raise Refusal(422, "bad_request", "at: a body of bytes needs it in the query.")
            inputs: Any = content
        elif kind == JSON:
            body = wire.feed_body(content)
            at, inputs = body.at, body.inputs
        else:
            raise _not_of_kind(kind, f"{JSON} or {BINARY}")
        as_bytes = BINARY in request.headers.get("accept", "")
        reads = not as_bytes and (body is None or body.said)
        feed = Feed(Key(tenant, id), at, inputs, peek, reads, service.settings.steps)
        answer: Answer = await service.keeper.feed(feed)
        if as_bytes:
            outputs = answer.outputs.astype("<f4", copy=False).tobytes()
            return Response(outputs, media_type=BINARY, headers={"X-Position": str(answer.position)})
        return JSONResponse(wire.answer_json(answer, body is None or body.outputs, reads))

    @app.post("/streams/{id}/feed", tags=["steps"], responses=_answer_doc(), openapi_extra=_body_doc())
    async def feed(id: Id, request: Request, at: At = None, tenant: str = tenant_of) -> Response:
        """Consume inputs: applied once, however often it is sent."""
        return await fed(id, request, tenant, at, peek=False)

    @app.post(
        "/streams/{id}/generate", tags=["steps"], response_class=StreamingResponse,
        responses={200: EVENTS, **STREAM_OR_TYPE},
    )  # fmt: skip
    async def generate(id: Id, body: wire.GenerateBody, tenant: str = tenant_of) -> StreamingResponse:
        """Let a text model write on: an event for each symbol that ends a character, and `end`."""
        key = Key(tenant, id)
        begun = await writing.begin(service, key, body)
        return StreamingResponse(writing.written(service, key, *begun, body), media_type="text/event-stream")

    @app.post("/streams/{id}/peek", tags=["steps"], responses=_answer_doc(), openapi_extra=_body_doc())
    async def peek(id: Id, request: Request, at: At = None, tenant: str = tenant_of) -> Response:
        """What these inputs would give; the stream stays where it is."""
        return await fed(id, request, tenant, at, peek=True)
