"""The sequence ops: a cell run over T steps as a `torch.library` op, with schema, fake and autograd.

An op is served by the compiled engine on CPU in float32 and by `unrolled.reference` otherwise; `kernels()`
says which. The kernels compute the chain through time; the gradients of the weights are large matrix products
over all steps, here. This module knows nothing of parameters, layers or input projections.

Shapes are those of `unrolled.reference`, with T at least 1: x_gates [T,B,gates], weight_hh [gates,H], h0 and
c0 [B,H], lengths [B] int64 on the data's device with values 0 to T in any order, resets [T,B] bool.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef

from unrolled import _engine, reference

__all__ = ["KernelRow", "gru", "kernels", "lstm", "lstm_projected", "rnn"]

Tensors = tuple[Tensor, ...]

_ENGINE: dict[str, Callable[..., None]] = {
    "rnn": _engine.rnn_forward,
    "rnn_backward": _engine.rnn_backward,
    "lstm": _engine.lstm_forward,
    "lstm_backward": _engine.lstm_backward,
    "gru": _engine.gru_forward,
    "gru_backward": _engine.gru_backward,
}
_REFERENCE: dict[str, Callable[..., None]] = {
    "rnn": reference.rnn_forward,
    "rnn_backward": reference.rnn_backward,
    "lstm": reference.lstm_forward,
    "lstm_backward": reference.lstm_backward,
    "lstm_projected": reference.lstm_projected_forward,
    "lstm_projected_backward": reference.lstm_projected_backward,
    "gru": reference.gru_forward,
    "gru_backward": reference.gru_backward,
}


def _served_by_engine(op: str, device: str, dtype: torch.dtype) -> bool:
    return op in _ENGINE and device == "cpu" and dtype == torch.float32


@dataclass(frozen=True)
class KernelRow:
    """Which kernel, "engine" or "reference", serves one op; `isa` is empty for the reference."""

    op: str
    device: str
    dtype: str
    kernel: str
    isa: str


def kernels() -> list[KernelRow]:
    """Which kernel serves each op on this machine, by the rule that the ops themselves follow."""
    accelerator = torch.accelerator.current_accelerator()
    rows = []
    for op in _REFERENCE:
        for device in ["cpu"] if accelerator is None else ["cpu", accelerator.type]:
            for dtype in (torch.float32, torch.float64, torch.bfloat16):
                name = str(dtype).removeprefix("torch.")
                engine = _served_by_engine(op, device, dtype)
                kernel, isa = ("engine", _engine.isa()) if engine else ("reference", "")
                rows.append(KernelRow(f"unrolled::{op}", device, name, kernel, isa))
    return rows


def _run(op: str, inputs: tuple[Tensor | bool | None, ...], outputs: Tensors) -> None:
    """Fill outputs by the kernel that serves op."""
    device, dtype = outputs[0].device.type, outputs[0].dtype
    engine = _served_by_engine(op, device, dtype)
    if not engine and op not in _ENGINE:
        _warn_reference(f"unrolled::{op.removesuffix('_backward')}")
    elif not engine and dtype != torch.float64:  # whoever chooses float64 chooses the reference
        _warn_reference(f"unrolled::{op.removesuffix('_backward')} in {dtype} on {device}")
    # A kernel reads plain dense memory, and DLPack hands out no tensor that requires a gradient.
    plain = (x.detach().contiguous() if isinstance(x, Tensor) else x for x in inputs)
    (_ENGINE if engine else _REFERENCE)[op](*plain, *outputs)


@cache
def _warn_reference(what: str) -> None:
    """Warn, once a process for each `what`, that the reference serves it."""
    warnings.warn(
        f"{what} has no compiled kernel: the reference serves it, which is right but slow; "
        "`unrolled kernels` lists what serves each op",
        UserWarning,
        stacklevel=2,
    )


def _define(op: str, signature: str, allocate: Callable[..., Tensors]) -> CustomOpDef:
    """Define unrolled::op, whose kernel fills what `allocate` makes, uninitialised, for the op's inputs."""

    def results(outputs: Tensors) -> Tensor | Tensors:
        return outputs if len(outputs) > 1 else outputs[0]

    def implementation(*inputs: Any) -> Tensor | Tensors:
        outputs = allocate(*inputs)
        _run(op, inputs, outputs)
        return results(outputs)

    def fake(*inputs: Any) -> Tensor | Tensors:
        return results(allocate(*inputs))

    definition = torch.library.custom_op(f"unrolled::{op}", implementation, mutates_args=(), schema=signature)
    definition.register_fake(fake)
    for device in ("cpu", "cuda"):
        if torch.amp.is_autocast_available(device):
            definition.register_autocast(device, torch.float32)  # no state is carried in less
    return definition


def _every_step(x: Tensor, *widths: int) -> Tensors:
    """Uninitialised memory [T,B,width] for each width, T and B being those of x."""
    return tuple(x.new_empty(x.shape[0], x.shape[1], width) for width in widths)


def _like(*tensors: Tensor) -> Tensors:
    """Uninitialised memory of the same shapes, dense whatever the strides."""
    return tuple(x.new_empty(x.shape) for x in tensors)


def _at_first_step(sequence: Tensor, lengths: Tensor | None, reverse: bool) -> Tensor:
    """What sequence [T,B,...] holds at the first step that each row consumes: [B,...]."""
    if not reverse:
        return sequence[0]
    if lengths is None:
        return sequence[-1]
    return sequence[(lengths - 1).clamp(min=0), torch.arange(len(lengths), device=lengths.device)]


def _grad_weight_hh(
    grad_gates: Tensor, h: Tensor, h0: Tensor, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> Tensor:
    """The sum over steps of grad_gates^T h_prev: [gates,H]. At a row's first step h_prev is h0.

    Two products, so that h need not be copied behind h0. Both grad_gates and h are 0 where a row is not
    stepped: this keeps steps past a length out of both, and a reversed row's first step out of the second.
    """
    h_prev, grad_after = (h[1:], grad_gates[:-1]) if reverse else (h[:-1], grad_gates[1:])
    if resets is not None:
        h_prev = h_prev.masked_fill((resets[:-1] if reverse else resets[1:])[:, :, None], 0)
        h0 = h0.masked_fill(_at_first_step(resets, lengths, reverse)[:, None], 0)
    from_h0 = _at_first_step(grad_gates, lengths, reverse).T @ h0
    return torch.addmm(from_h0, grad_after.flatten(0, 1).T, h_prev.flatten(0, 1))


_rnn = _define(
    "rnn",
    "(Tensor x_gates, Tensor weight_hh, Tensor h0, Tensor? lengths, Tensor? resets, bool reverse, bool relu)"
    " -> Tensor",
    lambda x_gates, weight_hh, h0, *_: _every_step(x_gates, h0.shape[1]),
)
_rnn_backward = _define(
    "rnn_backward",
    "(Tensor grad_h, Tensor weight_hh, Tensor? lengths, Tensor? resets, bool reverse, bool relu, Tensor h)"
    " -> (Tensor, Tensor)",
    lambda grad_h, *_: _like(grad_h, grad_h[0]),
)
_lstm = _define(
    "lstm",
    "(Tensor x_gates, Tensor weight_hh, Tensor h0, Tensor c0, Tensor? lengths, Tensor? resets, bool reverse)"
    " -> (Tensor, Tensor, Tensor)",
    lambda x_gates, weight_hh, h0, c0, *_: _every_step(x_gates, h0.shape[1], c0.shape[1], x_gates.shape[2]),
)
_lstm_backward = _define(
    "lstm_backward",
    "(Tensor grad_h, Tensor? grad_c, Tensor weight_hh, Tensor c0, Tensor? lengths, Tensor? resets,"
    " bool reverse, Tensor c, Tensor gates) -> (Tensor, Tensor, Tensor)",
    lambda grad_h, grad_c, weight_hh, c0, lengths, resets, reverse, c, gates: _like(gates, grad_h[0], c0),
)
_lstm_projected = _define(
    "lstm_projected",
    "(Tensor x_gates, Tensor weight_hh, Tensor weight_hr, Tensor h0, Tensor c0, Tensor? lengths,"
    " Tensor? resets, bool reverse) -> (Tensor, Tensor, Tensor)",
    lambda x_gates, weight_hh, weight_hr, h0, c0, *_: _every_step(
        x_gates, h0.shape[1], c0.shape[1], x_gates.shape[2]
    ),
)
_lstm_projected_backward = _define(
    "lstm_projected_backward",
    "(Tensor grad_h, Tensor? grad_c, Tensor weight_hh, Tensor weight_hr, Tensor c0, Tensor? lengths,"
    " Tensor? resets, bool reverse, Tensor c, Tensor gates) -> (Tensor, Tensor, Tensor, Tensor)",
    lambda grad_h, grad_c, weight_hh, weight_hr, c0, lengths, resets, reverse, c, gates: _like(
        gates, grad_h, grad_h[0], c0
    ),
)
_gru = _define(
    "gru",
    "(Tensor x_gates, Tensor weight_hh, Tensor bias_hn, Tensor h0, Tensor? lengths, Tensor? resets,"
    " bool reverse) -> (Tensor, Tensor)",
    lambda x_gates, weight_hh, bias_hn, h0, *_: _every_step(x_gates, h0.shape[1], 4 * h0.shape[1]),
)
_gru_backward = _define(
    "gru_backward",
    "(Tensor grad_h, Tensor weight_hh, Tensor h0, Tensor? lengths, Tensor? resets, bool reverse, Tensor h,"
    " Tensor gates) -> (Tensor, Tensor, Tensor)",
    lambda grad_h, weight_hh, h0, *_: _every_step(grad_h, 3 * h0.shape[1], 3 * h0.shape[1]) + _like(h0),
)


def rnn(
    x_gates: Tensor,
    weight_hh: Tensor,
    h0: Tensor,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
    relu: bool = False,
) -> Tensor:
    """Run the standard RNN over x_gates [T,B,H]. Returns every step's h [T,B,H], differentiable."""
    h: Tensor = _rnn(x_gates, weight_hh, h0, lengths, resets, reverse, relu)
    return h


def _rnn_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, weight_hh, h0, lengths, resets, ctx.reverse, ctx.relu = inputs
    ctx.save_for_backward(weight_hh, h0, lengths, resets, output)


def _rnn_gradients(ctx: Any, grad_h: Tensor) -> tuple[Tensor | None, ...]:
    weight_hh, h0, lengths, resets, h = ctx.saved_tensors
    grad_gates, grad_h0 = _rnn_backward(grad_h, weight_hh, lengths, resets, ctx.reverse, ctx.relu, h)
    grad_weight_hh = _grad_weight_hh(grad_gates, h, h0, lengths, resets, ctx.reverse)
    return grad_gates, grad_weight_hh, grad_h0, None, None, None, None


def lstm(
    x_gates: Tensor,
    weight_hh: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the LSTM over x_gates [T,B,4H].

    Returns every step's h and c [T,B,H], differentiable, and gates [T,B,4H] after activation, which are not.
    """
    h, c, gates = _lstm(x_gates, weight_hh, h0, c0, lengths, resets, reverse)
    return h, c, gates


def _lstm_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    _, weight_hh, h0, c0, lengths, resets, ctx.reverse = inputs
    h, c, gates = output
    ctx.save_for_backward(weight_hh, h0, c0, lengths, resets, h, c, gates)
    ctx.mark_non_differentiable(gates)
    ctx.set_materialize_grads(False)  # the kernel is told that nothing uses c, not given zeros


def _lstm_gradients(
    ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    weight_hh, h0, c0, lengths, resets, h, c, gates = ctx.saved_tensors
    grad_h = torch.zeros_like(h) if grad_h is None else grad_h
    grad_gates, grad_h0, grad_c0 = _lstm_backward(
        grad_h, grad_c, weight_hh, c0, lengths, resets, ctx.reverse, c, gates
    )
    grad_weight_hh = _grad_weight_hh(grad_gates, h, h0, lengths, resets, ctx.reverse)
    return grad_gates, grad_weight_hh, grad_h0, grad_c0, None, None, None


def lstm_projected(
    x_gates: Tensor,
    weight_hh: Tensor,
    weight_hr: Tensor,
    h0: Tensor,
    c0: Tensor,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """Run the LSTM with a recurrent projection weight_hr [P,H]; weight_hh is [4H,P] and h0 [B,P].

    Returns what `lstm` does, with h [T,B,P]. The reference serves it everywhere: the first run warns so.
    """
    h, c, gates = _lstm_projected(x_gates, weight_hh, weight_hr, h0, c0, lengths, resets, reverse)
    return h, c, gates


def _lstm_projected_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    _, weight_hh, weight_hr, h0, c0, lengths, resets, ctx.reverse = inputs
    h, c, gates = output
    ctx.save_for_backward(weight_hh, weight_hr, h0, c0, lengths, resets, h, c, gates)
    ctx.mark_non_differentiable(gates)
    ctx.set_materialize_grads(False)


def _lstm_projected_gradients(
    ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: Tensor | None
) -> tuple[Tensor | None, ...]:
    weight_hh, weight_hr, h0, c0, lengths, resets, h, c, gates = ctx.saved_tensors
    grad_h = torch.zeros_like(h) if grad_h is None else grad_h
    grad_gates, grad_projected, grad_h0, grad_c0 = _lstm_projected_backward(
        grad_h, grad_c, weight_hh, weight_hr, c0, lengths, resets, ctx.reverse, c, gates
    )
    grad_weight_hh = _grad_weight_hh(grad_gates, h, h0, lengths, resets, ctx.reverse)
    unprojected = gates[:, :, -c0.shape[1] :] * torch.tanh(c)
    grad_weight_hr = grad_projected.flatten(0, 1).T @ unprojected.flatten(0, 1)
    return grad_gates, grad_weight_hh, grad_weight_hr, grad_h0, grad_c0, None, None, None


def gru(
    x_gates: Tensor,
    weight_hh: Tensor,
    bias_hn: Tensor,
    h0: Tensor,
    lengths: Tensor | None = None,
    resets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """Run the GRU over x_gates [T,B,3H], which hold every bias but bias_hn [H].

    Returns every step's h [T,B,H], differentiable, and gates [T,B,4H] = r, z, n, hn, which are not.
    """
    h, gates = _gru(x_gates, weight_hh, bias_hn, h0, lengths, resets, reverse)
    return h, gates


def _gru_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    _, weight_hh, _, h0, lengths, resets, ctx.reverse = inputs
    h, gates = output
    ctx.save_for_backward(weight_hh, h0, lengths, resets, h, gates)
    ctx.mark_non_differentiable(gates)


def _gru_gradients(ctx: Any, grad_h: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    weight_hh, h0, lengths, resets, h, gates = ctx.saved_tensors
    grad_x_gates, grad_h_gates, grad_h0 = _gru_backward(
        grad_h, weight_hh, h0, lengths, resets, ctx.reverse, h, gates
    )
    grad_weight_hh = _grad_weight_hh(grad_h_gates, h, h0, lengths, resets, ctx.reverse)
    grad_bias_hn = grad_h_gates[:, :, -h0.shape[1] :].sum((0, 1))
    return grad_x_gates, grad_weight_hh, grad_bias_hn, grad_h0, None, None, None


def _no_second_derivative(ctx: Any, *grads: Tensor) -> None:
    raise NotImplementedError(
        "unrolled's sequence ops have no second derivative: run backward without create_graph"
    )


_rnn.register_autograd(_rnn_gradients, setup_context=_rnn_context)
_lstm.register_autograd(_lstm_gradients, setup_context=_lstm_context)
_lstm_projected.register_autograd(_lstm_projected_gradients, setup_context=_lstm_projected_context)
_gru.register_autograd(_gru_gradients, setup_context=_gru_context)
for _backward in (_rnn_backward, _lstm_backward, _lstm_projected_backward, _gru_backward):
    _backward.register_autograd(_no_second_derivative)
