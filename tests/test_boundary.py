"""The outermost layer of a server, around small applications: sizes of bodies, ids, lines of the log, metrics."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from unrolled.server.boundary import Boundary, refused
from unrolled.server.observe import Observer
from unrolled.server.refusal import Refusal
from unrolled.server.settings import ServeSettings

MOST = 1024  # bytes of a body


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with how many bytes came, and what comes after them."""
    scope["route"] = SimpleNamespace(path="/read")
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message.get("more_body", False)
    answer = f"{scope['method']} {size} {(await receive())['type']}"
    await PlainTextResponse(answer)(scope, receive, send)


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    raise RuntimeError("a secret")


async def stop_amid_the_answer(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise asyncio.CancelledError


class Exchange:
    """One request whose body comes in parts, before the client goes: what is sent, and what is observed."""

    def __init__(self, app: ASGIApp, *parts: bytes, method: str = "POST", **headers: str) -> None:
        self.observer, self.sent = Observer(), list[Message]()
        received: list[Message] = [
            {"type": "http.request", "body": part, "more_body": True} for part in parts[:-1]
        ]
        received.append({"type": "http.request", "body": parts[-1] if parts else b""})
        received.append({"type": "http.disconnect"})
        named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]

        async def receive() -> Message:
            return received.pop(0)

        async def send(message: Message) -> None:
            self.sent.append(message)

        scope = {"type": "http", "method": method, "path": "/a-secret", "headers": named}
        boundary = Boundary(app, app, self.observer, ServeSettings(body_bytes=MOST))
        asyncio.run(boundary(scope, receive, send))

    @property
    def answer(self) -> tuple[int, str]:
        start, *bodies = self.sent
        return start["status"], b"".join(message.get("body", b"") for message in bodies).decode()


@pytest.mark.parametrize("size", [MOST, MOST + 1])
@pytest.mark.parametrize("told", [True, False])
def test_a_body_has_the_most_bytes_that_it_may_have_and_no_more(size: int, told: bool) -> None:
    parts = [bytes(500), bytes(size - 500)]
    status, said = Exchange(read_all, *parts, **({"content_length": str(size)} if told else {})).answer
    if size == MOST:
        assert (status, said) == (200, f"POST {MOST} http.disconnect")
    else:
        assert (status, json.loads(said)["error"]["code"]) == (413, "too_large")


def test_a_body_that_says_itself_too_large_is_not_read() -> None:
    status, _ = Exchange(read_all, content_length=str(MOST + 1)).answer
    assert status == 413


def test_a_request_has_a_line_and_metrics_by_its_route(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter((1.0, 1.25))
    monkeypatch.setattr("unrolled.server.boundary.time", SimpleNamespace(perf_counter=lambda: next(times)))
    exchange = Exchange(read_all, method="HEAD", x_request_id="mine")
    assert exchange.answer == (200, "GET 0 http.disconnect")  # uvicorn leaves the body out
    assert (b"x-request-id", b"mine") in exchange.sent[0]["headers"]
    line = json.loads(capsys.readouterr().err)
    assert {name: value for name, value in line.items() if name != "time"} == {
        "event": "request",
        "request_id": "mine",
        "method": "HEAD",
        "route": "/read",
        "status": 200,
        "milliseconds": 250.0,
    }
    page = exchange.observer.page().decode()
    assert 'unrolled_requests_total{route="/read",status="200"} 1.0' in page
    assert 'unrolled_request_seconds_sum{route="/read"} 0.25' in page


def test_a_defect_is_told_to_the_operator_without_what_a_client_sent(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="a secret"):  # which uvicorn answers
        Exchange(fail)
    said = capsys.readouterr().err
    error, request = map(json.loads, said.splitlines())
    assert (error["event"], error["error"]) == ("error", "RuntimeError") and "secret" not in said
    assert error["where"] == f"{__file__}:{fail.__code__.co_firstlineno + 1}"
    assert (request["status"], request["route"]) == (500, "none")
    assert request["request_id"] == error["request_id"]


def test_an_answer_that_has_begun_is_not_begun_anew() -> None:
    assert [message["type"] for message in Exchange(stop_amid_the_answer).sent] == ["http.response.start"]


@pytest.mark.parametrize(
    ("status", "name", "value"),
    [(401, "WWW-Authenticate", "Bearer"), (429, "Retry-After", "1"), (503, "Retry-After", "1")],
)
def test_a_refusal_says_what_http_wants_beside_its_status(status: int, name: str, value: str) -> None:
    response = refused(Refusal(status, "code", "A sentence."))
    assert (response.status_code, response.headers[name]) == (status, value)
