"""A cell run over a whole sequence, forward and backward, in plain torch: what every kernel must reproduce.

The functions have the names and arguments of `unrolled._engine`, so that either can serve an op: outputs come
last, are allocated by the caller and are written in full. They know nothing of autograd, layers or dispatch,
and run on any device in any floating dtype, one step at a time.

Shapes (T steps, B rows, D input features, H units, P projected units; the cells' gates as in `cells`):
    x       [T,B,D]         the input; without weight_ih, its share of the gates, biases added: [T,B,gates]
    symbols [T,B] int64     which row of x, then [V,D] or [V,gates], a step reads; or None. Not with gain_ih
    weight_ih [gates,D]     or None
    bias_ih, bias_hh [gates]    or both None, as without weight_ih; but a GRU's bias_hh may then be there for b_hn,
                            the last H of it: nothing else of it is read
    h, c    [T,B,H]         every step's state (with a projection, h is [T,B,P])
    h0, c0  [B,H]           the state before a row's first step; None: zero
    lengths [B] int64       row b takes the steps t < lengths[b]; elsewhere its outputs and gradients are 0
    resets  [T,B] bool      where true, the row's state is zero before it consumes step t, if it does
    reverse                 a row's steps run from its last down to 0
    bfloat16                whether factors of products may be rounded to bfloat16; here they are not
    gates   [T,B,4H]        what backward needs; with a norm an LSTM's are wider: see `lstm_forward`. None: not
                            kept, and an LSTM's c is [N,B,H], the state after each of N equal parts of the steps,
                            the last of which may be shorter; a row that takes no step of a part holds it
    h_n, c_n [1,B,H]        the state after a row's last step, or h0 and c0 if it takes none; None: not wanted, and
                            c_n where gates are not kept
    grad_h, grad_c [T,B,H], grad_h_n, grad_c_n [1,B,H]    what arrived at the states; None: nothing
    grad_x, grad_weight_ih, grad_bias_ih, grad_weight_hh, a GRU's grad_bias_hh, grad_h0 and an LSTM's grad_c0
                            may be None: not wanted. Of an RNN and an LSTM, grad_bias_ih is bias_hh's too
    continued               what gradients hold is of later steps: that of h0, and of c0, which are wanted then,
                            where the way back goes on; to all others but grad_x what is found is added
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from unrolled.errors import InputError
from unrolled.ops import cells
from unrolled.ops.cells import LayerNorm, Variant
from unrolled.ops.walk import Outputs, Tensors, Walk, of_weight_hh, run, run_back

__all__ = [
    "gru_backward",
    "gru_forward",
    "lstm_backward",
    "lstm_forward",
    "rnn_backward",
    "rnn_forward",
    "variant_at",
]


def _share_of_input(
    walk: Walk, x: Tensor, symbols: Tensor | None, weight_ih: Tensor | None, bias: Tensor | None
) -> Tensor:
    share = x if weight_ih is None else F.linear(x, weight_ih, bias)
    return share if symbols is None else F.embedding(_stepped(walk, symbols), share)


def _both(bias_ih: Tensor | None, bias_hh: Tensor | None) -> Tensor | None:
    """The biases of a cell whose gates' sums have both of them."""
    if (bias_ih is None) != (bias_hh is None):
        raise InputError("bias_hh: expected where bias_ih is given, and only there")
    return None if bias_ih is None or bias_hh is None else bias_ih + bias_hh


def _fill_input_gradients(
    walk: Walk,
    grad_gates: Tensor,
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias: Tensor | None,
    continued: bool = False,
) -> None:
    if symbols is not None:
        of_steps, grad_gates = grad_gates.flatten(0, 1), grad_gates.new_zeros(len(x), grad_gates.shape[2])
        grad_gates.index_add_(0, _stepped(walk, symbols).flatten(), of_steps)
        read = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        read[symbols if walk.lengths is None else symbols[_taken(walk, walk.lengths)]] = True
        x, grad_gates = x.masked_fill(~read[:, None], 0)[:, None], grad_gates[:, None]
    if grad_x is not None:
        of_x = grad_gates if weight_ih is None else grad_gates @ weight_ih
        grad_x.copy_(of_x.view_as(grad_x))
    _deliver(grad_gates.sum((0, 1)), grad_bias, continued)
    if grad_weight_ih is not None:
        inputs = x if symbols is not None else _stepped(walk, x)
        _deliver(grad_gates.flatten(0, 1).T @ inputs.flatten(0, 1), grad_weight_ih, continued)


def _deliver(found: Tensor, gradient: Tensor | None, continued: bool) -> None:
    """Store what was found as a gradient that is wanted, or add it to what later steps gave."""
    if gradient is not None:
        gradient.copy_(found + gradient if continued else found)


def _initial(state: Tensor | None, x: Tensor, symbols: Tensor | None, width: int) -> Tensor:
    """A state before the first step [B,width]."""
    rows = x.shape[1] if symbols is None else symbols.shape[1]
    return x.new_zeros(rows, width) if state is None else state


def _entering(continued: bool, states: Tensors, gradients: Outputs, arrived: Outputs) -> Tensors:
    """Those at the states after the last step: what arrived, or, continued, what later steps gave."""
    if continued:
        return tuple(gradient for gradient in gradients if gradient is not None)
    given = zip(states, arrived, strict=True)
    return tuple(torch.zeros_like(state) if grad is None else grad[0] for state, grad in given)


def _at_step(grad: Tensor | None, t: int, carried: Tensor) -> Tensor:
    """What arrived at a state of step t, and from later ones."""
    return carried if grad is None else grad[t] + carried


def _hand_over(states: Tensors, *last: Tensor | None) -> None:
    """Put the states after the last step where they are wanted."""
    for state, wanted in zip(states, last, strict=True):
        if wanted is not None:
            wanted[0] = state


def _stepped(walk: Walk, x: Tensor) -> Tensor:
    """x [T,B,...] with zeros past a length: what stands there, NaN too, is not read."""
    if walk.lengths is None:
        return x
    past = ~_taken(walk, walk.lengths)
    return x.masked_fill(past.view(*past.shape, *[1] * (x.dim() - 2)), 0)


def _taken(walk: Walk, lengths: Tensor) -> Tensor:
    """Which steps of which rows are taken, [T,B]."""
    return torch.arange(walk.steps, device=lengths.device)[:, None] < lengths


def _factors_at(factors: Tensor | None, t: int) -> Tensor | None:
    """The factors of step t, where they are not the same at all steps."""
    return factors[t] if factors is not None and factors.dim() == 3 else factors


def rnn_forward(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    bfloat16: bool,
    relu: bool,
    h: Tensor,
    h_n: Tensor | None,
) -> None:
    """Run `cells.rnn_step` over x; fill h, h_n."""
    h0 = _initial(h0, x, symbols, weight_hh.shape[1])
    walk = Walk(len(h), lengths, resets, reverse)
    x_gates = _share_of_input(walk, x, symbols, weight_ih, _both(bias_ih, bias_hh))

    def step(t: int, h_prev: Tensor) -> Tensors:
        return (cells.rnn_step(x_gates[t], weight_hh, h_prev, relu),)

    _hand_over(run(walk, step, (h0,), (h,)), h_n)


def rnn_backward(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    bfloat16: bool,
    relu: bool,
    h: Tensor,
    grad_h: Tensor | None,
    grad_h_n: Tensor | None,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias_ih: Tensor | None,
    grad_weight_hh: Tensor | None,
    grad_h0: Tensor | None,
) -> None:
    """Back through `rnn_forward`: fill every gradient."""
    h0 = _initial(h0, x, symbols, weight_hh.shape[1])
    grad_gates = torch.empty_like(h)

    def step_backward(t: int, carried_h: Tensor) -> tuple[Tensors, Tensors]:
        grad_h_t = _at_step(grad_h, t, carried_h)
        grad_gates_t, grad_h_prev = cells.rnn_step_backward(grad_h_t, weight_hh, h[t], relu)
        return (grad_gates_t,), (grad_h_prev,)

    walk = Walk(len(h), lengths, resets, reverse)
    last = _entering(False, (h0,), (grad_h0,), (grad_h_n,))
    (first,) = run_back(walk, step_backward, last, (grad_gates,))
    _deliver(first, grad_h0, False)
    _deliver(of_weight_hh(walk, grad_gates, h, h0), grad_weight_hh, False)
    _fill_input_gradients(walk, grad_gates, x, symbols, weight_ih, grad_x, grad_weight_ih, grad_bias_ih)


def lstm_forward(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    weight_hr: Tensor | None,
    peephole: Tensor | None,
    gain_ih: Tensor | None,
    gain_hh: Tensor | None,
    gain_c: Tensor | None,
    bias_c: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    bfloat16: bool,
    dropout: Tensor | None,
    zoneout_h: Tensor | None,
    zoneout_c: Tensor | None,
    h: Tensor,
    c: Tensor,
    gates: Tensor | None,
    h_n: Tensor | None,
    c_n: Tensor | None,
) -> None:
    """Run `cells.lstm_step` over x; fill h, c, gates, h_n, c_n.

    Gates are [T,B,4H]. With gain_hh the product with h as it was normalised and 1 over its standard deviation
    follow, and with gain_ih, which goes together with weight_ih, the same two of the product with x.
    """
    if (h0 is None) != (c0 is None):
        raise InputError("c0: expected where h0 is given, and only there")
    h0 = _initial(h0, x, symbols, weight_hh.shape[1])
    c0 = _initial(c0, x, symbols, (weight_hh if weight_hr is None else weight_hr).shape[1])
    walk, variant = (
        Walk(len(h), lengths, resets, reverse),
        Variant(weight_hr, peephole, dropout, zoneout_h, zoneout_c),
    )
    norm = LayerNorm(gain_ih, gain_hh, gain_c, bias_c)
    if symbols is not None and gain_ih is not None:
        raise InputError("symbols: expected only without gain_ih")
    if gain_ih is None:
        x_gates, *of_input = (_share_of_input(walk, x, symbols, weight_ih, _both(bias_ih, bias_hh)),)
    else:
        product = _share_of_input(walk, _stepped(walk, x), None, weight_ih, None)
        x_gates, *of_input = cells.with_norm(product, gain_ih, _both(bias_ih, bias_hh))

    def step(t: int, h_prev: Tensor, c_prev: Tensor) -> Tensors:
        *states, kept = cells.lstm_step(x_gates[t], weight_hh, h_prev, c_prev, variant_at(variant, t), norm)
        return *states, torch.cat((kept, *(part[t] for part in of_input)), -1) if of_input else kept

    every, newest = (None, c) if gates is None else (c, None)
    _hand_over(run(walk, step, (h0, c0), (h, every, gates), newest), h_n, c_n)


def variant_at(variant: Variant, t: int) -> Variant:
    """The variant as step t takes it, with factors [B,...] or [...]."""
    dropout, zoneout_h, zoneout_c = (
        _factors_at(factors, t) for factors in (variant.dropout, variant.zoneout_h, variant.zoneout_c)
    )
    return Variant(variant.weight_hr, variant.peephole, dropout, zoneout_h, zoneout_c)


def lstm_backward(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    peephole: Tensor | None,
    gain_ih: Tensor | None,
    gain_hh: Tensor | None,
    gain_c: Tensor | None,
    bias_c: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    bfloat16: bool,
    dropout: Tensor | None,
    zoneout_h: Tensor | None,
    zoneout_c: Tensor | None,
    h: Tensor,
    c: Tensor,
    gates: Tensor,
    grad_h: Tensor | None,
    grad_c: Tensor | None,
    grad_h_n: Tensor | None,
    grad_c_n: Tensor | None,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias_ih: Tensor | None,
    grad_weight_hh: Tensor | None,
    grad_weight_hr: Tensor | None,
    grad_peephole: Tensor | None,
    grad_gain_ih: Tensor | None,
    grad_gain_hh: Tensor | None,
    grad_gain_c: Tensor | None,
    grad_bias_c: Tensor | None,
    grad_h0: Tensor | None,
    grad_c0: Tensor | None,
    continued: bool = False,
) -> None:
    """Back through `lstm_forward`: fill every gradient."""
    h0 = _initial(h0, x, symbols, weight_hh.shape[1])
    c0 = _initial(c0, x, symbols, (weight_hh if weight_hr is None else weight_hr).shape[1])
    walk, variant = (
        Walk(len(c), lengths, resets, reverse),
        Variant(weight_hr, peephole, dropout, zoneout_h, zoneout_c),
    )
    norm = LayerNorm(gain_ih, gain_hh, gain_c, bias_c)
    steps, rows, units = c.shape
    grad_gates = c.new_empty(steps, rows, len(weight_hh))
    grad_product, of_norm = grad_gates, None
    if gain_hh is not None:
        grad_product, of_norm = torch.empty_like(grad_gates), c.new_empty(steps, rows, len(gain_hh) + 2 * units)
    of_peephole = None if peephole is None else c.new_empty(steps, rows, peephole.numel())
    projected, unprojected = (None, None) if weight_hr is None else (torch.empty_like(h), torch.empty_like(c))

    def step_backward(t: int, carried_h: Tensor, carried_c: Tensor) -> tuple[Outputs, Tensors]:
        grad_h_t, grad_c_t = _at_step(grad_h, t, carried_h), _at_step(grad_c, t, carried_c)
        found = cells.lstm_step_backward(
            grad_h_t, grad_c_t, weight_hh, walk.previous(t, c, c0), c[t], gates[t], variant_at(variant, t), norm
        )
        return (found.gates, *found[3:]), (found.h_prev, found.c_prev)

    last = _entering(continued, (h0, c0), (grad_h0, grad_c0), (grad_h_n, grad_c_n))
    of_product = None if gain_hh is None else grad_product
    kept = (grad_gates, of_peephole, projected, unprojected, of_product, of_norm)
    first_h, first_c = run_back(walk, step_backward, last, kept)
    _deliver(first_h, grad_h0, False)
    _deliver(first_c, grad_c0, False)
    _deliver(of_weight_hh(walk, grad_product, h, h0), grad_weight_hh, continued)
    if of_norm is not None:
        parts = torch.split(of_norm.sum((0, 1)), [len(weight_hh), units, units])
        for gradient, part in zip((grad_gain_hh, grad_gain_c, grad_bias_c), parts, strict=True):
            _deliver(part, gradient, continued)
    _deliver(grad_gates.sum((0, 1)), grad_bias_ih, continued)
    if gain_ih is not None:
        normal, scale = gates[..., -1 - len(gain_ih) : -1], gates[..., -1:]
        _deliver((grad_gates * normal).sum((0, 1)), grad_gain_ih, continued)
        grad_gates = cells.with_norm_backward(grad_gates, gain_ih, normal, scale)
    _fill_input_gradients(walk, grad_gates, x, symbols, weight_ih, grad_x, grad_weight_ih, None, continued)
    if of_peephole is not None and peephole is not None:
        _deliver(of_peephole.sum((0, 1)).view_as(peephole), grad_peephole, continued)
    if projected is not None and unprojected is not None:
        _deliver(projected.flatten(0, 1).T @ unprojected.flatten(0, 1), grad_weight_hr, continued)


def gru_forward(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    bfloat16: bool,
    zoneout_h: Tensor | None,
    h: Tensor,
    gates: Tensor | None,
    h_n: Tensor | None,
) -> None:
    """Run `cells.gru_step` over x; fill h, gates [T,B,4H], h_n."""
    h0 = _initial(h0, x, symbols, weight_hh.shape[1])
    walk, H = Walk(len(h), lengths, resets, reverse), h0.shape[1]
    bias_hn = h0.new_zeros(H) if bias_hh is None else bias_hh[2 * H :]
    of_sums = None if bias_hh is None else F.pad(bias_hh[: 2 * H], (0, H))
    bias = None if weight_ih is None else _both(bias_ih, of_sums)
    x_gates = _share_of_input(walk, x, symbols, weight_ih, bias)

    def step(t: int, h_prev: Tensor) -> Tensors:
        return cells.gru_step(x_gates[t], weight_hh, bias_hn, h_prev, _factors_at(zoneout_h, t))

    _hand_over(run(walk, step, (h0,), (h, gates)), h_n)


def gru_backward(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    weight_hh: Tensor,
    h0: Tensor | None,
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    bfloat16: bool,
    zoneout_h: Tensor | None,
    h: Tensor,
    gates: Tensor,
    grad_h: Tensor | None,
    grad_h_n: Tensor | None,
    grad_x: Tensor | None,
    grad_weight_ih: Tensor | None,
    grad_bias_ih: Tensor | None,
    grad_weight_hh: Tensor | None,
    grad_bias_hh: Tensor | None,
    grad_h0: Tensor | None,
    continued: bool = False,
) -> None:
    """Back through `gru_forward`: fill every gradient."""
    h0 = _initial(h0, x, symbols, weight_hh.shape[1])
    walk = Walk(len(h), lengths, resets, reverse)
    H = h.shape[2]
    grad_x_gates, grad_h_gates = (torch.empty_like(gates[:, :, : 3 * H]) for _ in range(2))

    def step_backward(t: int, carried_h: Tensor) -> tuple[Tensors, Tensors]:
        grad_h_t, h_prev = _at_step(grad_h, t, carried_h), walk.previous(t, h, h0)
        *grad_gates, grad_h_prev = cells.gru_step_backward(
            grad_h_t, weight_hh, h_prev, gates[t], _factors_at(zoneout_h, t)
        )
        return tuple(grad_gates), (grad_h_prev,)

    last = _entering(continued, (h0,), (grad_h0,), (grad_h_n,))
    (first,) = run_back(walk, step_backward, last, (grad_x_gates, grad_h_gates))
    _deliver(first, grad_h0, False)
    of_bias_hh = grad_h_gates.sum((0, 1))
    if weight_ih is None:
        of_bias_hh[: 2 * H] = 0
    _deliver(of_bias_hh, grad_bias_hh, continued)
    _deliver(of_weight_hh(walk, grad_h_gates, h, h0), grad_weight_hh, continued)
    _fill_input_gradients(
        walk, grad_x_gates, x, symbols, weight_ih, grad_x, grad_weight_ih, grad_bias_ih, continued
    )
