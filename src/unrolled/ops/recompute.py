"""A sequence op in less memory: states are kept every few steps, and what lies between is computed again.

After Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost". The steps are cut into chunks. Forward
keeps the output and the state before each chunk; backward runs the chunks again, from the last one consumed to the
first, now with all that the way back needs, and goes on with all gradients. Each run is one of `unrolled.ops`,
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
from unrolled.ops.composite import needs_composite, transformed
from unrolled.ops.dispatch import SERVED, Outputs, Tensors, pooled
from unrolled.ops.library import declare
from unrolled.ops.walk import Walk

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

    def h_after(self, h: Tensor, before: Tensor) -> Tensor:
        """The h [B,width] that the next chunk begins with, of all steps' h; anything for a row that has ended."""
        last = h[self.steps.start if self.reverse else self.steps.stop - 1]
        return last if self.lengths is None else torch.where((self.lengths > 0)[:, None], last, before)


@dataclass(frozen=True)
class _Call:
    """What the op takes: the tensors that are there, under their names, which stand in one string."""

    op: str
    names: str
    inputs: list[Tensor]
    reverse: bool
    bfloat16: bool
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
    def size(self) -> int:
        """How many steps a chunk has, but for the last, which may be shorter: `every` at most."""
        steps = self.read.shape[0]  # len() would be a number where torch traces shapes
        return -(-steps // -(-steps // self.every))

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
            steps = slice(start, min(start + self.size, walk.steps))
            taken = None if lengths is None else (lengths - start).clamp(0, steps.stop - start)
            return _Chunk(steps, taken, self.reverse)

        starts = range(0, walk.steps, self.size)
        return [chunk(start) for start in (reversed(starts) if self.reverse else starts)]

    def outputs(self) -> Tensors:
        """Uninitialised h [T,B,H], of an LSTM the c after each chunk [chunks,B,H], else empty, and h_n [1,B,H]."""
        x, (h0, *c0) = self.values["x"], self.states
        h = x.new_empty(*self.read.shape[:2], h0.shape[1])
        c = x.new_empty(-(-h.shape[0] // self.size), *c0[0].shape) if c0 else x.new_empty(0)
        return h, c, x.new_empty(1, *h0.shape)

    def forward(self) -> Tensors:
        """The outputs, filled."""
        h, c, h_n = map(pooled, self.outputs())
        given = self.values | {"reverse": self.reverse, "bfloat16": self.bfloat16}
        filled = {"h": h, "c": c, "h_n": h_n}
        SERVED[self.op].fill(tuple(map(given.get, _TAKEN[self.op])), tuple(map(filled.get, _KEPT[self.op])))
        return h, c, h_n

    def of_chunk(self, chunk: _Chunk, state: list[Tensor]) -> Values:
        """What the op takes for a chunk from the state before it: of what has all steps, these."""
        part = {
            name: value[chunk.steps] if value.dim() == 3 or name in ("resets", "symbols") else value
            for name, value in self.values.items()
        }
        states = dict(zip(("h0", "c0"), state, strict=False))
        steps = {"lengths": chunk.lengths, "reverse": self.reverse, "bfloat16": self.bfloat16}
        return part | states | steps

    def run_again(self, chunk: _Chunk, state: list[Tensor], kept: Tensors) -> None:
        """Fill what the op keeps of a chunk."""
        given = self.of_chunk(chunk, state)
        SERVED[self.op].fill(tuple(map(given.get, _TAKEN[self.op])), kept)

    def kept(self) -> Tensors:
        """What the op keeps of a chunk of the greatest length, uninitialised."""
        read = "symbols" if "symbols" in self.values else "x"
        longest = self.values | {read: self.read[: self.size], "keep": True}
        outputs = SERVED[self.op].outputs(*map(longest.get, _TAKEN[self.op]))
        return tuple(output for output in outputs if output is not None)

    def entering(self, h: Tensor, c: Tensor) -> list[list[Tensor]]:
        """The state before each chunk."""
        states = [self.states]
        for chunk in self.chunks()[:-1]:
            of_c = [c[chunk.steps.start // self.size]] if len(self.states) > 1 else []
            states.append([chunk.h_after(h, states[-1][0]), *of_c])
        return states

    def backward(
        self,
        grad_h: Tensor | None,
        grad_c: Tensor | None,
        grad_h_n: Tensor | None,
        h: Tensor,
        c: Tensor,
        *wanted: bool,
    ) -> list[Tensor]:
        """The gradients by input; grad_c is c_n's; `wanted` says whether those of x, biases, weights are."""
        found, kept = self.gradients(*wanted), self.kept()
        grad_x = found.pop("grad_x")
        for total in found.values():
            if total is not None:
                total.zero_()
        for name, arrived in (("grad_h0", grad_h_n), ("grad_c0", grad_c)):
            if arrived is not None:
                found[name].copy_(arrived)
        of_x: Any = None if grad_x is None else pooled(grad_x)
        by_symbol = of_x is not None and "symbols" in self.values  # then it, too, is a sum over the chunks
        share = torch.empty_like(of_x.zero_()) if by_symbol else of_x
        for chunk, state in zip(reversed(self.chunks()), reversed(self.entering(h, c)), strict=True):
            self.run_again(chunk, state, chunk.part(kept))
            of_chunk = share if share is None or by_symbol else share[chunk.steps]
            arrived = None if grad_h is None else grad_h[chunk.steps]
            self.run_back(chunk, state, arrived, chunk.part(kept), (of_chunk, *found.values()))
            if by_symbol:
                of_x += share
        return self.by_input(found | {"grad_x": of_x})

    def gradients(self, *wanted: bool) -> Values:
        """What the way back over all steps gives, uninitialised, by name; None for what is not wanted."""
        taken, names = _names(f"{self.op}_backward")
        wants = ("want_x", "want_bias", "want_weights", "want_states")
        given = self.values | dict(zip(wants, (*wanted, True), strict=True))  # the chunks hand on those of states
        return dict(zip(names, SERVED[f"{self.op}_backward"].allocate(*map(given.get, taken)), strict=True))

    def by_input(self, gradients: Values) -> list[Tensor]:
        """One for each input, empty where there is none."""
        found = [gradients.get(f"grad_{name}") for name in self.names.split()]
        return [self.inputs[0].new_empty(0) if one is None else one for one in found]

    def run_back(
        self, chunk: _Chunk, state: list[Tensor], grad_h: Tensor | None, kept: Tensors, outputs: Outputs
    ) -> None:
        """Go on with all gradients through a chunk, from what the op kept of it."""
        given = self.of_chunk(chunk, state) | dict(zip(_KEPT[self.op], kept, strict=True)) | {"grad_h": grad_h}
        op = f"{self.op}_backward"
        SERVED[op].fill_on(tuple(map(given.get, _names(op)[0])), outputs)


_INPUTS = "str op, str names, Tensor[] inputs, bool reverse, bool bfloat16, int every"
_recomputed = declare(
    "recomputed",
    f"({_INPUTS}) -> (Tensor, Tensor, Tensor)",
    lambda *inputs: _Call(*inputs).forward(),
    lambda *inputs: _Call(*inputs).outputs(),
)
_recomputed_backward = declare(
    "recomputed_backward",
    f"({_INPUTS}, Tensor? grad_h, Tensor? grad_c, Tensor? grad_h_n, Tensor h, Tensor c, bool want_x,"
    " bool want_bias, bool want_weights) -> Tensor[]",
    lambda *inputs: _Call(*inputs[:6]).backward(*inputs[6:]),
    lambda *inputs: (call := _Call(*inputs[:6])).by_input(call.gradients(*inputs[-3:])),
)


def recomputed(op: str, every: int, *inputs: Tensor | bool | None) -> tuple[Tensor, Tensor | None, Tensor]:
    """Run an op over inputs, all that the op takes before `keep`, with states kept every `every` steps.

    Returns every step's h [T,B,H], the bits that the op gives, an LSTM's c_n and h_n [1,B,H], all differentiable.
    Gradients are those of the op; sums over steps are made chunk by chunk, so those of weights may differ in the
    last bits. The way back takes one more run forward. Within torch.func's transforms, and with tangents, all is
    kept.
    """
    if needs_composite(inputs):
        results = dict(zip(_KEPT[op], transformed(op, *inputs, False), strict=True))
        return results["h"], results.get("c"), results["h_n"]
    given = dict(zip(_TAKEN[op], inputs, strict=False))
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    names, reverse, bfloat16 = " ".join(tensors), bool(given["reverse"]), bool(given["bfloat16"])
    h, c, h_n = _recomputed(op, names, list(tensors.values()), reverse, bfloat16, every)
    return h, c.narrow(0, 0 if reverse else c.shape[0] - 1, 1).clone() if "c0" in tensors else None, h_n


def _context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
    ctx.op, ctx.names, tensors, ctx.reverse, ctx.bfloat16, ctx.every = inputs
    ctx.save_for_backward(*output[:2], *tensors)
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, grad_h: Tensor | None, grad_c: Tensor | None, grad_h_n: Tensor | None) -> tuple[Any, ...]:
    h, c, *tensors = ctx.saved_tensors
    needed = dict(zip(ctx.names.split(), ctx.needs_input_grad[2], strict=True))
    of_last = None if grad_c is None else grad_c[0 if ctx.reverse else -1]  # nobody uses the others
    biases = needed.get("bias_ih", False) or needed.get("bias_hh", False)
    weights = needed.get("weight_ih", False) or needed["weight_hh"]
    gradients = _recomputed_backward(
        *(ctx.op, ctx.names, tensors, ctx.reverse, ctx.bfloat16, ctx.every),
        *(grad_h, of_last, None if grad_h_n is None else grad_h_n[0], h, c),
        *(needed["x"], biases, weights),
    )
    found = dict(zip(needed, gradients, strict=True))
    if "bias_hh" in found and "grad_bias_hh" not in _names(f"{ctx.op}_backward")[1]:
        found["bias_hh"] = found["bias_ih"]  # the two are added, and have one
    return None, None, list(found.values()), None, None, None


def _no_second_derivative(ctx: Any, *grads: Any) -> None:
    raise NotImplementedError("a recomputed sequence has no second derivative: make the layer without recompute")


torch.library.register_autograd(_recomputed, _gradients, setup_context=_context)
torch.library.register_autograd(_recomputed_backward, _no_second_derivative)
