"""The scores of a labelling, as figures and as tables."""

from collections.abc import Mapping, Sequence

import numpy as np

from unrolled.results import Evaluation, Table
from unrolled.tasks.label.segments import LabelScore

__all__ = ["READINGS", "evaluation"]

READINGS = {"alone": "each step alone", "causal": "as it comes", "offline": "the whole sequence"}
MOST_CONFUSED = 20  # classes of a confusion matrix that a terminal shows


def evaluation(scores: Mapping[str, LabelScore], classes: Sequence[str], sequences: int, steps: int) -> Evaluation:
    """The scores for each way of reading so many sequences, and those of each class for the last way."""
    best = list(scores.values())[-1]
    rows = [[_title(name), *score.row()] for name, score in scores.items()]
    tables = [
        Table(["read", *best.figures()], rows),
        Table(
            [f"event, {rows[-1][0]}", "precision", "recall", "F1", "steps"],
            [
                [name, f"{one.precision:.1f}", f"{one.recall:.1f}", f"{one.f1:.1f}", f"{one.steps:,}"]
                for name, one in zip(classes, best.classes(), strict=True)
            ],
        ),
    ]
    if len(classes) <= MOST_CONFUSED:
        tables.append(_confusion(best, classes))
    figures = {
        "sequences": sequences,
        "steps": steps,
        **{name.replace(", ", "_"): score.figures() for name, score in scores.items()},
        "events": list(classes),
        "confusion": best.confusion.tolist(),
    }
    return Evaluation(figures, tables)


def _confusion(score: LabelScore, classes: Sequence[str]) -> Table:
    """Of each event's steps, the percentage that each event was said of; nothing is written for none."""
    letters = [chr(ord("a") + number) for number in range(len(classes))]
    shares = 100 * score.confusion / np.maximum(1, score.confusion.sum(1, keepdims=True))
    rows = [
        [f"{letter} {name}", *(f"{share:3.0f}" if share else "" for share in row)]
        for letter, name, row in zip(letters, classes, shares, strict=True)
    ]
    return Table(["% said of the true", *(f"{letter:>3}" for letter in letters)], rows, dense=True)


def _title(name: str) -> str:
    reading, _, rest = name.partition(",")
    return READINGS[reading] + ("," + rest if rest else "")
