"""The problems of long-term dependencies, each with one number for how far apart things are: the gap.

What the right answer is, how well one does who remembers nothing (chance), and when a network has solved it are
said here. Sequences are drawn from a generator of random numbers. Nothing here needs torch.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.memory import sentences

__all__ = ["PROBLEMS", "Drawn", "Problem", "Sequences"]

LONGEST = 100_000  # a gap
COPIED = 10  # symbols to remember
ALPHABET = 8  # of the symbols to remember
DISTRACTORS = 4  # symbols of temporal order that say nothing


@dataclass(frozen=True)
class Sequences:
    """Examples of a problem.

    `inputs` [T, B, width] are read step by step. `targets` [S, B] are what the last S outputs should be: numbers
    (float32), or the index of a class (int64).
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32] | NDArray[np.int64]


@dataclass(frozen=True)
class Problem:
    """A problem.

    The error of a network is that of `measure`: "squared error", "nats" (a step of the answer and of the wait
    alike) or "wrong answers" (a part of 1). `chance(gap)` is the least error without memory, and below
    `solved(gap)` the problem is solved. `shortest` is the least gap, and `gaps` are those that are tried where
    nothing else is said.
    """

    name: str
    title: str
    measure: str
    shortest: int
    gaps: tuple[int, ...]
    chance: Callable[[int], float]
    solved: Callable[[int], float]

    def check(self, gap: int) -> None:
        """Raise `InputError` for a gap that the problem cannot have."""
        if not self.shortest <= gap <= LONGEST:
            raise InputError(f"{self.name}: the gap is {gap}, expected {self.shortest} to {LONGEST:,} steps.")


@dataclass(frozen=True)
class Drawn(Problem):
    """A problem whose examples `draw(gap, rows, rng)` makes anew: `width` numbers a step.

    `outputs` is the number of classes of an answer, or 1 for a number.
    """

    width: int
    outputs: int
    draw: Callable[[int, int, np.random.Generator], Sequences]


def adding(gap: int, rows: int, rng: np.random.Generator) -> Sequences:
    """Add the two marked numbers of `gap` (Hochreiter & Schmidhuber 1997, in the form of Le et al. 2015).

    A step is a number from 0 to 1 and a mark, which is 1 at one step of each half and 0 elsewhere.
    """
    values = rng.random((gap, rows), np.float32)
    marks = np.zeros((gap, rows), np.float32)
    columns = np.arange(rows)
    half = gap // 2
    for first, last in ((0, half), (half, gap)):
        marks[rng.integers(first, last, rows), columns] = 1
    sums: NDArray[np.float32] = (values * marks).sum(0, keepdims=True, dtype=np.float32)
    return Sequences(np.stack([values, marks], axis=-1), sums)


def copy(gap: int, rows: int, rng: np.random.Generator) -> Sequences:
    """Say ten symbols again after `gap` steps of waiting (Arjovsky et al. 2016).

    Ten symbols of eight, `gap - 1` blanks, a signal, and ten more blanks, during which the symbols are to be said;
    before that the answer is a blank at every step.
    """
    blank, signal = ALPHABET, ALPHABET + 1
    symbols = rng.integers(ALPHABET, size=(COPIED, rows))
    steps = np.full((gap + 2 * COPIED, rows), blank)
    steps[:COPIED] = symbols
    steps[COPIED + gap - 1] = signal
    targets = np.full_like(steps, blank)
    targets[-COPIED:] = symbols
    return Sequences(_one_hot(steps, ALPHABET + 2), targets)


def order(symbols: int) -> Callable[[int, int, np.random.Generator], Sequences]:
    """In which order came the `symbols` X and Y? (Hochreiter & Schmidhuber 1997, experiments 6a and 6b.)

    Of `gap` steps that say nothing, some are an X or a Y, each at a random place of a tenth of the sequence; the
    class is the number that they are in binary. Two lie from 1/10 and 5/10 on, three from 1/10, 3/10 and 6/10.
    """
    tenths = {2: (1, 5), 3: (1, 3, 6)}[symbols]

    def draw(gap: int, rows: int, rng: np.random.Generator) -> Sequences:
        steps = rng.integers(2, 2 + DISTRACTORS, (gap, rows))
        classes = np.zeros(rows, np.int64)
        for tenth in tenths:
            chosen = rng.integers(2, size=rows)
            places = rng.integers(tenth * gap // 10, (tenth + 1) * gap // 10, rows)
            steps[places, np.arange(rows)] = chosen
            classes = 2 * classes + chosen
        return Sequences(_one_hot(steps, 2 + DISTRACTORS), classes[None])

    return draw


def _one_hot(steps: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    return np.eye(width, dtype=np.float32)[steps]


def _copy_chance(gap: int) -> float:
    """The symbols are guessed, the blanks known."""
    return COPIED * float(np.log(ALPHABET)) / (gap + 2 * COPIED)


def _order(symbols: int) -> Drawn:
    return Drawn(
        f"order-{symbols}",
        f"in which order came {symbols} symbols?",
        "wrong answers",
        10,
        (20, 50, 100, 200, 500),
        lambda gap: 1 - 0.5**symbols,
        lambda gap: 0.01,
        2 + DISTRACTORS,
        2**symbols,
        order(symbols),
    )


PROBLEMS: dict[str, Problem] = {
    problem.name: problem
    for problem in (
        Problem(
            "recall",
            "I grew up in France. ... I speak fluent French.",
            "wrong answers",
            sentences.SHORTEST,
            (4, 10, 20, 50, 100, 200),
            lambda gap: 1 - sentences.chance(),
            lambda gap: 0.01,
        ),
        Drawn(
            "adding",
            "add the two marked numbers",
            "squared error",
            2,
            (50, 100, 200, 500, 1000),
            lambda gap: 1 / 6,
            lambda gap: 0.01,
            2,
            1,
            adding,
        ),
        Drawn(
            "copy",
            "say ten symbols again",
            "nats",
            1,
            (20, 50, 100, 200, 500),
            _copy_chance,
            lambda gap: _copy_chance(gap) / 10,
            ALPHABET + 2,
            ALPHABET + 1,
            copy,
        ),
        _order(2),
        _order(3),
    )
}
"""`recall` is told in words, by `sentences`, to a text model; the others are sequences of numbers."""
