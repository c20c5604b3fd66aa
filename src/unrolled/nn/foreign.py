"""Programs that others write down and run, by torch.fx or in TorchScript or ONNX: what a layer is to them."""

from typing import Any

import torch
from torch import Tensor
from torch.fx import Proxy

from unrolled.errors import InputError

__all__ = ["Proxy", "by_torch", "recorded", "to_onnx", "torchs"]


def to_onnx() -> bool:
    """Whether torch.onnx.export is writing down what is called."""
    written = torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined, no-untyped-call]
    return written and torch.onnx.is_in_onnx_export()


def by_torch(
    layer: torch.nn.RNNBase, input: Any, states: tuple[Tensor, ...] | None
) -> tuple[Any, tuple[Tensor, ...]]:
    """What torch.nn's layer of the same kind makes of the parameters: the output and the final states."""
    kind = _kind(layer)
    if layer.mode == "LSTM":
        output, final = kind.forward(layer, input, states)
        return output, final
    output, h_n = kind.forward(layer, input, states and states[0])
    return output, (h_n,)


def torchs(layer: torch.nn.RNNBase) -> torch.nn.RNNBase:
    """torch.nn's layer of the same kind, which has the very parameters, hooks and submodules of `layer`."""
    kind = _kind(layer)
    made: torch.nn.RNNBase = kind.__new__(kind)
    vars(made).update(vars(layer))
    return made


def recorded(layer: torch.nn.RNNBase, input: Proxy, hx: Any, **added: Any) -> Any:
    """What torch.fx makes of a call by itself where a layer is torch's: one node of the program it writes down.

    Raises `InputError` where that node would run again what has run around this call: hooks, a subclass's forward.
    """
    tracer: Any = input.tracer
    around = layer._forward_pre_hooks or layer._forward_hooks or type(layer).forward.__module__ != "unrolled.nn"
    if around or layer is tracer.root:
        raise InputError(
            f"torch.fx cannot write down this {type(layer).__name__}, expected a layer within a model, without "
            "hooks and without a forward of its own"
        )
    given = (input,) if hx is None else (input, hx)
    added = {name: value for name, value in added.items() if value is not None and value is not False}
    return tracer.create_proxy("call_module", tracer.path_of_module(layer), given, added)


def _kind(layer: torch.nn.RNNBase) -> Any:
    return getattr(torch.nn, layer.mode.partition("_")[0])
