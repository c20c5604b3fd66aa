"""The server, real ones on loopback: applied once, stored before it is answered, the same bits after a crash."""

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from servers import serving
from small import inputs_for, label_file, model_of, speech_file, text_file
from unrolled import Stream, modelfile
from unrolled.client import Client, ServerError

MODELS = {
    "text": text_file,
    "numbers": lambda: label_file("numbers"),
    "words": lambda: label_file("words"),
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
        assert np.array_equal(there.peek(part), here.fork().feed(part))
        assert np.array_equal(there.feed(part), here.feed(part))
        assert there.position == here.position
    assert there.snapshot().to_bytes() == here.snapshot().to_bytes()


@pytest.mark.parametrize("kind", list(MODELS))
def test_what_is_read_on_a_server_is_what_is_read_here(client: Client, kind: str) -> None:
    here, there = Stream(model_of(kind)), client.create(kind)
    for part in chunks(inputs_for(kind, 40), 4):
        assert there.read(part) == here.read(part)


def test_the_same_request_again_gives_the_same_answer_and_changes_nothing(client: Client, address: str) -> None:
    stream = client.create("text")
    first, second = ({"at": at, "inputs": [1, 2, 3]} for at in (0, 3))
    answers = [
        httpx.post(f"{address}/streams/{stream.id}/feed", json=body) for body in (first, first, second, first)
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert answers[0].content == answers[1].content == answers[3].content != answers[2].content
    stream.refresh()
    assert stream.position == 6


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
