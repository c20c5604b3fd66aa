"""Arrays of float32, and numbers that come from outside as such, or as arrays at all."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError

__all__ = ["Floats", "as_array", "as_float32"]

Floats = NDArray[np.float32]


def as_array(inputs: Any, expected: str) -> NDArray[Any]:
    """What came from outside, as an array; raises `InputError`, which begins with what was expected, where rows
    differ in length.
    """
    try:
        return np.asarray(inputs)
    except ValueError as error:
        raise InputError(f"{expected}, got rows of different length") from error


def as_float32(numbers: NDArray[Any], name: str, gaps: bool = False) -> Floats:
    """Numbers of any width; with `gaps`, NaN stands for one that is missing.

    Raises `InputError`, under this name, for one that is not finite or that float32 cannot hold: a state that has
    read it would never get over it.
    """
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    wrong = ~np.isfinite(narrow)
    if gaps:
        wrong &= ~np.isnan(narrow)
    if wrong.any():
        at = tuple(map(int, np.argwhere(wrong)[0]))
        raise InputError(f"{name}{list(at)} is {numbers[at]:g}, expected a finite number within ±3.4e38 (float32)")
    return narrow
