"""From a model's outputs to probabilities, and to their logarithms."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_softmax", "softmax"]


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The log probabilities of the classes, [..., V], in float64."""
    below = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return found


def softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The probabilities of the classes, [..., V], in float64."""
    found: NDArray[np.float64] = np.exp(log_softmax(logits))
    return found
