"""Programs that others write down and run, as ONNX does, and that know no ops of ours: what a layer is to them."""

from typing import Any

import torch
from torch import Tensor

__all__ = ["by_torch", "to_onnx"]


def to_onnx() -> bool:
    """Whether torch.onnx.export is writing down what is called."""
    written = torch.jit.is_tracing() or torch.compiler.is_exporting()  # type: ignore[attr-defined, no-untyped-call]
    return written and torch.onnx.is_in_onnx_export()


def by_torch(
    layer: torch.nn.RNNBase, input: Any, states: tuple[Tensor, ...] | None
) -> tuple[Any, tuple[Tensor, ...]]:
    """What torch.nn's layer of the same kind makes of the parameters: the output and the final states."""
    kind: Any = getattr(torch.nn, layer.mode.partition("_")[0])
    if layer.mode == "LSTM":
        output, final = kind.forward(layer, input, states)
        return output, final
    output, h_n = kind.forward(layer, input, states and states[0])
    return output, (h_n,)
