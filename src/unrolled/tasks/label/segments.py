"""Measures of a labelling in time: accuracy, edit score, F1 at overlaps, confusion.

A labelling [T] is a class a step; a segment is a run of steps of one class. The definitions are those of Lea et
al. 2016 (edit score) and 2017 (F1@k), every class counted, a background class too. Scores are in percent.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.edits import edits

__all__ = [
    "OVERLAPS",
    "ClassScore",
    "LabelScore",
    "Segment",
    "edit_score",
    "matches",
    "score",
    "segments",
    "step_weights",
]

OVERLAPS = (10, 25, 50)
"""Percentages of overlap at which F1 is told."""

Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Segment:
    """The steps `start` to `end` (not included) of class `label`."""

    start: int
    end: int
    label: int


@dataclass(frozen=True)
class ClassScore:
    """How well one class is found, step by step: in percent, and how many steps are truly of it."""

    precision: float
    recall: float
    f1: float
    steps: int


@dataclass(frozen=True)
class LabelScore:
    """The scores of a set of sequences.

    `accuracy` is over all steps, `edit` the mean over sequences, `f1` at each overlap over all segments.
    `confusion` [true, predicted] counts steps.
    """

    accuracy: float
    edit: float
    f1: dict[int, float]
    confusion: NDArray[np.int64]

    def figures(self) -> dict[str, float]:
        """The scores by name, in percent; the accuracy alone where no overlaps were asked for."""
        if not self.f1:
            return {"accuracy": self.accuracy}
        return {"accuracy": self.accuracy, "edit": self.edit, **{f"f1@{k}": f1 for k, f1 in self.f1.items()}}

    def row(self) -> list[str]:
        """The same in the same order, for people."""
        return [f"{value:.1f}" for value in self.figures().values()]

    def classes(self) -> list[ClassScore]:
        """The score of each class, in the order of the classes."""
        hits, true, said = self.confusion.diagonal(), self.confusion.sum(1), self.confusion.sum(0)
        return [
            ClassScore(_percent(hit, p), _percent(hit, t), _percent(2 * hit, p + t), int(t))
            for hit, t, p in zip(hits, true, said, strict=True)
        ]


def segments(labels: Labels) -> list[Segment]:
    """The segments of a labelling [T], in order."""
    cuts = [0, *(np.flatnonzero(np.diff(labels)) + 1).tolist(), len(labels)] if len(labels) else [0]
    return [Segment(a, b, int(labels[a])) for a, b in pairwise(cuts)]


def step_weights(labels: Labels, balance: float) -> NDArray[np.float32]:
    """How much each step [T] of a labelling counts: its segment's length to the power of -`balance`."""
    lengths = np.array([segment.end - segment.start for segment in segments(labels)], np.int64)
    weights: NDArray[np.float32] = np.repeat(lengths.astype(np.float32) ** -balance, lengths)
    return weights


def edit_score(predicted: Labels, true: Labels) -> float:
    """How alike two labellings' orders of segments are, whatever their lengths; neither may be empty.

    100 (1 - d / n), with d the Levenshtein distance of the two sequences of segment classes and n the longer's
    length.
    """
    p, y = ([segment.label for segment in segments(labels)] for labels in (predicted, true))
    return 100.0 * (1 - edits(y, p) / max(len(p), len(y)))


def matches(predicted: Labels, true: Labels, overlap: int) -> tuple[int, int, int]:
    """True positives, false positives and false negatives among segments.

    A predicted segment is right if its intersection over union with the true segment of its class that it
    overlaps most is at least `overlap` percent, and no predicted segment before it was right with the same one.
    """
    said, truth = segments(predicted), segments(true)
    starts = [other.start for other in truth]
    right: set[int] = set()
    for segment in said:
        meeting = range(bisect_right(starts, segment.start) - 1, bisect_left(starts, segment.end))
        ratios = {n: _overlap(segment, truth[n]) for n in meeting if truth[n].label == segment.label}
        best = max(ratios, key=ratios.__getitem__, default=None)
        if best is not None and 100 * ratios[best] >= overlap:
            right.add(best)
    return len(right), len(said) - len(right), len(truth) - len(right)


def score(pairs: Iterable[tuple[Labels, Labels]], classes: int, overlaps: Sequence[int] = OVERLAPS) -> LabelScore:
    """The scores of (predicted, true) labellings of the same length, one pair a sequence."""
    confusion = np.zeros((classes, classes), np.int64)
    counts = {k: np.zeros(3, np.int64) for k in overlaps}
    edits: list[float] = []
    for predicted, true in pairs:
        if not len(true):
            continue
        np.add.at(confusion, (true, predicted), 1)
        edits.append(edit_score(predicted, true))
        for k, count in counts.items():
            count += matches(predicted, true, k)
    f1 = {k: _percent(2 * count[0], 2 * count[0] + count[1] + count[2]) for k, count in counts.items()}
    edit = float(np.mean(edits)) if edits else 0.0
    return LabelScore(_percent(confusion.trace(), confusion.sum()), edit, f1, confusion)


def _overlap(one: Segment, other: Segment) -> float:
    """Intersection over union of two segments that meet."""
    shared = min(one.end, other.end) - max(one.start, other.start)
    return shared / (max(one.end, other.end) - min(one.start, other.start))


def _percent(part: Any, whole: Any) -> float:
    return 100.0 * float(part) / float(whole) if whole else 0.0
