"""Whole sequences: forward, backward and the weights' gradients together, and forward alone for inference."""

import copy
from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.kernels.limits import peak, sgemm
from benchmarks.kernels.peers import GATES, Layer, difference, fallback, onnx_lstm, pair
from benchmarks.kernels.row import OWN, Case, Trial

__all__ = [
    "OTHER_CELLS",
    "SHAPES",
    "Shape",
    "call_cases",
    "drawn",
    "exactly",
    "forward_cases",
    "infer",
    "last_cases",
    "name_of",
    "train",
    "training_cases",
]

Shape = tuple[int, int, int, int]  # B, T, D, H
SHAPES: tuple[Shape, ...] = (
    (1, 100, 128, 128),
    (32, 100, 128, 128),
    (32, 100, 256, 256),
    (32, 100, 512, 512),
    (64, 35, 650, 650),
    (64, 100, 512, 512),
    (128, 784, 1, 128),
    (32, 64, 64, 256),
    (8, 1000, 64, 64),
    (32, 1000, 128, 128),
)
OTHER_CELLS: tuple[Shape, ...] = ((32, 100, 128, 128), (32, 100, 256, 256), (64, 100, 512, 512))
LAST: tuple[tuple[str, Shape], ...] = (
    ("lstm", (128, 784, 1, 128)),
    ("lstm", (32, 1000, 128, 128)),
    ("gru", (128, 784, 1, 128)),
)
SMALL: tuple[Shape, ...] = ((2, 5, 16, 16), (1, 1, 512, 512), (32, 1, 256, 256))
SYSTEM = 0.03  # of the processor time of training


def name_of(cell: str, shape: Shape) -> str:
    """Such as lstm-32-100-256-256."""
    return "-".join([cell, *map(str, shape)])


def training_cases() -> Iterator[Case]:
    """Forward + backward with the gradients of the weights and of the input."""
    for shape in SHAPES:
        large = shape[0] >= 32 and shape[3] >= 256
        share = 0.85 if large else None
        yield Case(
            name_of("lstm", shape), partial(training, "lstm", shape), {"torch": 1.3}, share, system_goal=SYSTEM
        )
    for cell in ("gru", "rnn"):
        for shape in OTHER_CELLS:
            yield Case(name_of(cell, shape), partial(training, cell, shape), {"torch": 2.5}, system_goal=SYSTEM)


def call_cases() -> Iterator[Case]:
    """Forward + backward over next to nothing, which says what a call takes besides, and over a single step."""
    for shape in SMALL:
        for cell in ("lstm", "gru", "rnn"):
            yield Case(name_of(cell, shape), partial(training, cell, shape))


def last_cases() -> Iterator[Case]:
    """Forward + backward of a loss that uses the state after the last step alone, as a sequence's class does."""
    for cell, shape in LAST:
        yield Case(name_of(cell, shape), partial(training, cell, shape, last=True))


def forward_cases() -> Iterator[Case]:
    """Forward alone, no gradient wanted."""
    for shape in SHAPES:
        yield Case(name_of("lstm", shape), partial(forward, shape))


def products(cell: str, shape: Shape, gradients: bool) -> float:
    """Floating-point operations of the matrix products; with gradients, each way forward has two back."""
    B, T, D, H = shape
    a_step = 2 * B * GATES[cell] * H
    return T * a_step * (D + H) * (3 if gradients else 1)


def train(
    layer: torch.nn.Module, x: Tensor, grad: Tensor, last: bool = False, **masks: Tensor
) -> dict[str, Tensor]:
    """One pass forward and back, from the output or from h_n [1,B,H]: the output, and every gradient.

    `masks` are lengths and resets.
    """
    x = x.detach().requires_grad_()
    for parameter in layer.parameters():
        parameter.grad = None
    output, final = layer(x, **masks)
    h_n = final[0] if isinstance(final, tuple) else final
    torch.autograd.backward(h_n if last else output, grad)
    values = [("x", x), *layer.named_parameters()]
    return {"output": output.detach()} | {name: one.grad for name, one in values if one.grad is not None}


def infer(layer: torch.nn.Module, x: Tensor, **masks: Tensor) -> Tensor:
    """The output alone, no gradient wanted."""
    with torch.no_grad():
        output: Tensor = layer(x, **masks)[0]
    return output


def drawn(shape: Shape) -> tuple[Tensor, Tensor]:
    """Inputs [T, B, D] and the gradient of the outputs [T, B, H]."""
    B, T, D, H = shape
    torch.manual_seed(1)
    return torch.randn(T, B, D), torch.randn(T, B, H) / (T * B) ** 0.5


def exactly(layer: Layer, x: Tensor, grad: Tensor, last: bool = False, **masks: Tensor) -> dict[str, Tensor]:
    """What `train` of a layer should give: the float64 reference's, of a copy with the same weights."""
    return train(copy.deepcopy(layer).double(), x.double(), grad.double(), last, **masks)


def training(cell: str, shape: Shape, last: bool = False) -> Trial:
    """Check and make ready a training row."""
    ours, theirs = pair(cell, *shape[2:])
    x, grad = drawn(shape)
    grad = grad[-1:] if last else grad
    own = partial(train, ours, x, grad, last)
    return Trial(
        {OWN: own, "torch": partial(train, theirs, x, grad, last)},
        difference(own(), exactly(ours, x, grad, last)) or fallback(own, cell),
        sgemm(),
        products(cell, shape, gradients=True),
        bound=peak(),
    )


def forward(shape: Shape) -> Trial:
    """Check and make ready a row of inference."""
    B, _, D, H = shape
    ours, theirs = pair("lstm", D, H)
    session = onnx_lstm(theirs)
    x, _ = drawn(shape)
    zero = torch.zeros(1, B, H)
    feed = {"X": x.numpy(), "h_0": zero.numpy(), "c_0": zero.numpy()}
    own = partial(infer, ours, x)
    right = {"output": infer(copy.deepcopy(ours).double(), x.double())}
    wrong = difference({"output": own()}, right) or fallback(own, "lstm")
    theirs_wrong = difference({"output": torch.from_numpy(session.run(["Y"], feed)[0])[:, 0]}, right)
    return Trial(
        {
            OWN: own,
            "torch": partial(infer, theirs, x),
            "onnxruntime": lambda: session.run(["Y", "Y_h", "Y_c"], feed),
        },
        wrong or (theirs_wrong and f"onnxruntime: {theirs_wrong}"),
        sgemm(),
        products("lstm", shape, gradients=False),
    )
