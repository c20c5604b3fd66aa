"""The LSTM with layer-normalised gates: the equations of Ba et al., masks, and all that it goes together with."""

import copy
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from unrolled import _engine, nn
from unrolled.ops import dispatch
from unrolled.stepper import WEIGHTS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:.*the reference serves it"),
]

T, B, D, H = 5, 3, 4, 6
LENGTHS = torch.tensor([T, 0, 2])
EVERYTHING: dict[str, Any] = {"peephole": True, "coupled": True, "zoneout": (0.2, 0.6), "proj_size": 2}


def make(**options: Any) -> nn.LSTM:
    """A layer in float64 whose gains and biases are not those it begins with."""
    torch.manual_seed(0)
    layer = nn.LSTM(D, H, layer_norm=True, dtype=torch.float64, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith(("gain", "bias_c")):
            torch.nn.init.normal_(parameter)
    return layer


def inputs() -> Tensor:
    return torch.randn(T, B, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def normalised(values: Tensor) -> Tensor:
    mean = values.mean(-1, keepdim=True)
    return (values - mean) / ((values - mean).square().mean(-1, keepdim=True) + 1e-5).sqrt()


def test_a_layer_follows_the_equations_of_the_paper() -> None:
    layer, x = make(), inputs()
    own = {name.removesuffix("_l0"): parameter for name, parameter in layer.named_parameters()}
    h, c = torch.zeros(2, B, H, dtype=torch.float64)
    output, _, (trace,) = layer(x, trace=True)
    for t in range(T):
        sums = own["gain_ih"] * normalised(x[t] @ own["weight_ih"].T) + own["gain_hh"] * normalised(
            h @ own["weight_hh"].T
        )
        i, f, g, o = (sums + own["bias_ih"] + own["bias_hh"]).chunk(4, -1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * (own["gain_c"] * normalised(c) + own["bias_c"]).tanh()
        assert_close(output[t], h)
        assert_close(trace.c[t], c)
        assert_close(trace.gates[t], torch.cat((i.sigmoid(), f.sigmoid(), g.tanh(), o.sigmoid()), -1))


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_gradients_are_those_of_finite_differences(options: dict[str, Any]) -> None:
    layer = make(bidirectional=True, **options).eval()
    resets = torch.tensor([[0, 0, 1], [1, 0, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
    names = [name for name, _ in layer.named_parameters()]

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        given = dict(zip(names, parameters, strict=True))
        call: Any = torch.func.functional_call(layer, given, (x,), {"lengths": LENGTHS, "resets": resets})
        output: Tensor = call[0]
        return output

    values = [inputs().requires_grad_(), *(p.detach().requires_grad_() for p in layer.parameters())]
    assert torch.autograd.gradcheck(run, values, fast_mode=True)


def test_a_row_with_a_length_is_that_row_alone_cut_short() -> None:
    layer, x = make(bidirectional=True, num_layers=2), inputs()
    soiled = x.masked_fill((torch.arange(T)[:, None] >= LENGTHS)[:, :, None], torch.nan)
    output, (h, c) = layer(soiled, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        assert output[length:, row].eq(0).all()
        if length:
            alone, (h_alone, c_alone) = layer(x[:length, row])
            assert_close(output[:length, row], alone)
            assert_close(h[:, row], h_alone)
            assert_close(c[:, row], c_alone)
    grads = torch.autograd.grad(output.sum() + c.sum(), tuple(layer.parameters()))
    assert all(grad.isfinite().all() for grad in grads)


def test_what_is_not_traced_is_the_same() -> None:
    layer, x = make(**EVERYTHING).eval(), inputs()
    traced, (h, c), _ = layer(x, lengths=LENGTHS, trace=True)
    with torch.no_grad():
        output, (h_alone, c_alone) = layer(x, lengths=LENGTHS)
    for one, other in ((traced, output), (h, h_alone), (c, c_alone)):
        assert torch.equal(one, other)


def test_normalised_gates_do_not_see_the_size_of_the_weights() -> None:
    layer, x = make(), 100 * inputs()
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.get_parameter("weight_ih_l0").mul_(64)
        assert torch.nn.functional.cosine_similarity(layer(x)[0][0], other(x)[0][0]).min() > 0.999999


def test_parameters_begin_as_no_gain_and_no_bias() -> None:
    layer = nn.LSTM(D, H, 2, layer_norm=True, coupled=True)
    for suffix in ("_l0", "_l1"):
        for name, width, value in (
            ("gain_ih", 3 * H, 1),
            ("gain_hh", 3 * H, 1),
            ("gain_c", H, 1),
            ("bias_c", H, 0),
        ):
            assert torch.equal(layer.get_parameter(name + suffix), torch.full((width,), float(value)))


@pytest.mark.parametrize("options", [{}, EVERYTHING])
def test_the_engine_serves_it_without_a_warning(isa: str, options: dict[str, Any]) -> None:
    layer, x = make(num_layers=2, **options).eval(), inputs()
    expected = layer(x, lengths=LENGTHS)[0]
    dispatch.warn_reference.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_close(layer.float()(x.float(), lengths=LENGTHS)[0], expected)


def test_under_autocast_products_are_in_lower_precision_and_the_rest_is_not() -> None:
    layer, x = make().float(), inputs().float()
    exact = layer(x)[0]
    soiled = x.masked_fill((torch.arange(T)[:, None] >= LENGTHS)[:, :, None], torch.nan)
    with torch.autocast("cpu", torch.bfloat16):
        output = layer(x)[0]
        grads = torch.autograd.grad(layer(soiled, lengths=LENGTHS)[0].sum(), tuple(layer.parameters()))
    assert output.dtype == torch.float32
    assert_close(output.bfloat16(), exact.double())
    assert all(grad.isfinite().all() for grad in grads)


STEPPED: dict[str, dict[str, Any]] = {"alone": {}, "with everything": EVERYTHING}
every_stepper = pytest.mark.parametrize("options", STEPPED)
every_format = pytest.mark.parametrize("weights", WEIGHTS)


def stepped(options: str, weights: str, xs: Any, units: int = H) -> list[Any]:
    """The bits of one step, the rest run as a sequence, and the state after, of two layers over xs [T,B,D]."""
    torch.manual_seed(0)
    layer = nn.LSTM(xs.shape[2], units, num_layers=2, layer_norm=True, **STEPPED[options])
    one = layer.stepper(batch=xs.shape[1], weights=weights)
    ys = np.concatenate([one.step(xs[0])[None], one.run(xs[1:])])
    assert one.state.c is not None
    return [part.view(np.uint32) for part in (ys, one.state.h, one.state.c)]


@every_stepper
@every_format
def test_nan_in_one_row_of_a_stepper_never_reaches_another(isa: str, options: str, weights: str) -> None:
    xs = inputs().float().numpy()
    expected = stepped(options, weights, xs)
    xs[1, 1, 2] = np.nan
    for clean, soiled in zip(expected, stepped(options, weights, xs), strict=True):
        assert np.array_equal(soiled[:, [0, 2]], clean[:, [0, 2]])
        assert np.isnan(soiled.view(np.float32)[-1, 1]).all()


@every_stepper
@every_format
def test_two_threads_step_to_the_bits_of_one(isa: str, options: str, weights: str) -> None:
    for batch in (1, 9):
        xs = np.random.default_rng(0).normal(size=(3, batch, 600)).astype(np.float32)
        torch.set_num_threads(1)
        expected = stepped(options, weights, xs, units=600)
        torch.set_num_threads(2)
        for one, other in zip(stepped(options, weights, xs, units=600), expected, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("options", [{}, EVERYTHING])
@pytest.mark.parametrize("units", [33, 300])  # by rows and, with few of them, by units
def test_two_threads_train_to_the_bits_of_one(isa: str, options: dict[str, Any], units: int) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(20, units, layer_norm=True, **options).eval()
    for rows in (3, 40):
        x, lengths = torch.randn(6, rows, 20, requires_grad=True), torch.arange(rows) % 7
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            output, (_, c) = layer(x, lengths=lengths)
            found.append([output, c, *torch.autograd.grad(output.sum() + c.sum(), (x, *layer.parameters()))])
        for one, two in zip(*found, strict=True):
            assert torch.equal(one, two)


def test_what_has_no_such_parameters_is_refused() -> None:
    zeros = partial(np.zeros, dtype=np.float32)
    with pytest.raises(ValueError, match="gain_hh: only an LSTM has layer normalisation, expected None"):
        _engine.Stack("gru", 3, 4).add_layer(zeros((12, 3)), zeros((12, 4)), None, None, gain_hh=zeros(12))
    lstm = _engine.Stack("lstm", 3, 4)
    with pytest.raises(
        ValueError, match="gain_ih: expected where gain_hh and weight_ih are given, and only there"
    ):
        lstm.add_layer(zeros((16, 3)), zeros((16, 4)), None, None, gain_hh=zeros(16))
    with pytest.raises(ValueError, match="gain_c and bias_c: expected where gain_hh is given"):
        lstm.add_layer(zeros((16, 3)), zeros((16, 4)), None, None, gain_hh=zeros(16), gain_ih=zeros(16))
