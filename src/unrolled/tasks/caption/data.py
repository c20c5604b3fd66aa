"""Captioned pictures: which are trained on, which are held out, and how a caption is cut into words.

This file knows no model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from unrolled.errors import InputError
from unrolled.examples import ExampleOptions, Refused, divide
from unrolled.tasks.caption import pictures, scenes
from unrolled.tasks.caption.pictures import Pictures

__all__ = ["Data", "spoken"]


@dataclass(frozen=True)
class Data:
    """The pictures to train on, those held out, and what they are called."""

    train: Pictures
    held_out: Pictures
    names: list[str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of all pictures and captions."""
        both = dict.fromkeys((self.train.fingerprint, self.held_out.fingerprint))
        return "+".join(both)

    @classmethod
    def read(
        cls,
        options: ExampleOptions,
        paths: Sequence[str | Path],
        seed: int,
        refused: Refused,
        size: int | None = None,
        channels: int | None = None,
        base: str = "",
    ) -> Self:
        """The pictures of the folders `paths` (without: the built-in scenes) to train on, and those held out.

        `size`, `channels` and `base` are those of `pictures.read`, by default found from the pictures. Lines and
        pictures that cannot be used go to `refused`. Raises `InputError` for what `pictures.read` refuses, and for
        something held out of nothing.
        """
        if not paths:
            if options.held_out is not None:
                raise InputError(
                    f"--held-out is {options.held_out!r}, but there is no DATA to train on; expected a folder."
                )
            train, held = (pictures.read([folder], refused, size, channels) for folder in scenes.builtin())
            return cls(train, held, [scenes.BUILTIN])
        every = pictures.read(paths, refused, size, channels, base)
        if options.held_out is None:
            train, held = map(every.part, divide(len(every), options.split, seed))
        else:
            train, held = every, pictures.read([options.held_out], refused, every.size, every.channels, base)
        return cls(train, held, [str(path) for path in paths])


def spoken(caption: str) -> str:
    """The caption as its vocabulary sees it: every word has a space before it, also the first."""
    return f" {caption}"
