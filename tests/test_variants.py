"""The variants of the layers: their equations, their masks, and the same numbers stepped, copied and compiled."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_sequence

from tolerances import assert_close
from unrolled import nn
from unrolled.errors import InputError
from unrolled.stepper import WEIGHTS

pytestmark = pytest.mark.usefixtures("one_thread")

T, B, D, H = 7, 5, 6, 33
EVERYTHING: dict[str, Any] = {
    "peephole": True,
    "coupled": True,
    "recurrent_dropout": 0.3,
    "zoneout": (0.2, 0.6),
    "weight_drop": 0.5,
}
VARIANTS: dict[str, tuple[type[nn.LSTM | nn.GRU | nn.RNN], dict[str, Any]]] = {
    "peephole": (nn.LSTM, {"peephole": True}),
    "coupled": (nn.LSTM, {"coupled": True}),
    "recurrent dropout": (nn.LSTM, {"recurrent_dropout": 0.3}),
    "zoneout": (nn.LSTM, {"zoneout": 0.25}),
    "projection": (nn.LSTM, {"proj_size": 20}),
    "layer norm": (nn.LSTM, {"layer_norm": True}),
    "everything": (nn.LSTM, EVERYTHING),
    "everything, projected": (nn.LSTM, EVERYTHING | {"proj_size": 20}),
    "everything, normalised": (nn.LSTM, EVERYTHING | {"layer_norm": True}),
    "everything, projected, normalised": (nn.LSTM, EVERYTHING | {"proj_size": 20, "layer_norm": True}),
    "gru zoneout": (nn.GRU, {"zoneout": 0.25}),
    "gru weight drop": (nn.GRU, {"weight_drop": 0.5}),
    "rnn weight drop": (nn.RNN, {"weight_drop": 0.5}),
}
every_variant = pytest.mark.parametrize("variant", VARIANTS)


def make(variant: str, **options: Any) -> Any:
    kind, settings = VARIANTS[variant]
    torch.manual_seed(0)
    return kind(D, H, **settings, **options)


def inputs() -> Tensor:
    return torch.randn(T, B, D, generator=torch.Generator().manual_seed(1))


def output(layer: Any, x: Tensor, **given: Any) -> Tensor:
    result: Tensor = layer(x, **given)[0]
    return result


@every_variant
@pytest.mark.parametrize("training", [True, False])
def test_a_layer_and_its_gradients_are_those_of_the_reference(variant: str, training: bool) -> None:
    layer = make(variant, num_layers=2, bidirectional=True).train(training)
    double = copy.deepcopy(layer).double()
    x, lengths = inputs(), torch.tensor([T, 3, 0, 5, 1])
    found = []
    for one, given in ((layer, x), (double, x.double())):
        torch.manual_seed(3)
        masks = torch.Tensor.bernoulli_  # a double mask takes other draws than a float one: both take the double's

        def drawn(self: Tensor, p: float, masks: Callable[..., Tensor] = masks) -> Tensor:
            return self.copy_(masks(torch.empty(self.shape, dtype=torch.float64), p))

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.Tensor, "bernoulli_", drawn)
            patch.setattr("torch.nn.functional.dropout", lambda w, p, training: drop(w, p) if training else w)
            y = output(one, given, lengths=lengths)
        found.append((y, *torch.autograd.grad(y.square().sum(), tuple(one.parameters()))))
    for actual, expected in zip(*found, strict=True):
        size = expected.abs().max().clamp(min=1)  # a norm makes some gradients large, and with them their rounding
        assert_close(actual / size, expected / size)


def drop(weight: Tensor, p: float) -> Tensor:
    """Dropout of a weight, the same in every dtype."""
    kept = torch.rand(weight.shape, generator=torch.Generator().manual_seed(5)) >= p
    return weight * kept / (1 - p)


@every_variant
@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_stepper_goes_on_as_the_layer_does_in_evaluation(isa: str, variant: str, weights: str) -> None:
    layer = make(variant, num_layers=2).eval()
    xs = inputs().numpy()
    one = layer.stepper(batch=B, weights=weights)
    whole = one.run(xs)
    if weights == "float32":
        with torch.no_grad():
            assert_close(torch.from_numpy(whole), output(layer, inputs()))
    for rows in ([0], [3, 1]):
        part = layer.stepper(batch=len(rows), weights=weights)
        steps = [part.step(np.ascontiguousarray(x[rows])) for x in xs[:4]]
        assert np.array_equal(np.stack(steps), whole[:4, rows])
        assert np.array_equal(part.run(np.ascontiguousarray(xs[4:, rows])), whole[4:, rows])


@every_variant
def test_masks_are_a_matter_of_the_seed(variant: str) -> None:
    layer, x = make(variant), inputs()
    torch.manual_seed(3)
    first = output(layer, x)
    state = torch.get_rng_state()
    second = output(layer, x)
    torch.set_rng_state(state)
    assert torch.equal(output(layer, x), second)
    random = variant not in ("peephole", "coupled", "projection", "layer norm")
    assert torch.equal(first, second) != random
    layer.eval()
    assert torch.equal(output(layer, x), output(layer, x))


def test_peepholes_show_the_cell_state_to_the_gates() -> None:
    layer = make("peephole")
    weights = dict(layer.named_parameters())
    p_i, p_f, p_o = weights["peephole_l0"]
    x = inputs()
    h, (trace,) = output(layer, x), layer(x, trace=True)[2]
    before = torch.cat((torch.zeros(1, B, H), h[:-1]))
    c_before = torch.cat((torch.zeros(1, B, H), trace.c[:-1]))
    sums = (
        x @ weights["weight_ih_l0"].T
        + before @ weights["weight_hh_l0"].T
        + weights["bias_ih_l0"]
        + weights["bias_hh_l0"]
    )
    a_i, a_f, a_g, a_o = sums.chunk(4, -1)
    seen = (a_i + p_i * c_before).sigmoid(), (a_f + p_f * c_before).sigmoid(), a_g.tanh()
    assert_close(trace.gates, torch.cat((*seen, (a_o + p_o * trace.c).sigmoid()), -1))


def test_a_coupled_lstm_forgets_as_much_as_it_takes_in() -> None:
    layer = make("coupled", num_layers=2)
    assert {name: tuple(one.shape) for name, one in layer.named_parameters()} == {
        **{f"weight_ih_l{number}": (3 * H, width) for number, width in enumerate((D, H))},
        **{f"weight_hh_l{number}": (3 * H, H) for number in (0, 1)},
        **{f"bias_{part}_l{number}": (3 * H,) for part in ("ih", "hh") for number in (0, 1)},
    }
    for trace in layer(inputs(), trace=True)[2]:
        i, f, g, _ = trace.gates.chunk(4, -1)
        assert torch.equal(f, 1 - i)
        c_before = torch.cat((torch.zeros(1, B, H), trace.c[:-1]))
        assert_close(trace.c, (1 - i) * c_before + i * g)


def test_recurrent_dropout_keeps_the_memory_of_a_unit_that_takes_in_nothing() -> None:
    torch.manual_seed(0)
    _, _, (trace,) = nn.LSTM(D, 500, recurrent_dropout=0.3)(inputs(), trace=True)
    i, f, g, _ = trace.gates.chunk(4, -1)
    kept = f * torch.cat((torch.zeros(1, B, 500), trace.c[:-1]))
    nothing = trace.c == kept
    assert 0.28 < nothing.double().mean() < 0.32
    assert_close(trace.c[~nothing], (kept + i * g / 0.7)[~nothing])


def test_zoneout_leaves_states_as_they_were_and_expects_it_in_evaluation() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(D, 500, zoneout=(0.1, 0.4))
    nothing = torch.zeros(1, B, 500)
    _, _, (trace,) = layer(inputs(), trace=True)
    for state, share in ((trace.h, 0.1), (trace.c, 0.4)):
        same = state == torch.cat((nothing, state[:-1]))
        assert abs(same.double().mean() - share) < 0.02
    _, _, (trace,) = layer.eval()(inputs(), trace=True)
    i, f, g, o = trace.gates.chunk(4, -1)
    h_before, c_before = torch.cat((nothing, trace.h[:-1])), torch.cat((nothing, trace.c[:-1]))
    fresh = f * c_before + i * g
    assert_close(trace.c, 0.4 * c_before + 0.6 * fresh)
    assert_close(trace.h, 0.1 * h_before + 0.9 * o * fresh.tanh())


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_weight_drop_takes_the_same_weights_out_at_every_step(kind: Any) -> None:
    torch.manual_seed(0)
    layer = kind(D, H, weight_drop=0.5)
    (grad,) = torch.autograd.grad(output(layer, inputs()).square().sum(), layer.weight_hh_l0)
    assert 0.45 < (grad == 0).double().mean() < 0.55
    rows = pack_sequence([torch.randn(length, D) for length in (40, 3, 3)])  # which are run in groups otherwise
    (grad,) = torch.autograd.grad(layer(rows)[0].data.square().sum(), layer.weight_hh_l0)
    assert 0.45 < (grad == 0).double().mean() < 0.55
    (grad,) = torch.autograd.grad(output(layer.eval(), inputs()).square().sum(), layer.weight_hh_l0)
    assert (grad != 0).all()


@every_variant
def test_a_state_dict_makes_a_copy(variant: str) -> None:
    layer = make(variant, num_layers=2).eval()
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(output(other, inputs()), output(layer, inputs()))


@pytest.mark.parametrize("variant", ["everything", "everything, normalised", "gru zoneout"])
def test_a_variant_compiles_without_a_graph_break(variant: str) -> None:
    layer = make(variant).eval()
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_close(output(compiled, inputs()), output(layer, inputs()))
    layer.train()
    assert output(compiled, inputs()).isfinite().all()


@pytest.mark.parametrize("variant", ["everything", "everything, normalised", "gru zoneout"])
@pytest.mark.parametrize("training", [True, False])
def test_a_variant_exports(variant: str, training: bool) -> None:
    layer = make(variant).train(training)
    shapes = {"input": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    exported: Any = torch.export.export(layer, (inputs(),), dynamic_shapes=shapes)
    x = torch.randn(T + 3, B + 1, D)
    y = output(exported.module(), x)
    assert y.shape == (T + 3, B + 1, H)
    if not training:
        assert_close(y, output(layer, x))


def test_a_projection_narrows_what_the_gates_see_and_not_the_memory() -> None:
    layer = make("projection", num_layers=2)
    y, (h, c), traces = layer(inputs(), trace=True)
    assert y.shape == (T, B, 20) and h.shape == (2, B, 20) and c.shape == (2, B, H)
    for number, trace in enumerate(traces):
        o = trace.gates.chunk(4, -1)[3]
        assert_close(trace.h, (o * trace.c.tanh()) @ layer.get_parameter(f"weight_hr_l{number}").T)


def test_chrono_opens_coupled_gates_through_the_input_gate() -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(D, 2000, coupled=True, init="chrono", longest_gap=101)
    bias = (layer.get_parameter("bias_ih_l0") + layer.get_parameter("bias_hh_l0"))[:2000]
    assert (-bias).exp().min() >= 0.999 and (-bias).exp().max() <= 100.001


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        (nn.LSTM, {"recurrent_dropout": 1.0}, "recurrent_dropout is 1.0, expected a probability from 0"),
        (nn.LSTM, {"zoneout": -0.1}, "zoneout_h is -0.1, expected a probability"),
        (nn.LSTM, {"zoneout": (0.1, "much")}, "zoneout_c is 'much', expected a probability"),
        (nn.GRU, {"zoneout": True}, "zoneout_h is True, expected a probability"),
        (nn.RNN, {"weight_drop": 2}, "weight_drop is 2, expected a probability"),
    ],
)
def test_what_is_no_probability_is_refused(kind: Any, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        kind(D, H, **options)
