"""Ops of `torch.library`, and calls that go past torch's dispatcher where it has nothing to do.

It knows nothing of what an op computes, of its gradients or of which kernel serves it.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey, DispatchKeySet
from torch._ops import OpOverload
from torch.autograd import forward_ad
from torch.autograd.function import FunctionMeta

__all__ = ["Op", "declare", "differentiate", "under_autocast", "would_be_cast"]

_PLAIN = frozenset({Tensor, torch.nn.Parameter, bool, type(None)})
# What a thread adds to the keys of every call's tensors where nobody traces, transforms or counts: autograd's own
# share alone, and in inference mode not even that.
_ALWAYS = DispatchKeySet(DispatchKey.BackendSelect)
_UNWATCHED = frozenset(
    keys.raw_repr() for keys in (_ALWAYS, _ALWAYS | DispatchKeySet(DispatchKey.ADInplaceOrView))
)


class Op:
    """An op of torch.library, with what it does and, once it is differentiated, how autograd runs it.

    The dispatcher takes an op's twenty inputs apart and puts them together again, once above autograd and once
    below it. `declare` makes the definition. Where it gives an empty tensor, `implementation` may give None.
    """

    def __init__(self, definition: OpOverload, implementation: Callable[..., Any]) -> None:
        self.definition = definition
        self.name: str = definition._opname
        self.implementation = implementation
        self.with_gradients: Callable[..., Any] = definition

    def __call__(self, *inputs: Any) -> Any:
        """What the op returns, by the dispatcher where anything but autograd may want to see the call."""
        if not _direct(inputs):
            return self.definition(*inputs)
        return (self.with_gradients if _needs_gradient(inputs) else self.implementation)(*inputs)


def _direct(inputs: tuple[Any, ...]) -> bool:
    """Whether all that the dispatcher would do with a call is autograd's part and then what the op does.

    So it is on the CPU, with no list among the inputs and no tensor of a subclass, and with nobody who traces,
    transforms, profiles, or changes what ops do.
    """
    return (
        not torch.compiler.is_compiling()
        and _PLAIN.issuperset(map(type, inputs))
        and inputs[0].is_cpu
        and torch._C._dispatch_tls_local_include_set().raw_repr() in _UNWATCHED
        and not torch._C._len_torch_function_stack()
        and not (torch.is_autocast_enabled("cpu") and any(map(would_be_cast, inputs)))
        and not torch._C._autograd._profiler_enabled()
    )


def under_autocast(x: Tensor) -> bool:
    """Whether autocast is on for x's kind of device."""
    if x.is_cpu:
        return torch.is_autocast_enabled("cpu")
    device = x.device.type
    return torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def would_be_cast(one: Any) -> bool:
    """Whether autocast, which gives ops float32, would change an input."""
    narrow = isinstance(one, Tensor) and one.is_floating_point()
    return narrow and one.dtype not in (torch.float32, torch.float64)


def _needs_gradient(inputs: tuple[Any, ...]) -> bool:
    """Whether autograd has to know of a call; in forward mode, to refuse a tangent that it would else lose."""
    if forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(isinstance(one, Tensor) and one.requires_grad for one in inputs)


def declare(op: str, signature: str, implementation: Callable[..., Any], fake: Callable[..., Any]) -> OpOverload:
    """Define unrolled::op by what it does and by what it would return; under autocast it is given float32."""
    name = f"unrolled::{op}"
    # Step by step: `torch.library.custom_op` would import the compiler at the first call, which takes seconds.
    torch.library.define(name, signature, tags=(torch.Tag.pt2_compliant_tag,))
    torch.library.impl(name, "default", implementation)
    torch.library.register_fake(name, fake)
    for device in ("cpu", "cuda"):
        if torch.amp.is_autocast_available(device):
            torch.library.register_autocast(name, device, torch.float32)  # no state is carried in less
    definition: OpOverload = getattr(torch.ops.unrolled, op).default
    return definition


def differentiate(op: Op, gradients: Callable[..., Any], context: Callable[..., None]) -> None:
    """Give an op, whose schema has no defaults and no lists, gradients, as `torch.library.register_autograd` does.

    That one asks torch for the whole schema again for each argument of a call, a fifth of the time of a small one.
    """

    def below(*inputs: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op.definition(*inputs)

    through = _with_gradients(op.name, below, gradients, context)

    def autograd(*inputs: Any) -> Any:
        return through(*inputs) if _needs_gradient(inputs) else below(*inputs)

    torch.library.impl(f"unrolled::{op.name}", "Autograd", autograd)
    op.with_gradients = _with_gradients(op.name, op.implementation, gradients, context)


def _with_gradients(
    name: str, run: Callable[..., Any], gradients: Callable[..., Any], context: Callable[..., None]
) -> Callable[..., Any]:
    """`run`, whose call autograd records under this name, which its messages have."""

    def forward(ctx: Any, *inputs: Any) -> Any:
        output = run(*inputs)
        context(ctx, inputs, output)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        return gradients(ctx, *grads)

    # Made by a call, for a class statement would name the node in the graph before anybody could.
    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    derivative: Any = FunctionMeta(f"unrolled_{name}", (torch.autograd.Function,), methods)  # type: ignore[no-untyped-call]
    # Function.apply itself would ask of each input whether it is left over from a transform that has ended.
    apply: Callable[..., Any] = super(torch.autograd.Function, derivative).apply
    return apply
