"""The layers that are measured: this project's, torch's with the same weights, and onnxruntime's LSTM."""

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from unrolled import nn
from unrolled.ops import dispatch

__all__ = ["GATES", "Layer", "difference", "fallback", "onnx_lstm", "pair"]

Layer = nn.LSTM | nn.GRU | nn.RNN
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
WORST = 1e-4  # of a result's largest number: float32 sums over a whole sequence


def pair(cell: str, inputs: int, units: int, **options: int) -> tuple[Layer, torch.nn.RNNBase]:
    """A layer of this project, with options that torch's has not, and torch's with the same weights."""
    kinds = {
        "lstm": (nn.LSTM, torch.nn.LSTM),
        "gru": (nn.GRU, torch.nn.GRU),
        "rnn": (nn.RNN, torch.nn.RNN),
    }
    own, theirs = kinds[cell]
    torch.manual_seed(units)
    ours: Layer = own(inputs, units, **options)
    layer: torch.nn.RNNBase = theirs(inputs, units)
    layer.load_state_dict(ours.state_dict())
    return ours, layer


def difference(found: dict[str, Tensor], exact: dict[str, Tensor], worst: float = WORST) -> str:
    """What is wrong with results against those of float64: empty where nothing is."""
    for name, right in exact.items():
        largest = right.abs().max() or 1.0  # the gradient of weight_hh is 0 for one step from a state of zeros
        error = float((found[name].double() - right).abs().max() / largest)
        if not error < worst:
            return f"{name} is off by {error:.1e} of its largest number"
    return ""


def fallback(run: Callable[[], object], cell: str) -> str:
    """Whether anything but the engine serves a run: empty where the engine does."""
    served = {row.op: row.kernel for row in dispatch.kernels() if (row.device, row.dtype) == ("cpu", "float32")}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    others = [str(one.message) for one in caught if "the reference serves it" in str(one.message)]
    for op in (cell, f"{cell}_backward"):
        if served[f"unrolled::{op}"] != "engine":
            others.append(f"{op} is served by the {served[f'unrolled::{op}']}")
    return "; ".join(others)


def onnx_lstm(layer: torch.nn.RNNBase) -> onnxruntime.InferenceSession:
    """onnxruntime's LSTM with a torch layer's weights: X [T,B,D], h_0 and c_0 [1,B,H] -> Y [T,1,B,H], Y_h, Y_c.

    ONNX has the gates in the order i, o, f, g.
    """
    H = layer.hidden_size

    def reordered(name: str) -> NDArray[np.float32]:
        i, f, g, o = layer.get_parameter(name).detach().numpy().reshape(4, H, -1)
        return np.concatenate([i, o, f, g])

    biases = np.concatenate([reordered("bias_ih_l0"), reordered("bias_hh_l0")]).reshape(1, 8 * H)
    weights = {"W": reordered("weight_ih_l0")[None], "R": reordered("weight_hh_l0")[None], "B": biases}
    node = helper.make_node("LSTM", ["X", "W", "R", "B", "", "h_0", "c_0"], ["Y", "Y_h", "Y_c"], hidden_size=H)

    def floats(name: str, *shape: int | str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [node],
        "lstm",
        [floats("X", "T", "B", layer.input_size), floats("h_0", 1, "B", H), floats("c_0", 1, "B", H)],
        [floats("Y", "T", 1, "B", H), floats("Y_h", 1, "B", H), floats("Y_c", 1, "B", H)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
