"""How close two results must be: the one table, keyed by dtype. No test has a tolerance of its own."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["TOLERANCES", "Tolerance", "assert_close", "assert_near", "assert_same_bits"]


@dataclass(frozen=True)
class Tolerance:
    """|actual - expected| <= atol + rtol * |expected|, for every element."""

    rtol: float
    atol: float


TOLERANCES = {
    torch.float64: Tolerance(rtol=1e-10, atol=1e-10),
    torch.float32: Tolerance(rtol=1e-5, atol=1e-5),
    torch.bfloat16: Tolerance(rtol=5e-2, atol=5e-2),
}


NEAR = 2.0**-6  # four times what rounding to bfloat16 may change of a number


def assert_near(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Assert that actual is expected but for products in bfloat16: what differs is small in its norm."""
    assert actual.shape == expected.shape, what
    actual, expected = actual.detach().double(), expected.detach().double()
    off = float((actual - expected).norm())
    assert off <= NEAR * float(expected.norm()), f"{what}: {off} off a norm of {float(expected.norm())}"


def assert_same_bits(
    actual: Sequence[NDArray[np.float32] | Tensor | None], expected: Sequence[NDArray[np.float32] | Tensor | None]
) -> None:
    """Assert that each is the same numbers in float32, or none in both: 0 is not -0, and NaN is the same NaN."""
    for one, other in zip(actual, expected, strict=True):
        if one is None or other is None:
            assert one is other
        else:
            assert np.array_equal(np.asarray(one).view(np.uint32), np.asarray(other).view(np.uint32))


def assert_close(actual: Tensor, expected: Tensor, what: str = "") -> None:
    """Assert that actual is expected, within the tolerance of actual's dtype; expected may be wider.

    Shapes must be equal. NaN equals nothing, itself included. `what` names the value in the message.
    """
    tolerance = TOLERANCES[actual.dtype]
    torch.testing.assert_close(
        actual.to(torch.float64),
        expected.to(torch.float64),
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        msg=lambda message: f"{what}: {message}",
    )
