"""Layers that keep the state every few steps: outputs and gradients of those that keep all, from less memory."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from tolerances import assert_close
from unrolled import nn
from unrolled.errors import InputError

T, B, D, H = 7, 5, 9, 17
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("LSTM", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"proj_size": 4, "bidirectional": True}),
    ("LSTM", {"peephole": True, "coupled": True}),
    ("LSTM", {"layer_norm": True, "bidirectional": True}),
    ("GRU", {}),
    ("GRU", {"num_layers": 2, "bidirectional": True, "bias": False}),
]
MASKS = ("", "lengths", "resets", "lengths resets")

every_layer = pytest.mark.parametrize(("kind", "options"), OPTIONS)
every_kind = pytest.mark.parametrize("kind", ["LSTM", "GRU"])

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*the reference serves it", "ignore:LSTM with projections"),
]


def twins(kind: str, options: dict[str, Any], recompute: int) -> tuple[Any, Any]:
    """A layer that keeps all and one that recomputes, of the same weights."""
    torch.manual_seed(0)
    kept = getattr(nn, kind)(D, H, **options)
    recomputing = getattr(nn, kind)(D, H, **options, recompute=recompute)
    recomputing.load_state_dict(kept.state_dict())
    return kept, recomputing


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


def masks_of(names: str) -> dict[str, Tensor]:
    """Lengths from 0 to T, resets at a third of the steps."""
    masks = {"lengths": torch.tensor([4, T, 0, 1, 6]), "resets": random(T, B) > 0.5}
    return {name: masks[name] for name in names.split()}


def initial(layer: Any, dtype: torch.dtype) -> tuple[Tensor, ...]:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    return tuple(random(count, B, width).to(dtype).requires_grad_() for width in layer._state_widths())


def solve(layer: Any, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    """Output, final states, and the gradients of weights, input and initial states from a random loss of all."""
    dtype = layer.weight_ih_l0.dtype
    x, states = random(T, B, D).to(dtype).requires_grad_(), initial(layer, dtype)
    output, final = layer(x, states if len(states) > 1 else states[0], **masks)
    outputs = {"output": output} | dict(zip("hc", final if len(states) > 1 else (final,), strict=False))
    inputs = {"x": x, **dict(zip(("h_0", "c_0"), states, strict=False)), **dict(layer.named_parameters())}
    grads = [random(*y.shape).to(dtype) * (T * B) ** -0.5 for y in outputs.values()]
    found = torch.autograd.grad(list(outputs.values()), list(inputs.values()), grads)
    return outputs | {f"grad_{name}": grad for name, grad in zip(inputs, found, strict=True)}


@pytest.mark.parametrize(
    ("kind", "options"),
    [("LSTM", {"recurrent_dropout": 0.3, "zoneout": 0.2, "weight_drop": 0.5}), ("GRU", {"zoneout": 0.2})],
)
def test_the_way_back_has_the_masks_of_the_way_forward(kind: str, options: dict[str, Any]) -> None:
    kept, recomputing = twins(kind, options, 3)
    found = []
    for layer in (kept, recomputing):
        torch.manual_seed(1)
        found.append(solve(layer, masks_of("lengths resets")))
    for name, value in found[1].items():
        assert_close(value, found[0][name], name)


@every_layer
@pytest.mark.parametrize("masks", MASKS)
def test_outputs_and_gradients_are_those_of_all_kept(
    isa: str, kind: str, options: dict[str, Any], masks: str
) -> None:
    for recompute in (2, 3, T, 100):
        kept, recomputing = twins(kind, options, recompute)
        expected = solve(kept.double(), masks_of(masks))
        for name, value in solve(recomputing, masks_of(masks)).items():
            assert_close(value, expected[name], f"{name} with recompute={recompute}")


@every_layer
@pytest.mark.parametrize("masks", MASKS)
def test_in_float64_too(kind: str, options: dict[str, Any], masks: str) -> None:
    kept, recomputing = (layer.double() for layer in twins(kind, options, 3))
    expected = solve(kept, masks_of(masks))
    for name, value in solve(recomputing, masks_of(masks)).items():
        assert_close(value, expected[name], name)


@every_kind
@pytest.mark.parametrize("rows", [1, 40])
def test_two_threads_recompute_as_well(isa: str, kind: str, rows: int) -> None:
    steps, units = 70, 200
    torch.set_num_threads(2)
    torch.manual_seed(0)
    kept = getattr(nn, kind)(D, units, dtype=torch.float64)
    recomputing = getattr(nn, kind)(D, units, recompute=33)
    recomputing.load_state_dict(kept.state_dict())
    lengths = torch.randint(0, steps + 1, (rows,), generator=torch.Generator().manual_seed(1))
    x, grad = random(steps, rows, D), random(steps, rows, units) / steps

    def gradients(layer: Any) -> dict[str, Tensor]:
        dtype = layer.weight_ih_l0.dtype
        output, _ = layer(x.to(dtype), lengths=lengths)
        parameters = dict(layer.named_parameters())
        found = torch.autograd.grad(output, list(parameters.values()), grad.to(dtype))
        return dict(zip(parameters, found, strict=True))

    expected = gradients(kept)
    for name, value in gradients(recomputing).items():
        assert_close(value, expected[name], name)


@every_kind
def test_frozen_weights_leave_the_gradient_of_the_input(isa: str, kind: str) -> None:
    _, layer = twins(kind, {"bidirectional": True}, 3)
    expected = solve(layer, masks_of("lengths"))["grad_x"]
    layer.requires_grad_(False)
    x, states = random(T, B, D).requires_grad_(), initial(layer, torch.float32)
    output, final = layer(x, states if len(states) > 1 else states[0], **masks_of("lengths"))
    outputs = [output, *(final if len(states) > 1 else (final,))]
    torch.autograd.backward(outputs, [random(*y.shape) * (T * B) ** -0.5 for y in outputs])
    assert x.grad is not None and torch.equal(x.grad, expected)


@every_kind
def test_a_parameter_that_is_learned_alone_has_its_gradient(kind: str) -> None:
    for name in dict(getattr(nn, kind)(D, H).named_parameters()):
        expected, found = twins(kind, {}, 3)
        for layer in (expected, found):
            layer.requires_grad_(False).get_parameter(name).requires_grad_()
            layer(random(T, B, D))[0].square().sum().backward()
        assert_close(found.get_parameter(name).grad, expected.get_parameter(name).grad, name)


@pytest.mark.parametrize("recompute", [None, 3])
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}])
def test_a_final_state_may_be_changed_in_place(recompute: int | None, options: dict[str, Any]) -> None:
    layer = nn.LSTM(D, H, recompute=recompute, **options)
    x = random(T, B, D).requires_grad_()
    gradients = []
    for change in (1.0, 0.0):
        output, (h_n, c_n) = layer(x)
        h_n *= change
        c_n *= change
        gradients.append(torch.autograd.grad(output.sum() + 0 * (h_n + c_n).sum(), x)[0])
    assert torch.equal(*gradients)


@every_kind
def test_the_output_is_the_same_bits(isa: str, kind: str) -> None:
    kept, recomputing = twins(kind, {"num_layers": 2, "bidirectional": True}, 2)
    masks = masks_of("lengths resets")
    before, after = solve(kept, masks), solve(recomputing, masks)
    for name in set("hc").intersection(before) | {"output"}:
        assert torch.equal(after[name], before[name]), name


def bytes_kept(layer: Any, x: Tensor) -> int:
    """What a pass forward holds for the way back, the layer's own parameters aside."""
    own, kept = {parameter.data_ptr() for parameter in layer.parameters()}, dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output, _ = layer(x)
    assert output.grad_fn is not None
    return sum(kept.values())


@every_kind
def test_what_is_kept_is_input_and_output_and_a_state_every_few_steps(kind: str) -> None:
    steps, every = 100, 10
    kept, recomputing = twins(kind, {}, every)
    x, unit = random(steps, B, D), 4 * B * H
    input_and_weights = x.nbytes + 4 * (4 * H * (D + H + 2) + 4 * B * H)
    assert bytes_kept(kept, x) >= 5 * steps * unit
    assert bytes_kept(recomputing, x) <= input_and_weights + (steps + steps // every + 2) * unit


@every_kind
def test_without_gradients_and_in_traces_it_changes_nothing(kind: str) -> None:
    kept, recomputing = twins(kind, {"num_layers": 2}, 3)
    x = random(T, B, D)
    *_, expected = kept(x, trace=True)
    *_, traces = recomputing(x, trace=True)
    for trace, right in zip(traces, expected, strict=True):
        assert all(a is None or torch.equal(a, b) for a, b in zip(trace, right, strict=True))
    with torch.no_grad():
        assert torch.equal(recomputing(x)[0], kept(x)[0])


def test_sequences_of_any_length_are_compiled_once() -> None:
    counter: Any = CompileCounter()
    layer = nn.GRU(3, 5, recompute=4)
    compiled: Any = torch.compile(layer, backend=counter, dynamic=True)
    for steps in (9, 20, 6, 31):
        compiled(torch.randn(steps, 2, 3))
    assert counter.frame_count == 1


@every_kind
def test_it_compiles_without_a_graph_break(kind: str) -> None:
    _, layer = twins(kind, {"bidirectional": True, "batch_first": True}, 3)
    x, lengths = random(B, T, D), torch.tensor([4, T, 0, 1, 6])
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected, actual = (run(x, lengths=lengths)[0] for run in (layer, compiled))
    assert torch.equal(actual, expected)
    parameters = list(layer.parameters())
    for found, right in zip(
        torch.autograd.grad(actual.sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        assert_close(found, right)


def test_pytorch_finds_nothing_wrong_with_the_op() -> None:
    def normal(*shape: int) -> Tensor:
        return random(*shape).requires_grad_()

    inputs = {
        "x": normal(T, B, D),
        "weight_ih": normal(4 * H, D),
        "bias_ih": normal(4 * H),
        "weight_hh": normal(4 * H, H),
        "bias_hh": normal(4 * H),
        "h0": normal(B, H),
        "c0": normal(B, H),
        "lengths": torch.tensor([4, T, 0, 1, 6]),
        "resets": random(T, B) > 0.5,
    }
    given = ("lstm", " ".join(inputs), [*inputs.values()], True, False, 3)
    torch.library.opcheck(torch.ops.unrolled.recomputed.default, given)


@every_kind
def test_under_autocast_products_are_in_bfloat16_both_ways(kind: str) -> None:
    solved = []
    for layer in twins(kind, {}, 3):
        x = random(T, B, D).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(x)[0]
        solved.append((output, *torch.autograd.grad(output.square().sum(), x)))
    for found, expected in zip(*solved, strict=True):
        assert torch.equal(found, expected)


@every_kind
def test_a_copy_recomputes_as_well(kind: str) -> None:
    _, layer = twins(kind, {}, 3)
    assert copy.deepcopy(layer).recompute == 3


@every_kind
def test_a_length_out_of_range_is_refused(kind: str) -> None:
    _, layer = twins(kind, {}, 3)
    with pytest.raises(ValueError, match=re.escape("lengths[2] is 9, expected 0 to 7")):
        layer(random(T, B, D), lengths=torch.tensor([1, 2, 9, 4, 4]))


@every_kind
def test_a_second_derivative_is_refused(kind: str) -> None:
    _, layer = twins(kind, {}, 3)
    x = random(T, B, D).requires_grad_()
    (grad,) = torch.autograd.grad(layer(x)[0].square().sum(), x, create_graph=True)
    with pytest.raises(NotImplementedError, match="without recompute"):
        torch.autograd.backward(grad.sum())


@every_kind
@pytest.mark.parametrize("recompute", [1, 0, -3, 2.5, "all"])
def test_what_is_no_number_of_steps_is_refused(kind: str, recompute: Any) -> None:
    with pytest.raises(InputError, match=re.escape(f"recompute is {recompute!r}, expected a whole number")):
        getattr(nn, kind)(D, H, recompute=recompute)
