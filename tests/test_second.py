"""Gradients of gradients: right for every cell, whoever computed the first ones."""

import warnings
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from test_ops import CELLS, Problem
from tolerances import assert_close
from unrolled import nn
from unrolled.ops import dispatch

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*the reference serves it"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("masks", "features"), [*product(("", "lengths resets reverse"), (0, 2))])
def test_second_derivatives_are_the_slopes_of_the_first(cell: str, masks: str, features: int) -> None:
    problem = Problem(cell, 3, 2, 2, masks, features)
    inputs = problem.inputs(torch.float64)

    def states(*values: Tensor) -> tuple[Tensor, ...]:
        return tuple(problem.states(dict(zip(inputs, values, strict=True))).values())

    assert torch.autograd.gradgradcheck(states, tuple(inputs.values()), fast_mode=True)


def penalty(problem: Problem, dtype: torch.dtype) -> list[Tensor]:
    """The gradients of everything from the squared gradients of everything."""
    inputs = list(problem.inputs(dtype).values())
    states = problem.states(dict(zip(problem.inputs(dtype), inputs, strict=True))).values()
    loss = torch.stack([state.sin().mean() for state in states]).sum()
    first = torch.autograd.grad(loss, inputs, create_graph=True)
    return list(torch.autograd.grad(torch.stack([grad.square().sum() for grad in first]).sum(), inputs))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "lengths resets reverse"])
def test_what_the_engine_computed_has_the_second_derivatives_of_the_reference(
    isa: str, cell: str, masks: str
) -> None:
    problem = Problem(cell, 6, 5, 17, masks, 3)
    for grad, expected in zip(penalty(problem, torch.float32), penalty(problem, torch.float64), strict=True):
        assert_close(grad, expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *product(("RNN", "GRU", "LSTM"), ({"num_layers": 2, "bidirectional": True, "batch_first": True},)),
        ("LSTM", {"bias": False, "proj_size": 2}),
    ],
)
def test_a_layers_second_derivatives_are_torchs(kind: str, options: dict[str, Any]) -> None:
    x = torch.randn(4, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for layers, dtype in ((torch.nn, torch.float64), (nn, torch.float64), (nn, torch.float32)):
        torch.manual_seed(0)
        layer = getattr(layers, kind)(3, 5, **options).to(dtype)
        critic = layer(x.to(dtype).requires_grad_())[0].sin().sum()
        first = torch.autograd.grad(critic, list(layer.parameters()), create_graph=True)
        squares = torch.stack([grad.square().sum() for grad in first])
        results.append(torch.autograd.grad(squares.sum(), list(layer.parameters())))
    for expected, *actual in zip(*results, strict=True):
        most = expected.abs().max()  # hundreds, whose rounding a number near zero beside them is made of
        for grad in actual:
            assert_close(grad / most.to(grad.dtype), expected / most)


@pytest.mark.parametrize("cell", CELLS)
def test_derivatives_go_on_after_the_second(cell: str) -> None:
    problem = Problem(cell, 2, 2, 1, "resets")
    inputs = problem.inputs(torch.float64)
    h0 = inputs["h0"]

    def slope(h0: Tensor) -> Tensor:
        states = problem.states(inputs | {"h0": h0})
        loss = torch.stack([state.sin().sum() for state in states.values()]).sum()
        (first,) = torch.autograd.grad(loss, h0, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), h0, create_graph=True)
        return second

    assert torch.autograd.gradcheck(slope, (h0,))


@pytest.mark.parametrize("cell", CELLS)
def test_derivatives_that_nobody_goes_on_from_hold_no_graph(cell: str) -> None:
    assert not any(grad.requires_grad for grad in penalty(Problem(cell, 2, 2, 1), torch.float64))


@pytest.mark.parametrize("cell", CELLS)
def test_an_input_that_was_made_of_another_is_counted_once(cell: str) -> None:
    """h0 is made of x here, and the derivative by x knows of both ways."""
    problem = Problem(cell, 3, 2, 2)
    inputs = problem.inputs(torch.float64)

    def state(x: Tensor) -> Tensor:
        return problem.states(inputs | {"x": x, "h0": x[0, :, : problem.width].sin()})["h"]

    assert torch.autograd.gradgradcheck(state, (inputs["x"],))


def test_frozen_weights_get_none() -> None:
    layer = nn.LSTM(3, 5).requires_grad_(False)
    x = torch.randn(4, 2, 3, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x)[0].sin().sum(), x, create_graph=True)
    torch.autograd.backward(first.square().sum())
    assert x.grad is not None and x.grad.ne(0).any()
    assert all(parameter.grad is None for parameter in layer.parameters())


@pytest.mark.parametrize(("dtype", "warns"), [(torch.float32, True), (torch.float64, False)])
def test_that_the_reference_serves_it_is_said_once(dtype: torch.dtype, warns: bool) -> None:
    dispatch.warn_reference.cache_clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            penalty(Problem("gru", 2, 1, 3), dtype)
    said = [str(warning.message) for warning in caught]
    assert len(said) == warns
    assert all(text.startswith("the second derivative of unrolled::gru has no compiled kernel") for text in said)
