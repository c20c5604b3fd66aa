"""What an LSTM gains where its input are symbols: their embeddings multiplied once each, not step by step."""

from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.kernels.peers import difference, fallback, pair
from benchmarks.kernels.row import OWN, Case, Trial

__all__ = ["symbol_cases"]

SYMBOLS = 65  # characters of tinyshakespeare
SHAPES = ((16, 100, 64, 256), (16, 100, 256, 256), (64, 100, 128, 512))  # B, T, D, H; the first is the text task's


def symbol_cases() -> Iterator[Case]:
    """Ratios to `rows` say how many times as long the same layer takes over rows that were looked up before."""
    for shape in SHAPES:
        yield Case("-".join(["lstm", *map(str, shape), str(SYMBOLS)]), partial(trial, *shape))


def train(
    layer: torch.nn.Module, symbols: Tensor, embedding: Tensor, grad: Tensor, direct: bool
) -> dict[str, Tensor]:
    """One pass forward and back, by the symbols themselves where `direct`: the output, and every gradient."""
    embedding = embedding.detach().requires_grad_()
    for parameter in layer.parameters():
        parameter.grad = None
    output, _ = layer(symbols, embedding=embedding) if direct else layer(F.embedding(symbols, embedding))
    torch.autograd.backward(output, grad)
    values = [("embedding", embedding), *layer.named_parameters()]
    return {"output": output.detach()} | {name: one.grad for name, one in values if one.grad is not None}


def trial(B: int, T: int, D: int, H: int) -> Trial:
    """Check and make ready a row."""
    ours, theirs = pair("lstm", D, H)
    exact, _ = pair("lstm", D, H)
    symbols, embedding = torch.randint(SYMBOLS, (T, B)), torch.randn(SYMBOLS, D)
    grad = torch.randn(T, B, H) / (T * B) ** 0.5
    own = partial(train, ours, symbols, embedding, grad, True)
    wrong = difference(own(), train(exact.double(), symbols, embedding.double(), grad.double(), False))
    return Trial(
        {
            OWN: own,
            "rows": partial(train, ours, symbols, embedding, grad, False),
            "torch": partial(train, theirs, symbols, embedding, grad, False),
        },
        wrong or fallback(own, "lstm"),
    )
