"""The LSTM with layer-normalised gates over a sequence: the reference's steps, walked in autograd's sight.

It is no op, for no kernel serves it yet: as slow as a loop of torch calls over the steps, and the first run says
so. Gradients are autograd's, as often as asked. Shapes are those of `unrolled.reference`.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled import cells
from unrolled.cells import LayerNorm, Variant
from unrolled.dispatch import Tensors, warn_reference
from unrolled.reference import variant_at
from unrolled.walk import Walk, run

__all__ = ["lstm", "normalised_share_of_input"]


def normalised_share_of_input(
    x: Tensor, weight_ih: Tensor, gain_ih: Tensor, bias: Tensor | None, lengths: Tensor | None
) -> Tensor:
    """x_gates [T,B,gates]: the product with weight_ih normalised over all gates, by gain_ih [gates], plus bias."""
    if lengths is not None:  # what stands past a length, NaN too, must not reach a gradient as 0 * NaN
        past = torch.arange(len(x), device=x.device)[:, None] >= lengths
        x = x.masked_fill(past[:, :, None], 0)
    normalised = F.layer_norm(F.linear(x, weight_ih), gain_ih.shape, gain_ih)
    return normalised if bias is None else normalised + bias


def lstm(
    x_gates: Tensor,
    weight_hh: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    keep: bool,
    variant: Variant,
    norm: LayerNorm,
) -> Tensors:
    """Run `cells.lstm_step` with `norm` over x_gates. Returns what `ops.lstm` does, in its shapes."""
    if x_gates.dtype != torch.float64:
        warn_reference("an LSTM with layer_norm")
    steps = len(x_gates)
    h, c, gates = ([None] * steps for _ in range(3))

    def step(t: int, h_prev: Tensor, c_prev: Tensor) -> Tensors:
        return cells.lstm_step(x_gates[t], weight_hh, h_prev, c_prev, variant_at(variant, t), norm)

    outputs: Any = (h, c, gates)  # lists: into a tensor, each write would cost the way back a pass over all steps
    with torch.autocast(x_gates.device.type, enabled=False):
        _, newest = run(Walk(steps, lengths, resets, reverse), step, (h0, c0), outputs)
    of_steps: list[Any] = [h, c, gates]
    if not keep:
        return torch.stack(of_steps[0]), newest[None], x_gates.new_empty(0)
    all_h, all_c, all_gates = map(torch.stack, of_steps)
    return all_h, all_c, all_gates.detach()
