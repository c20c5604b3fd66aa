"""Sequences of numbers made a little different each time that they are trained on.

It knows labelled sequences [T, D] and no files. Everything is drawn by the generator that is passed in, so that a
step of training can be done again.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unrolled.floats import Floats
from unrolled.tasks.label.segments import segments

__all__ = ["Exchange", "shaken", "stretched"]

Labels = NDArray[np.int64]


class Exchange:
    """Puts events of other sequences in the place of events of the same name: the order of events stays."""

    def __init__(self, sequences: Sequence[tuple[Floats, Labels]]) -> None:
        self._events: dict[int, list[Floats]] = {}
        for inputs, labels in sequences:
            for one in segments(labels):
                self._events.setdefault(one.label, []).append(inputs[one.start : one.end])

    def __call__(
        self, inputs: Floats, labels: Labels, part: float, rng: np.random.Generator
    ) -> tuple[Floats, Labels]:
        """The sequence with each event exchanged, its length too, with probability `part`."""
        pieces: list[Floats] = []
        names: list[int] = []
        for one in segments(labels):
            piece = inputs[one.start : one.end]
            if rng.random() < part:
                others = self._events[one.label]
                piece = others[int(rng.integers(len(others)))]
            pieces.append(piece)
            names.append(one.label)
        return np.concatenate(pieces), np.repeat(names, [len(piece) for piece in pieces])


def stretched(inputs: Floats, labels: Labels, most: float, rng: np.random.Generator) -> tuple[Floats, Labels]:
    """The sequence slowed or sped up by up to `most`, its numbers interpolated."""
    factor = most ** rng.uniform(-1, 1)
    at = np.linspace(0, len(inputs) - 1, max(1, round(len(inputs) * factor)))
    before = np.floor(at).astype(np.int64)
    after, part = np.minimum(before + 1, len(inputs) - 1), (at - before)[:, None].astype(np.float32)
    return inputs[before] * (1 - part) + inputs[after] * part, labels[np.round(at).astype(np.int64)]


def shaken(inputs: Floats, noise: float, offset: float, rng: np.random.Generator) -> Floats:
    """The inputs with Gaussian noise of deviation `noise`, and of `offset` alike at all steps."""
    for size, shape in ((noise, inputs.shape), (offset, inputs.shape[1:])):
        if size:
            inputs = inputs + rng.normal(0, size, shape).astype(np.float32)
    return inputs
