"""A model stepped one symbol at a time: torch's numbers, the same bits wherever it is cut, and no torch needed."""

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tolerances import assert_close
from unrolled.modelfile import ModelFile
from unrolled.models.language import LanguageModel
from unrolled.stream import Network, Stream

MakeModel = Callable[..., ModelFile]

pytestmark = pytest.mark.usefixtures("one_thread")

SYMBOLS = np.random.default_rng(1).integers(0, 10, 40)
ORDERS = (np.ascontiguousarray, np.asfortranarray)
every_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


@pytest.fixture
def stream(random_model: MakeModel) -> Stream:
    return Stream(Network(random_model()))


@every_cell
@pytest.mark.parametrize("layers", [1, 3])
def test_a_stream_computes_the_trained_models_logits(
    isa: str, random_model: MakeModel, cell: str, layers: int
) -> None:
    file = random_model(cell, layers)
    model = LanguageModel(file.architecture)
    model.load_state_dict({name: torch.from_numpy(value) for name, value in file.tensors.items()})
    inputs = torch.from_numpy(SYMBOLS)[:, None]
    with torch.no_grad():
        expected, _ = model.double()(inputs)
    actual = Stream(Network(file)).feed(SYMBOLS)
    assert actual.dtype == np.float32
    assert_close(torch.from_numpy(actual), expected[:, 0])


@every_cell
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, len(SYMBOLS) - 1)))
def test_cutting_anywhere_changes_no_bit(random_model: MakeModel, cell: str, cuts: set[int]) -> None:
    network = Network(random_model(cell))
    whole, pieces = Stream(network).feed(SYMBOLS), Stream(network)
    for begin, end in pairwise([0, *sorted(cuts), len(SYMBOLS)]):
        assert np.array_equal(pieces.feed(SYMBOLS[begin:end]), whole[begin:end])


@every_cell
def test_stepping_is_feeding_one_by_one(random_model: MakeModel, cell: str) -> None:
    network = Network(random_model(cell))
    stepped = Stream(network)
    assert np.array_equal([stepped.step(int(symbol)) for symbol in SYMBOLS], Stream(network).feed(SYMBOLS))


@every_cell
def test_streams_run_together_as_they_run_alone(random_model: MakeModel, cell: str) -> None:
    network = Network(random_model(cell))
    symbols = SYMBOLS.reshape(8, 5)
    together = network.run(symbols, network.initial_state(5))
    for row in range(5):
        assert np.array_equal(together[:, row], Stream(network).feed(symbols[:, row]))


def test_feeding_nothing_gives_no_logits_and_changes_nothing(stream: Stream) -> None:
    expected = stream.fork().feed(SYMBOLS)
    assert stream.feed([]).shape == (0, 10)
    assert stream.position == 0
    assert np.array_equal(stream.feed(SYMBOLS), expected)


def test_the_position_counts_what_was_consumed(stream: Stream) -> None:
    assert stream.position == 0
    stream.feed([1, 2, 3])
    stream.step(4)
    assert stream.position == 4
    assert stream.fork().position == 4


@every_cell
def test_a_fork_goes_on_by_itself(random_model: MakeModel, cell: str) -> None:
    stream = Stream(Network(random_model(cell)))
    stream.feed(SYMBOLS[:10])
    alone, fork = stream.fork(), stream.fork()
    fork.feed([9] * 7)
    assert np.array_equal(stream.feed(SYMBOLS[10:]), alone.feed(SYMBOLS[10:]))
    assert fork.position == 17


@every_cell
def test_a_reset_forgets_everything(random_model: MakeModel, cell: str) -> None:
    stream = Stream(Network(random_model(cell)))
    fresh = stream.feed(SYMBOLS)
    stream.reset()
    assert stream.position == 0
    assert np.array_equal(stream.feed(SYMBOLS), fresh)


def test_the_past_matters(stream: Stream) -> None:
    other = stream.fork()
    assert not np.array_equal(stream.feed([1, 5])[-1], other.feed([2, 5])[-1])


@pytest.mark.parametrize("symbols", [[10], [-1], [3, 10, 3], [2**40]])
def test_an_unknown_symbol_is_refused_and_nothing_consumed(stream: Stream, symbols: list[int]) -> None:
    expected = stream.fork().feed(SYMBOLS)
    with pytest.raises(ValueError, match="symbols: expected numbers from 0 to 9"):
        stream.feed(symbols)
    assert stream.position == 0
    assert np.array_equal(stream.feed(SYMBOLS), expected)


@pytest.mark.parametrize("symbols", [[1.5], [float("nan")], ["a"]])
def test_what_is_not_a_whole_number_is_refused(stream: Stream, symbols: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        stream.feed(symbols)


@pytest.mark.parametrize("symbols", [3, [[1, 2]]])
def test_symbols_are_one_sequence(stream: Stream, symbols: Any) -> None:
    with pytest.raises(ValueError, match=r"symbols: expected shape \[T\]"):
        stream.feed(symbols)


def test_a_batch_may_lie_in_memory_either_way(random_model: MakeModel) -> None:
    network = Network(random_model())
    symbols = SYMBOLS[:12].reshape(4, 3)
    by_steps, by_rows = (network.run(order(symbols), network.initial_state(3)) for order in ORDERS)
    assert np.array_equal(by_steps, by_rows)


def test_a_model_runs_without_torch(model_path: Path) -> None:
    program = """
import sys
import unrolled, unrolled.stream, unrolled.modelfile, unrolled.tasks.text
model = unrolled.load(sys.argv[1])
assert len("".join(model.sample("abc", 20))) == 20
assert model.score("a cab fed").count == 8
assert model.stream().step(0).shape == (10,)
print(sorted({"torch", "accelerate", "tokenizers", "typer", "rich"} & set(sys.modules)))
"""
    result = subprocess.run([sys.executable, "-c", program, model_path], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("[]\n", "")
