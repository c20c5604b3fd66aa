"""The server, real ones on loopback: applied once, stored before it is answered, the same bits after a crash."""

import asyncio
import gc
import inspect
import json
import re
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.server import ServerProtocol
from websockets.sync.client import connect

from servers import redis_server, serving
from small import inputs_for, label_file, model_of, poisoned, speech_file, text_file
from unrolled import Stream, load, modelfile
from unrolled.client import AsyncClient, Client, ServerError
from unrolled.errors import InputError
from unrolled.server.access import add_token
from unrolled.server.app import create_app
from unrolled.server.connections import Messages
from unrolled.server.feeding import Answer, Feed
from unrolled.server.service import Service
from unrolled.server.settings import ServeSettings
from unrolled.server.wire import GenerateBody, answer_json
from unrolled.store.contract import Key, StoreError
from unrolled.tasks.text.sampling import SampleOptions
from unrolled.tasks.translate.model import TranslateModel
from unrolled.vocabulary import ByteVocabulary

MODELS = {
    "text": text_file,
    "numbers": lambda: label_file("numbers"),
    "words": lambda: label_file("words"),
    "films": lambda: label_file("films"),
    "speech": speech_file,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A model file of each kind, named after it."""
    folder = tmp_path_factory.mktemp("models")
    paths = [folder / f"{kind}.safetensors" for kind in MODELS]
    for path, make in zip(paths, MODELS.values(), strict=True):
        modelfile.write(path, make())  # type: ignore[no-untyped-call]
    return paths


@pytest.fixture(scope="module")
def address(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server that the tests share; each makes streams of its own."""
    with serving(*models, store=tmp_path_factory.mktemp("store") / "streams.db") as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Any:
    with Client(address) as client:
        yield client


def chunks(inputs: Any, count: int) -> list[Any]:
    size = len(inputs) // count
    return [inputs[number * size : (number + 1) * size] for number in range(count)]


@pytest.mark.parametrize("kind", list(MODELS))
def test_a_stream_on_a_server_gives_the_bits_of_one_here(client: Client, kind: str) -> None:
    here, there = Stream(model_of(kind)), client.create(kind)
    for part in chunks(inputs_for(kind, 40), 4):
        one = part if kind == "speech" else part[0]  # a step of sound is a chunk of samples
        assert np.array_equal(there.peek(one), here.peek(one))
        assert np.array_equal(there.feed(part), here.feed(part))
        assert np.array_equal(there.step(one), here.step(one))
        assert there.position == here.position
    assert there.snapshot().to_bytes() == here.snapshot().to_bytes()


@pytest.mark.parametrize("kind", list(MODELS))
def test_what_is_read_on_a_server_is_what_is_read_here(client: Client, kind: str) -> None:
    here, there = Stream(model_of(kind)), client.create(kind)
    for number, part in enumerate(chunks(inputs_for(kind, 40), 4)):
        if number % 2:
            assert there.read(part) == here.read(part)
        else:
            (outputs, said), expected = there.advance(part), here.advance(part)
            assert (outputs.dtype, outputs.shape) == (expected[0].dtype, expected[0].shape)
            assert np.array_equal(outputs, expected[0]) and said == expected[1]
    assert there.position == here.position


def test_the_models_that_are_served_say_what_their_numbers_are(address: str) -> None:
    told = {one["name"]: one for one in httpx.get(f"{address}/models").json()}
    assert {name: one["reads"] for name, one in told.items()} == {kind: model_of(kind).reads() for kind in MODELS}
    assert told["numbers"]["reads"]["events"] == ["still", "left", "right"] and told["numbers"]["outputs"] == 3


def test_the_same_request_again_gives_the_same_answer_and_changes_nothing(client: Client, address: str) -> None:
    stream = client.create("text")
    first, second = ({"at": at, "inputs": [1, 2, 3]} for at in (0, 3))
    answers = [
        httpx.post(f"{address}/streams/{stream.id}/feed", json=body) for body in (first, first, second, first)
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[0].content == answers[1].content == answers[3].content != answers[2].content
    assert (
        httpx.post(f"{address}/streams/{stream.id}/peek", json=first).status_code == 409
    )  # it is no longer there
    content, headers = np.array([1, 2, 3], "<u4").tobytes(), {"Content-Type": "application/octet-stream"}
    in_bytes = httpx.post(f"{address}/streams/{stream.id}/feed?at=0", content=content, headers=headers)
    assert in_bytes.json()["outputs"] == answers[0].json()["outputs"]
    stream.refresh()
    assert stream.position == 6
    for _ in range(20):
        assert len(stream.feed([])) == 0  # is no request that takes a place among those that are known
    assert httpx.post(f"{address}/streams/{stream.id}/feed", json=first).content == answers[0].content


def test_a_wrong_position_is_answered_with_the_true_one(client: Client) -> None:
    stream = client.create("text")
    stream.feed([1, 2, 3])
    stream.position = 2
    with pytest.raises(ServerError) as refused:
        stream.feed([1])
    assert (refused.value.status, refused.value.code, refused.value.position) == (409, "wrong_position", 3)
    stream.position = 0
    with pytest.raises(ServerError, match="the stream is at 3, not at 0"):
        stream.feed([1, 2, 4])  # not what was sent before
    words = client.create("words")
    words.feed(["the", "old"])
    words.position = 0
    with pytest.raises(ServerError, match="the stream is at 2, not at 0"):
        words.feed(["the", "man"])


def test_a_server_that_is_killed_at_any_moment_loses_nothing_that_it_answered(
    tmp_path: Path, models: list[Path]
) -> None:
    here, symbols = Stream(model_of("text")), inputs_for("text", 60)
    with serving(*models, store=tmp_path / "streams.db") as server, Client(server.address) as client:
        there = client.create("text")
        for number, symbol in enumerate(symbols):
            assert np.array_equal(there.feed([symbol])[0], here.step(symbol))
            if number % 20 == 10:
                server.kill()
                server.start()
        assert there.snapshot().to_bytes() == here.snapshot().to_bytes()
        assert server.stop() == 0


def live(server_address: str, name: str, **headers: str) -> Any:
    address = server_address.replace("http", "ws")
    return connect(f"{address}/streams/{name}/live", additional_headers=headers, compression=None)


def test_a_live_stream_answers_bytes_with_bytes_and_json_with_json(client: Client, address: str) -> None:
    here, there = Stream(model_of("text")), client.create("text")
    with live(address, there.id) as socket:
        for at, symbol in enumerate(inputs_for("text", 20)):
            socket.send(at.to_bytes(8, "little") + np.array([symbol], "<u4").tobytes())
            answer = socket.recv()
            assert int.from_bytes(answer[:8], "little") == at + 1
            assert np.array_equal(np.frombuffer(answer[8:], "<f4"), here.step(symbol))
        socket.send(json.dumps({"at": 20, "inputs": "abc"}))
        answer = json.loads(socket.recv())
        assert (answer["position"], answer["said"]) == (23, here.fork().read("abc"))
        assert np.array_equal(answer["outputs"], here.feed("abc"))
        for wrong, code in (
            (b"abc", "bad_request"),
            ((9).to_bytes(8, "little") + bytes(4), "wrong_position"),
            ((23).to_bytes(8, "little") + bytes(3), "bad_input"),
            ((23).to_bytes(8, "little") + b"\xff" * 4, "bad_input"),
            ("{", "bad_request"),
            ('{"at": 23, "inputs": "xyz"}', "bad_input"),
        ):
            socket.send(wrong)
            assert json.loads(socket.recv())["error"]["code"] == code
    there.refresh()
    assert there.position == 23


def test_messages_that_come_before_others_are_answered_are_answered_in_their_order(
    client: Client, address: str
) -> None:
    here, stream = Stream(model_of("text")), client.create("text")
    with live(address, stream.id) as socket:
        for at in range(100):
            socket.send(json.dumps({"at": 2 * at, "inputs": [at % 7, 1]}))
        for at in range(100):
            answer = json.loads(socket.recv(20))
            assert answer["position"] == 2 * at + 2
            assert np.array_equal(answer["outputs"], here.feed([at % 7, 1]))


def test_a_live_answer_has_what_was_asked_for_in_the_form_of_its_request(client: Client, address: str) -> None:
    there, bytes_of = client.create("text"), (3).to_bytes(8, "little")
    with live(address, there.id) as socket:
        for at, asked in enumerate(({}, {"outputs": False}, {"said": False})):
            socket.send(json.dumps({"at": at, "inputs": [1], **asked}))
            assert set(json.loads(socket.recv())) == {"position", "outputs", "said"} - set(asked)
        socket.send(bytes_of)  # no inputs
        assert socket.recv() == bytes_of
        for long in (bytes_of + bytes(4 * 4097), json.dumps({"at": 3, "inputs": [1] * 4097})):
            socket.send(long)
            assert json.loads(socket.recv())["error"]["code"] == "too_many_steps"


def test_a_live_connection_ends_with_its_stream_and_is_counted_till_then(client: Client, address: str) -> None:
    def counted(connections: float) -> bool:
        wanted = f"unrolled_live_connections {connections}\n"
        return any(wanted in httpx.get(f"{address}/metrics").text for _ in range(1000))

    stream = client.create("text", "x" * 64)
    with live(address, stream.id) as socket:
        assert counted(1.0)
        stream.delete()
        socket.send(bytes(12))
        assert json.loads(socket.recv())["error"]["code"] == "no_such_stream"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "no_such_stream")
    assert counted(0.0)


def test_nothing_of_a_live_connection_that_has_gone_waits_for_the_collector(tmp_path: Path) -> None:
    def left() -> list[Any]:
        return [one for one in gc.get_objects() if type(one) in (Messages, ServerProtocol)]

    async def connected() -> list[Any]:
        service = Service({"text": model_of("text")}, ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}"))
        config = uvicorn.Config(create_app(service), log_config=None, ws=Messages)
        server, listening = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0))
        serving = asyncio.create_task(server.serve([listening]))
        while not server.started:
            await asyncio.sleep(0)
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        async with httpx.AsyncClient() as client:
            await client.post(f"http://{address}/streams", json={"id": "a"})
            async with connect_async(f"ws://{address}/streams/a/live") as connection:
                await connection.send(bytes(12))
                await connection.recv()
            await client.get(f"http://{address}/streams/a")  # the keeper knows its last requests until the next
        while server.server_state.connections or server.server_state.tasks:
            await asyncio.sleep(0)
        found = left()
        server.should_exit = True
        await serving
        return found

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(asyncio.wait_for(connected(), 60)) == []
    finally:
        gc.enable()


def test_a_live_text_that_is_not_utf8_ends_its_connection(client: Client, address: str) -> None:
    with live(address, client.create("text").id) as there, pytest.raises(ConnectionClosed) as closed:
        there.socket.sendall(b"\x81\x81\0\0\0\0\xff")
        there.recv(20)
    assert closed.value.rcvd is not None and closed.value.rcvd.code == 1007


@pytest.mark.parametrize("path", ["", "/streams/here/live/on", "/streams/h%20ere/live", "/live"])
def test_there_is_no_live_stream_at_another_address(client: Client, address: str, path: str) -> None:
    client.create("text", "here")
    with pytest.raises(InvalidStatus, match="404"), connect(f"{address.replace('http', 'ws')}{path}"):
        pass


def test_streams_that_come_together_are_stepped_together_as_if_alone(address: str) -> None:
    """Each with calls of its own length, one from a state whose numbers are none."""
    inputs = [inputs_for("numbers", 60, seed) for seed in range(12)]

    async def one(client: AsyncClient, number: int) -> None:
        rng, here = np.random.default_rng(number), Stream(model_of("numbers"))
        there = await client.create("numbers")
        if number == 5:
            here.restore(poisoned(here.snapshot()))
            await there.restore(here.snapshot())
        while there.position < 60:
            end = there.position + int(rng.integers(1, 8))
            part = inputs[number][there.position : end]
            outputs = await there.feed(part)
            assert np.array_equal(outputs, here.feed(part), equal_nan=True)
            assert np.isnan(outputs).any() == (number == 5)

    async def all_of_them() -> None:
        async with AsyncClient(address) as client:
            await asyncio.gather(*(one(client, number) for number in range(12)))

    asyncio.run(all_of_them())


async def conversation(client: Any, name: str) -> list[Any]:
    """What a client's calls give, and where they leave its stream."""

    async def of(given: Any) -> Any:
        return await given if inspect.isawaitable(given) else given

    stream = await of(client.create("text", name))
    told = [await of(call(1)) for call in (stream.peek, stream.step)]
    told += [await of(call("abc")) for call in (stream.feed, stream.read, stream.advance)]
    state, fork = await of(stream.snapshot()), await of(stream.fork(f"{name}-2"))
    await of(fork.feed([2]))
    await of(fork.feed([3]))
    other = await of(client.stream(f"{name}-2"))
    await of(other.rewind(11))
    for one in (stream, fork, other):
        told.append((one.id.removeprefix(name), one.position))
    await of(fork.refresh())
    await of(other.restore(state))
    told += [fork.position, other.position, state.to_bytes()]
    for one in (stream, fork):
        await of(one.delete())
    with pytest.raises(ServerError) as gone:
        await of(client.stream(name))
    return [*told, gone.value.code]


def test_the_client_for_asyncio_does_what_the_other_does(client: Client, address: str) -> None:
    async def both() -> list[Any]:
        async with AsyncClient(address) as there:
            await there.create("text", "c")
            names = {stream.id async for stream in there.streams()}
            return [await conversation(there, "a"), await conversation(client, "b"), names]

    one, two, names = asyncio.run(both())
    np.testing.assert_equal(one, two)
    assert names == {stream.id for stream in client.streams()}


def test_a_long_request_is_the_same_as_many_short_ones_and_has_an_end(client: Client) -> None:
    here, there = Stream(model_of("text")), client.create("text")
    symbols = inputs_for("text", 1000)
    assert np.array_equal(there.feed(symbols), here.feed(symbols))
    with pytest.raises(ServerError, match="the request has 5000 inputs, expected at most 4096"):
        there.feed(inputs_for("text", 5000))
    assert there.position == 1000


def test_a_fork_goes_on_by_itself_and_a_rewind_takes_requests_back(client: Client) -> None:
    here, stream = Stream(model_of("text")), client.create("text")
    here.feed([1, 2])
    stream.feed([1, 2])
    fork = stream.fork()
    assert np.array_equal(fork.feed([3]), here.fork().feed([3]))
    stream.feed([4])
    stream.feed([5, 6])
    stream.rewind(2)
    assert stream.position == 2
    assert np.array_equal(stream.feed([3]), here.feed([3]))
    with pytest.raises(ServerError, match="position 5 is not kept; there are 0, 2, 3"):
        stream.rewind(5)
    assert np.array_equal(fork.feed([7]), stream.feed([7]))


def test_a_state_goes_from_here_to_there_and_back(client: Client, address: str) -> None:
    here, there = Stream(model_of("speech")), client.create("speech")
    sound = inputs_for("speech", 40)
    here.feed(sound[:1000])
    there.restore(here.snapshot())
    assert there.position == 1000
    assert np.array_equal(there.feed(sound[1000:]), here.feed(sound[1000:]))
    other = client.create("text")
    with pytest.raises(ServerError, match="belongs to a model of weights") as refused:
        other.restore(here.snapshot())
    assert refused.value.status == 422
    content = here.snapshot().to_bytes()
    answer = httpx.put(f"{address}/streams/{there.id}/state", content=content[:-1])
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_input")


def test_a_state_from_beyond_all_positions_is_refused(client: Client, address: str) -> None:
    stream = client.create("text")
    for position in (2**53, 2**63 - 1):
        content = replace(stream.snapshot(), position=position).to_bytes()
        answer = httpx.put(f"{address}/streams/{stream.id}/state", content=content)
        assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_input")
    assert len(stream.feed([1])) == stream.position == 1


def test_the_same_creation_again_finds_the_stream_and_another_of_its_name_is_refused(client: Client) -> None:
    first = client.create("text", "the-same")
    first.feed([1])
    assert client.create("text", "the-same").position == 1
    with pytest.raises(ServerError) as refused:
        client.create("words", "the-same")
    assert (refused.value.status, refused.value.code) == (409, "exists")
    with pytest.raises(ServerError, match="expected one of text, numbers, words, films, speech"):
        client.create("nothing")
    first.delete()
    for gone in (first.peek, first.step):
        with pytest.raises(ServerError, match="there is no such stream"):
            gone(1)
    assert "the-same" not in {stream.id for stream in client.streams()}


def test_a_name_is_taken_unless_its_stream_began_alike(client: Client) -> None:
    stream = client.create("text")
    stream.feed([1, 2])
    client.create("text", "taken")
    with pytest.raises(ServerError, match="there is another stream of this name"):
        stream.fork("taken")
    fork = stream.fork("began-alike")
    for _ in range(10):  # at the end how it began is no longer kept
        with pytest.raises(ServerError, match="there is another stream of this name"):
            client.create("numbers", fork.id)
        assert stream.fork(fork.id).position == fork.position
        fork.feed([3])


def events(response: httpx.Response) -> list[tuple[str, Any]]:
    found = []
    for block in response.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields.get("event", "message"), json.loads(fields["data"])))
    return found


def test_a_text_is_written_symbol_by_symbol_and_goes_on_where_it_broke_off(client: Client, address: str) -> None:
    stream, body = client.create("text"), {"at": 0, "prompt": "abc ", "length": 30, "seed": 3}
    path = f"{address}/streams/{stream.id}/generate"
    whole = events(httpx.post(path, json=body))
    assert [kind for kind, _ in whole] == ["message"] * 30 + ["end"]
    assert [event["position"] for _, event in whole[:30]] == list(range(5, 35))
    stream.rewind(34 - 7)  # as far as it came
    rest = events(httpx.post(path, json={**body, "at": 27, "prompt": "", "length": 7}))
    assert rest == whole[23:]
    assert httpx.post(path, json={**body, "at": 3, "prompt": ""}).json()["error"]["position"] == 34


def test_a_text_is_written_as_here_where_a_request_does_not_say_how() -> None:
    asked, here = GenerateBody(at=0), SampleOptions()
    assert (asked.temperature, asked.top_p, asked.seed) == (here.temperature, here.top_p, here.seed)


def test_a_text_of_bytes_goes_on_from_every_event(tmp_path: Path) -> None:
    path = tmp_path / "bytes.safetensors"
    modelfile.write(path, text_file(vocabulary=ByteVocabulary()))
    options = ("--history", "256")
    with serving(path, *options, store=tmp_path / "streams.db") as server, Client(server.address) as client:
        stream, body = client.create(), {"at": 0, "length": 200, "seed": 1, "temperature": 3}
        address = f"{server.address}/streams/{stream.id}/generate"
        *whole, (kind, end) = events(httpx.post(address, json=body))
        assert kind == "end", end
        text = "".join(event["text"] for _, event in whole) + end["text"]
        positions = [event["position"] for _, event in whole]
        assert any(two > one + 1 for one, two in pairwise(positions))  # some events are of several bytes
        for cut in range(len(whole) - 60, len(whole)):
            stream.rewind(at := positions[cut])
            if at == end["position"]:
                break
            rest = events(httpx.post(address, json={**body, "at": at, "length": end["position"] - at}))
            assert rest[-1][0] == "end", rest[-1][1]
            before = "".join(event["text"] for _, event in whole[: cut + 1])
            assert before + "".join(event["text"] for _, event in rest) == text


def test_a_text_that_is_being_written_ends_when_the_server_stops(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        path = f"{server.address}/streams"
        httpx.post(path, json={"id": "a"})
        body = {"at": 0, "length": 100_000}
        with httpx.stream("POST", f"{path}/a/generate", json=body, timeout=60) as response:
            lines = response.iter_lines()
            first = next(lines)
            server.process.send_signal(signal.SIGTERM)
            *_, before, kind, last = [first, *(line for line in lines if line)]
        error = json.loads(last.removeprefix("data: "))["error"]
        assert (kind, error["code"]) == ("event: error", "stopping")
        assert json.loads(before.removeprefix("data: "))["position"] == error["position"] < 100_000
        assert server.stop() == 0


def test_a_request_that_does_not_become_whole_is_told_that_the_server_stops(
    tmp_path: Path, models: list[Path]
) -> None:
    service = Service({"text": load(models[0])}, ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}"))
    app, sent = create_app(service), []

    async def told() -> None: ...

    async def stopped() -> None:
        async with service.running(told):
            await cancelled()

    async def cancelled() -> None:
        waits = asyncio.Event()

        async def receive() -> Any:
            waits.set()
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"content-type", b"application/json"), (b"content-length", b"9")]
        scope = {"type": "http", "method": "POST", "path": "/streams", "query_string": b"", "headers": headers}
        request: asyncio.Task[None] = asyncio.create_task(app(scope, receive, send))  # type: ignore[arg-type]
        await waits.wait()
        request.cancel()  # as uvicorn does when it has waited for long enough
        await request

    asyncio.run(stopped())
    start, body = sent
    assert (start["status"], json.loads(body["body"])["error"]["code"]) == (503, "stopping")


def test_an_address_with_a_slash_more_is_none(client: Client) -> None:
    answer = httpx.get(f"{client._http.base_url}/streams/")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_a_method_that_an_address_has_not_is_refused_with_one_that_it_has(address: str) -> None:
    answer = httpx.patch(f"{address}/streams/none/feed")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["Allow"] == "POST"


def test_tenants_do_not_see_each_other(tmp_path: Path, models: list[Path]) -> None:
    tokens = tmp_path / "tokens"
    alice, bob = (add_token(tokens, tenant) for tenant in ("alice", "bob"))
    assert alice not in tokens.read_text()
    with serving(models[0], "--tokens", tokens, "--streams", 2, store=tmp_path / "streams.db") as server:
        with Client(server.address, alice) as one, Client(server.address, bob) as two:
            stream = one.create(name="mine")
            stream.feed([1])
            absent, hidden = (httpx_answers(server.address, bob, name) for name in ("nothing", "mine"))
            assert absent == hidden and {status for status, _ in hidden} == {404}
            with (
                pytest.raises(InvalidStatus, match="404"),
                live(server.address, "mine", Authorization=f"Bearer {bob}"),
            ):
                pass
            assert two.create(name="mine").position == 0
            assert next(iter(two.streams())).position == 0
            one.create()
            with pytest.raises(ServerError, match="the tenant has 2 streams already"):
                one._patience = 0
                one.create()
        for token in ("none", "wrong", bob + "x"):
            answer = httpx.get(f"{server.address}/streams", headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorized")
            assert "none of those that the server read as it started" in answer.json()["error"]["message"]
            with (
                pytest.raises(InvalidStatus, match="401"),
                live(server.address, "mine", Authorization=f"Bearer {token}"),
            ):
                pass
        assert "needs a token" in httpx.get(f"{server.address}/streams").json()["error"]["message"]
        assert httpx.get(f"{server.address}/healthz").status_code == 200


def httpx_answers(address: str, token: str, name: str) -> list[tuple[int, bytes]]:
    """What every request about a stream gives."""
    headers, path = {"Authorization": f"Bearer {token}"}, f"{address}/streams/{name}"
    answers = [
        httpx.get(path, headers=headers),
        httpx.delete(path, headers=headers),
        httpx.get(f"{path}/state", headers=headers),
        httpx.put(f"{path}/state", headers=headers, content=Stream(model_of("text")).snapshot().to_bytes()),
        *(
            httpx.post(f"{path}/{verb}", headers=headers, json=body)
            for verb, body in (
                ("feed", {"at": 0, "inputs": [1]}),
                ("peek", {"at": 0, "inputs": [1]}),
                ("fork", {}),
                ("rewind", {"position": 0}),
                ("generate", {"at": 0}),
            )
        ),
    ]
    return [(answer.status_code, answer.content) for answer in answers]


def test_limits_are_told(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], "--body-bytes", 2000, "--rate", 5, store=tmp_path / "streams.db") as server:
        path = f"{server.address}/streams"
        assert httpx.post(path, json={"id": "a"}).status_code == 201
        big = httpx.post(f"{path}/a/feed", json={"at": 0, "inputs": "a" * 3000})
        assert (big.status_code, big.json()["error"]["code"]) == (413, "too_large")
        chunked = httpx.post(f"{path}/a/feed", content=iter([b"a" * 1500] * 3))
        assert chunked.status_code == 413
        with httpx.Client() as connected, live(server.address, "a") as socket:
            # A connection for each would take as long as a busy machine likes.
            statuses = [connected.get(f"{path}/a").status_code for _ in range(60)]
            for _ in range(60):
                socket.send(bytes(8))
            codes = {
                json.loads(one)["error"]["code"] for _ in range(60) if isinstance(one := socket.recv(20), str)
            }
        assert 429 in statuses and set(statuses) <= {200, 429}
        assert codes == {"too_many_requests"}


def test_a_tenth_of_a_request_a_second_lets_the_first_one_in(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], "--rate", 0.1, store=tmp_path / "streams.db") as server:
        answers = [httpx.get(f"{server.address}/streams") for _ in range(3)]
        assert [answer.status_code for answer in answers] == [200, 429, 429]
        assert answers[1].headers["Retry-After"] == "1"


def test_what_does_not_pass_by_itself_is_not_tried_again(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], "--streams", 1, store=tmp_path / "streams.db") as server:  # noqa: SIM117
        with Client(server.address, patience=1e6) as client:
            client.create()
            with pytest.raises(ServerError, match="has 1 stream already"):
                client.create()


def test_what_a_balancer_says_of_a_server_that_died_is_tried_again() -> None:
    class Balancer(BaseHTTPRequestHandler):
        statuses = iter([502, 504, 200])

        def do_GET(self) -> None:
            self.send_response(next(self.statuses))
            self.end_headers()
            self.wfile.write(b'{"streams": [], "next": null}')

        def log_message(self, *_: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Balancer) as balancer:
        threading.Thread(target=balancer.serve_forever).start()
        try:
            with Client(f"http://127.0.0.1:{balancer.server_port}") as client:
                assert list(client.streams()) == []
        finally:
            balancer.shutdown()


def test_who_has_all_the_streams_it_may_have_finds_them_again(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], "--streams", 2, store=tmp_path / "streams.db") as server:
        path = f"{server.address}/streams"
        created = [httpx.post(path, json={"id": "a"}).status_code for _ in range(2)]
        forked = [httpx.post(f"{path}/a/fork", json={"id": name}).status_code for name in ("b", "b", "c")]
        assert (created, forked) == ([201, 200], [201, 200, 429])
        assert httpx.post(path, json={"id": "a"}).status_code == 200


@pytest.mark.parametrize("told", ["a" * 129, "a b", "{}"])
def test_what_cannot_be_the_id_of_a_request_is_replaced(address: str, told: str) -> None:
    answer = httpx.get(f"{address}/healthz", headers={"X-Request-Id": told})
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-Id"])


def test_an_empty_word_is_refused(client: Client) -> None:
    stream = client.create("words")
    with pytest.raises(ServerError, match="word 2 is empty, expected a character or more") as refused:
        stream.feed(["a", ""])
    assert refused.value.status == 422
    with pytest.raises(InputError, match="word 1 is empty"):
        Stream(model_of("words")).feed([""])


@pytest.mark.parametrize("shape", [(2, 5), (4,), (2, 4, 3), ()])
def test_arrays_of_another_shape_are_refused_here_as_there(client: Client, shape: tuple[int, ...]) -> None:
    here, there = Stream(model_of("numbers")), client.create("numbers")
    for stream in (here, there):
        with pytest.raises(InputError, match=r"inputs: expected shape \[T, \d\], got \[.*\]"):
            stream.feed(np.zeros(shape, np.float32))
    assert there.position == 0


@pytest.mark.parametrize("model", ["text", "numbers", "speech"])
def test_rows_of_different_length_are_refused_here_as_there(client: Client, address: str, model: str) -> None:
    rows, stream = [[1, 2, 3], [1, 2]], client.create(model)
    answer = httpx.post(f"{address}/streams/{stream.id}/feed", json={"at": 0, "inputs": rows})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_input")
    for refused in (stream.feed, stream.read, Stream(model_of(model)).feed):
        with pytest.raises(InputError, match="got rows of different length"):
            refused(rows)


def test_whole_numbers_are_numbers_too_and_too_large_ones_are_refused(client: Client) -> None:
    here, there = Stream(model_of("numbers")), client.create("numbers")
    assert np.array_equal(there.feed([[1, 2, 3]]), here.feed([[1, 2, 3]]))
    raw = {"at": 1, "inputs": [[1e300, 0.0, 0.0]]}
    answer = httpx.post(f"{client._http.base_url}/streams/{there.id}/feed", json=raw)
    for stream in (here, there):
        with pytest.raises(
            InputError, match=r"inputs\[0, 0\] is 1e\+300, expected a finite number within"
        ) as refused:
            stream.feed([[1e300, 0.0, 0.0]])
    assert answer.status_code == 422 and answer.json()["error"]["message"] == str(refused.value)


@pytest.mark.parametrize("inputs", [None, True, {"a": 1}, 3, [[1, {}]], [None]])
def test_inputs_of_no_kind_are_told_which_there_are(client: Client, inputs: Any) -> None:
    stream = client.create("numbers")
    answer = httpx.post(f"{client._http.base_url}/streams/{stream.id}/feed", json={"at": 0, "inputs": inputs})
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith("inputs: expected a text, or a list of")


@pytest.mark.parametrize("model", ["numbers", "speech"])
def test_a_text_to_what_reads_numbers_is_called_a_text(client: Client, model: str) -> None:
    with pytest.raises(InputError, match=r"expected shape \[.*\], got a text"):
        Stream(model_of(model)).feed("abc")
    with pytest.raises(ServerError, match=r"expected shape \[.*\], got a text"):
        client.create(model).feed("abc")


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("", {"id": ""}, "body.id: "),
        ("", {"id": "a" * 65}, "body.id: "),
        ("", {"id": "a\n"}, "body.id: "),
        ("", {"name": "a"}, "body.name: "),
        ("/a/feed", [], "the body: "),
        ("/a/feed", {"inputs": []}, "at: "),
        ("/a/feed", {"at": 0}, "inputs: Field required"),
        ("/a/feed", {"at": -1, "inputs": []}, "at: "),
        ("/a/feed", {"at": 2**53, "inputs": []}, "at: "),
        ("/a/feed", {"at": "0", "inputs": []}, "at: "),
        ("/a/feed?at=-1", b"", "query.at: "),
        ("/a/generate", {"at": 0, "prompt": "a" * 65_537}, "body.prompt: "),
        ("/a/generate", {"at": 0, "length": 0}, "body.length: "),
        ("/a/generate", {"at": 0, "length": 100_001}, "body.length: "),
        ("/a/generate", {"at": 0, "temperature": -0.1}, "body.temperature: "),
        ("/a/generate", {"at": 0, "temperature": 101}, "body.temperature: "),
        ("/a/generate", {"at": 0, "top_p": 0}, "body.top_p: "),
        ("/a/generate", {"at": 0, "top_p": 1.1}, "body.top_p: "),
        ("/a/generate", {"at": 0, "seed": -1}, "body.seed: "),
        ("/a/generate", {"at": 0, "seed": 2**53}, "body.seed: "),
    ],
)
def test_a_request_out_of_bounds_is_told_by_the_name_of_its_field(
    address: str, path: str, body: Any, sentence: str
) -> None:
    raw = {"content": body, "headers": {"Content-Type": "application/octet-stream"}}
    answer = httpx.post(f"{address}/streams{path}", **(raw if isinstance(body, bytes) else {"json": body}))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "bad_request")
    assert answer.json()["error"]["message"].startswith(sentence)


def test_numbers_that_are_not_finite_are_null_in_json(client: Client, address: str) -> None:
    stream = client.create("text")
    stream.restore(poisoned(stream.snapshot()))
    body = {"at": 0, "inputs": [1]}
    answer = httpx.post(f"{address}/streams/{stream.id}/feed", json=body).json()
    assert answer["outputs"] == [[None] * 10]


def test_only_the_numbers_that_are_not_finite_are_null() -> None:
    outputs = np.array([[1, np.nan], [np.inf, -np.inf]], np.float32)
    assert answer_json(Answer(3, outputs, []), outputs=True, said=False) == {
        "position": 3,
        "outputs": [[1.0, None], [None, None]],
    }


@pytest.mark.parametrize("path", ["streams", "streams/none/feed"])
def test_a_body_that_is_no_json_is_told_where(client: Client, path: str) -> None:
    answer = httpx.post(
        f"{client._http.base_url}/{path}", content='{"model"}', headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert re.fullmatch(r"the body: Invalid JSON: .* (character 8|column 9)\.", answer.json()["error"]["message"])


def test_a_body_of_another_type_is_told_so(client: Client) -> None:
    answer = httpx.post(f"{client._http.base_url}/streams", data={"model": "text"})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (415, "bad_type")
    assert error["message"] == "the body is 'application/x-www-form-urlencoded', expected application/json."


def test_an_answer_has_what_was_asked_for_in_the_form_that_was_asked_for(tmp_path: Path) -> None:
    here, binary = Stream(model_of("text")), "application/octet-stream"
    outputs = [here.step(symbol).tolist() for symbol in (1, 2, 3, 4)]
    with in_process(f"sqlite:///{tmp_path / 'streams.db'}") as client:
        client.post("/streams", json={"id": "a"})
        answers = [
            client.post("/streams/a/feed", json={"at": at, "inputs": [at + 1], **asked}).json()
            for at, asked in enumerate(({}, {"outputs": False}, {"said": False}))
        ]
        assert [set(one) - {"position"} for one in answers] == [{"outputs", "said"}, {"said"}, {"outputs"}]
        assert (answers[0]["outputs"], answers[2]["outputs"]) == ([outputs[0]], [outputs[2]])
        content, kinds = b"\4\0\0\0", {"Content-Type": f"{binary.upper()}; x=y", "Accept": binary}
        assert client.post("/streams/a/feed", content=content, headers=kinds).status_code == 422  # from where?
        in_bytes = client.post("/streams/a/feed?at=3", content=content, headers=kinds)
        assert np.frombuffer(in_bytes.content, "<f4").tolist() == outputs[3]
        assert (in_bytes.headers["X-Position"], in_bytes.headers["Content-Type"]) == ("4", binary)
        of_bytes = client.post("/streams/a/feed?at=4", content=content, headers={"Content-Type": binary}).json()
        rows, said = here.advance([4])
        assert of_bytes == {"position": 5, "outputs": rows.tolist(), "said": said}


def test_streams_are_listed_a_page_after_another(client: Client, address: str) -> None:
    names = [f"page-{number}" for number in range(5)]
    for name in names:
        client.create("text", name)
    found: list[str] = []
    params: dict[str, Any] = {"limit": 2, "after": "page-"}
    while params["after"] is not None and len(found) < 5:
        page = httpx.get(f"{address}/streams", params=params).json()
        assert len(page["streams"]) <= 2
        found += [stream["id"] for stream in page["streams"]]
        params["after"] = page["next"]
    assert found[:5] == names


def test_a_stream_can_be_forked_without_a_body(client: Client) -> None:
    stream = client.create("text")
    stream.feed([1, 2])
    answer = httpx.post(f"{client._http.base_url}/streams/{stream.id}/fork")
    assert (answer.status_code, answer.json()["position"]) == (201, 2)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "x" * 65])
def test_what_is_no_name_is_refused_before_it_is_sent(client: Client, name: str) -> None:
    there = client.create("numbers")
    for way in (client.stream, there.fork, lambda name: client.create("numbers", name=name)):
        with pytest.raises(InputError, match=r"name is .*, expected 1 to 64 of the letters"):
            way(name)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize("address", ["", "127.0.0.1:8000", "localhost", "http://", "ftp://here"])
def test_what_is_no_address_is_refused_at_once(kind: type[Client | AsyncClient], address: str) -> None:
    with pytest.raises(InputError, match="expected one such as 'http://127"):
        kind(address)


def test_a_host_that_is_no_address_is_refused_in_a_sentence(models: list[Path], tmp_path: Path) -> None:
    add_token(tmp_path / "tokens", "alice")
    options = ["--host", "no.such.host.invalid", "--port", "0", "--tokens", "tokens"]
    command = [sys.executable, "-m", "unrolled", "serve", str(models[0]), *options]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    expected = "host is 'no.such.host.invalid', expected an address of this machine"
    assert found.returncode == 2 and expected in " ".join(found.stderr.split())


def test_a_port_that_cannot_be_is_refused_in_a_sentence(models: list[Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unrolled", "serve", str(models[0]), "--port", "70000"]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 2 and "port is 70000, expected less than 65536" in " ".join(found.stderr.split())


def test_of_several_models_the_one_that_reads_no_streams_is_named() -> None:
    models = {"text": model_of("text"), "german": TranslateModel.__new__(TranslateModel)}
    with pytest.raises(InputError, match=r"^german: a translation model is bidirectional"):
        Service(models, ServeSettings())


def test_a_stream_ends_when_its_life_time_is_over_and_its_clients_see_it(
    tmp_path: Path, models: list[Path]
) -> None:
    with serving(models[0], "--lifetime", 0.5, store=tmp_path / "streams.db") as server:  # noqa: SIM117
        with Client(server.address) as client:
            stream = client.create(name="short")
            with live(server.address, "short") as socket:
                assert json.loads(socket.recv(timeout=20))["error"]["code"] == "ended"
                with pytest.raises(ConnectionClosed):
                    socket.recv(timeout=20)
            with pytest.raises(ServerError, match="life time is over") as refused:
                stream.feed([1])
            assert refused.value.status == 410
            (listed,) = httpx.get(f"{server.address}/streams").json()["streams"]
            assert listed["ended"] and listed["position"] is None
            stream.delete()


def test_time_in_which_a_server_stood_still_is_none_of_its_streams(
    tmp_path: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service({"text": load(models[0])}, ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}"))
    monkeypatch.setattr("unrolled.server.service.SWEEP_SECONDS", 0.01)
    told, passed = asyncio.Event(), []

    def sweep(elapsed: float, lifetime: float) -> bool:
        passed.append(elapsed)
        return True

    async def tell() -> None:
        told.set()

    async def stand_still() -> None:
        async with service.running(tell):
            for _ in range(2):
                told.clear()
                await told.wait()
                threading.Event().wait(0.5)

    monkeypatch.setattr(service.streams, "sweep", sweep)
    asyncio.run(stand_still())
    assert max(passed) < 0.5


def test_a_full_disk_is_told_and_what_was_answered_is_there_when_it_has_room_again(
    tmp_path: Path, models: list[Path]
) -> None:
    path, here = tmp_path / "streams.db", Stream(model_of("text"))
    with serving(models[0], store=path) as server, Client(server.address) as client:
        there = client.create("text")
        assert np.array_equal(there.feed([1, 2]), here.feed([1, 2]))
        full = (tmp_path / "streams.db-wal").stat().st_size
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (full, resource.RLIM_INFINITY))
        answer = httpx.post(f"{server.address}/streams/{there.id}/feed", json={"at": 2, "inputs": [3]})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
        assert np.array_equal(there.peek(3), here.peek(3))
        resource.prlimit(
            server.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        )
        assert np.array_equal(there.feed([3]), here.feed([3]))
        server.kill()
        server.start()
        assert np.array_equal(there.feed([4]), here.feed([4]))
        assert server.stop() == 0
        told = [one for one in server.records() if one["event"].startswith("store")]
        assert [one["event"] for one in told] == ["store_unavailable", "store_available"]
        assert "disk" in told[0]["reason"]


def test_a_damaged_state_and_one_of_another_model_are_told_to_their_clients_alone(
    tmp_path: Path, models: list[Path]
) -> None:
    path, swapped = tmp_path / "streams.db", tmp_path / "text.safetensors"
    with serving(*models[:3], store=path) as server, Client(server.address) as client:
        for name, kind in (("damaged", "numbers"), ("whole", "numbers"), ("other", "text"), ("gone", "words")):
            client.create(kind, name)
        for name in ("damaged", "whole"):
            client.stream(name).feed(inputs_for("numbers", 3))
    db = sqlite3.connect(path)
    with db:
        db.execute(
            "UPDATE moments SET moment = zeroblob(length(moment)) WHERE version = 1 AND slot / 256 = "
            "(SELECT n FROM streams WHERE id = 'damaged')"
        )
    db.close()
    modelfile.write(swapped, text_file(seed=1))
    with serving(swapped, models[1], store=path) as server, Client(server.address) as client:
        answers = {
            name: httpx.post(f"{server.address}/streams/{name}/feed", json={"at": 3, "inputs": [[0.0, 1.0, 2.0]]})
            for name in ("damaged", "whole", "other", "gone")
        }
        assert answers["whole"].status_code == 200
        codes = [answers[name].json()["error"]["code"] for name in ("damaged", "other", "gone")]
        assert codes == ["state_damaged", "other_model", "other_model"]
        assert httpx.post(f"{server.address}/streams/damaged/rewind", json={"position": 0}).status_code == 200
        assert client.stream("damaged").feed(inputs_for("numbers", 3)).shape == (3, 3)


@pytest.mark.parametrize("path", ["/streams", "/streams/one/feed"])
def test_a_client_that_goes_amid_its_body_is_no_fault_of_the_server(
    tmp_path: Path, models: list[Path], path: str
) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        head = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(head.encode() + b'{"at": 0')
        httpx.get(f"{server.address}/healthz")
        assert server.stop() == 0
        statuses = [(one.get("route"), one.get("status")) for one in server.records()]
        assert sorted(statuses[:2]) == [("/healthz", 200), (path.replace("one", "{id}"), 400)]


def test_head_gives_what_get_gives_without_its_body(address: str) -> None:
    for path, status in (("/healthz", 200), ("/metrics", 200), ("/docs", 200), ("/streams/none", 404)):
        answer = httpx.head(f"{address}{path}")
        assert (answer.status_code, answer.content) == (status, b"")
        assert answer.headers["Content-Type"] == httpx.get(f"{address}{path}").headers["Content-Type"]


def test_a_server_that_is_told_to_stop_as_soon_as_it_serves_does(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        assert server.stop() == 0
        assert [one["event"] for one in server.records()] == ["stopped"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_log_has_the_end_of_the_server(
    tmp_path: Path, models: list[Path], number: signal.Signals, status: int
) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        httpx.get(f"{server.address}/healthz")
        assert server.stop(number) == status
        assert [one["event"] for one in server.records()] == ["request", "stopped"]


def test_the_log_has_a_line_for_each_request_and_nothing_of_its_content(
    tmp_path: Path, models: list[Path]
) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        path = f"{server.address}/streams"
        httpx.post(path, json={"id": "secret-name"})
        body = {"at": 0, "inputs": "a b"}  # no digits of a request's id
        answer = httpx.post(f"{path}/secret-name/feed", json=body, headers={"X-Request-Id": "mine"})
        assert answer.headers["X-Request-Id"] == "mine"
        metrics = httpx.get(f"{server.address}/metrics").text
        with pytest.raises(InvalidStatus):
            connect(f"{server.address.replace('http', 'ws')}/streams/none/live")
        assert server.stop() == 0
        records = server.records()
        assert [one["event"] for one in records] == ["request"] * 3 + ["stopped"]
        assert (records[1]["request_id"], records[1]["route"], records[1]["status"]) == (
            "mine",
            "/streams/{id}/feed",
            200,
        )
        assert "secret-name" not in json.dumps(records) and "a b" not in json.dumps(records)
    for line in ("unrolled_steps_total 3.0", "unrolled_streams_in_memory 1.0", "unrolled_batch_streams_count 1.0"):
        assert line in metrics
    for reason in ("large", "not finite"):  # so that the first alarm is an increase
        assert f'unrolled_state_alarms_total{{reason="{reason}"}} 0.0' in metrics


def test_a_warning_is_a_line_of_the_log_like_others(tmp_path: Path, models: list[Path]) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"secret\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        assert server.stop() == 0
        warning, stopped = server.records()
        assert (warning["event"], warning["message"]) == ("warning", "Invalid HTTP request received.")
        assert stopped["event"] == "stopped"


def test_live_clients_that_go_or_have_no_manners_are_no_fault_of_the_server(
    tmp_path: Path, models: list[Path]
) -> None:
    with serving(models[0], store=tmp_path / "streams.db") as server:
        path = f"{server.address}/streams/a"
        for _ in range(5):
            httpx.post(f"{server.address}/streams", json={"id": "a"})
            with live(server.address, "a") as one, live(server.address, "a") as two:
                nothing, no_position = b"\x82\x88" + bytes(12), b"\x82\x80" + bytes(4)
                one.socket.sendall(nothing + 3000 * no_position)
                assert one.recv(20) == bytes(8)
                for _ in range(3000):
                    assert json.loads(one.recv(20))["error"]["code"] == "bad_request"
                one.socket.sendall(20 * nothing)
                one.socket.shutdown(socket.SHUT_RDWR)
                httpx.delete(path)
                two.socket.sendall(20 * nothing)
                assert json.loads(two.recv(20))["error"]["code"] == "no_such_stream"
        no_key = {"Upgrade": "websocket", "Connection": "Upgrade"}
        assert httpx.get(f"{path}/live", headers=no_key).status_code == 400
        assert server.stop() == 0
        assert {one["event"] for one in server.records()} == {"request", "stopped"}


def test_a_server_has_as_many_connections_as_the_system_allows(tmp_path: Path, models: list[Path]) -> None:
    here = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, here[1]), here[1]))
    try:
        with serving(models[0], store=tmp_path / "streams.db") as server:
            assert resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE) == (here[1], here[1])
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, here)


def test_a_server_needs_no_torch_and_says_what_it_cannot_do(tmp_path: Path, models: list[Path]) -> None:
    program = (
        "import unrolled.server.run, sys; print(sorted({'torch', 'accelerate', 'tokenizers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "[]\n"
    for arguments, sentence in (
        (["--host", "0.0.0.0"], "expected --tokens with it"),
        (["--store", "here"], "expected sqlite:///PATH"),
        (["--tokens", models[0]], "cannot be read"),
        ([models[0]], "there is another model of this name"),
    ):
        command = [sys.executable, "-m", "unrolled", "serve", str(models[0]), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 2 and sentence in done.stderr


def test_the_server_does_what_its_openapi_document_says_whatever_it_is_sent(
    tmp_path: Path, models: list[Path]
) -> None:
    with serving(*models, store=tmp_path / "streams.db") as server:
        checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
        done = subprocess.run(
            [
                Path(sys.executable).parent / "schemathesis", "run", f"{server.address}/openapi.json",
                "--checks", checks, "--max-examples", "10", "--seed", "1", "--phases", "coverage,fuzzing",
            ],
            capture_output=True, text=True, cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        assert httpx.get(f"{server.address}/readyz").status_code == 200


@settings(max_examples=60)
@given(
    st.lists(
        st.binary(max_size=40) | st.text(max_size=40) | st.builds(lambda at: at + b"\0" * 4, st.binary(max_size=8))
    )
)
def test_whatever_comes_over_a_live_connection_is_answered(address: str, messages: list[bytes | str]) -> None:
    with Client(address) as client:
        stream = client.create("text")
        with live(address, stream.id) as socket:
            for message in messages:
                socket.send(message)
                answer = socket.recv(timeout=20)
                assert (
                    isinstance(answer, bytes) or "error" in json.loads(answer) or "position" in json.loads(answer)
                )
        stream.delete()


def test_two_servers_share_a_redis_and_a_paused_one_overwrites_nothing(tmp_path: Path, models: list[Path]) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server (apt-get install redis-server); .ci/run installs it")
    here, symbols = Stream(model_of("text")), inputs_for("text", 60)
    with (
        redis_server(tmp_path) as redis,
        serving(models[0], store=redis.address) as one,
        serving(models[0], store=redis.address) as two,
        Client(one.address) as first,
        Client(two.address) as second,
    ):
        streams = [first.create(name="shared"), second.stream("shared")]
        for number, symbol in enumerate(symbols):
            there = streams[number % 3 // 2]  # two here, one there
            there.position = number
            assert np.array_equal(there.feed([symbol])[0], here.step(symbol))
            if number == 20:
                one.kill()
                one.start()
            if number == 30:
                redis.stop()
                answer = httpx.post(f"{two.address}/streams/shared/feed", json={"at": 31, "inputs": [1]})
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
                assert httpx.get(f"{two.address}/readyz").status_code == 503
                redis.start()
            if number == 41:  # fed there: here it is asked for, and then its state
                streams[0].refresh()
                assert streams[0].position == 42
            if number == 44:
                assert streams[0].snapshot().to_bytes() == here.snapshot().to_bytes()
        # A server that stops in the middle of things, and wakes with an old state in memory.
        old = {"at": 60, "inputs": [1], "said": False}
        assert httpx.post(f"{one.address}/streams/shared/peek", json=old).status_code == 200
        one.process.send_signal(signal.SIGSTOP)
        streams[1].position = 60
        streams[1].feed([2, 3])
        one.process.send_signal(signal.SIGCONT)
        late = httpx.post(f"{one.address}/streams/shared/feed", json=old)
        assert (late.status_code, late.json()["error"]["position"]) == (409, 62)
        here.feed([2, 3])
        assert first.stream("shared").snapshot().to_bytes() == here.snapshot().to_bytes()


def in_process(store: str) -> TestClient:
    """A server of the text model within this process."""
    return TestClient(create_app(Service({"text": model_of("text")}, ServeSettings(store=store))))


def test_a_position_to_which_another_server_brought_the_stream_anew_is_not_the_one_in_memory(
    tmp_path: Path,
) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server (apt-get install redis-server); .ci/run installs it")
    here = Stream(model_of("text"))
    here.feed([3, 4])
    expected, outputs = here.feed([5]), []
    with redis_server(tmp_path) as redis, in_process(redis.address) as one, in_process(redis.address) as two:
        # Each with a stream of its own, for either brings the newest into memory.
        for name, verb in (("looked-at", "peek"), ("fed", "feed"), ("forked", "peek")):
            path = f"/streams/{name}"
            one.post("/streams", json={"id": name})
            one.post(f"{path}/feed", json={"at": 0, "inputs": [1, 2]})
            two.post(f"{path}/rewind", json={"position": 0})
            two.post(f"{path}/feed", json={"at": 0, "inputs": [3, 4]})
            if name == "forked":
                path = f"/streams/{one.post(f'{path}/fork').json()['id']}"
            outputs.append(one.post(f"{path}/{verb}", json={"at": 2, "inputs": [5]}).json()["outputs"])
    assert all(np.array_equal(found, expected) for found in outputs)


def test_the_streams_that_were_used_last_are_those_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}", in_memory=2)
    service, loaded = Service({"text": model_of("text")}, settings), []
    load = service.streams.store.load

    def count(key: Key) -> Any:
        loaded.append(key.id)
        return load(key)

    monkeypatch.setattr(service.streams.store, "load", count)
    with TestClient(create_app(service)) as client:
        for name in "abc":
            client.post("/streams", json={"id": name})
        for name in "aabacaba":
            client.get(f"/streams/{name}")
    assert loaded == ["a", "b", "c", "b"]
    assert len(service.streams) == 2


def test_after_a_lost_answer_of_the_store_a_stream_is_where_the_store_has_it(tmp_path: Path) -> None:
    service = Service({"text": model_of("text")}, ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}"))
    save, body = service.streams.store.save, {"at": 0, "inputs": [1, 2]}

    def lose(changes: Any) -> Any:
        save(changes)
        raise StoreError("the answer is lost")

    with TestClient(create_app(service)) as client:
        client.post("/streams", json={"id": "a"})
        with pytest.MonkeyPatch.context() as lost:
            lost.setattr(service.streams.store, "save", lose)
            assert client.post("/streams/a/feed", json=body).status_code == 503
        assert client.get("/streams/a").json()["position"] == 2
        again = client.post("/streams/a/feed", json=body).json()
    assert np.array_equal(again["outputs"], Stream(model_of("text")).feed([1, 2]))


def test_a_rewind_goes_back_to_the_newest_state_that_was_at_a_position(client: Client) -> None:
    stream, other = client.create("text"), Stream(model_of("text"))
    other.feed([5, 6])
    stream.feed([1, 2])
    stream.restore(other.snapshot())
    stream.feed([3])
    stream.rewind(2)
    assert stream.snapshot() == other.snapshot()


def test_who_always_finds_that_another_server_wrote_meanwhile_is_told_to_try_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service({"text": model_of("text")}, ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}"))
    with TestClient(create_app(service)) as client:
        client.post("/streams", json={"id": "a"})
        monkeypatch.setattr(service.streams.store, "save", lambda changes: [False] * len(changes))
        for verb, body in (("feed", {"at": 0, "inputs": [1]}), ("rewind", {"position": 0})):
            answer = client.post(f"/streams/a/{verb}", json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "contended")
            assert answer.headers["Retry-After"] == "1"


def test_an_answer_is_not_given_again_from_a_state_that_it_was_not_made_of(tmp_path: Path) -> None:
    """At a position there were two states, and that of the answer is damaged."""
    path, other, body = tmp_path / "streams.db", Stream(model_of("text")), {"at": 2, "inputs": [3]}
    other.feed([5, 6])
    with in_process(f"sqlite:///{path}") as client:
        client.post("/streams", json={"id": "a"})
        client.post("/streams/a/feed", json={"at": 0, "inputs": [1, 2]})
        client.put("/streams/a/state", content=other.snapshot().to_bytes())
        answers = [client.post("/streams/a/feed", json=body) for _ in range(2)]
        db = sqlite3.connect(path)
        with db:
            db.execute("UPDATE moments SET moment = zeroblob(length(moment)) WHERE version = 2")
        db.close()
        answers.append(client.post("/streams/a/feed", json=body))
    assert answers[0].content == answers[1].content and answers[2].status_code == 409


def test_a_redis_that_hangs_holds_up_neither_answers_nor_the_end(tmp_path: Path, models: list[Path]) -> None:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server (apt-get install redis-server); .ci/run installs it")

    async def asked(address: str) -> list[tuple[int, str]]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as client:
            paths = ["/readyz", *(f"/streams/{number}" for number in range(40))]
            answers = await asyncio.gather(*map(client.get, paths))
        return [(answer.status_code, answer.json()["error"]["code"]) for answer in answers]

    with (
        redis_server(tmp_path) as redis,
        serving(models[0], store=redis.address) as server,
        redis.hanging(),
    ):
        assert set(asyncio.run(asked(server.address))) == {(503, "store_unavailable")}
        assert server.stop() == 0


def answered(
    folder: Path, feeds: list[Feed], change: Callable[[Service], Any] = lambda service: None
) -> list[Any]:
    """What requests that come in one round are answered, or refused with, each of a stream named after its model.

    Its name may go on with a number. `change` is made to the server when the streams are there.
    """

    async def told() -> None: ...

    async def answers() -> list[Any]:
        loaded = {kind: model_of(kind) for kind in ("text", "numbers")}
        service = Service(loaded, ServeSettings(store=f"sqlite:///{folder / 'streams.db'}"))
        async with service.running(told):
            for key in {feed.key: None for feed in feeds}:
                await service.create(key, key.id.rstrip("0123456789"))
            change(service)
            fed = asyncio.gather(*map(service.keeper.feed, feeds), return_exceptions=True)
            return await asyncio.wait_for(fed, 60)

    return asyncio.run(answers())


def test_a_defect_of_one_model_is_nothing_to_those_who_feed_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feeds = [Feed(Key("", kind), 0, inputs_for(kind, 3).tolist()) for kind in ("text", "numbers")]

    def break_numbers(service: Service) -> None:
        monkeypatch.setattr(service.streams.models["numbers"], "run", lambda *_: 1 / 0)

    text, numbers = answered(tmp_path, feeds, break_numbers)
    assert text.position == 3 and isinstance(numbers, ZeroDivisionError)


def test_inputs_that_meet_a_defect_are_nothing_to_those_who_are_stepped_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_three(service: Service) -> None:
        front = service.streams.models["text"].front
        checked = front.checked
        monkeypatch.setattr(front, "checked", lambda inputs: 1 / 0 if inputs == [3] else checked(inputs))

    one, two = answered(tmp_path, [Feed(Key("", "text1"), 0, [1, 2]), Feed(Key("", "text2"), 0, [3])], break_three)
    assert one.position == 2 and isinstance(two, ZeroDivisionError)


def test_a_defect_amid_a_round_is_told_and_the_next_round_is_as_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_once(service: Service) -> None:
        saves: Iterator[Callable[[Any], Any]] = iter([int, service.streams.store.save])
        monkeypatch.setattr(service.streams.store, "save", lambda changes: next(saves)(changes))

    first, second = answered(tmp_path, [Feed(Key("", "text"), 0, [1, 2]) for _ in range(2)], break_once)
    assert isinstance(first, TypeError) and second.position == 2


def test_a_request_that_comes_while_a_long_one_of_its_stream_goes_on_is_next(tmp_path: Path) -> None:
    key, symbols, here = Key("", "text"), inputs_for("text", 200), Stream(model_of("text"))
    long, short = answered(tmp_path, [Feed(key, 0, symbols.tolist()), Feed(key, 200, [1])])
    assert np.array_equal(long.outputs, here.feed(symbols))
    assert np.array_equal(short.outputs, here.feed([1]))


def test_what_is_more_than_a_round_takes_is_for_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.server.keeper.AT_ONCE", 2)
    feeds = [Feed(Key("", f"text{number}"), at, [number, 1]) for at in (0, 2) for number in range(5)]
    sizes: list[int] = []

    def count(service: Service) -> None:
        monkeypatch.setattr(service.observer, "batch", lambda size, *_: sizes.append(size))

    answers = answered(tmp_path, feeds, count)
    assert sizes == [2] * 5
    for number in range(5):
        here = Stream(model_of("text"))
        assert np.array_equal(answers[number].outputs, here.feed([number, 1]))
        assert np.array_equal(answers[5 + number].outputs, here.feed([number, 1]))


@pytest.mark.parametrize(
    ("wrong", "status"), [([bytes(6)], 422), ([bytes(6), bytes(6)], 422), ([b"\xff" * 4], 422), ([bytes(16)], 413)]
)
def test_bytes_that_are_refused_are_refused_among_others_too(
    tmp_path: Path, wrong: list[bytes], status: int
) -> None:
    contents = [bytes(8), *wrong, bytes(12)]
    feeds = [Feed(Key("", f"text{number}"), 0, inputs, most=3) for number, inputs in enumerate(contents)]
    first, *refused, last = answered(tmp_path, feeds)
    assert (first.position, last.position) == (2, 3)
    assert [one.status for one in refused] == [status] * len(wrong)


def test_a_defect_is_answered_as_every_error_is(
    tmp_path: Path, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service({"text": load(models[0])}, ServeSettings(store=f"sqlite:///{tmp_path / 'streams.db'}"))
    monkeypatch.setattr(service, "model_infos", lambda: 1 / 0)
    with TestClient(create_app(service), raise_server_exceptions=False) as client:
        answer = client.get("/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "defect")


def test_an_empty_name_is_not_any_name(client: Client) -> None:
    answer = httpx.post(f"{client._http.base_url}/streams", json={"model": "text", "id": ""})
    assert answer.status_code == 422


def test_pcm_is_not_sent_as_amplitudes(client: Client) -> None:
    stream = client.create("speech")
    for send in (stream.feed, stream.read, stream.peek):
        with pytest.raises(InputError, match="expected samples from -1 to 1, got int16; divide PCM by its range"):
            send(np.zeros(100, np.int16))
    assert stream.position == 0
