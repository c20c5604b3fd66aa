"""A sequence op in less memory: states are kept every few steps, and what lies between is computed again.

After Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". The steps are cut into chunks. Forward
keeps the output and the state before each chunk; backward runs the chunks again, from the last one consumed to the
first, now with all that the way back needs, and adds up the weights' gradients. Each run is one of `unrolled.ops`,
by whatever kernel serves it; nothing here knows its equations.

Shapes are those of `unrolled.ops`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from unrolled import ops  # noqa: F401, which registers them
from unrolled.dispatch import Tensors, declare, pooled
from unrolled.walk import Walk

__all__ = ["recomputed"]

Values = dict[str, Any]


@cache
def _names(op: str) -> tuple[list[str], list[str]]:
    """Of an op, what it takes and what it gives, where its schema names that."""
    schema: Any = getattr(torch.ops.unrolled, op).default._schema
    return [argument.name for argument in schema.arguments], [result.name for result in schema.returns]


_KEPT = {"lstm": ("h", "c", "gates"), "gru": ("h", "gates")}
_TAKEN = {op: _names(op)[0] for op in _KEPT}


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring steps, and how many of them each row takes [B]."""

    steps: slice
    lengths: Tensor
    reverse: bool

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
    """What the op takes: the tensors that are there, under their names, which stand in one string."""

    op: str
    names: str
    inputs: list[Tensor]
    reverse: bool
    every: int

    @property
    def values(self) -> Values:
        """The tensors by name."""
        return dict(zip(self.names.split(), self.inputs, strict=True))

    @property
    def states(self) -> list[Tensor]:
        """The initial ones: h0, and c0 of an LSTM."""
        return [value for name, value in self.values.items() if name in ("h0", "c0")]

    def chunks(self) -> list[_Chunk]:
        """All steps, in the order in which they are consumed."""
        x, lengths, resets = (self.values.get(name) for name in ("x", "lengths", "resets"))
        assert x is not None
        walk = Walk(len(x), lengths, resets, self.reverse)
        whole = torch.full(x.shape[1:2], walk.steps, device=x.device) if lengths is None else lengths

        def chunk(start: int) -> _Chunk:
            steps = slice(start, min(start + self.every, walk.steps))
            return _Chunk(steps, (whole - start).clamp(0, steps.stop - start), self.reverse)

        starts = range(0, walk.steps, self.every)
        return [chunk(start) for start in (reversed(starts) if self.reverse else starts)]

    def outputs(self) -> Tensors:
        """Uninitialised h [T,B,H], and of an LSTM the last c [1,B,H] and the c before each chunk, else empty."""
        x, (h0, *c0) = self.values["x"], self.states
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

    def of_chunk(self, chunk: _Chunk, state: list[Tensor]) -> Values:
        """What the op takes for a chunk from the state before it: of what has all steps, these."""
        part = {
            name: value[chunk.steps] if value.dim() == 3 or name == "resets" else value
            for name, value in self.values.items()
        }
        return part | dict(zip(("h0", "c0"), state, strict=False)) | {"lengths": chunk.lengths}

    def run(self, chunk: _Chunk, state: list[Tensor], keep: bool) -> Tensors:
        """What the op gives for a chunk."""
        given = self.of_chunk(chunk, state) | {"reverse": self.reverse, "keep": keep}
        found: Tensors = getattr(torch.ops.unrolled, self.op)(*map(given.get, _TAKEN[self.op]))
        return found

    def backward(
        self, grad_h: Tensor, grad_c: Tensor | None, h: Tensor, before: Tensor, *wanted: bool
    ) -> list[Tensor]:
        """A gradient for each input, empty where there is none; `wanted` says whether those of x and bias."""
        chunks, x = self.chunks(), self.values["x"]
        entering = [[self.states[0], *before[:1]]]
        for number, chunk in enumerate(chunks[:-1], 1):
            entering.append([chunk.h_after(h, entering[-1][0]), *before[number : number + 1]])
        grad_states = [torch.zeros_like(state) for state in self.states]
        if grad_c is not None:
            grad_states[1] = grad_c[0]
        grad_x = pooled(x.new_empty(x.shape if wanted[0] else 0))
        sums = Values()
        for chunk, state in zip(reversed(chunks), reversed(entering), strict=True):
            found = self.run_back(chunk, state, grad_h, grad_states, *wanted)
            of_x = found.pop("grad_x")
            if wanted[0]:
                grad_x[chunk.steps] = of_x
            of_states = [found.pop(f"grad_{name}") for name in ("h0", "c0")[: len(state)]]
            grad_states = [chunk.if_stepped(*pair) for pair in zip(of_states, grad_states, strict=True)]
            for name, total in sums.items():
                total += found[name]
            sums = sums or found
        sums |= {"grad_x": grad_x} | dict(zip(("grad_h0", "grad_c0"), grad_states, strict=False))
        return [sums.get(f"grad_{name}", x.new_empty(0)) for name in self.names.split()]

    def run_back(
        self, chunk: _Chunk, state: list[Tensor], grad_h: Tensor, grad_states: list[Tensor], *wanted: bool
    ) -> Values:
        """A chunk run again and back: its share of all gradients, from those that reach the state after it."""
        kept = self.run(chunk, state, True)
        grads = [grad_h[chunk.steps].clone(), *(torch.zeros_like(c) for c in kept[1 : len(state)])]
        for grad, after in zip(grads, grad_states, strict=True):
            grad.index_put_(chunk.last_consumed, after, accumulate=True)
        given = self.of_chunk(chunk, state) | dict(zip(_KEPT[self.op], kept, strict=True))
        given |= dict(zip(("grad_h", "grad_c"), grads, strict=False))
        given |= dict(zip(("reverse", "want_x", "want_bias"), (self.reverse, *wanted), strict=True))
        taken, names = _names(f"{self.op}_backward")
        found = getattr(torch.ops.unrolled, f"{self.op}_backward")(*map(given.get, taken))
        return dict(zip(names, found, strict=True))

    def gradients(self, want_x: bool, want_bias: bool) -> list[Tensor]:
        """Uninitialised, as `backward` fills them."""
        names = _names(f"{self.op}_backward")[1]
        unwanted = {"x": not want_x, "bias": not want_bias or "weight_ih" not in self.values}
        return [
            value.new_empty(value.shape if f"grad_{name}" in names and not unwanted.get(name) else 0)
            for name, value in self.values.items()
        ]


_INPUTS = "str op, str names, Tensor[] inputs, bool reverse, int every"
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
    lambda *inputs: _Call(*inputs[:5]).backward(*inputs[5:]),
    lambda *inputs: _Call(*inputs[:5]).gradients(*inputs[-2:]),
)


def recomputed(op: str, every: int, *inputs: Tensor | bool | None) -> tuple[Tensor, Tensor | None]:
    """Run an op over inputs, all that the op takes before `keep`, with states kept every `every` steps.

    Returns every step's h [T,B,H], the bits that the op gives, and an LSTM's last c [1,B,H], both differentiable.
    Gradients are those of the op; sums over steps are made chunk by chunk, so those of weights may differ in the
    last bits. The way back takes one more run forward.
    """
    given = dict(zip(_TAKEN[op], inputs, strict=False))
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    names, reverse = " ".join(tensors), bool(given["reverse"])
    h, c, _ = _recomputed(op, names, list(tensors.values()), reverse, every)
    return h, c if "c0" in tensors else None


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.op, ctx.names, tensors, ctx.reverse, ctx.every = inputs
    h, _, before = output
    ctx.save_for_backward(h, before, *tensors)
    ctx.mark_non_differentiable(before)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    h, before, *tensors = ctx.saved_tensors
    needed = dict(zip(ctx.names.split(), ctx.needs_input_grad[2], strict=True))
    found = _recomputed_backward(
        *(ctx.op, ctx.names, tensors, ctx.reverse, ctx.every),
        *(torch.zeros_like(h) if grad_h is None else grad_h, grad_c, h, before),
        *(needed["x"], needed.get("bias", False)),
    )
    return (
        None,
        None,
        [one if need else None for one, need in zip(found, needed.values(), strict=True)],
        None,
        None,
    )


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise NotImplementedError("a recomputed sequence has no second derivative: make the layer without recompute")


_recomputed.register_autograd(_gradients, setup_context=_context)
_recomputed_backward.register_autograd(_no_second_derivative)
