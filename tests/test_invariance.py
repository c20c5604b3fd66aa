"""Batch-invariant inference: a row's bits depend on its own inputs and on nothing else."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tolerances import assert_same_bits
from unrolled import _engine, nn
from unrolled.stepper import State

FAMILIES = {
    "vector": [name for name in _engine.isas() if name != "generic"],  # these agree to the bit
    "generic": ["generic"],
}
WAYS = ("layer", "padded layer", "layer in training", "stepper", "stepper, a step at a time")

States = tuple[Tensor, ...]
Result = tuple[Tensor, States]


def run(layer: Any, x: Tensor, before: States, way: str) -> Result:
    """The output and the final states of layer over x [T,B,D], by one of the ways to run it."""
    if way.startswith("stepper"):
        stepper = layer.stepper(batch=x.shape[1])
        stepper.state = State(before[0].numpy(), before[1].numpy() if len(before) == 2 else None)
        xs = x.numpy()
        y = stepper.run(xs) if way == "stepper" else np.stack([stepper.step(one) for one in xs])
        after = stepper.state
        return torch.from_numpy(y), tuple(
            torch.from_numpy(part) for part in (after.h, after.c) if part is not None
        )
    steps, rows, _ = x.shape
    given: dict[str, Any] = {}
    if way == "padded layer":
        x = torch.cat((x, torch.full((2, rows, x.shape[2]), torch.nan)))
        given["lengths"] = torch.full((rows,), steps)
    with torch.set_grad_enabled(way == "layer in training"):
        y, state = layer(x, before if len(before) == 2 else before[0], **given)
    states = state if isinstance(state, tuple) else (state,)
    return y[:steps].detach(), tuple(part.detach() for part in states)


@pytest.fixture
def settings_put_back() -> Iterator[None]:
    """The instruction set and the thread count as they were."""
    isa, threads = _engine.isa(), torch.get_num_threads()
    yield
    _engine.use_isa(isa)
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("settings_put_back")
@pytest.mark.parametrize("family", [name for name, sets in FAMILIES.items() if sets])
@pytest.mark.parametrize("kind", ["LSTM", "LSTM, projected", "LSTM, normalised", "GRU", "RNN", "RNN of relu"])
@settings(max_examples=15)
@given(data=st.data())
def test_a_row_has_the_same_bits_by_whatever_way_it_is_run(family: str, kind: str, data: Any) -> None:
    """In any batch and cut anywhere, with each piece on other threads, instructions and code than the last."""
    units, layers = data.draw(st.sampled_from([1, 5, 16, 33, 64, 130, 300])), data.draw(st.integers(1, 3))
    steps, batch, inputs = (data.draw(st.integers(1, most)) for most in (8, 20, 20))
    torch.manual_seed(data.draw(st.integers(0, 9)))
    name, *variant = kind.split(", ")
    name, _, nonlinearity = name.partition(" of ")
    options: dict[str, Any] = {"nonlinearity": nonlinearity} if nonlinearity else {}
    width = data.draw(st.integers(1, units - 1)) if variant and units > 1 else 0
    if "normalised" in variant:
        width *= data.draw(st.integers(0, 1))
        options |= {"layer_norm": True, "coupled": data.draw(st.booleans())}
    if width:
        options |= {"proj_size": width, "peephole": data.draw(st.booleans())}
    layer = getattr(nn, name)(inputs, units, layers, **options)
    x = torch.randn(steps, batch, inputs)
    before = tuple(torch.randn(layers, batch, n) for n in (width or units, units)[: 2 if name == "LSTM" else 1])
    _engine.use_isa(FAMILIES[family][0])
    torch.set_num_threads(1)
    expected, expected_states = run(layer, x, before, "layer")
    order = data.draw(st.permutations(range(batch)))
    for begin, end in pairwise(sorted({0, batch} | data.draw(st.sets(st.integers(0, batch))))):
        rows, t = order[begin:end], 0
        states = tuple(part[:, rows] for part in before)
        while t < steps:
            _engine.use_isa(data.draw(st.sampled_from(FAMILIES[family])))
            torch.set_num_threads(data.draw(st.sampled_from([1, 2])))
            cut = t + data.draw(st.integers(1, steps - t))
            y, states = run(layer, x[t:cut, rows], states, data.draw(st.sampled_from(WAYS)))
            assert_same_bits([y], [expected[t:cut, rows]])
            t = cut
        assert_same_bits(states, [part[:, rows] for part in expected_states])


@pytest.mark.parametrize("coupled", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_a_zero_has_the_same_sign_by_whatever_way_it_is_run(isa: str, coupled: bool, way: str) -> None:
    """Next to nothing, and that negative, is taken into an empty cell: what comes out is no number but 0 or -0."""
    layer: Any = nn.LSTM(1, 5, coupled=coupled)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    gates = layer.bias_ih_l0.detach().view(-1, 5)
    gates[0], gates[1 if coupled else 2] = -87.3, -1e-3
    before = (torch.zeros(1, 1, 5), torch.zeros(1, 1, 5))
    expected, expected_states = run(layer, torch.zeros(2, 1, 1), before, "layer")
    assert not expected.any()
    found, states = run(layer, torch.zeros(2, 1, 1), before, way)
    assert_same_bits([found, *states], [expected, *expected_states])
