"""How far back networks remember: the classical problems as the gap grows, and probes of a trained model."""

from dataclasses import dataclass

from unrolled.settings import setting

__all__ = ["ENDURANCE", "RememberOptions"]

ENDURANCE = 1_000_000
"""The steps without a reset that a trained model is put through."""


@dataclass(frozen=True)
class RememberOptions:
    """How a trained model is looked at."""

    seed: int = setting(0, "Seed of the choice of steps to measure.", at_least=0)
    steps: int = setting(
        ENDURANCE,
        "Steps to run without a reset: does the state grow, does the loss drift?",
        at_least=2,
        default_help=f"{ENDURANCE:,}",
    )
