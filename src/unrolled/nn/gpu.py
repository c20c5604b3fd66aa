"""Plain layers away from the CPU: torch's own kernels run them, as cuDNN's on a GPU.

Those know no resets, and of rows of different length only what is packed: a call is cut where a row is reset, and
rows are packed here. Nothing else differs from `torch.nn`, whose layers call the same functions.

T steps, B rows, D input features, H units, L layers times directions.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

__all__ = ["run"]

Tensors = tuple[Tensor, ...]
KERNELS: dict[str, Any] = {
    "LSTM": torch.lstm,
    "GRU": torch.gru,
    "RNN_TANH": torch.rnn_tanh,
    "RNN_RELU": torch.rnn_relu,
}


def run(
    layer: torch.nn.RNNBase,
    weights: list[Tensor],
    x: Tensor,
    initial: Tensors,
    lengths: Tensor | None,
    resets: Tensor | None,
) -> tuple[Tensor, Tensors]:
    """Run a layer over x [T,B,D] from `initial` [L,B,width], by `weights` in torch's order.

    Returns the output [T,B,directions*width], 0 past a row's length, and the states after each row's own last
    step. `lengths` is [B], `resets` [T,B] for layers that read forward alone; a call waits for their numbers.
    Autocast does not lower the precision here: no state is carried in less than the weights.
    """
    x, *states = (part.to(weights[0].dtype).contiguous() for part in (x, *initial))
    with torch.autocast(x.device.type, enabled=False):
        if resets is None:
            return _rows(layer, weights, x, tuple(states), lengths)
        return _parts(layer, weights, x, tuple(states), lengths, resets)


def _parts(
    layer: torch.nn.RNNBase,
    weights: list[Tensor],
    x: Tensor,
    states: Tensors,
    lengths: Tensor | None,
    resets: Tensor,
) -> tuple[Tensor, Tensors]:
    """Run from each step at which a row is reset to the next one."""
    if lengths is not None:  # a row that has ended keeps its state
        resets = resets & (torch.arange(len(x), device=x.device)[:, None] < lengths)
    starts = sorted({0, *torch.nonzero(resets.any(1)).flatten().tolist()})
    outputs = []
    for first, past in zip(starts, [*starts[1:], len(x)], strict=True):
        states = tuple(state.masked_fill(resets[first, :, None], 0.0) for state in states)
        left = None if lengths is None else (lengths - first).clamp(0, past - first)
        output, states = _rows(layer, weights, x[first:past], states, left)
        outputs.append(output)
    return torch.cat(outputs), states


def _rows(
    layer: torch.nn.RNNBase, weights: list[Tensor], x: Tensor, states: Tensors, lengths: Tensor | None
) -> tuple[Tensor, Tensors]:
    """Run rows that have so many steps each, or all of them."""
    if lengths is None:
        return _call(layer, weights, (x,), states)
    steps, rows, _ = x.shape
    counts = lengths.cpu()
    taken = torch.nonzero(counts).flatten()  # no row of a PackedSequence is empty
    width = weights[1].shape[1] * (2 if layer.bidirectional else 1)
    if not len(taken):
        nothing = torch.stack([part.flatten()[:0].sum() for part in (x, *weights)]).sum()  # whose gradients are 0
        return nothing.expand(steps, rows, width), states
    some = taken.to(x.device)
    packed = pack_padded_sequence(x.index_select(1, some), counts[taken], enforce_sorted=False)
    order = some[packed.sorted_indices]
    sorted_states = tuple(state.index_select(1, order) for state in states)
    data, final = _call(layer, weights, (packed.data, packed.batch_sizes), sorted_states)
    output, _ = pad_packed_sequence(PackedSequence(data, packed.batch_sizes), total_length=steps)
    whole = x.new_zeros(steps, rows, width).index_copy(1, order, output)
    return whole, tuple(old.index_copy(1, order, new) for old, new in zip(states, final, strict=True))


def _call(
    layer: torch.nn.RNNBase, weights: list[Tensor], rows: tuple[Tensor, ...], states: Tensors
) -> tuple[Tensor, Tensors]:
    """Torch's function over x, or over a PackedSequence's data and its sizes."""
    # cuDNN goes back in training alone; else there is no dropout, but there may be gradients.
    training, dropout = layer.training or torch.is_grad_enabled(), layer.dropout if layer.training else 0.0
    state = states if len(states) > 1 else states[0]
    told = (layer.bias, layer.num_layers, dropout, training, layer.bidirectional)
    order = () if len(rows) > 1 else (False,)  # of dimensions: steps, then rows
    output, *final = KERNELS[layer.mode](*rows, state, weights, *told, *order)
    return output, tuple(final)
