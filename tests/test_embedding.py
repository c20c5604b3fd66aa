"""Layers that read symbols: the bits of the rows of an embedding, multiplied beforehand or at each step."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from small import random
from tolerances import assert_same_bits
from unrolled import _engine
from unrolled.floats import Floats
from unrolled.stepper import WEIGHTS, Stepper, packed

pytestmark = pytest.mark.usefixtures("one_thread")

GATES = {"lstm": 4, "lstm_coupled": 3, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
PROJECTED_BYTES = 32 << 20  # csrc/stack.cpp's limit
every_cell = pytest.mark.parametrize("cell", GATES)
every_format = pytest.mark.parametrize("weights", WEIGHTS)
# One fixture serves all examples of a property: it only says which instruction set runs.
few_examples = settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])


def layers_of(
    cell: str, inputs: int, units: int, layers: int, modified: bool, normalised: bool = False
) -> list[dict[str, Floats]]:
    made: list[dict[str, Floats]] = []
    for number in range(layers):
        rows, width = GATES[cell] * units, units if number else inputs
        layer = {
            "weight_ih": random(rows, width, seed=number, scale=width**-0.5),
            "weight_hh": random(rows, units, seed=number, scale=units**-0.5),
            "bias_ih": random(rows, seed=number + 5),
            "bias_hh": random(rows, seed=number + 9),
        }
        if modified:
            layer["zoneout_h"] = np.random.default_rng(1).uniform(0, 1, units).astype(np.float32)
            if cell.startswith("lstm"):
                layer["zoneout_c"] = np.random.default_rng(2).uniform(0, 1, units).astype(np.float32)
                layer["peephole"] = random(GATES[cell] - 1, units)
        if normalised:
            sizes = {"gain_ih": rows, "gain_hh": rows, "gain_c": units, "bias_c": units}
            layer |= {name: random(size, seed=number + 20) for name, size in sizes.items()}
        made.append(layer)
    return made


def both(
    cell: str,
    weights: str,
    V: int,
    D: int,
    H: int,
    layers: int = 1,
    modified: bool = False,
    normalised: bool = False,
) -> list[Any]:
    """What makes a stepper that reads symbols, one that reads rows of numbers, and the embedding."""
    embedding, parts = random(V, D), layers_of(cell, D, H, layers, modified, normalised)
    stacks = packed(cell, D, H, parts, weights, embedding), packed(cell, D, H, parts, weights)
    return [*(partial(Stepper, stack) for stack in stacks), embedding]


def symbols(count: int, *shape: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, count, shape)


@every_cell
@every_format
@few_examples
@given(data=st.data())
def test_symbols_give_the_bits_of_the_embeddings_rows(isa: str, cell: str, weights: str, data: Any) -> None:
    D, H = data.draw(st.integers(1, 40)), data.draw(st.sampled_from([1, 5, 16, 33, 64, 130]))
    modified = data.draw(st.booleans()) and not cell.startswith("rnn")
    normalised, layers = data.draw(st.booleans()) and cell.startswith("lstm"), data.draw(st.integers(1, 3))
    of_symbols, of_numbers, embedding = both(cell, weights, 11, D, H, layers, modified, normalised)
    steps, batch = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 12))
    xs = symbols(11, steps, batch, seed=data.draw(st.integers(0, 9)))
    one, other = of_symbols(batch=batch), of_numbers(batch=batch)
    expected, found = other.run(embedding[xs]), []
    for begin, end in pairwise([0, *sorted(data.draw(st.sets(st.integers(1, steps)))), steps]):
        torch.set_num_threads(data.draw(st.sampled_from([1, 2])))
        found.append(one.step(xs[begin])[None] if end == begin + 1 else one.run(xs[begin:end]))
    assert_same_bits([np.concatenate(found), one.state.h, one.state.c], [expected, other.state.h, other.state.c])


@every_format
@pytest.mark.parametrize("batch", [1, 9])
def test_two_threads_give_the_bits_of_one(weights: str, batch: int) -> None:
    of_symbols, of_numbers, embedding = both("lstm", weights, 7, 600, 600, layers=2)
    xs, expected = symbols(7, 3, batch), of_numbers(batch=batch)
    torch.set_num_threads(2)
    found = of_symbols(batch=batch)
    assert_same_bits(
        [found.step(xs[0]), found.run(xs)], [expected.step(embedding[xs[0]]), expected.run(embedding[xs])]
    )


@pytest.mark.parametrize("projected", [True, False])
def test_products_are_made_beforehand_up_to_a_limit_and_the_bits_are_the_same(projected: bool) -> None:
    H = 128  # a row of sums is 2 KB in any instruction set
    V = PROJECTED_BYTES // (4 * H * 4) + (not projected)
    of_symbols, of_numbers, embedding = both("lstm", "float32", V, 3, H)
    one, other = of_symbols(batch=5), of_numbers(batch=5)
    bytes_of_inputs = 4 * H * 3 * 4
    assert one.stack.bytes == other.stack.bytes - (bytes_of_inputs if projected else 0)
    xs = symbols(V, 4, 5)
    xs[1, 2] = V - 1
    assert_same_bits([one.step(xs[0]), one.run(xs)], [other.step(embedding[xs[0]]), other.run(embedding[xs])])


@every_format
def test_a_row_that_is_not_a_number_shows_only_where_it_is_read(isa: str, weights: str) -> None:
    embedding = random(5, 6)
    embedding[3, 2] = np.nan
    one = Stepper(packed("lstm", 6, 17, layers_of("lstm", 6, 17, 2, False), weights, embedding), batch=2)
    y = one.run(np.array([[0, 1], [3, 2], [4, 0]]))
    assert np.isnan(y[1:, 0]).all()
    assert not np.isnan(y[:, 1]).any()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.array([7]), ValueError, "x: expected symbols from 0 to 6, got 7"),
        (np.array([-1]), ValueError, "x: expected symbols from 0 to 6, got -1"),
        (np.array([1], np.int32), TypeError, "x: expected int64, got an array of format i"),
        (np.array([1.0], np.float32), TypeError, "x: expected int64, got an array of format f"),
        (np.array([[1]]), ValueError, r"x: expected shape \[1\], got \[1, 1\]"),
        ([1], TypeError, "x: expected an array of NumPy's, got a list"),
    ],
)
def test_what_is_no_symbol_is_refused_and_consumes_nothing(x: Any, error: type[Exception], message: str) -> None:
    one = both("lstm", "float32", 7, 3, 5)[0]()
    one.step(np.array([2]))
    before = one.state
    with pytest.raises(error, match=f"^{message}$"):
        one.step(x)
    with pytest.raises(ValueError, match="got 7"):
        one.run(np.array([[1], [7]]))
    assert_same_bits([one.state.h], [before.h])


def test_an_embedding_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"embedding: expected shape \[7, 3\], got \[7, 4\]"):
        packed("lstm", 3, 5, [], embedding=random(7, 4))
    with pytest.raises(ValueError, match="embedding: expected one row or more"):
        _engine.Stack("lstm", 3, 5, embedding=random(0, 3))
