"""What torch.utils.flop_counter counts: for our layers as for torch's, which it takes apart."""

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from unrolled import nn

T, B, D, H = 6, 4, 3, 5
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("RNN", {}),
    ("GRU", {"num_layers": 2, "bidirectional": True}),
    ("LSTM", {"num_layers": 2}),
    ("LSTM", {"proj_size": 2}),
]

pytestmark = pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch, as oneDNN is turned off


def counted(layer: Any, *inputs: torch.Tensor, **named: Any) -> tuple[int, int]:
    """The operations of a call and of its way back, to the input and to the state, too."""
    states = layer.num_layers * (2 if layer.bidirectional else 1)
    h0 = torch.zeros(states, B, layer.proj_size or H, requires_grad=True)
    hx = (h0, torch.zeros(states, B, H, requires_grad=True)) if layer.mode == "LSTM" else h0
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        output = layer(*inputs, hx, **named)[0]
        forward = counter.get_total_flops()
        torch.autograd.backward(output.sum())
    return forward, counter.get_total_flops() - forward


@pytest.mark.parametrize(("kind", "options"), OPTIONS)
@pytest.mark.parametrize("learns", [True, False])
def test_the_operations_are_those_of_torchs_layer(kind: str, options: dict[str, Any], learns: bool) -> None:
    x = torch.randn(T, B, D, requires_grad=True)
    ours, theirs = (getattr(of, kind)(D, H, **options).requires_grad_(learns) for of in (nn, torch.nn))
    assert counted(ours, x) == counted(theirs, x)


def test_symbols_are_multiplied_once_and_what_is_recomputed_twice() -> None:
    embedding, symbols = torch.randn(2, D), torch.zeros(T, B, dtype=torch.int64)
    layer = nn.LSTM(D, H)
    of_input, of_state = 2 * 2 * D * 4 * H, 2 * T * B * H * 4 * H
    assert counted(layer, symbols, embedding=embedding) == (of_input + of_state, of_input + 2 * of_state)
    layer.recompute = 2
    assert counted(layer, symbols, embedding=embedding) == (of_input + of_state, 2 * of_input + 3 * of_state)


def test_where_torch_multiplies_the_input_there_are_as_many() -> None:
    layer, x = nn.LSTM(D, H), torch.randn(T, B, D, requires_grad=True)
    expected = counted(layer, x)
    with torch.autocast("cpu", torch.float16):
        assert counted(layer, x) == expected
