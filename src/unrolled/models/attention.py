"""The recurrence of a decoder that attends to a memory: one step forward, and all steps forward and backward.

At each step the cell reads the embedded symbol and the attended vector of the step before; its h asks the memory,
and what it finds, together with h, gives the attended vector (Luong, Pham & Manning 2015, "Effective approaches to
attention-based neural machine translation", with general attention and input feeding):

    gates    = x_gates + W_a attended_prev + W_hh h_prev
    h        = cell(gates)
    alpha    = softmax(keys h)
    attended = tanh(alpha values + W_c h + b_c)

Backward keeps the gradients of every step's gates and scores, so that those of the weights are a few large matrix
products at the end and not small ones at each step. This file knows no module and no symbols.

B rows, N hypotheses (K a row, next to each other), S places, T steps, E the attended vector's width, H units.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from unrolled.ops import cells
from unrolled.ops.cells import product

__all__ = ["Memory", "Weights", "attend", "attended_sequence"]


class Memory(NamedTuple):
    """What is attended to, projected once: keys [B, S, H], values [B, S, E], and the places past a row's length
    (`past` [B, 1, S], true there).
    """

    keys: Tensor
    values: Tensor
    past: Tensor


class Weights(NamedTuple):
    """W_a [gates, E], W_hh [gates, H], the GRU's bias_hn [H] (for it alone), W_c [E, H] and b_c [E]."""

    attended: Tensor
    hidden: Tensor
    bias_hn: Tensor | None
    combine: Tensor
    combine_bias: Tensor


States = tuple[Tensor, ...]
"""h and, for an LSTM, c, each [N, H]."""


def attend(
    cell: str, x_gates: Tensor, attended: Tensor, states: States, memory: Memory, weights: Weights
) -> tuple[Tensor, States, Tensor, Tensor]:
    """One step: the attended vector [N, E], the states, the attention [N, S] and the gates after activation.

    `x_gates` [N, gates] is the embedded symbols' share of the gates with all biases that can be added.
    """
    states, gates = _forward(cell, x_gates + product(attended, weights.attended.T), states, weights)
    h = states[0]
    asked = h.to(memory.keys.dtype).view(len(memory.keys), -1, h.shape[1])
    scores = torch.bmm(asked, memory.keys.mT).to(h.dtype).masked_fill(memory.past, -torch.inf)
    attention = scores.softmax(-1)
    found = torch.bmm(attention.to(memory.values.dtype), memory.values).flatten(0, 1)
    made = torch.tanh(found + product(h, weights.combine.T) + weights.combine_bias)
    return made, states, attention.flatten(0, 1), gates


def attended_sequence(
    cell: str, x_gates: Tensor, states: States, memory: Memory, weights: Weights, kept: Tensor | None = None
) -> Tensor:
    """Every step's attended vector [T, B, E] after x_gates [T, B, gates], from an attended vector of zeros.

    `kept` [B, E] multiplies the attended vector at every step: dropout with one mask.
    """
    run: Callable[..., Tensor] = _Sequence.apply
    return run(cell, kept, memory.past, x_gates, *states, *memory[:2], *weights)


def _forward(cell: str, gates: Tensor, states: States, weights: Weights) -> tuple[States, Tensor]:
    """The cell's states after a step, and its gates after activation (of an RNN, h)."""
    if cell == "lstm":
        h, c, gates = cells.lstm_step(gates, weights.hidden, states[0], states[1])
        return (h, c), gates
    if cell == "gru":
        assert weights.bias_hn is not None
        h, gates = cells.gru_step(gates, weights.hidden, weights.bias_hn, *states)
        return (h,), gates
    h = cells.rnn_step(gates, weights.hidden, states[0])
    return (h,), h


def _backward(
    cell: str, grads: States, before: States, after: States, gates: Tensor, weight_hh: Tensor
) -> tuple[Tensor, Tensor, States]:
    """The gradients of x_gates, of the recurrent products, and of the states before."""
    if cell == "lstm":
        grad_h, grad_c = grads
        grad_gates, *grads_before = cells.lstm_step_backward(
            grad_h, grad_c, weight_hh, before[1], after[1], gates
        )[:3]
        return grad_gates, grad_gates, tuple(grads_before)
    if cell == "gru":
        grad_x_gates, grad_h_gates, grad_h = cells.gru_step_backward(grads[0], weight_hh, before[0], gates)
        return grad_x_gates, grad_h_gates, (grad_h,)
    grad_gates, grad_h = cells.rnn_step_backward(grads[0], weight_hh, after[0])
    return grad_gates, grad_gates, (grad_h,)


class _Sequence(torch.autograd.Function):
    """`attended_sequence` with its gradient, for as many rows as hypotheses."""

    @staticmethod
    def forward(ctx: Any, cell: str, kept: Tensor | None, past: Tensor, x_gates: Tensor, *rest: Any) -> Tensor:
        """Run every step and remember what `backward` needs of it."""
        carried = 2 if cell == "lstm" else 1
        first, (keys, values), weights = rest[:carried], rest[carried : carried + 2], Weights(*rest[carried + 2 :])
        memory, states = Memory(keys, values, past), tuple(first)
        attended = x_gates.new_zeros(x_gates.shape[1], values.shape[2])
        steps = []
        for step_gates in x_gates.unbind():
            made, states, attention, gates = attend(cell, step_gates, attended, states, memory, weights)
            attended = made if kept is None else made * kept
            steps.append((made, attention, gates, *states))
        made, attention, gates, *every = (torch.stack(parts) for parts in zip(*steps, strict=True))
        ctx.cell = cell
        ctx.save_for_backward(kept, made, attention, gates, *every, *rest)
        return made if kept is None else made * kept

    @staticmethod
    def backward(ctx: Any, grad_attended: Tensor) -> tuple[Tensor | None, ...]:
        """Walk the steps back, then make the gradients of memory and weights from all of them."""
        cell: str = ctx.cell
        carried = 2 if cell == "lstm" else 1
        kept, made, attention, gates, *saved = ctx.saved_tensors
        every, first, rest = saved[:carried], saved[carried : 2 * carried], saved[2 * carried :]
        keys, values, *parts = rest
        weights = Weights(*parts)
        mask = made.new_ones(()) if kept is None else kept
        grad_next, grads = torch.zeros_like(made[0]), tuple(torch.zeros_like(state) for state in first)
        steps = []
        for t in reversed(range(len(made))):
            grad_made = (grad_attended[t] + grad_next) * mask * (1 - made[t] * made[t])
            grad_alpha = torch.bmm(grad_made.to(values.dtype)[:, None], values.mT)[:, 0]
            alpha = attention[t]
            grad_scores = alpha * (grad_alpha - (alpha * grad_alpha).sum(1, keepdim=True))
            asked = torch.bmm(grad_scores.to(keys.dtype)[:, None], keys)[:, 0]
            grad_h = grads[0] + product(grad_made, weights.combine) + asked
            before = tuple(state[t - 1] for state in every) if t else tuple(first)
            after = tuple(state[t] for state in every)
            grad_x, grad_recurrent, grads = _backward(
                cell, (grad_h, *grads[1:]), before, after, gates[t], weights.hidden
            )
            grad_next = product(grad_x, weights.attended)
            steps.append((grad_x, grad_recurrent, grad_made, grad_scores))
        grad_x, grad_recurrent, grad_made, grad_scores = (
            torch.stack(parts) for parts in zip(*reversed(steps), strict=True)
        )
        h_before = torch.cat([first[0][None], every[0][:-1]])
        grad_bias_hn = None
        if weights.bias_hn is not None:
            grad_bias_hn = grad_recurrent[:, :, -len(weights.bias_hn) :].sum((0, 1))
        return (
            *(None, None, None),
            grad_x,
            *grads,
            _over_steps(grad_scores, every[0], keys.dtype),
            _over_steps(attention, grad_made, values.dtype),
            _outer(grad_x[1:], made[:-1] * mask, weights.attended),
            _outer(grad_recurrent, h_before, weights.hidden),
            grad_bias_hn,
            _outer(grad_made, every[0], weights.combine),
            grad_made.sum((0, 1)),
        )


def _outer(grads: Tensor, read: Tensor, weight: Tensor) -> Tensor:
    """The gradient of `weight` [rows, columns] that made [T, B, rows] of `read` [T, B, columns]."""
    dtype = weight.dtype
    return grads.flatten(0, 1).to(dtype).T @ read.flatten(0, 1).to(dtype)


def _over_steps(places: Tensor, vectors: Tensor, dtype: torch.dtype) -> Tensor:
    """The sum over steps of places [T, B, S] times vectors [T, B, width]: [B, S, width]."""
    return torch.bmm(places.to(dtype).permute(1, 2, 0), vectors.to(dtype).transpose(0, 1))
