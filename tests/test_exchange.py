"""What a client asks and when again, without a server: each answer is sent to the rules as it would come."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from unrolled.exchange import LONGEST, PAUSE, Flow, Request, Rules, ServerError, Unreachable

GONE = httpx.ConnectError("refused")


def answer(status: int, body: Any) -> httpx.Response:
    return httpx.Response(status, json=body)


def refusal(status: int, code: str = "busy") -> httpx.Response:
    return answer(status, {"error": {"code": code, "message": "Not now.", "position": 7}})


def played(flow: Flow, *answers: httpx.Response | httpx.TransportError) -> tuple[list[Request], list[float], Any]:
    """The requests and the pauses of a flow, and its result."""
    requests, pauses, coming = list[Request](), list[float](), iter(answers)
    wanted = next(flow)
    while True:
        try:
            if isinstance(wanted, Request):
                requests.append(wanted)
                wanted = flow.send(next(coming))
            else:
                pauses.append(wanted)
                wanted = flow.send(None)
        except StopIteration as done:
            assert next(coming, None) is None
            return requests, pauses, done.value


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time that the rules see, 0 at first."""
    now = [0.0]
    monkeypatch.setattr("unrolled.exchange.time", SimpleNamespace(monotonic=lambda: now[0]))
    return lambda time: now.__setitem__(0, time)


@pytest.mark.parametrize("passing", [GONE, *map(refusal, (408, 429, 502, 503, 504))])
def test_what_may_pass_is_sent_again_after_longer_and_longer_pauses(passing: Any) -> None:
    asked = Request("GET", "/models")
    requests, pauses, found = played(Rules(1e9)._json(asked), *9 * [passing], answer(200, [1]))
    assert requests == 10 * [asked] and found == [1]
    for number, pause in enumerate(pauses):
        assert 0.5 <= pause / min(PAUSE * 2**number, LONGEST) <= 1.5


@pytest.mark.parametrize("lasting", [refusal(409), refusal(422), refusal(500), refusal(429, "too_many_streams")])
def test_what_does_not_pass_is_raised_at_once(lasting: httpx.Response) -> None:
    with pytest.raises(ServerError, match=r"^Not now\.$") as raised:
        played(Rules(1e9)._json(Request("GET", "/models")), lasting)
    assert (raised.value.status, raised.value.position) == (lasting.status_code, 7)


@pytest.mark.parametrize(("last", "kind"), [(GONE, Unreachable), (refusal(503), ServerError)])
def test_patience_has_an_end(clock: Callable[[float], None], last: Any, kind: type[Exception]) -> None:
    flow = Rules(30)._json(Request("GET", "/models"))
    next(flow)
    clock(30.0)
    assert isinstance(flow.send(last), float)
    next(flow)
    clock(30.1)
    with pytest.raises(kind, match=r"^(no answer for 30 seconds: refused|Not now\.)$"):
        flow.send(last)


@pytest.mark.parametrize("body", ["no JSON", "[]", "{}", '{"error": "none"}', '{"error": {"code": "busy"}}'])
def test_an_answer_that_is_no_server_of_ours_is_told_by_its_status(body: str) -> None:
    with pytest.raises(ServerError, match=r"^the server says 404\.$") as raised:
        played(Rules(30)._json(Request("GET", "/models")), httpx.Response(404, text=body))
    assert (raised.value.code, raised.value.position) == ("unknown", None)


@pytest.mark.parametrize("name", [None, "mine"])
def test_a_stream_is_made_by_a_name_so_that_a_second_try_finds_it(name: str | None) -> None:
    requests, _, _ = played(Rules(30)._created("text", name), GONE, answer(200, {}))
    first, second = (json.loads(request.content or b"") for request in requests)
    assert first == second and first["model"] == "text"
    assert first["id"] == name if name else len(first["id"]) == 32


def test_streams_that_have_not_ended_are_listed_page_by_page() -> None:
    one, two, three = ({"id": name, "ended": name == "b"} for name in "abc")
    pages = [answer(200, {"streams": [one, two], "next": "b"}), answer(200, {"streams": [three], "next": None})]
    flow = Rules(30)._listed()
    assert dict(vars(next(flow))["params"]) == {"limit": 1000}
    wanted = flow.send(pages[0])
    assert isinstance(wanted, Request) and wanted.params == {"limit": 1000, "after": "b"}
    with pytest.raises(StopIteration) as done:
        flow.send(pages[1])
    assert done.value.value == [one, three]


def test_models_are_asked_for_once_and_again_for_one_that_is_new() -> None:
    rules = Rules(30)
    one, two = {"name": "one", "unit": 1}, {"name": "two", "unit": 2}
    assert played(rules._known("one"), answer(200, [one]))[2] == one
    assert played_nothing(rules._known("one")) == one
    assert played(rules._known("two"), answer(200, [one, two]))[2] == two


def played_nothing(flow: Flow) -> Any:
    """The result of a flow that asks for nothing."""
    with pytest.raises(StopIteration) as done:
        next(flow)
    return done.value.value
