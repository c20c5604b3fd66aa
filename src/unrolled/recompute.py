"""A sequence op in less memory: states are kept every few steps, and what lies between is computed again.

After Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". The steps are cut into chunks. Forward
keeps the output and the state before each chunk; backward runs the chunks again, from the last one consumed to the
first, now with all that the way back needs, and adds up the weights' gradients. Each run is one of `unrolled.ops`,
by whatever kernel serves it; nothing here knows its equations.

Shapes are those of `unrolled.ops`.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from unrolled import ops
from unrolled.dispatch import Tensors, declare, pooled
from unrolled.walk import Walk

__all__ = ["recomputed"]

_READ_BACK = {"lstm": 1, "lstm_projected": 2, "gru": 1}
"""How many of an op's weights its way back reads: all but a GRU's bias_hn, which only second derivatives need."""

assert set(_READ_BACK) <= set(ops.__all__)


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring steps, and what the rows do in them: lengths [B] and resets count from the first of them."""

    steps: slice
    lengths: Tensor
    resets: Tensor | None
    reverse: bool

    @property
    def masks(self) -> tuple[Tensor, Tensor | None, bool]:
        """As an op takes them."""
        return self.lengths, self.resets, self.reverse

    @property
    def last_consumed(self) -> tuple[Tensor, Tensor]:
        """Where each row's last step stands in [steps,B,...]."""
        last = torch.zeros_like(self.lengths) if self.reverse else (self.lengths - 1).clamp(min=0)
        return last, torch.arange(len(last), device=last.device)

    def if_stepped(self, new: Tensor, held: Tensor) -> Tensor:
        """What is new [B,width] for the rows that take a step here, what was before for the others."""
        return torch.where((self.lengths > 0)[:, None], new, held)

    def h_after(self, h: Tensor, before: Tensor) -> Tensor:
        """The h [B,width] that the next chunk begins with, of all steps' h; anything for a row that has ended."""
        return self.if_stepped(h[self.steps.start if self.reverse else self.steps.stop - 1], before)


@dataclass(frozen=True)
class _Call:
    """The inputs of `recomputed`."""

    op: str
    x: Tensor
    weight_ih: Tensor | None
    bias: Tensor | None
    weights: list[Tensor]
    states: list[Tensor]
    lengths: Tensor | None
    resets: Tensor | None
    reverse: bool
    every: int

    def chunks(self) -> list[_Chunk]:
        """All steps, in the order in which they are consumed."""
        walk = Walk(len(self.x), self.lengths, self.resets, self.reverse)
        whole = self.lengths
        if whole is None:
            whole = torch.full(self.x.shape[1:2], walk.steps, device=self.x.device)

        def chunk(start: int) -> _Chunk:
            steps = slice(start, min(start + self.every, walk.steps))
            resets = None if self.resets is None else self.resets[steps]
            return _Chunk(steps, (whole - start).clamp(0, steps.stop - start), resets, self.reverse)

        starts = range(0, walk.steps, self.every)
        return [chunk(start) for start in (reversed(starts) if self.reverse else starts)]

    def outputs(self) -> Tensors:
        """Uninitialised h [T,B,H], and of an LSTM the last c [1,B,H] and the c before each chunk, else empty."""
        x, (h0, *c0) = self.x, self.states
        h = x.new_empty(*x.shape[:2], h0.shape[1])
        if not c0:
            return h, x.new_empty(0), x.new_empty(0)
        return h, x.new_empty(1, *c0[0].shape), x.new_empty(-(-len(x) // self.every), *c0[0].shape)

    def forward(self) -> Tensors:
        """The outputs, filled."""
        h, last_c, before = map(pooled, self.outputs())
        h_now, *c_now = self.states
        for number, chunk in enumerate(self.chunks()):
            for c in c_now:
                before[number] = c
            h[chunk.steps], *new_c, _ = self.run(chunk, [h_now, *c_now], False)
            h_now, c_now = chunk.h_after(h, h_now), [c[0] for c in new_c]
        for c in c_now:
            last_c.copy_(c)
        return h, last_c, before

    def run(self, chunk: _Chunk, state: list[Tensor], keep: bool) -> Tensors:
        """What the op gives for a chunk from the state before it."""
        op = getattr(torch.ops.unrolled, self.op)
        found: Tensors = op(
            self.x[chunk.steps], self.weight_ih, self.bias, *self.weights, *state, *chunk.masks, keep
        )
        return found

    def backward(
        self, grad_h: Tensor, grad_c: Tensor | None, h: Tensor, before: Tensor, *wanted: bool
    ) -> list[Tensor]:
        """The gradients of x, weight_ih, bias, weights and states; `wanted` says whether those of x and bias."""
        chunks, of_states = self.chunks(), len(self.states)
        entering = [[self.states[0], *before[:1]]]
        for number, chunk in enumerate(chunks[:-1], 1):
            entering.append([chunk.h_after(h, entering[-1][0]), *before[number : number + 1]])
        grad_states = [torch.zeros_like(state) for state in self.states]
        if grad_c is not None:
            grad_states[1] = grad_c[0]
        grad_x, sums = pooled(self.x.new_empty(self.x.shape if wanted[0] else 0)), list[Tensor]()
        for chunk, state in zip(reversed(chunks), reversed(entering), strict=True):
            of_x, *found = self.run_back(chunk, state, grad_h, grad_states, *wanted)
            if wanted[0]:
                grad_x[chunk.steps] = of_x
            shares = found[:-of_states]
            for total, share in zip(sums, shares, strict=False):
                total += share
            sums = sums or shares
            grad_states = [chunk.if_stepped(*pair) for pair in zip(found[-of_states:], grad_states, strict=True)]
        return [grad_x, *sums, *grad_states]

    def run_back(
        self, chunk: _Chunk, state: list[Tensor], grad_h: Tensor, grad_states: list[Tensor], *wanted: bool
    ) -> Tensors:
        """A chunk run again and back: its share of all gradients, from those that reach the state after it."""
        kept = self.run(chunk, state, True)
        grads = [grad_h[chunk.steps].clone(), *(torch.zeros_like(c) for c in kept[1 : len(state)])]
        for grad, after in zip(grads, grad_states, strict=True):
            grad.index_put_(chunk.last_consumed, after, accumulate=True)
        op, read = getattr(torch.ops.unrolled, f"{self.op}_backward"), _READ_BACK[self.op]
        given = (self.weight_ih, *self.weights[:read], *state, *chunk.masks, *kept)
        found: Tensors = op(*grads, self.x[chunk.steps], *given, *self.weights[read:], self.bias, *wanted)
        return found

    def gradients(self, want_x: bool, want_bias: bool) -> list[Tensor]:
        """Uninitialised, as `backward` fills them."""
        x, weight_ih = self.x, self.weight_ih
        return [
            x.new_empty(x.shape if want_x else 0),
            x.new_empty(0 if weight_ih is None else weight_ih.shape),
            x.new_empty(0 if weight_ih is None or not want_bias else len(weight_ih)),
            *(one.new_empty(one.shape) for one in (*self.weights, *self.states)),
        ]


_INPUTS = (
    "str op, Tensor x, Tensor? weight_ih, Tensor? bias, Tensor[] weights, Tensor[] states, Tensor? lengths,"
    " Tensor? resets, bool reverse, int every"
)
_recomputed = declare(
    "recomputed",
    f"({_INPUTS}) -> (Tensor, Tensor, Tensor)",
    lambda *inputs: _Call(*inputs).forward(),
    lambda *inputs: _Call(*inputs).outputs(),
)
_recomputed_backward = declare(
    "recomputed_backward",
    f"({_INPUTS}, Tensor grad_h, Tensor? grad_c, Tensor h, Tensor before, bool want_x, bool want_bias)"
    " -> Tensor[]",
    lambda *inputs: _Call(*inputs[:10]).backward(*inputs[10:]),
    lambda *inputs: _Call(*inputs[:10]).gradients(*inputs[-2:]),
)


def recomputed(
    op: str,
    x: Tensor,
    weight_ih: Tensor | None,
    bias: Tensor | None,
    weights: list[Tensor],
    states: list[Tensor],
    lengths: Tensor | None,
    resets: Tensor | None,
    reverse: bool,
    every: int,
) -> tuple[Tensor, Tensor | None]:
    """Run an op, "lstm", "lstm_projected" or "gru", with states kept every `every` steps; at least 1.

    `weights` and `states` are the op's, in its order. Returns every step's h [T,B,H], the bits that the op gives,
    and an LSTM's last c [1,B,H], both differentiable. Gradients are those of the op; sums over steps are made
    chunk by chunk, so those of weights may differ in the last bits. The way back takes one more run forward.
    """
    h, c, _ = _recomputed(op, x, weight_ih, bias, weights, states, lengths, resets, reverse, every)
    return h, c if len(states) > 1 else None


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.op, x, weight_ih, bias, weights, states, lengths, resets, ctx.reverse, ctx.every = inputs
    h, _, before = output
    ctx.save_for_backward(x, weight_ih, bias, lengths, resets, h, before, *weights, *states)
    ctx.states = len(states)
    ctx.mark_non_differentiable(before)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    x, weight_ih, bias, lengths, resets, h, before, *rest = ctx.saved_tensors
    weights, states = rest[: -ctx.states], rest[-ctx.states :]
    needed = ctx.needs_input_grad[1:4]
    found = _recomputed_backward(
        *(ctx.op, x, weight_ih, bias, weights, states, lengths, resets, ctx.reverse, ctx.every),
        *(torch.zeros_like(h) if grad_h is None else grad_h, grad_c, h, before, needed[0], needed[2]),
    )
    of_input = (one if need else None for one, need in zip(found[:3], needed, strict=True))
    return None, *of_input, found[3 : -ctx.states], found[-ctx.states :], None, None, None, None


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise NotImplementedError("a recomputed sequence has no second derivative: make the layer without recompute")


_recomputed.register_autograd(_gradients, setup_context=_context)
_recomputed_backward.register_autograd(_no_second_derivative)
