"""What torch.func transforms: the composite ops give what the engine gives, to layers and to their gradients."""

import warnings
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, vmap

from test_ops import CELLS, FACTORS, LEARNED, Problem, op_of
from tolerances import assert_close
from unrolled import nn
from unrolled.ops import dispatch
from unrolled.ops.composite import composite

KINDS = ("RNN", "GRU", "LSTM")
every_kind = pytest.mark.parametrize("kind", KINDS)

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*the reference serves it", "ignore:.*torch.jit.script. is deprecated"),
    pytest.mark.usefixtures("one_thread"),
]


@pytest.mark.parametrize(("cell", "keep"), [*product(CELLS, (True, False))])
@pytest.mark.parametrize("masks", ["", "lengths resets", "lengths resets reverse"])
def test_a_composite_op_returns_what_the_op_returns(cell: str, keep: bool, masks: str) -> None:
    for symbols in (0,) if "normalised" in cell else (0, 6):
        assert_the_composite_returns_what_the_op_returns(Problem(cell, 5, 3, 7, masks, 4, symbols), keep)


def assert_the_composite_returns_what_the_op_returns(problem: Problem, keep: bool) -> None:
    cell = problem.cell
    lengths, resets, reverse, bfloat16 = problem.run_masks()
    op = op_of(cell)
    inputs: dict[str, Any] = {name: x.detach() for name, x in problem.inputs(torch.float64).items()}
    inputs |= {"symbols": problem.read(), "lengths": lengths, "resets": resets, "reverse": reverse}
    inputs |= {"bfloat16": bfloat16}
    inputs |= {"relu": cell == "rnn_relu"} if op == "rnn" else {"keep": keep}
    optional = {"rnn": (), "gru": FACTORS[1:2], "lstm": (*LEARNED, *FACTORS)}[op]
    inputs = dict.fromkeys(optional) | inputs | problem.factors(torch.float64)
    expected: Any = getattr(torch.ops.unrolled, op)(**inputs)
    for got, wanted in zip(composite(op, inputs).values(), expected, strict=True):
        assert_close(got, wanted)


def layer_and_loss(kind: str, dtype: torch.dtype = torch.float32) -> tuple[Any, dict[str, Tensor], Any]:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 5, num_layers=2, bidirectional=True).to(dtype)

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        output: Tensor = functional_call(layer, parameters, (x,))[0]
        return output.sin().sum()

    return layer, {name: parameter.detach() for name, parameter in layer.named_parameters()}, loss


@every_kind
def test_torch_func_finds_the_gradients_that_backward_finds(kind: str) -> None:
    layer, parameters, loss = layer_and_loss(kind)
    x = torch.randn(4, 2, 3)
    found = grad(loss)(parameters, x)
    expected = torch.autograd.grad(layer(x)[0].sin().sum(), list(layer.parameters()))
    for got, wanted in zip(found.values(), expected, strict=True):
        assert_close(got, wanted)


@every_kind
def test_each_row_has_gradients_of_its_own(kind: str) -> None:
    _, parameters, loss = layer_and_loss(kind)
    x = torch.randn(4, 6, 3)
    together = vmap(grad(loss), in_dims=(None, 1))(parameters, x)
    for row in range(6):
        for name, wanted in grad(loss)(parameters, x[:, row]).items():
            assert_close(together[name][row], wanted)


@pytest.mark.parametrize("options", [{}, {"recompute": 2}])
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_sequences_may_have_lengths_of_their_own(kind: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 5, **options)
    x, lengths = torch.randn(3, 4, 2, 3), torch.tensor([[4, 2], [1, 0], [3, 4]])

    def loss(x: Tensor, lengths: Tensor) -> Any:
        output, state = layer(x, lengths=lengths)
        return output.sin().sum() + (state if kind == "GRU" else torch.stack(state)).cos().sum()

    together = vmap(grad(loss))(x, lengths)
    for found, *one in zip(together, x.requires_grad_(), lengths, strict=True):
        (expected,) = torch.autograd.grad(loss(*one), one[0])
        assert_close(found, expected)


@every_kind
def test_an_ensemble_runs_at_once(kind: str) -> None:
    layer, parameters, _ = layer_and_loss(kind)
    members = {name: torch.stack([value, 2 * value]) for name, value in parameters.items()}
    x = torch.randn(4, 2, 3)
    together = vmap(lambda one: functional_call(layer, one, (x,))[0])(members)
    for number in range(2):
        one = {name: value[number] for name, value in members.items()}
        assert_close(together[number], functional_call(layer, one, (x,))[0])


@every_kind
def test_a_hessian_is_that_of_double_backward(kind: str) -> None:
    _, parameters, loss = layer_and_loss(kind, torch.float64)
    x = torch.randn(3, 2, 3, dtype=torch.float64)
    expected = torch.autograd.functional.hessian(  # type: ignore[no-untyped-call]
        lambda x: loss(parameters, x), x
    )
    found = hessian(lambda x: loss(parameters, x))(x)
    assert_close(found, expected)


def test_gates_take_no_gradient_there_either() -> None:
    layer = nn.LSTM(3, 5)
    x = torch.randn(4, 2, 3)
    assert grad(lambda x: layer(x, trace=True)[2][0].gates.sum())(x).eq(0).all()


def test_that_the_reference_serves_it_is_said_once() -> None:
    dispatch.warn_reference.cache_clear()
    _, parameters, loss = layer_and_loss("GRU")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            grad(loss)(parameters, torch.randn(4, 2, 3))
    assert [str(one.message).startswith("unrolled::gru within torch.func has no") for one in caught] == [True]


@every_kind
@pytest.mark.parametrize("recompute", [None, 2])
def test_forward_mode_finds_what_jvp_finds(kind: str, recompute: int | None) -> None:
    torch.manual_seed(0)
    options = {} if kind == "RNN" or recompute is None else {"recompute": recompute}
    layer: Any = getattr(nn, kind)(3, 5, num_layers=2, **options).double()
    x, tangent = torch.randn(4, 2, 3).double(), torch.randn(4, 2, 3).double()
    expected = torch.func.jvp(lambda x: layer(x)[0], (x,), (tangent,))[1]
    make_dual: Any = forward_ad.make_dual
    unpack_dual: Any = forward_ad.unpack_dual
    with forward_ad.dual_level():
        found = unpack_dual(layer(make_dual(x, tangent))[0]).tangent
        assert unpack_dual(layer(x)[0]).tangent is None
    assert_close(found, expected)
