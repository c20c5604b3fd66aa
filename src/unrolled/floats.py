"""Numbers that come from outside, as float32."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError

__all__ = ["as_float32"]


def as_float32(numbers: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Numbers of any width; raises `InputError`, under this name, for a finite one that float32 cannot hold."""
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    if numbers.dtype.itemsize > narrow.dtype.itemsize:
        lost = np.isinf(narrow) & np.isfinite(numbers)
        if lost.any():
            at = tuple(map(int, np.argwhere(lost)[0]))
            raise InputError(f"{name}{list(at)} is {numbers[at]:g}, expected a number within ±3.4e38 (float32)")
    return narrow
