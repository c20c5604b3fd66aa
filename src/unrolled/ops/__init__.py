"""The sequence ops: a cell run over T steps as a `torch.library` op, with its gradients.

`unrolled.ops.dispatch` says which kernel serves them. This module knows nothing of parameters or layers.

Shapes are those of `unrolled.ops.reference`, with T at least 1: x [T,B,D], weight_ih [gates,D] or None (then x is
the input's share of the gates with biases added, [T,B,gates]), symbols None or [T,B] int64 (the rows of x, then
[V,D] or [V,gates], that the steps read), weight_hh [gates,H], bias_ih and bias_hh [gates] or both None, h0 and c0
[B,H] or None, which is zero, lengths [B] int64 on the data's device with values 0 to T in any order, resets [T,B]
bool. With `keep` false nothing is kept for backward. `bfloat16` lets the factors of products, there and back, be
rounded to bfloat16, where the kernel can; sums and all else are in the dtype of the data, or in a wider one.
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.ops.cells import NOT_NORMALISED, PLAIN, LayerNorm, Variant
from unrolled.ops.composite import call
from unrolled.ops.dispatch import Outputs, Tensors, define
from unrolled.ops.library import differentiate
from unrolled.ops.second import register_second_derivative

__all__ = ["NOT_NORMALISED", "PLAIN", "LayerNorm", "Variant", "gru", "lstm", "rnn"]


def _forward_outputs(
    x: Tensor, symbols: Tensor | None, width: int, units: int | None, gates: int | None, keep: bool
) -> Outputs:
    """Uninitialised h [T,B,width], c [T,B,units] and gates [T,B,gates] if it has any, h_n and c_n [1,B,…].

    Where nothing is kept there are no gates, and c is the last one alone, [1,B,units]; then there is no c_n.
    """
    steps, rows = x.shape[:2] if symbols is None else symbols.shape
    h, h_n = x.new_empty(steps, rows, width), x.new_empty(1, rows, width)
    kept = () if gates is None else (x.new_empty(steps, rows, gates) if keep else None,)
    if units is None:
        return h, *kept, h_n
    c = x.new_empty(steps if keep else 1, rows, units)
    return h, c, *kept, h_n, x.new_empty(1, rows, units) if keep else None


def _units(weight_hh: Tensor, weight_hr: Tensor | None) -> int:
    """How many an LSTM has."""
    units: int = (weight_hh if weight_hr is None else weight_hr).shape[1]
    return units


def _lstm_outputs(
    x: Tensor,
    symbols: Tensor | None,
    weight_hh: Tensor,
    weight_hr: Tensor | None,
    gain_ih: Tensor | None,
    gain_hh: Tensor | None,
    keep: bool,
) -> Outputs:
    """Those of an LSTM; how wide its gates are, see `unrolled.ops.reference.lstm_forward`."""
    units = _units(weight_hh, weight_hr)
    kept = 4 * units + sum(len(gain) + 1 for gain in (gain_hh, gain_ih) if gain is not None)
    return _forward_outputs(x, symbols, weight_hh.shape[1], units, kept, keep)


def _products_gradients(
    x: Tensor, weight_ih: Tensor | None, weight_hh: Tensor, want_x: bool, want_bias: bool, want_weights: bool
) -> Outputs:
    """Uninitialised gradients of x, weight_ih, bias_ih and weight_hh."""
    grad_x, grad_weight_ih = _like(x if want_x else None, weight_ih if want_weights else None)
    grad_bias_ih = x.new_empty(weight_ih.shape[0]) if weight_ih is not None and want_bias else None
    return grad_x, grad_weight_ih, grad_bias_ih, *_like(weight_hh if want_weights else None)


def _like(*tensors: Tensor | None) -> Outputs:
    """Uninitialised memory of the same shapes, dense whatever the strides."""
    return tuple([None if x is None else torch.empty_like(x, memory_format=_DENSE) for x in tensors])


_DENSE = torch.contiguous_format
_X = "Tensor x, Tensor? symbols, Tensor? weight_ih"
_WEIGHTS = "Tensor? bias_ih, Tensor weight_hh, Tensor? bias_hh"
_STATES = "Tensor? h0, Tensor? c0"
_STEPS = "Tensor? lengths, Tensor? resets, bool reverse, bool bfloat16"
_LEARNED = "Tensor? weight_hr, Tensor? peephole, Tensor? gain_ih, Tensor? gain_hh, Tensor? gain_c, Tensor? bias_c"
_FACTORS = "Tensor? dropout, Tensor? zoneout_h, Tensor? zoneout_c"
# What a backward op is told beyond what its kernel takes: what only second derivatives need, and what is wanted.
_TOLD = "Tensor? bias_ih, Tensor? bias_hh, bool want_x, bool want_bias, bool want_weights, bool want_states"
_OF_INPUT = "Tensor grad_x, Tensor grad_weight_ih, Tensor grad_bias_ih, Tensor grad_weight_hh"

_rnn = define(
    "rnn",
    f"({_X}, {_WEIGHTS}, Tensor? h0, {_STEPS}, bool relu) -> (Tensor h, Tensor h_n)",
    lambda x, symbols, weight_ih, bias_ih, weight_hh, *_: _forward_outputs(
        x, symbols, weight_hh.shape[1], None, None, True
    ),
    told=0,
)
_rnn_backward = define(
    "rnn_backward",
    f"({_X}, Tensor weight_hh, Tensor? h0, {_STEPS}, bool relu, Tensor h, Tensor? grad_h, Tensor? grad_h_n,"
    f" {_TOLD}) -> ({_OF_INPUT}, Tensor grad_h0)",
    lambda x, symbols, weight_ih, weight_hh, h0, *rest: (
        *_products_gradients(x, weight_ih, weight_hh, *rest[-4:-1]),
        *_like(h0 if rest[-1] else None),
    ),
    told=6,
)
_lstm = define(
    "lstm",
    f"({_X}, {_WEIGHTS}, {_LEARNED}, {_STATES}, {_STEPS}, {_FACTORS}, bool keep)"
    " -> (Tensor h, Tensor c, Tensor gates, Tensor h_n, Tensor c_n)",
    lambda x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, weight_hr, peephole, gain_ih, gain_hh, *rest: (
        _lstm_outputs(x, symbols, weight_hh, weight_hr, gain_ih, gain_hh, rest[-1])
    ),
)
_lstm_backward = define(
    "lstm_backward",
    f"({_X}, Tensor weight_hh, {_LEARNED}, {_STATES}, {_STEPS}, {_FACTORS}, Tensor h, Tensor c,"
    f" Tensor gates, Tensor? grad_h, Tensor? grad_c, Tensor? grad_h_n, Tensor? grad_c_n, {_TOLD})"
    f" -> ({_OF_INPUT}, Tensor grad_weight_hr, Tensor grad_peephole, Tensor grad_gain_ih, Tensor grad_gain_hh,"
    " Tensor grad_gain_c, Tensor grad_bias_c, Tensor grad_h0, Tensor grad_c0)",
    lambda x, symbols, weight_ih, weight_hh, *rest: (
        *_products_gradients(x, weight_ih, weight_hh, *rest[-4:-1]),
        *_like(*rest[:6], *(rest[6:8] if rest[-1] else (None, None))),
    ),
    told=6,
)
_gru = define(
    "gru",
    f"({_X}, {_WEIGHTS}, Tensor? h0, {_STEPS}, Tensor? zoneout_h, bool keep)"
    " -> (Tensor h, Tensor gates, Tensor h_n)",
    lambda x, symbols, weight_ih, bias_ih, weight_hh, *rest: _forward_outputs(
        x, symbols, weight_hh.shape[1], None, 4 * weight_hh.shape[1], rest[-1]
    ),
)
_gru_backward = define(
    "gru_backward",
    f"({_X}, Tensor weight_hh, Tensor? h0, {_STEPS}, Tensor? zoneout_h, Tensor h, Tensor gates, Tensor? grad_h,"
    f" Tensor? grad_h_n, {_TOLD}) -> ({_OF_INPUT}, Tensor grad_bias_hh, Tensor grad_h0)",
    lambda x, symbols, weight_ih, weight_hh, h0, *rest: (
        *_products_gradients(x, weight_ih, weight_hh, *rest[-4:-1]),
        *_like(rest[-5], h0 if rest[-1] else None),
    ),
    told=6,
)


def rnn(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    bfloat16: bool = False,
    relu: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run the standard RNN over x. Returns every step's h [T,B,H] and the last h_n [1,B,H], differentiable."""
    steps = (lengths, resets, reverse, bfloat16)
    h, h_n = call(_rnn, x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, h0, *steps, relu)
    return h, h_n


def _wanted(ctx: Any, first_state: int, states: int = 1) -> tuple[bool, ...]:
    """Whether the gradients of x, biases, weights, and initial states, from input `first_state` on, are wanted."""
    x, _, weight_ih, bias_ih, weight_hh, bias_hh = ctx.needs_input_grad[:6]
    of_states = ctx.needs_input_grad[first_state : first_state + states]
    return x, bias_ih or bias_hh, weight_ih or weight_hh, any(of_states)


def _found(ctx: Any, gradients: Tensors, grad_bias_hh: Tensor | None = None) -> tuple[Tensor | None, ...]:
    """Those of x, weight_ih, bias_ih and weight_hh as those of x, symbols, weight_ih … bias_hh, None if not made.

    Where there is none for bias_hh, it is that of bias_ih.
    """
    grad_x, grad_weight_ih, grad_bias_ih, grad_weight_hh = gradients
    grad_bias_hh = grad_bias_ih if grad_bias_hh is None else grad_bias_hh
    given = (grad_x, None, grad_weight_ih, grad_bias_ih, grad_weight_hh, grad_bias_hh)
    return tuple([one if need else None for one, need in zip(given, ctx.needs_input_grad[:6], strict=True)])


def _rnn_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    *given, ctx.reverse, ctx.bfloat16, ctx.relu = inputs
    ctx.save_for_backward(*given, output[0])
    ctx.set_materialize_grads(False)  # the kernel is told what nobody used, not given zeros


def _rnn_gradients(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
    x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, h0, lengths, resets, h = ctx.saved_tensors
    given = (x, symbols, weight_ih, weight_hh, h0, lengths, resets, ctx.reverse, ctx.bfloat16, ctx.relu, h)
    *of_input, grad_h0 = _rnn_backward(*given, *grads, bias_ih, bias_hh, *_wanted(ctx, 6))
    return *_found(ctx, tuple(of_input)), None if h0 is None else grad_h0, None, None, None, None, None


def lstm(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    bfloat16: bool = False,
    keep: bool = True,
    variant: Variant = PLAIN,
    norm: LayerNorm = NOT_NORMALISED,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor, Tensor]:
    """Run the LSTM, or the variant of it that `variant`, `norm` and the 4H or 3H rows of weight_hh say, over x.

    The factors of `variant` are [T,B,H], or [H] for all steps and rows; no gradient reaches them. The gain_ih of
    `norm` goes together with weight_ih: without it, x is its normalised product. With it there are no symbols.
    Returns every step's h and c [T,B,H], gates i, f, g, o [T,B,4H] after activation, and the last h_n and c_n
    [1,B,H], all but gates differentiable. Without `keep`, c is c_n, gates are None, and there is no way back.
    Raises `ValueError` for symbols with a gain_ih.
    """
    weight_hr, peephole, *factors = variant
    weights, steps = (weight_hh, bias_hh, weight_hr, peephole, *norm), (lengths, resets, reverse, bfloat16)
    h, c, gates, h_n, c_n = call(_lstm, x, symbols, weight_ih, bias_ih, *weights, h0, c0, *steps, *factors, keep)
    if not keep:
        return h, c, None, h_n, c
    return h, c, gates if norm.gain_hh is None else gates[..., : 4 * _units(weight_hh, weight_hr)], h_n, c_n


def _lstm_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    *given, ctx.reverse, ctx.bfloat16, dropout, zoneout_h, zoneout_c, ctx.keep = inputs
    h, c, gates, *_ = output
    ctx.save_for_backward(*given, dropout, zoneout_h, zoneout_c, h, c, gates)
    if ctx.keep:
        ctx.mark_non_differentiable(gates)
    ctx.set_materialize_grads(False)


def _refuse_unkept(ctx: Any) -> None:
    if not ctx.keep:
        raise RuntimeError("unrolled's sequence ops: run with keep=False, which keeps nothing for backward")


def _lstm_gradients(
    ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: Tensor | None, *grads_of_last: Tensor | None
) -> tuple[Tensor | None, ...]:
    _refuse_unkept(ctx)
    saved = ctx.saved_tensors  # once: whoever packed them, as a checkpoint does, unpacks them but once
    x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, *learned_and_state = saved[:14]
    lengths, resets, *factors, h, c, gates = saved[14:]
    given = (x, symbols, weight_ih, weight_hh, *learned_and_state)
    steps_and_kept = (lengths, resets, ctx.reverse, ctx.bfloat16, *factors, h, c, gates)
    arrived = (grad_h, grad_c, *grads_of_last)
    found = _lstm_backward(*given, *steps_and_kept, *arrived, bias_ih, bias_hh, *_wanted(ctx, 12, 2))
    of_rest = zip(learned_and_state, found[4:], strict=True)
    return (
        *_found(ctx, found[:4]),
        *(None if given is None else gradient for given, gradient in of_rest),
        *(None, None, None, None, None, None, None, None),
    )


def gru(
    x: Tensor,
    symbols: Tensor | None,
    weight_ih: Tensor | None,
    bias_ih: Tensor | None,
    weight_hh: Tensor,
    bias_hh: Tensor | None,
    h0: Tensor | None,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    bfloat16: bool = False,
    keep: bool = True,
    zoneout_h: Tensor | None = None,
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Run the GRU over x. Without weight_ih, x holds all biases but b_hn, the last H of bias_hh.

    `zoneout_h` is as in `lstm`. Returns every step's h [T,B,H], gates [T,B,4H] = r, z, n, hn, and the last h_n
    [1,B,H], all but gates differentiable. Without `keep` gates are None, and there is no way back.
    """
    steps = (lengths, resets, reverse, bfloat16)
    h, gates, h_n = call(_gru, x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, h0, *steps, zoneout_h, keep)
    return h, gates if keep else None, h_n


def _gru_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    *given, ctx.reverse, ctx.bfloat16, zoneout_h, ctx.keep = inputs
    h, gates, _ = output
    ctx.save_for_backward(*given, zoneout_h, h, gates)
    if ctx.keep:
        ctx.mark_non_differentiable(gates)
    ctx.set_materialize_grads(False)


def _gru_gradients(
    ctx: Any, grad_h: Tensor | None, _: Tensor | None, grad_h_n: Tensor | None
) -> tuple[Tensor | None, ...]:
    _refuse_unkept(ctx)
    x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, h0, lengths, resets, zoneout_h, h, gates = (
        ctx.saved_tensors
    )
    steps = (lengths, resets, ctx.reverse, ctx.bfloat16)
    given = (x, symbols, weight_ih, weight_hh, h0, *steps, zoneout_h, h, gates, grad_h, grad_h_n)
    *of_input, grad_bias_hh, grad_h0 = _gru_backward(*given, bias_ih, bias_hh, *_wanted(ctx, 6))
    return (
        *_found(ctx, tuple(of_input), grad_bias_hh),
        None if h0 is None else grad_h0,
        None,
        None,
        None,
        None,
        None,
        None,
    )


differentiate(_rnn, _rnn_gradients, _rnn_context)
differentiate(_lstm, _lstm_gradients, _lstm_context)
differentiate(_gru, _gru_gradients, _gru_context)
register_second_derivative("rnn", _rnn_backward)
register_second_derivative("lstm", _lstm_backward)
register_second_derivative("gru", _gru_backward)
