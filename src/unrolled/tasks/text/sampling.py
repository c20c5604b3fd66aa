"""How a text model writes: which symbol is drawn from the logits of the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unrolled.settings import setting

__all__ = ["SampleOptions", "choose"]


@dataclass(frozen=True)
class SampleOptions:
    """How a text model writes."""

    length: int = setting(500, "Symbols to write.", at_least=0)
    temperature: float = setting(
        0.8, "Below 1 is more predictable, above 1 wilder; 0 always takes the likeliest.", at_least=0
    )
    top_p: float = setting(1.0, "Choose among the likeliest symbols that together have this probability.", above=0)
    seed: int = setting(0, "The same seed writes the same text.", at_least=0)


def choose(logits: NDArray[np.float32], temperature: float, top_p: float, rng: np.random.Generator) -> int:
    """One symbol drawn from softmax(logits / temperature), among the likeliest that make up `top_p`."""
    if temperature == 0:
        return int(np.argmax(logits))
    below = logits.astype(np.float64) - logits.max()
    with np.errstate(over="ignore"):  # the smallest temperatures leave the likeliest alone
        probability = np.exp(below / temperature)
    probability /= probability.sum()
    if top_p < 1:
        order = np.argsort(-probability, kind="stable")
        enough = int(np.searchsorted(np.cumsum(probability[order]), top_p)) + 1
        probability[order[enough:]] = 0
    cumulative = np.cumsum(probability)
    return int(np.searchsorted(cumulative, rng.random() * cumulative[-1], side="right"))
