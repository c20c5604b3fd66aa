"""Labelled sequences to train on and sequences held out, how their files are read, and which events there are."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unrolled import kinds, sequences
from unrolled.architecture import MOST_LAYERS
from unrolled.errors import InputError, counted
from unrolled.examples import Refused, divide
from unrolled.recipe import longest_gap
from unrolled.sequences import Series, encode_labels
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import are_measures, order
from unrolled.sequences.options import SequenceOptions
from unrolled.settings import setting
from unrolled.tasks.label import rendered

if TYPE_CHECKING:
    from unrolled.tasks.label.model import LabelModel

__all__ = ["Data", "LabelOptions", "idle"]

SETTINGS_OF = {
    "numbers": {
        "label",
        "sequence",
        "ignore",
        "category",
        "missing",
        "scale",
        "noise",
        "offset",
        "exchange",
        "stretch",
    },
    "words": {"embedding", "characters", "spelling", "word_dropout"},
    "films": {"embedding", "fps", "side", "background"},
}
"""Settings and sizes that matter to these kinds of sequences alone."""

MOST_EVENTS = 500  # that may look like a column of numbers


@dataclass(frozen=True)
class LabelOptions(SequenceOptions):
    """What a label model is and how its sequences are read."""

    label: str = setting("label", "The column of a table that has the event.")
    ahead: int = setting(0, "Name the event that comes this many steps later, not the step's own.", at_least=0)
    scale: str = setting(
        "each",
        "Divide each number by its own standard deviation, or all by a common one.",
        choices=("each", "common"),
    )
    fps: float = setting(10.0, "Frames a second at which a film is read.", above=0)
    side: int = setting(32, "Pixels across and down that a frame is squeezed to.", at_least=8)
    background: str = setting("nothing", "The event of a film where its CSV names none.")
    cell: str = setting("lstm", kinds.HELP, unmet=kinds.unmet, heading="Model")
    hidden: int = setting(128, "Hidden units in each layer.", at_least=1)
    layers: int = setting(1, "Recurrent layers.", at_least=1, below=MOST_LAYERS + 1)
    longest_gap: int | None = longest_gap()
    embedding: int = setting(64, "Width of a word's vector, or of what is made of a frame.", at_least=1)
    spelling: int = setting(50, "Units that read a word's characters from each side.", at_least=1)
    bidirectional: bool = setting(False, "Also read backward, for whole sequences; it still runs live.")
    members: int = setting(
        1, "Networks trained side by side; the model's answer is their mean.", at_least=1, below=MOST_LAYERS + 1
    )
    switch_penalty: float = setting(
        0.0, "Nats that it costs to name another event than at the step before.", at_least=0
    )
    dropout: float = setting(
        0.5, "Dropout between layers and before the head.", at_least=0, below=1, heading="Regularisation"
    )
    input_dropout: float = setting(0.2, "Dropout on the input of the layers.", at_least=0, below=1)
    word_dropout: float = setting(
        0.25, "The a of a / (a + n), the probability that a word which occurs n times is made unknown.", at_least=0
    )
    noise: float = setting(0.0, "Noise added to numbers, in standard deviations.", at_least=0)
    offset: float = setting(0.0, "The same, but constant over a whole sequence.", at_least=0)
    exchange: float = setting(
        0.0, "Fraction of the events that are replaced by others of the same name.", at_least=0, below=1
    )
    stretch: float = setting(1.0, "Slow down or speed up numbers by up to this factor.", at_least=1)
    smoothing: float = setting(0.0, "Fraction of the target that is spread over all events.", at_least=0, below=1)
    balance: float = setting(
        0.0,
        "From 0, where all steps count alike, to 1, where all events do, however short.",
        at_least=0,
        heading="Training",
    )
    window: int | None = setting(
        None, "Train on pieces of at most this many steps; without it, on whole sequences.", at_least=1
    )
    keep: str = setting(
        "best", "Weights to keep: the best on what is held out, or the last.", choices=("best", "last")
    )

    def layout(self, paths: Sequence[str | Path]) -> Layout:
        """How files are to be read; see `SequenceOptions.layout_of`."""
        return replace(
            self.layout_of(paths, self.label),
            fps=self.fps, side=self.side, background=self.background, ahead=self.ahead,
        )  # fmt: skip


def idle(kind: str) -> set[str]:
    """The settings and sizes that do not matter to sequences of this `kind`."""
    return set().union(*SETTINGS_OF.values()) - SETTINGS_OF[kind]


class Data:
    """The sequences of files (without: rendered films), divided as `options` say.

    With a model to `start` from, they must be of its kind, and have its columns and events. What cannot be used
    goes to `refused`; raises `InputError` where nothing is left to train on, or to hold out.
    """

    def __init__(
        self,
        options: LabelOptions,
        paths: Sequence[str | Path],
        seed: int,
        start: "LabelModel | None" = None,
    ) -> None:
        self.names = [str(path) for path in paths] or [rendered.NAME]
        self.refused = Refused(options.skip_bad)
        layout = options.layout(() if start else paths)
        if start:
            layout = replace(layout, features=start.layout.features, categories=start.layout.categories)
        elif not paths:
            layout = replace(layout, fps=float(rendered.FPS))
        self.kind, found = sequences.read(paths or [rendered.folder()], layout, self.refused)
        if start:
            start.check(self.kind, found)
        self.layout = replace(layout, features=layout.features or found[0].features)
        if options.held_out is None:
            train, held = self._divided(found, options.split, seed)
            self.train, held_out = [found[n] for n in train], [found[n] for n in held]
        else:
            self.train = found
            kind, held_out = sequences.read([options.held_out], self.layout, self.refused)
            if kind != self.kind:
                raise InputError(f"{options.held_out} has {kind}, expected {self.kind} as in {self.names[0]}.")
        self.classes = start.classes if start else self._events()
        hint = ""
        if start:
            self.train = [one for one in self.train if self._known(one)]
        elif options.held_out is None:
            hint = "; it is in the held-out part alone, which another --seed draws anew and --held-out names"
        self.held_out = [one for one in held_out if self._known(one, hint)]
        self.train, self.held_out = (
            [one for one in part if any(one.labels or ())]  # the others teach and measure nothing
            for part in (self.train, self.held_out)
        )
        for left, use in ((self.train, "train on"), (self.held_out, "hold out")):
            if not left:
                raise InputError(f"{', '.join(self.names)}: nothing is left to {use}, expected a sequence.")

    def _divided(
        self, found: Sequence[Series], split: float, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which sequences to train on and which to hold out; raises `InputError` for one sequence alone."""
        try:
            return divide(len(found), split, seed)
        except InputError as error:
            way = "; --sequence COLUMN tells several in a table apart" if found[0].features else ""
            raise InputError(f"{', '.join(self.names)}: {str(error).rstrip('.')}{way}.") from error

    def _events(self) -> list[str]:
        """The events of the training data, in order; raises `InputError` for one alone, or a column of numbers."""
        events = sorted({label for one in self.train for label in one.labels or () if label}, key=order)
        names = ", ".join(self.names)
        if len(events) < 2:
            ahead = f" {counted(self.layout.ahead, 'step')} ahead" if self.layout.ahead else ""
            found = f"the only event{ahead} is {events[0]!r}" if events else f"no step has an event{ahead}"
            raise InputError(f"{names}: {found}, expected at least two.")
        if len(events) > MOST_EVENTS and are_measures(events):
            raise InputError(
                f"{names}: column {self.layout.label!r} has {len(events):,} different events, is it a column of "
                "numbers? --label names the column of events; `unrolled train forecast` learns numbers."
            )
        return events

    def _known(self, series: Series, hint: str = "") -> bool:
        """Whether a sequence has only events and numbers that training has; `hint` goes with one that it lacks."""
        try:
            encode_labels(series, self.classes)
            if self.kind == "numbers" and series.inputs.shape[1] != self.train[0].inputs.shape[1]:
                raise InputError(
                    f"{series.name} has {counted(series.inputs.shape[1], 'number')} a step, expected "
                    f"{self.train[0].inputs.shape[1]} as {self.train[0].name} has"
                )
        except InputError as error:
            self.refused(str(error).rstrip(".") + hint)
            return False
        return True

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """What was trained on and what was held out: SHA-256 of each."""
        parts = {"data": self.train, "held_out_data": self.held_out}
        if self.names == [rendered.NAME]:  # other releases of a decoder may give other pixels
            parts = {name: [replace(one, inputs=[]) for one in part] for name, part in parts.items()}
        return {name: sequences.fingerprint(part) for name, part in parts.items()}
