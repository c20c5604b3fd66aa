"""Gradients of gradients: a backward op differentiated by going forward again, through the composite op.

It knows the ops by their schemas alone. unrolled::OP_backward takes what unrolled::OP takes and gives, under the
same names, and `grad_NAME` for each state NAME; what it gives is called `grad_NAME` too, for the inputs of OP.
"""

from typing import Any

import torch
from torch import Tensor

from unrolled.ops.composite import Values, composite, schema_of
from unrolled.ops.dispatch import warn_reference
from unrolled.ops.library import Op, differentiate

__all__ = ["register_second_derivative"]


def register_second_derivative(op: str, backward: Op) -> None:
    """Make `backward`, the op unrolled::OP_backward, differentiable, and its derivatives in their turn.

    The engine has no second derivatives. The composite op runs forward, and autograd goes back through that twice.
    Where whoever calls has not chosen the reference by choosing float64, the first such run warns.
    """
    schema = schema_of(f"{op}_backward")
    taken = [argument.name for argument in schema.arguments]
    sources = [result.name.removeprefix("grad_") for result in schema.returns]

    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*(value if isinstance(value, Tensor) else None for value in inputs))
        ctx.plain = tuple(None if isinstance(value, Tensor) else value for value in inputs)
        ctx.set_materialize_grads(False)

    def gradients(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = zip(taken, ctx.saved_tensors, ctx.plain, strict=True)
        inputs = {name: plain if tensor is None else tensor for name, tensor, plain in saved}
        if inputs["x"].dtype != torch.float64:
            warn_reference(f"the second derivative of unrolled::{op}")
        needed = [name for name, need in zip(taken, ctx.needs_input_grad, strict=True) if need]
        of_gradients = {name: grad for name, grad in zip(sources, grads, strict=True) if grad is not None}
        found = _second_derivative(op, inputs, of_gradients, needed)
        return tuple(found.get(name) for name in taken)

    differentiate(backward, gradients, setup_context)


def _second_derivative(op: str, inputs: Values, grads: dict[str, Tensor], needed: list[str]) -> dict[str, Tensor]:
    """The gradients of the `needed` inputs of a backward op, where `grads[NAME]` is that of its grad_NAME.

    h, c and gates among the inputs are what the others make of them: they get none of their own.
    """
    if not grads:
        return {}
    further = torch.is_grad_enabled()  # gradients of these, too, are wanted
    with torch.enable_grad():
        # Autograd is asked for derivatives by these alone, though some inputs may have been made of others.
        aliases = {name: _alias(value) for name, value in inputs.items()}
        results = composite(op, aliases)
        states = {name: result for name, result in results.items() if f"grad_{name}" in inputs}
        came = [name for name in states if aliases[f"grad_{name}"] is not None]
        first = torch.autograd.grad(
            [states[name] for name in came],
            [aliases[name] for name in grads],
            [aliases[f"grad_{name}"] for name in came],
            create_graph=True,
        )
        explicit = [name for name in needed if name not in results]
        second = torch.autograd.grad(
            first,
            [aliases[name] for name in explicit],
            list(grads.values()),
            create_graph=further,
            materialize_grads=True,
        )
    return dict(zip(explicit, second, strict=True))


def _alias(value: Any) -> Any:
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return value
    return value.view_as(value).requires_grad_()
