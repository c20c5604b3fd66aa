"""Captioned pictures: which are trained on, which are held out, and how a caption is cut into words.

This file knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unrolled.errors import InputError
from unrolled.examples import Refused, divide
from unrolled.tasks.caption import pictures, scenes
from unrolled.tasks.caption.pictures import Pictures

__all__ = ["Examples", "read", "spoken"]


@dataclass(frozen=True)
class Examples:
    """The pictures to train on and those held out, and what is noted of them."""

    names: list[str]
    train: Pictures
    held_out: Pictures
    skipped: int

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all pictures and captions."""
        both = dict.fromkeys((self.train.fingerprint, self.held_out.fingerprint))
        return "+".join(both)


def read(
    paths: Sequence[str | Path],
    *,
    held_out: str | None,
    split: float,
    seed: int,
    skip_bad: bool = False,
    size: int | None = None,
    channels: int | None = None,
) -> Examples:
    """The pictures of the folders `paths` (with none: the built-in scenes), divided by `split` and `seed`.

    With `held_out`, that folder is held out and all others are trained on. Raises `InputError` for what
    `pictures.read` refuses, and for `held_out` with no `paths`.
    """
    if not paths:
        if held_out is not None:
            raise InputError(f"--held-out is {held_out!r}, but there is no DATA to train on; expected a folder.")
        return Examples([scenes.BUILTIN], *scenes.builtin(split, seed), 0)
    refused = Refused(skip_bad)
    every = pictures.read(paths, refused, size, channels)
    if held_out is None:
        train, held = map(every.part, divide(len(every), split, seed))
    else:
        train, held = every, pictures.read([held_out], refused, every.size, every.channels)
    return Examples([str(path) for path in paths], train, held, len(refused.reasons))


def spoken(caption: str) -> str:
    """The caption as its vocabulary sees it: every word has a space before it, also the first."""
    return f" {caption}"
