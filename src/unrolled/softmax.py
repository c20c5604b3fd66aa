"""From a model's outputs to log probabilities."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["log_softmax"]


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """The log probabilities of the classes, [..., V], in float64."""
    below = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    found: NDArray[np.float64] = below - np.log(np.exp(below).sum(axis=-1, keepdims=True))
    return found
