"""A cell run over a whole sequence, forward and backward, in plain torch: what every kernel must reproduce.

The functions have the names and arguments of `unrolled._engine`, so that either can serve an op: outputs come
last, are allocated by the caller and are written in full. They know nothing of autograd, layers or dispatch,
and run on any device in any floating dtype, one step at a time.

Shapes (T steps, B rows, D input features, H units, P projected units; the cells' gates as in `unrolled.cells`):
    x       [T,B,D]         the input; without weight_ih, its share of the gates, all biases added: [T,B,gates]
    weight_ih [gates,D], bias [gates]   or None; a GRU's bias has not bias_hn
    h, c    [T,B,H]         every step's state (with a projection, h is [T,B,P])
    h0, c0  [B,H]           the state before a row's first step
    lengths [B] int64       row b takes the steps t < lengths[b]; elsewhere its outputs and gradients are 0
    resets  [T,B] bool      where true, the row's state is zero before it consumes step t, if it does
    reverse                 a row's steps run from its last down to 0
    gates   [T,B,4H]        what backward needs; None: not kept, and an LSTM's c is the last one, [1,B,H]
    grad_x, grad_weight_ih, grad_bias   may be None: not wanted
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled import cells
from unrolled.walk import Tensors, Walk, fill_grad_weight_hh, run, run_back

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "lstm_projected_backward",
    "lstm_projected_forward",
    "rnn_backward",
    "rnn_forward",
]


def _run_lstm(
    walk: Walk,
    step: Callable[..., Tensors],
    x_gates: Tensor,
    states: Tensors,
    h: Tensor,
    c: Tensor,
    gates: Tensor | None,
) -> None:
    _, newest = run(walk, step, x_gates, states, (h, c if gates is not None else None, gates))
    if gates is None:
        c[0] = newest


def _share_of_input(x: Tensor, weight_ih: Tensor | None, bias: Tensor | None) -> Tensor:
    return x if weight_ih is None else F.linear(x, weight_ih, bias)


def _fill_input_gradients(
    walk: Walk,
    grad_gates: Tensor,
    x: Tensor,
    weight_ih: Tensor | None,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias: Tensor | None,
) -> None:
    if grad_x is not None:
        grad_x.copy_(grad_gates if weight_ih is None else grad_gates @ weight_ih)
    if grad_bias is not None:
        torch.sum(grad_gates, (0, 1), out=grad_bias)
    if grad_weight_ih is not None:
        if walk.lengths is not None:  # what stands past a length, NaN too, is not read
            past = torch.arange(walk.steps, device=x.device)[:, None] >= walk.lengths
            x = x.masked_fill(past[:, :, None], 0)
        torch.mm(grad_gates.flatten(0, 1).T, x.flatten(0, 1), out=grad_weight_ih)


def rnn_forward(
    x: Tensor,
    weight_ih: Tensor | None,
    bias: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    relu: bool,
    h: Tensor,
) -> None:
    """Run `cells.rnn_step` over x; fill h."""
    x_gates = _share_of_input(x, weight_ih, bias)

    def step(x_gates_t: Tensor, h_prev: Tensor) -> Tensors:
        return (cells.rnn_step(x_gates_t, weight_hh, h_prev, relu),)

    run(Walk(len(x_gates), lengths, resets, reverse), step, x_gates, (h0,), (h,))


def rnn_backward(
    grad_h: Tensor,
    x: Tensor,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    relu: bool,
    h: Tensor,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias: Tensor | None,
    grad_weight_hh: Tensor,
    grad_h0: Tensor,
) -> None:
    """Back through `rnn_forward`: fill every gradient."""
    grad_gates = torch.empty_like(h)

    def step_backward(t: int, carried_h: Tensor) -> tuple[Tensors, Tensors]:
        grad_gates_t, grad_h_prev = cells.rnn_step_backward(grad_h[t] + carried_h, weight_hh, h[t], relu)
        return (grad_gates_t,), (grad_h_prev,)

    walk = Walk(len(h), lengths, resets, reverse)
    (first,) = run_back(walk, step_backward, (torch.zeros_like(grad_h0),), (grad_gates,))
    grad_h0.copy_(first)
    fill_grad_weight_hh(grad_weight_hh, walk, grad_gates, h, h0)
    _fill_input_gradients(walk, grad_gates, x, weight_ih, grad_x, grad_weight_ih, grad_bias)


def lstm_forward(
    x: Tensor,
    weight_ih: Tensor | None,
    bias: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    h: Tensor,
    c: Tensor,
    gates: Tensor | None,
) -> None:
    """Run `cells.lstm_step` over x; fill h, c, gates [T,B,4H]."""
    x_gates = _share_of_input(x, weight_ih, bias)

    def step(x_gates_t: Tensor, h_prev: Tensor, c_prev: Tensor) -> Tensors:
        return cells.lstm_step(x_gates_t, weight_hh, h_prev, c_prev)

    _run_lstm(Walk(len(x_gates), lengths, resets, reverse), step, x_gates, (h0, c0), h, c, gates)


def lstm_backward(
    grad_h: Tensor,
    grad_c: Tensor | None,
    x: Tensor,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    h: Tensor,
    c: Tensor,
    gates: Tensor,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias: Tensor | None,
    grad_weight_hh: Tensor,
    grad_h0: Tensor,
    grad_c0: Tensor,
) -> None:
    """Back through `lstm_forward`: fill every gradient; grad_c None means zeros."""
    walk = Walk(len(c), lengths, resets, reverse)
    grad_gates = torch.empty_like(gates)
    _lstm_run_back(walk, grad_h, grad_c, weight_hh, None, c0, c, gates, (grad_gates,), grad_h0, grad_c0)
    fill_grad_weight_hh(grad_weight_hh, walk, grad_gates, h, h0)
    _fill_input_gradients(walk, grad_gates, x, weight_ih, grad_x, grad_weight_ih, grad_bias)


def lstm_projected_forward(
    x: Tensor,
    weight_ih: Tensor | None,
    bias: Tensor | None,
    weight_hh: Tensor,
    weight_hr: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    h: Tensor,
    c: Tensor,
    gates: Tensor | None,
) -> None:
    """`lstm_forward` with the projection weight_hr [P,H]: weight_hh is [4H,P], h0 [B,P], h [T,B,P]."""
    x_gates = _share_of_input(x, weight_ih, bias)

    def step(x_gates_t: Tensor, h_prev: Tensor, c_prev: Tensor) -> Tensors:
        return cells.lstm_step(x_gates_t, weight_hh, h_prev, c_prev, weight_hr)

    _run_lstm(Walk(len(x_gates), lengths, resets, reverse), step, x_gates, (h0, c0), h, c, gates)


def lstm_projected_backward(
    grad_h: Tensor,
    grad_c: Tensor | None,
    x: Tensor,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    weight_hr: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    h: Tensor,
    c: Tensor,
    gates: Tensor,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias: Tensor | None,
    grad_weight_hh: Tensor,
    grad_weight_hr: Tensor,
    grad_h0: Tensor,
    grad_c0: Tensor,
) -> None:
    """Back through `lstm_projected_forward`: as `lstm_backward`, with h and grad_h0 P wide."""
    walk = Walk(len(c), lengths, resets, reverse)
    grad_gates, grad_projected = torch.empty_like(gates), torch.empty_like(grad_h)
    kept = (grad_gates, grad_projected)
    _lstm_run_back(walk, grad_h, grad_c, weight_hh, weight_hr, c0, c, gates, kept, grad_h0, grad_c0)
    fill_grad_weight_hh(grad_weight_hh, walk, grad_gates, h, h0)
    _fill_input_gradients(walk, grad_gates, x, weight_ih, grad_x, grad_weight_ih, grad_bias)
    unprojected = gates[:, :, -c0.shape[1] :] * torch.tanh(c)
    torch.mm(grad_projected.flatten(0, 1).T, unprojected.flatten(0, 1), out=grad_weight_hr)


def _lstm_run_back(
    walk: Walk,
    grad_h: Tensor,
    grad_c: Tensor | None,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    c0: Tensor,
    c: Tensor,
    gates: Tensor,
    kept: Tensors,
    grad_h0: Tensor,
    grad_c0: Tensor,
) -> None:
    def step_backward(t: int, carried_h: Tensor, carried_c: Tensor) -> tuple[Tensors, Tensors]:
        grad_h_t = grad_h[t] + carried_h
        grad_c_t = carried_c if grad_c is None else grad_c[t] + carried_c
        grad_gates, grad_h_prev, grad_c_prev = cells.lstm_step_backward(
            grad_h_t, grad_c_t, weight_hh, walk.previous(t, c, c0), c[t], gates[t], weight_hr
        )
        return (grad_gates, grad_h_t), (grad_h_prev, grad_c_prev)

    last = (torch.zeros_like(grad_h0), torch.zeros_like(grad_c0))
    first_h, first_c = run_back(walk, step_backward, last, kept)
    grad_h0.copy_(first_h)
    grad_c0.copy_(first_c)


def gru_forward(
    x: Tensor,
    weight_ih: Tensor | None,
    bias: Tensor | None,
    weight_hh: Tensor,
    bias_hn: Tensor,
    h0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    h: Tensor,
    gates: Tensor | None,
) -> None:
    """Run `cells.gru_step` over x; fill h, gates [T,B,4H]."""
    x_gates = _share_of_input(x, weight_ih, bias)

    def step(x_gates_t: Tensor, h_prev: Tensor) -> Tensors:
        return cells.gru_step(x_gates_t, weight_hh, bias_hn, h_prev)

    run(Walk(len(x_gates), lengths, resets, reverse), step, x_gates, (h0,), (h, gates))


def gru_backward(
    grad_h: Tensor,
    x: Tensor,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    h: Tensor,
    gates: Tensor,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias: Tensor | None,
    grad_weight_hh: Tensor,
    grad_bias_hn: Tensor,
    grad_h0: Tensor,
) -> None:
    """Back through `gru_forward`: fill every gradient."""
    walk = Walk(len(h), lengths, resets, reverse)
    H = h.shape[2]
    grad_x_gates, grad_h_gates = (torch.empty_like(gates[:, :, : 3 * H]) for _ in range(2))

    def step_backward(t: int, carried_h: Tensor) -> tuple[Tensors, Tensors]:
        *grad_gates, grad_h_prev = cells.gru_step_backward(
            grad_h[t] + carried_h, weight_hh, walk.previous(t, h, h0), gates[t]
        )
        return tuple(grad_gates), (grad_h_prev,)

    last = (torch.zeros_like(grad_h0),)
    (first,) = run_back(walk, step_backward, last, (grad_x_gates, grad_h_gates))
    grad_h0.copy_(first)
    torch.sum(grad_h_gates[:, :, 2 * H :], (0, 1), out=grad_bias_hn)
    fill_grad_weight_hh(grad_weight_hh, walk, grad_h_gates, h, h0)
    _fill_input_gradients(walk, grad_x_gates, x, weight_ih, grad_x, grad_weight_ih, grad_bias)
