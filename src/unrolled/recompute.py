"""A sequence op in less memory: states are kept every few steps, and what lies between is computed again.

After Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". The steps are cut into chunks. Forward
keeps the output and the state before each chunk; backward runs the chunks again, from the last one consumed to the
first, now with all that the way back needs, and adds up the weights' gradients. Each run is one of `unrolled.ops`,
by whatever kernel serves it, straight into its part of what comes out or into memory that all chunks share.
Nothing here knows its equations.

Shapes are those of `unrolled.ops`.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from unrolled import ops  # noqa: F401, which registers them
from unrolled.composite import transformed
from unrolled.dispatch import SERVED, Outputs, Tensors, pooled
from unrolled.library import declare
from unrolled.walk import Walk

__all__ = ["recomputed"]

Values = dict[str, Any]


@cache
def _names(op: str) -> tuple[list[str], list[str]]:
    """Of an op, what it takes and what it gives, where its schema names that."""
    schema: Any = getattr(torch.ops.unrolled, op).default._schema
    return [argument.name for argument in schema.arguments], [result.name for result in schema.returns]


_TAKEN, _KEPT = ({op: _names(op)[part] for op in ("lstm", "gru")} for part in (0, 1))


@dataclass(frozen=True)
class _Chunk:
    """Neighbouring steps, and how many of them each row takes [B]; None: all."""

    steps: slice
    lengths: Tensor | None
    reverse: bool

    def part(self, memory: Tensors) -> Tensors:
        """Of memory for the longest chunk [steps,B,...], this one's."""
        return tuple(tensor[: self.steps.stop - self.steps.start] for tensor in memory)

    @property
    def last(self) -> int | Tensors:
        """Where in what has this chunk's steps each row's last one is; anywhere for a row that takes none."""
        if self.lengths is None:
            return 0 if self.reverse else -1
        last = torch.zeros_like(self.lengths) if self.reverse else (self.lengths - 1).clamp(min=0)
        return last, torch.arange(len(last), device=last.device)

    def if_stepped(self, new: Tensor, held: Tensor) -> Tensor:
        """What is new [B,width] for the rows that take a step here, what was before for the others."""
        return new if self.lengths is None else torch.where((self.lengths > 0)[:, None], new, held)

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

    @property
    def read(self) -> Tensor:
        """What has a row for each step, [T,B,...]: the symbols where there are any, else x."""
        values = self.values
        found: Tensor = values["symbols"] if "symbols" in values else values["x"]
        return found

    def chunks(self) -> list[_Chunk]:
        """All steps, in the order in which they are consumed."""
        read, lengths, resets = self.read, self.values.get("lengths"), self.values.get("resets")
        walk = Walk(len(read), lengths, resets, self.reverse)

        def chunk(start: int) -> _Chunk:
            steps = slice(start, min(start + self.every, walk.steps))
            taken = None if lengths is None else (lengths - start).clamp(0, steps.stop - start)
            return _Chunk(steps, taken, self.reverse)

        starts = range(0, walk.steps, self.every)
        return [chunk(start) for start in (reversed(starts) if self.reverse else starts)]

    def outputs(self) -> Tensors:
        """Uninitialised h [T,B,H], and of an LSTM the last c [1,B,H] and the c between chunks, else empty."""
        x, (h0, *c0) = self.values["x"], self.states
        h = x.new_empty(*self.read.shape[:2], h0.shape[1])
        if not c0:
            return h, x.new_empty(0), x.new_empty(0)
        return h, x.new_empty(1, *c0[0].shape), x.new_empty(-(-len(h) // self.every) - 1, *c0[0].shape)

    def forward(self) -> Tensors:
        """The outputs, filled."""
        h, last_c, between = map(pooled, self.outputs())
        state, has_c = self.states, len(self.states) > 1
        for number, chunk in enumerate(self.chunks()):
            c = [between[number : number + 1] if number < len(between) else last_c] if has_c else []
            self.run(chunk, state, False, (h[chunk.steps], *c, None))
            state = [chunk.h_after(h, state[0]), *(after[0] for after in c)]
        return h, last_c, between

    def of_chunk(self, chunk: _Chunk, state: list[Tensor]) -> Values:
        """What the op takes for a chunk from the state before it: of what has all steps, these."""
        part = {
            name: value[chunk.steps] if value.dim() == 3 or name in ("resets", "symbols") else value
            for name, value in self.values.items()
        }
        states = dict(zip(("h0", "c0"), state, strict=False))
        return part | states | {"lengths": chunk.lengths, "reverse": self.reverse}

    def run(self, chunk: _Chunk, state: list[Tensor], keep: bool, outputs: Outputs) -> None:
        """Fill what the op gives for a chunk."""
        given = self.of_chunk(chunk, state) | {"keep": keep}
        SERVED[self.op].fill(tuple(map(given.get, _TAKEN[self.op])), outputs)

    def kept(self) -> Tensors:
        """What the op keeps of a chunk of the greatest length, uninitialised."""
        read = "symbols" if "symbols" in self.values else "x"
        longest = self.values | {read: self.read[: self.every], "keep": True}
        outputs = SERVED[self.op].outputs(*map(longest.get, _TAKEN[self.op]))
        return tuple(output for output in outputs if output is not None)

    def entering(self, h: Tensor, between: Tensor) -> list[list[Tensor]]:
        """The state before each chunk."""
        states = [self.states]
        for number, chunk in enumerate(self.chunks()[:-1]):
            states.append([chunk.h_after(h, states[-1][0]), *between[number : number + 1]])
        return states

    def backward(
        self, grad_h: Tensor, grad_c: Tensor | None, h: Tensor, between: Tensor, *wanted: bool
    ) -> list[Tensor]:
        """The gradients by input; `wanted` says whether those of x and bias are."""
        chunks, sums = self.chunks(), self.gradients(*wanted)
        of_steps = {}  # x's, where every step has its own
        if "symbols" not in self.values:
            grad_x = sums.pop("grad_x")
            of_steps["grad_x"] = None if grad_x is None else pooled(grad_x)
        share: Values = {name: None if total is None else torch.empty_like(total) for name, total in sums.items()}
        learned = [
            name for name, total in sums.items() if total is not None and name not in ("grad_h0", "grad_c0")
        ]
        kept = self.kept()
        grads = tuple(torch.zeros_like(state) for state in kept[: len(self.states)])
        grad_states = [torch.zeros_like(state) for state in self.states]
        if grad_c is not None:
            grad_states[1] = grad_c[0]
        for chunk, state in zip(reversed(chunks), reversed(self.entering(h, between)), strict=True):
            first = chunk is chunks[-1]
            found = sums if first else share
            of_h, *of_c = of_chunk = chunk.part(grads)  # of c but for the last ones 0, before and after
            of_h.copy_(grad_h[chunk.steps])
            for grad, of_last in zip(of_chunk, grad_states, strict=True):
                grad[chunk.last] += of_last
            self.run(chunk, state, True, chunk.part(kept))
            of_x = (None if grad is None else grad[chunk.steps] for grad in of_steps.values())
            self.run_back(chunk, state, chunk.part(kept), of_chunk, (*of_x, *found.values()))
            for grad in of_c:
                grad[chunk.last] = 0
            of_states = [found[f"grad_{name}"] for name in ("h0", "c0")[: len(state)]]
            grad_states = [chunk.if_stepped(*pair) for pair in zip(of_states, grad_states, strict=True)]
            for name in () if first else learned:
                sums[name] += share[name]
        return self.by_input(sums | of_steps | dict(zip(("grad_h0", "grad_c0"), grad_states, strict=False)))

    def gradients(self, *wanted: bool) -> Values:
        """What the way back over all steps gives, uninitialised, by name; None for what is not wanted."""
        taken, names = _names(f"{self.op}_backward")
        given = self.values | dict(zip(("want_x", "want_bias"), wanted, strict=True))
        return dict(zip(names, SERVED[f"{self.op}_backward"].allocate(*map(given.get, taken)), strict=True))

    def by_input(self, gradients: Values) -> list[Tensor]:
        """One for each input, empty where there is none."""
        found = [gradients.get(f"grad_{name}") for name in self.names.split()]
        return [self.inputs[0].new_empty(0) if one is None else one for one in found]

    def run_back(
        self, chunk: _Chunk, state: list[Tensor], kept: Tensors, grads: Tensors, outputs: Outputs
    ) -> None:
        """Fill a chunk's share of all gradients, from what the op kept and the gradients at its states."""
        given = self.of_chunk(chunk, state) | dict(zip(_KEPT[self.op], kept, strict=True))
        given |= dict(zip(("grad_h", "grad_c"), grads, strict=False))
        op = f"{self.op}_backward"
        SERVED[op].fill(tuple(map(given.get, _names(op)[0])), outputs)


_INPUTS = "str op, str names, Tensor[] inputs, bool reverse, int every"
_recomputed = declare(
    "recomputed",
    f"({_INPUTS}) -> (Tensor, Tensor, Tensor)",
    lambda *inputs: _Call(*inputs).forward(),
    lambda *inputs: _Call(*inputs).outputs(),
)
_recomputed_backward = declare(
    "recomputed_backward",
    f"({_INPUTS}, Tensor grad_h, Tensor? grad_c, Tensor h, Tensor between, bool want_x, bool want_bias)"
    " -> Tensor[]",
    lambda *inputs: _Call(*inputs[:5]).backward(*inputs[5:]),
    lambda *inputs: (call := _Call(*inputs[:5])).by_input(call.gradients(*inputs[-2:])),
)


def recomputed(op: str, every: int, *inputs: Tensor | bool | None) -> tuple[Tensor, Tensor | None]:
    """Run an op over inputs, all that the op takes before `keep`, with states kept every `every` steps.

    Returns every step's h [T,B,H], the bits that the op gives, and an LSTM's last c [1,B,H], both differentiable.
    Gradients are those of the op; sums over steps are made chunk by chunk, so those of weights may differ in the
    last bits. The way back takes one more run forward. Within torch.func's transforms all is kept.
    """
    if torch._C._are_functorch_transforms_active():
        h, *c, _ = transformed(op, *inputs, False)
        return h, c[0] if c else None
    given = dict(zip(_TAKEN[op], inputs, strict=False))
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    names, reverse = " ".join(tensors), bool(given["reverse"])
    h, c, _ = _recomputed(op, names, list(tensors.values()), reverse, every)
    return h, c if "c0" in tensors else None


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.op, ctx.names, tensors, ctx.reverse, ctx.every = inputs
    h, _, between = output
    ctx.save_for_backward(h, between, *tensors)
    ctx.mark_non_differentiable(between)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, _: Tensor | None) -> tuple[Any, ...]:
    h, between, *tensors = ctx.saved_tensors
    needed = dict(zip(ctx.names.split(), ctx.needs_input_grad[2], strict=True))
    found = _recomputed_backward(
        *(ctx.op, ctx.names, tensors, ctx.reverse, ctx.every),
        *(torch.zeros_like(h) if grad_h is None else grad_h, grad_c, h, between),
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


torch.library.register_autograd(_recomputed.definition, _gradients, setup_context=_context)
torch.library.register_autograd(_recomputed_backward.definition, _no_second_derivative)
