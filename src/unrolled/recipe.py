"""How to train: the settings of a run and its learning rate, without torch."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unrolled.errors import InputError
from unrolled.settings import setting

__all__ = ["TrainOptions", "check_one_of_two", "learning_rate_factor", "longest_gap", "over"]

WARM_UP = 0.02  # of the run
FINAL_RATE = 0.02  # of the highest learning rate
ONE_OF_TWO = {"steps": "minutes", "split": "held_out"}  # the second, where there is one, makes the first idle


@dataclass(frozen=True)
class TrainOptions:
    """How long, how fast and how carefully to train.

    A run is `steps` long or, when `minutes` is given, as many steps as fit: then the learning rate follows
    the clock, and two runs are not the same to the bit.
    """

    steps: int = setting(2000, "Training steps.", at_least=1, heading="Training")
    minutes: float | None = setting(None, "Train for this long instead of for a number of steps.", above=0)
    lr: float = setting(0.02, "Highest learning rate (of Muon; AdamW has 0.4 of it).", above=0)
    weight_decay: float = setting(0.1, "Weight decay.", at_least=0)
    clip: float = setting(1.0, "Longer gradients are shortened to this length.", above=0)
    precision: str = setting(
        "float32",
        "What matrix products read; weights and states stay float32, and so does all where the machine multiplies "
        "bfloat16 no faster.",
        choices=("float32", "bfloat16"),
    )
    seed: int = setting(0, "Seed of the weights, the dropout and the order of the data.", at_least=0, below=2**63)
    checkpoint_minutes: float = setting(1.0, "Minutes between checkpoints.", at_least=0)


def check_one_of_two(given: Mapping[str, Any], source: str) -> None:
    """Raise `InputError` where one place gives a run two lengths, or says twice what is held out."""
    for one, other in ONE_OF_TWO.items():
        if one in given and other in given:
            raise InputError(
                f"{source}: {one} is {given[one]!r} and {other} is {given[other]!r}, expected one of the two."
            )


def over(below: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of two places, of which those `given` win: their steps also over the minutes `below`, their
    split over what is held out there.
    """
    beaten = {ONE_OF_TWO.get(name) for name in given}
    return {**{name: value for name, value in below.items() if name not in beaten}, **given}


def longest_gap() -> Any:
    """The setting of tasks whose gates may start with chrono biases (`unrolled.nn.chrono`)."""
    return setting(
        None,
        "Steps from what is to be remembered to where it counts: the gates of an LSTM or a GRU begin open for up "
        "to that long (chrono initialisation).",
        at_least=2,
    )


def learning_rate_factor(progress: float) -> float:
    """Linear warm-up, then half a cosine down to `FINAL_RATE` (Loshchilov & Hutter 2017).

    `progress` runs from 0 to 1; the factor applies to the highest learning rate.
    """
    cosine = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    return min(1.0, (progress + 1e-3) / WARM_UP) * cosine
