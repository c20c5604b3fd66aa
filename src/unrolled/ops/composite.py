"""The sequence ops made of torch's own: what autograd goes through as often as asked, and torch.func transforms.

The reference does the work, a step at a time. It is called by the ops' schemas alone: what unrolled::OP takes, it
takes, but for `keep`, and its results are those of OP.
"""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from unrolled.ops.dispatch import REFERENCE, warn_reference
from unrolled.ops.library import Op, under_autocast, would_be_cast

__all__ = ["Values", "call", "composite", "needs_composite", "schema_of", "transformed"]

Values = dict[str, Any]


def call(op: Op, *inputs: Any) -> Any:
    """Call an op; within vmap, grad and the other transforms of torch.func call its composite, and warn once.

    So too where an input has a tangent (forward-mode differentiation). An op of `torch.library` has one
    derivative, autograd's backward, which neither can reach.
    """
    return transformed(op.name, *inputs) if needs_composite(inputs) else op(*inputs)


def needs_composite(inputs: Iterable[Any]) -> bool:
    """Whether a call is within a transform of torch.func, or has an input with a tangent."""
    if torch._C._are_functorch_transforms_active():
        return True
    if forward_ad._current_level < 0:
        return False
    unpack: Callable[[Tensor], Any] = forward_ad.unpack_dual
    return any(isinstance(one, Tensor) and unpack(one).tangent is not None for one in inputs)


def transformed(op: str, *inputs: Any) -> tuple[Tensor, ...]:
    """What unrolled::OP returns, by its composite, with one warning."""
    if inputs[0].dtype != torch.float64:
        transforms = torch._C._are_functorch_transforms_active()
        warn_reference(f"unrolled::{op} {'within torch.func' if transforms else 'with a tangent'}")
    names = [argument.name for argument in schema_of(op).arguments]
    asked = under_autocast(inputs[0])
    # What autocast does to an op of `torch.library`, it would do to the composite's own products.
    given = [one.float() if asked and would_be_cast(one) else one for one in inputs]
    with torch.autocast(inputs[0].device.type, enabled=False) if asked else nullcontext():
        return tuple(composite(op, dict(zip(names, given, strict=True))).values())


def composite(op: str, inputs: Values) -> dict[str, Tensor]:
    """What unrolled::OP returns, by name, of `inputs` by name; without `keep` among them, everything is kept."""
    schema, steps = schema_of(op), len(inputs["x"] if inputs["symbols"] is None else inputs["symbols"])
    # The reference writes step by step. Into a tensor, each write would cost the way back a pass over all steps.
    results: dict[str, list[Any] | None] = {result.name: [None] * steps for result in schema.returns}
    results |= {name: [None] for name in ("h_n", "c_n") if name in results}
    if not inputs.get("keep", True):
        results["gates"] = None
        if "c" in results:
            results |= {"c": [None], "c_n": None}
    taken = [inputs[argument.name] for argument in schema.arguments if argument.name != "keep"]
    REFERENCE[op](*taken, *results.values())
    empty = inputs["x"].new_empty(0)
    tensors = {name: empty if written is None else torch.stack(written) for name, written in results.items()}
    return {name: tensor.detach() if name == "gates" else tensor for name, tensor in tensors.items()}


def schema_of(op: str) -> Any:
    """The names of what unrolled::OP takes and returns: `.arguments` and `.returns`, each with a `.name`."""
    return getattr(torch.ops.unrolled, op).default._schema
