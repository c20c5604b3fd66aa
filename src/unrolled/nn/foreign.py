"""Programs that others write down and run, in ONNX or TorchScript, without our ops: what a layer is to them."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["by_torch", "to_onnx", "torchs"]

OWN = ("variant", "longest_gap", "recompute")  # attributes that torch's layers do not have


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
    vars(made).update({name: value for name, value in vars(layer).items() if name not in OWN})
    return made


def _kind(layer: torch.nn.RNNBase) -> Any:
    return getattr(torch.nn, layer.mode.partition("_")[0])
