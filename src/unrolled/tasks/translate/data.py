"""Pairs of sentences to train on and pairs held out. This file knows no vocabulary and no model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from unrolled import whereabouts
from unrolled.examples import ExampleOptions, Refused, divide
from unrolled.tasks.translate import numberwords, parallel
from unrolled.tasks.translate.parallel import Pairs

__all__ = ["Data"]

SMALL_TIMES = 10
"""How often a pass reads each of the smallest built-in numbers, a few of which stand in no other (null)."""


@dataclass(frozen=True)
class Data:
    """Pairs to train on, pairs held out, what they are called, and SHA-256 of all of them."""

    train: Pairs
    held_out: Pairs
    names: list[str]
    fingerprint: str

    @classmethod
    def read(cls, options: ExampleOptions, paths: Sequence[str | Path], seed: int, refused: Refused) -> Self:
        """The pairs of `paths` (without: numbers in words) to train on, and those held out of them or named so.

        Pairs that cannot be used go to `refused`; raises `InputError` for files that cannot.
        """
        always: Pairs = []
        pairs: Pairs
        if paths:
            pairs, names = parallel.read(paths, refused), [str(path) for path in paths]
        else:
            every, names = numberwords.pairs(), [numberwords.BUILTIN]
            always, pairs = every[: numberwords.ALWAYS_KNOWN] * SMALL_TIMES, every[numberwords.ALWAYS_KNOWN :]
        if options.held_out is not None:
            train: Pairs = [*always, *pairs]
            held_out: Pairs = parallel.read(whereabouts.named(options.held_out), refused)
        else:
            first, second = divide(len(pairs), options.split, seed)
            train, held_out = [*always, *(pairs[n] for n in first)], [pairs[n] for n in second]
        return cls(train, held_out, names, parallel.fingerprint([*train, *held_out]))
