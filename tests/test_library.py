"""Calls of an op that go past torch's dispatcher: whoever would have seen the op there still does."""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from unrolled import ops

lstm: Callable[..., Any] = ops.lstm
trace: Callable[..., Any] = torch.jit.trace
DISPATCHED: Any = torch.ops.unrolled.lstm.default
FORWARD, BACKWARD = "unrolled.lstm.default", "unrolled.lstm_backward.default"


def inputs() -> list[Any]:
    """x, symbols, weight_ih, bias_ih, weight_hh, bias_hh, h0 and c0 of four steps of three rows of five units."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((4, 3, 2), None, (20, 2), (20,), (20, 5), (20,), (3, 5), (3, 5))
    return [shape and torch.randn(*shape, generator=generator).requires_grad_() for shape in shapes]


def run_and_back() -> None:
    lstm(*inputs())[0].sum().backward()


seen: list[str] = []


class Dispatched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes what torch dispatches."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Called(TorchFunctionMode):
    """Notes what is called of torch."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        seen.append(str(func))
        return func(*args, **(kwargs or {}))


class Wrapper(Tensor):
    """A tensor that holds another, and notes what is dispatched on it."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Wrapper":
        made: Wrapper = Tensor._make_wrapper_subclass(cls, held.size(), dtype=held.dtype)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        seen.append(str(func))
        return func(*(one.held if isinstance(one, Wrapper) else one for one in args), **(kwargs or {}))


def test_past_the_dispatcher_an_op_has_the_same_bits_and_gradients() -> None:
    direct, dispatched = inputs(), inputs()
    none = [None] * 6
    found = lstm(*direct)[:2]
    *products, h0, c0 = dispatched
    expected = DISPATCHED(*products, *none, h0, c0, None, None, False, False, None, None, None, True)[:2]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    torch.autograd.backward(found, [torch.ones(4, 3, 5)] * 2)
    torch.autograd.backward(expected, [torch.ones(4, 3, 5)] * 2)
    for one, other in zip(direct, dispatched, strict=True):
        assert one is None or (one.grad is not None and torch.equal(one.grad, other.grad))


@pytest.mark.parametrize(("mode", "expected"), [(Dispatched, {FORWARD, BACKWARD}), (Called, {FORWARD})])
def test_a_mode_sees_an_op(mode: Callable[[], AbstractContextManager[Any]], expected: set[str]) -> None:
    seen.clear()
    with mode():
        run_and_back()
    assert expected <= set(seen)


def test_a_profiler_sees_an_op_and_its_way_back() -> None:
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        run_and_back()
    assert {"unrolled::lstm", "unrolled::lstm_backward"} <= {event.name for event in profile.events()}


@pytest.mark.parametrize("frozen", [False, True])
def test_a_tensor_of_a_subclass_is_asked(frozen: bool) -> None:
    x, *rest = (one if one is None or not frozen else one.detach() for one in inputs())
    seen.clear()
    h = lstm(Wrapper(x.detach()), *rest)[0]
    assert FORWARD in seen
    assert torch.equal(h, lstm(x, *rest)[0])


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_a_traced_graph_has_the_op() -> None:
    x, *rest = (None if one is None else one.detach() for one in inputs())

    def h_of(x: Tensor) -> Any:
        return lstm(x, *rest)[0]

    assert "unrolled::lstm" in str(trace(h_of, (x,), check_trace=False).graph)


def test_on_the_meta_device_there_are_shapes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the reference would warn
        h, c, gates, h_n, c_n = lstm(*(None if one is None else one.to("meta") for one in inputs()))
    assert (h.device.type, h.shape, c.shape, gates.shape) == ("meta", (4, 3, 5), (4, 3, 5), (4, 3, 20))
    assert h_n.shape == c_n.shape == (1, 3, 5)


@pytest.mark.parametrize("grad", [torch.no_grad, torch.enable_grad])
def test_a_view_whose_sign_is_still_to_be_changed(grad: Callable[[], Any]) -> None:
    x, *rest = inputs()
    with grad():
        for lazy in (torch.complex(x.detach(), -x.detach()).conj().imag, torch._neg_view(-x.detach())):
            assert lazy.is_neg()
            assert torch.equal(lstm(lazy, *rest)[0], lstm(x, *rest)[0])


def test_many_gradients_of_one_output_are_made_at_once() -> None:
    given = inputs()
    h = lstm(*given)[0]
    several = torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    together = torch.autograd.grad(h, given[0], several, is_grads_batched=True, retain_graph=True)[0]
    apart = [torch.autograd.grad(h, given[0], one, retain_graph=True)[0] for one in several]
    assert torch.equal(together, torch.stack(apart))


@pytest.mark.filterwarnings("ignore:.*torch.jit.script")
@pytest.mark.parametrize("grad", [torch.no_grad, torch.enable_grad])
def test_a_tangent_is_kept_and_by_the_op_itself_refused(grad: Callable[[], Any]) -> None:
    x, *rest = inputs()
    x, rest = x.detach(), [one if one is None else one.detach() for one in rest]
    make_dual: Callable[..., Tensor] = forward_ad.make_dual
    unpack_dual: Callable[..., Any] = forward_ad.unpack_dual
    with grad(), forward_ad.dual_level():
        assert torch.equal(lstm(x, *rest)[0], lstm(x, *rest)[0])
        dual = make_dual(x, torch.ones_like(x))
        with warnings.catch_warnings(action="ignore"):
            assert unpack_dual(lstm(dual, *rest)[0]).tangent is not None
        masks, variant = (None, None, False, False), [None] * 6
        given = (dual, *rest[:5], *variant, *rest[5:], *masks, None, None, None, True)
        with pytest.raises(RuntimeError, match="jvp"):
            DISPATCHED(*given)
