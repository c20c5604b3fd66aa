"""Sets of examples: which are held out, which are left out, and how they come in batches of like length.

Shared by every task whose data is a set of sequences rather than one stream. It knows no task and no file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.settings import setting

__all__ = ["Batches", "ExampleOptions", "Refused", "divide", "pad"]

POOL = 20  # batches: examples are sorted by length among so many


@dataclass(frozen=True)
class ExampleOptions:
    """How a set of examples is read."""

    held_out: str | None = setting(None, "Data to measure on, instead of a part of DATA.")
    split: float = setting(0.9, "Fraction of the examples to train on; the rest is held out.", above=0, below=1)
    skip_bad: bool = setting(
        False, "Leave out and count examples that cannot be used, instead of stopping at the first."
    )
    batch: int = setting(16, "Examples in a batch.", at_least=1, heading="Training")

    @classmethod
    def of(cls, training: Mapping[str, Any]) -> Self:
        """Those in what a model file says of its training; defaults for what its version did not have."""
        return cls(**{field.name: training[field.name] for field in fields(cls) if field.name in training})


class Refused:
    """Examples that cannot be used: the first is an error, or each is counted where they are skipped.

    `skip` is the setting that says so; None where there is no such setting. Call it with a sentence that names
    file and row, what was found and what was expected.
    """

    def __init__(self, skip: bool | None = None) -> None:
        self._skip = skip
        self.reasons: list[str] = []

    def __call__(self, reason: str) -> None:
        """Take note of an example that cannot be used; raises `InputError` unless such ones are skipped."""
        if not self._skip:
            hint = "" if self._skip is None else "; --skip-bad leaves such examples out"
            raise InputError(f"{reason.rstrip('.')}{hint}")
        self.reasons.append(reason)

    @property
    def first(self) -> str:
        """The end of a sentence that says that nothing is left."""
        return f" (the first was left out: {self.reasons[0].rstrip('.')})." if self.reasons else "."


def divide(count: int, split: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which of `count` examples to train on and which to hold out, drawn by `seed`; at least one of each.

    Raises `InputError` for fewer than two.
    """
    if count < 2:
        found = "is one example" if count else "are no examples"
        raise InputError(
            f"there {found}, expected at least two, one to train on and one to hold out; --held-out names others."
        )
    order = np.random.default_rng([seed, count]).permutation(count)
    cut = min(max(round(split * count), 1), count - 1)
    return np.sort(order[:cut]), np.sort(order[cut:])


class Batches:
    """Batches of `batch` examples of like length, each example once a pass, in an order that `seed` gives.

    `of(step)` depends on the step alone. The examples of a pass are shuffled, sorted by length within pools of
    twenty batches and cut; the batches come in any order. The last of a pass may be smaller.
    """

    def __init__(self, lengths: Sequence[int] | NDArray[np.integer], batch: int, seed: int) -> None:
        self._lengths = np.asarray(lengths)
        self._batch = batch
        self._seed = seed
        self.a_pass = -(-len(self._lengths) // batch)
        self._epoch = -1
        self._order: list[NDArray[np.int64]] = []

    def of(self, step: int) -> NDArray[np.int64]:
        """The examples of a training step (0 is the first), longest first."""
        epoch, number = divmod(step, self.a_pass)
        if epoch != self._epoch:
            self._order, self._epoch = self._arrange(epoch), epoch
        return self._order[number]

    def _arrange(self, epoch: int) -> list[NDArray[np.int64]]:
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._lengths))
        pool = POOL * self._batch
        pools = [order[begin : begin + pool] for begin in range(0, len(order), pool)]
        ordered = np.concatenate([p[np.argsort(-self._lengths[p], kind="stable")] for p in pools])
        batches = [ordered[begin : begin + self._batch] for begin in range(0, len(ordered), self._batch)]
        return [batches[place] for place in rng.permutation(len(batches))]


def pad(sequences: Sequence[NDArray[Any]], value: float = 0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Sequences [T_b, ...] as one array [T, B, ...], filled up with `value`, and their lengths [B]."""
    lengths = np.array([len(sequence) for sequence in sequences], np.int64)
    shape = (int(lengths.max()), len(sequences), *sequences[0].shape[1:])
    padded = np.full(shape, value, sequences[0].dtype)
    for row, sequence in enumerate(sequences):
        padded[: len(sequence), row] = sequence
    return padded, lengths
