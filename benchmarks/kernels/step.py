"""One step at a time, batch 1, called from Python with the state carried on; and narrow weights."""

import timeit
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.kernels.limits import read
from benchmarks.kernels.peers import Layer, difference, onnx_lstm, pair
from benchmarks.kernels.row import OWN, Case, Limit, Trial
from unrolled.ops import cells
from unrolled.stepper import Stepper

__all__ = ["step_cases", "weights_cases"]

Floats = NDArray[np.float32]
Step = Callable[[Floats], Floats]

SIZES = (32, 64, 128, 256, 512, 1024)
CHECKED = 20  # steps
NARROW = {"bfloat16": 1.8, "int8": 3.0}


def step_cases() -> Iterator[Case]:
    """D = H. Where the weights outgrow the first cache, reading them is the limit."""
    for size in SIZES:
        torchs, onnx = (10.0, 6.0) if size <= 128 else (3.5, 4.0) if size == 256 else (1.5, 2.0)
        goals = {"torch": torchs, "torch cell": torchs, "onnxruntime": onnx}
        yield Case(f"lstm-{size}", partial(step, "lstm", size), goals, 0.8 if size >= 128 else None)
    for cell in ("gru", "rnn"):
        for size in (128, 512):
            yield Case(f"{cell}-{size}", partial(step, cell, size))


def weights_cases() -> Iterator[Case]:
    """The same LSTM with its weights in narrower formats, beside itself in float32."""
    for size in SIZES:
        for weights, goal in NARROW.items():
            goals = {"float32": goal} if size >= 512 else {}
            yield Case(f"lstm-{size}-{weights}", partial(narrow, size, weights), goals)


def reading(layer: Layer, weights: str = "float32") -> Limit:
    """The weights read as the stepper reads them: so many bytes, by as many threads."""
    stack = layer.stepper(weights=weights).stack
    return read(stack.bytes, stack.threads)


def inputs(size: int) -> Floats:
    """Inputs [CHECKED, 1, D]."""
    return np.random.default_rng(0).normal(size=(CHECKED, 1, size)).astype(np.float32)


def outputs(one: Step, size: int) -> dict[str, Tensor]:
    """What a contestant gives over the steps that are checked, from the zero state."""
    return {"output": torch.from_numpy(np.stack([one(x).reshape(1, -1) for x in inputs(size)]))}


def exact(layer: torch.nn.RNNBase, size: int) -> dict[str, Tensor]:
    """The same in float64."""
    with torch.no_grad():
        return {"output": layer.double()(torch.from_numpy(inputs(size)).double())[0]}


def torch_layer(layer: torch.nn.RNNBase) -> Step:
    """torch's layer called with T = 1, as most people write it."""
    state = None

    def one(x: Floats) -> Floats:
        nonlocal state
        with torch.inference_mode():
            y, state = layer(torch.from_numpy(x)[None], state)
            found: Floats = y.numpy()
        return found

    return one


def torch_cell(layer: torch.nn.RNNBase) -> Step:
    """torch's cell with the layer's weights: the fair peer."""
    kind = {"LSTM": torch.nn.LSTMCell, "GRU": torch.nn.GRUCell}.get(layer.mode, torch.nn.RNNCell)
    cell = kind(layer.input_size, layer.hidden_size)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    state = None

    def one(x: Floats) -> Floats:
        nonlocal state
        with torch.inference_mode():
            state = cell(torch.from_numpy(x), state)
            h: Tensor = state[0] if isinstance(state, tuple) else state
            found: Floats = h.numpy()
        return found

    return one


def onnx_step(session: onnxruntime.InferenceSession, size: int) -> Step:
    """onnxruntime's LSTM called with T = 1."""
    h = c = np.zeros((1, 1, size), np.float32)

    def one(x: Floats) -> Floats:
        nonlocal h, c
        y, h, c = session.run(["Y", "Y_h", "Y_c"], {"X": x[None], "h_0": h, "c_0": c})
        found: Floats = y
        return found

    return one


def overhead() -> str:
    """What a call from Python takes where there is next to nothing to compute."""
    ours, _ = pair("lstm", 1, 1)
    stepper, x = ours.stepper(), np.ones((1, 1), np.float32)
    return f"a call {min(timeit.repeat(lambda: stepper.step(x), number=10000, repeat=5)) * 100:.2f} us"


def step(cell: str, size: int) -> Trial:
    """Check and make ready a row of all that take steps."""
    ours, theirs = pair(cell, size, size)
    makers: dict[str, Callable[[], Step]] = {
        OWN: lambda: ours.stepper().step,
        "torch": lambda: torch_layer(theirs),
        "torch cell": lambda: torch_cell(theirs),
    }
    if cell == "lstm":
        session = onnx_lstm(theirs)
        makers["onnxruntime"] = lambda: onnx_step(session, size)
    right = exact(pair(cell, size, size)[1], size)
    wrongs = {name: difference(outputs(make(), size), right) for name, make in makers.items()}
    x = inputs(size)[0]
    return Trial(
        {name: partial(make(), x) for name, make in makers.items()},
        "; ".join(f"{name}: {wrong}" for name, wrong in wrongs.items() if wrong),
        reading(ours),
        ours.stepper().stack.bytes,
        overhead(),
    )


def narrow(size: int, weights: str) -> Trial:
    """Check and make ready a row of narrow weights."""
    ours, theirs = pair("lstm", size, size)
    stepper, x = ours.stepper(weights=weights), inputs(size)[0]
    return Trial(
        {OWN: partial(stepper.step, x), "float32": partial(ours.stepper().step, x)},
        narrow_difference(ours.stepper(weights=weights), theirs, size, weights),
        reading(ours, weights),
        stepper.stack.bytes,
    )


def narrow_difference(stepper: Stepper, layer: torch.nn.RNNBase, size: int, weights: str) -> str:
    """What is wrong with steps, each from the state before: right is what the format stands for, in float64."""
    arrays = [part.detach().numpy() for part in layer.parameters()]
    weight_ih, weight_hh = (rounded(one, weights) for one in arrays[:2])
    bias = torch.from_numpy(arrays[2]).double() + torch.from_numpy(arrays[3]).double()
    found, right = [], []
    for x in inputs(size):
        before = stepper.state
        found.append(torch.from_numpy(stepper.step(x)))
        assert before.c is not None
        gates = read_as(x, weights) @ weight_ih.T + bias
        state = read_as(before.h[0], weights)
        right.append(cells.lstm_step(gates, weight_hh, state, torch.from_numpy(before.c[0]).double())[0])
    return difference({"output": torch.stack(found)}, {"output": torch.stack(right)})


def read_as(x: Floats, weights: str) -> Tensor:
    """The rows [B, K] that are multiplied, in float64: rounded to 63 levels each way for int8 weights."""
    if weights != "int8":
        return torch.from_numpy(x).double()
    most = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-30))
    whole = np.rint(x * (np.float32(63) / most))
    return torch.from_numpy(whole * (most / np.float32(63))).double()


def rounded(weight: Floats, weights: str) -> Tensor:
    """A weight as its format keeps it, in float64; the format itself is made in float32."""
    if weights == "bfloat16":
        return torch.from_numpy(weight).bfloat16().double()
    most = np.abs(weight).max(axis=1, keepdims=True)  # not by torch: its 127 / x is 127 times a rounded 1 / x
    whole = np.rint(weight * (np.float32(127) / most))
    return torch.from_numpy(whole * (most / np.float32(127))).double()
