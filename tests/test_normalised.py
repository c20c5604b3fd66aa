"""The LSTM with layer-normalised gates: the equations of Ba et al., masks, and all that it goes together with."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from unrolled import dispatch, nn
from unrolled.errors import InputError

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


def test_that_no_kernel_serves_it_is_said_once() -> None:
    dispatch.warn_reference.cache_clear()
    layer = nn.LSTM(D, H, layer_norm=True)
    with pytest.warns(UserWarning, match="an LSTM with layer_norm has no compiled kernel") as told:
        for _ in range(2):
            layer(inputs().float())
    assert len(told) == 1


def test_what_no_kernel_can_do_is_refused() -> None:
    with pytest.raises(InputError, match="recompute: no kernel serves layer_norm"):
        nn.LSTM(D, H, layer_norm=True, recompute=2)
    with pytest.raises(InputError, match="stepper: no kernel serves layer_norm"):
        nn.LSTM(D, H, layer_norm=True).stepper()
