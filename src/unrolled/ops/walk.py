"""Steps walked one by one, forward and back: which rows take each, what they carry, where a reset cuts.

What the reference's cells share; the cells' own steps are handed in. Shapes are those of `unrolled.ops.reference`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.errors import InputError

__all__ = ["Outputs", "Tensors", "Walk", "of_weight_hh", "run", "run_back"]

Tensors = tuple[Tensor, ...]
Outputs = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Walk:
    """The order in which steps are consumed, and which rows take or are reset before each."""

    steps: int
    lengths: Tensor | None
    resets: Tensor | None
    reverse: bool

    def __post_init__(self) -> None:
        if self.lengths is None or torch._C._functorch.is_functorch_wrapped_tensor(self.lengths):
            return  # within vmap nobody can look at numbers
        for row in torch.nonzero((self.lengths < 0) | (self.lengths > self.steps)).flatten().tolist():
            raise InputError(f"lengths[{row}] is {int(self.lengths[row])}, expected 0 to {self.steps}")

    def order(self) -> range:
        """The steps as they are consumed."""
        return range(self.steps - 1, -1, -1) if self.reverse else range(self.steps)

    def hold_unless_stepped(self, t: int, new: Tensor, held: Tensor) -> Tensor:
        """The new state [B,...] of the rows that take step t, the one held of the others."""
        return new if self.lengths is None else torch.where((t < self.lengths)[:, None], new, held)

    def zero_unless_stepped(self, t: int, new: Tensor) -> Tensor:
        """What step t gave the rows [B,...] that take it, 0 for the others."""
        return new if self.lengths is None else torch.where((t < self.lengths)[:, None], new, 0)

    def zero_where_reset(self, t: int, state: Tensor) -> Tensor:
        """The state [B,...] as step t sees it."""
        return state if self.resets is None else torch.where(self.resets[t][:, None], 0, state)

    def previous(self, t: int, sequence: Tensor, initial: Tensor) -> Tensor:
        """The state [B,H] that step t consumed, from every step's state [T,B,H] and the initial one [B,H]."""
        if not self.reverse:
            state = initial if t == 0 else sequence[t - 1]
        elif t == self.steps - 1:
            state = initial
        elif self.lengths is None:
            state = sequence[t + 1]
        else:
            state = torch.where((t + 1 < self.lengths)[:, None], sequence[t + 1], initial)
        return self.zero_where_reset(t, state)


def run(
    walk: Walk, step: Callable[..., Tensors], states: Tensors, outputs: Outputs, newest: Tensor | None = None
) -> Tensors:
    """Fill outputs with what step(t, *states) returns: the new states, then what else it keeps.

    None stands for what is not kept. `newest` [N,B,...] becomes the last of the states after each of N equal parts
    of the steps, or the one held since an earlier part. Returns the states after the last step.
    """
    for t in walk.order():
        results = step(t, *(walk.zero_where_reset(t, state) for state in states))
        for output, result in zip(outputs, results, strict=True):
            if output is not None:
                output[t] = walk.zero_unless_stepped(t, result)
        states = tuple(walk.hold_unless_stepped(t, new, held) for new, held in zip(results, states, strict=False))
        if newest is not None:
            newest[t // -(-walk.steps // len(newest))] = states[-1]
    return states


def run_back(
    walk: Walk,
    step_backward: Callable[..., tuple[Outputs, Tensors]],
    grad_states: Tensors,
    kept: Outputs,
) -> Tensors:
    """Walk from the last consumed step to the first; return the gradients of the initial states.

    step_backward(t, *grad_states) takes the gradients that reach step t from the step after it, and returns
    what `kept` keeps of it, where that is not None, and the gradients of the states it consumed.
    """
    for t in reversed(walk.order()):
        results, consumed = step_backward(t, *grad_states)
        for output, result in zip(kept, results, strict=True):
            if output is not None and result is not None:
                output[t] = walk.zero_unless_stepped(t, result)
        grad_states = tuple(
            walk.hold_unless_stepped(t, walk.zero_where_reset(t, new), held)
            for new, held in zip(consumed, grad_states, strict=True)
        )
    return grad_states


def _at_first_step(sequence: Tensor, walk: Walk) -> Tensor:
    """What sequence [T,B,...] holds at the first step that each row consumes: [B,...]."""
    if not walk.reverse:
        return sequence[0]
    if walk.lengths is None:
        return sequence[-1]
    rows = torch.arange(len(walk.lengths), device=walk.lengths.device)
    return sequence[(walk.lengths - 1).clamp(min=0), rows]


def of_weight_hh(walk: Walk, grad_gates: Tensor, h: Tensor, h0: Tensor) -> Tensor:
    """The gradient of weight_hh [gates,H], the sum over steps of grad_gates^T h_prev. First, h_prev is h0.

    Two products, so that h need not be copied behind h0. Both grad_gates and h are 0 where a row is not
    stepped: this keeps steps past a length out of both, and a reversed row's first step out of the second.
    """
    resets = walk.resets
    h_prev, grad_after = (h[1:], grad_gates[:-1]) if walk.reverse else (h[:-1], grad_gates[1:])
    if resets is not None:
        h_prev = h_prev.masked_fill((resets[:-1] if walk.reverse else resets[1:])[:, :, None], 0)
        h0 = h0.masked_fill(_at_first_step(resets, walk)[:, None], 0)
    from_h0 = _at_first_step(grad_gates, walk).T @ h0
    return torch.addmm(from_h0, grad_after.flatten(0, 1).T, h_prev.flatten(0, 1))
