"""Muon for the matrices inside a network; those of recurrent layers gate by gate.

Muon (Jordan et al. 2024) takes the momentum of a matrix's gradient and makes all its singular values alike before
it steps, so that rare directions are learned as fast as common ones. `weight_ih` and `weight_hh` are a matrix a
gate, one above another; here each gate's is made alike on its own, which learns more than the whole stack does
(docs/training.md). `torch.optim.Muon` knows no gates.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from unrolled.rates import quickest

__all__ = ["Muon", "orthogonalized"]

POLYNOMIALS = (  # a x + b x^3 + c x^5, one after another: from 0.01 ... 1 to 0.7 ... 1.3
    (8.0132, -22.9258, 16.5994),
    (3.6058, -2.6456, 0.5109),
    (2.6780, -1.9908, 0.4541),
)
MARGIN = 1.02  # what rounding may add to a length
MOMENTUM = 0.95
SMALL = 128  # columns up to which the Gram matrix is iterated
TINY = 1e-7


class Muon(Optimizer):
    """Muon with Nesterov momentum 0.95 and decoupled weight decay.

    A parameter [gates * rows, columns] has `gates` matrices, a setting of its group (default 1); a convolution's
    [outputs, inputs, height, width] is read as [outputs, inputs * height * width]. The step is
    scaled by 0.2 * sqrt(max(rows, columns)), so that its root mean square is that of AdamW's and one `lr` and
    `weight_decay` suit both (Liu et al. 2025).
    """

    def __init__(self, params: Iterable[Any], lr: float = 0.02, weight_decay: float = 0.1, gates: int = 1) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "gates": gates})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Move every parameter that has a gradient; returns what `closure` did, if one is given."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        momentum.lerp_(gradient, 1 - MOMENTUM)
        rows = len(parameter) // group["gates"]
        blocks = gradient.lerp(momentum, MOMENTUM).reshape(group["gates"], rows, -1)
        scale = 0.2 * math.sqrt(max(blocks.shape[1:]))
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(orthogonalized(blocks).reshape(parameter.shape), alpha=-group["lr"] * scale)


def orthogonalized(blocks: Tensor) -> Tensor:
    """Matrices [n, rows, columns], their singular values near 1, by three polynomials of odd degree.

    Each leaves the least distance from 1 of what the one before made of 0.01 to 1, with 1 % to spare (Amsel
    et al. 2025, "The Polar Express", algorithm 1). Jordan's five, all the same, take longer and train no better
    (docs/training.md). The greatest singular value is brought to at most 1 by the square root of the Gram
    matrix's Frobenius norm, a closer bound than the norm of the matrix itself.

    Each polynomial is the matrix x times one of its Gram matrix. Where the Gram matrix is small it is iterated
    instead of x, in float32, and x is multiplied once; where it is large, products in bfloat16 are worth more than
    that, on a processor that has them: one that has not takes forty times as long for them as in float32.
    """
    wide = blocks.shape[1] < blocks.shape[2]
    x = blocks.mT if wide else blocks
    by_gram = x.shape[2] <= SMALL
    found = _by_gram(x) if by_gram else _by_products(x.to(quickest(x.device.type))).to(blocks.dtype)
    return found.mT if wide else found


def _by_gram(x: Tensor) -> Tensor:
    gram = x.mT @ x
    length = _length(gram)
    gram = gram / length.square()
    total = step = _polynomial(gram, *POLYNOMIALS[0])
    for coefficients in POLYNOMIALS[1:]:
        gram = gram @ step @ step
        step = _polynomial(gram, *coefficients)
        total = total @ step
    return x @ (total / length)


def _by_products(x: Tensor) -> Tensor:
    gram = x.mT @ x
    length = _length(gram)
    x, gram = x / length, gram / length.square()
    for number, coefficients in enumerate(POLYNOMIALS):
        if number:
            gram = x.mT @ x
        x = x @ _polynomial(gram, *coefficients)
    return x


def _length(gram: Tensor) -> Tensor:
    """A bound [n, 1, 1] of the greatest singular value, from Gram matrices [n, k, k]."""
    return gram.square().sum(dim=(1, 2), keepdim=True).sqrt().sqrt() * MARGIN + TINY


def _polynomial(gram: Tensor, a: float, b: float, c: float) -> Tensor:
    """a + b gram + c gram^2."""
    found = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    found.diagonal(dim1=1, dim2=2).add_(a)
    return found
