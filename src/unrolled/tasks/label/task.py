"""The label task: an event at every step of a sequence of numbers, words or frames.

A model reads each step alone, as it comes and, if it is bidirectional, also the whole sequence at once; it is
trained for all of these together, so that they are measured side by side. Nothing here needs torch but
`LabelTask.build`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import kinds
from unrolled.architecture import MOST_LAYERS, NO_EVENT, LabelArchitecture
from unrolled.errors import InputError
from unrolled.examples import Batches, ExampleOptions, Refused, divide, pad
from unrolled.modelfile import ModelFile
from unrolled.recipe import longest_gap
from unrolled.results import Evaluation, Table
from unrolled.settings import setting
from unrolled.tasks import whereabouts
from unrolled.tasks.label import rendered, sequences
from unrolled.tasks.label.augment import Exchange, shaken, stretched
from unrolled.tasks.label.fronts import Spelling, held
from unrolled.tasks.label.model import LabelModel, encode_labels
from unrolled.tasks.label.names import are_measures, listed, order, parted
from unrolled.tasks.label.segments import step_weights
from unrolled.tasks.label.sequences import Layout, Series

if TYPE_CHECKING:
    import torch

__all__ = ["LabelOptions", "LabelTask"]

MOST_EVENTS = 500  # that may look like a column of numbers
Batch = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class LabelOptions(ExampleOptions):
    """What a label model is and how its sequences are read."""

    label: str = setting("label", "The column of a table that has the event.")
    sequence: str | None = setting(None, "The column that tells sequences apart; without it, each file is one.")
    ignore: str | None = setting(
        None, "Columns to leave out, separated by commas; a name with a comma goes in double quotes."
    )
    missing: str = setting(
        "refuse",
        "What to do where a number is missing: refuse it, or hold the one before (at the start the mean).",
        choices=("refuse", "hold"),
    )
    fps: float = setting(10.0, "Frames a second at which a film is read.", above=0)
    side: int = setting(32, "Pixels across and down that a frame is squeezed to.", at_least=8)
    background: str = setting("nothing", "The event of a film where its CSV names none.")
    cell: str = setting("lstm", kinds.HELP, unmet=kinds.unmet)
    hidden: int = setting(128, "Hidden units in each layer.", at_least=1)
    layers: int = setting(1, "Recurrent layers.", at_least=1, below=MOST_LAYERS + 1)
    longest_gap: int | None = longest_gap()
    embedding: int = setting(64, "Width of a word's vector, or of what is made of a frame.", at_least=1)
    spelling: int = setting(50, "Units that read a word's characters from each side.", at_least=1)
    bidirectional: bool = setting(False, "Also read backward, for whole sequences; it still runs live.")
    members: int = setting(
        1, "Networks trained side by side; the model's answer is their mean.", at_least=1, below=MOST_LAYERS + 1
    )
    dropout: float = setting(0.2, "Dropout between layers and before the head.", at_least=0, below=1)
    input_dropout: float = setting(0.2, "Dropout on the input of the layers.", at_least=0, below=1)
    word_dropout: float = setting(
        0.25, "A word that occurs this often is made unknown half of the time.", at_least=0
    )
    scale: str = setting(
        "each",
        "Divide each number by its own standard deviation, or all by a common one.",
        choices=("each", "common"),
    )
    noise: float = setting(0.0, "Noise added to numbers, in standard deviations.", at_least=0)
    offset: float = setting(0.0, "The same, but constant over a whole sequence.", at_least=0)
    exchange: float = setting(
        0.0, "Fraction of the events that are replaced by others of the same name.", at_least=0, below=1
    )
    stretch: float = setting(1.0, "Slow down or speed up numbers by up to this factor.", at_least=1)
    smoothing: float = setting(0.0, "Fraction of the target that is spread over all events.", at_least=0, below=1)
    balance: float = setting(
        0.0, "From 0, where all steps count alike, to 1, where all events do, however short.", at_least=0
    )
    window: int | None = setting(None, "Train on pieces of at most this many steps.", at_least=1)
    switch_penalty: float = setting(
        0.0, "Nats that it costs to name another event than at the step before.", at_least=0
    )
    keep: str = setting(
        "best", "Weights to keep: the best on what is held out, or the last.", choices=("best", "last")
    )

    def layout(self) -> Layout:
        """How files are to be read."""
        return Layout(
            self.label, self.sequence, parted(self.ignore or ""), fps=self.fps, side=self.side,
            background=self.background, missing=self.missing,
        )  # fmt: skip


class LabelTask:
    """Train a model that names the event at every step of a sequence (without DATA: of short rendered films).

    DATA is tables (.csv or .tsv, gzipped or not, .parquet), .npy, .npz or .mat arrays, CoNLL-U sentences, or a
    folder of films, each with a CSV of start,end,event beside it.
    """

    name: ClassVar[str] = "label"
    example: ClassVar[str] = "films/ --bidirectional"
    Options: ClassVar[type[Any]] = LabelOptions
    Model: ClassVar[type[Any]] = LabelModel
    defaults: ClassVar[dict[str, Any]] = {"steps": 450, "batch": 8}

    def __init__(self, options: LabelOptions, paths: Sequence[str | Path] = (), seed: int = 0) -> None:
        self.options = (
            options if paths else replace(options, longest_gap=options.longest_gap or rendered.LONGEST_GAP)
        )
        self.seed = seed
        self.names = [str(path) for path in paths] or [rendered.NAME]
        self.refused = Refused(options.skip_bad)
        layout = options.layout() if paths else replace(options.layout(), fps=float(rendered.FPS))
        self.kind, found = sequences.read(paths or [rendered.folder()], layout, self.refused)
        if options.held_out is None:
            train, held = self._divided(found)
            self.train, held_out = [found[n] for n in train], [found[n] for n in held]
        else:
            self.train = found
            kind, held_out = sequences.read(
                [options.held_out], replace(layout, features=found[0].features), self.refused
            )
            if kind != self.kind:
                raise InputError(f"{options.held_out} has {kind}, expected {self.kind} as in {self.names[0]}.")
        self.layout = replace(layout, features=found[0].features)
        self.classes = self._events()
        self.held = [one for one in held_out if self._known(one)]
        if not self.held:
            raise InputError(f"{', '.join(self.names)}: nothing is left to hold out, expected a sequence.")
        self._prepare()
        lengths = [min(len(one.inputs), options.window or len(one.inputs)) for one in self.train]
        self._batches = Batches(lengths, options.batch, seed)

    def _divided(self, found: Sequence[Series]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Which sequences to train on and which to hold out; raises `InputError` for one sequence alone."""
        try:
            return divide(len(found), self.options.split, self.seed)
        except InputError as error:
            way = "; --sequence COLUMN tells several in a table apart" if found[0].features else ""
            raise InputError(f"{', '.join(self.names)}: {str(error).rstrip('.')}{way}.") from error

    def _events(self) -> list[str]:
        """The events of the training data, in order; raises `InputError` for one alone, or a column of numbers."""
        events = sorted({label for one in self.train for label in one.labels or () if label}, key=order)
        names = ", ".join(self.names)
        if len(events) < 2:
            raise InputError(f"{names}: the only event is {events[0]!r}, expected at least two.")
        if len(events) > MOST_EVENTS and are_measures(events):
            raise InputError(
                f"{names}: column {self.layout.label!r} has {len(events):,} different events, is it a column of "
                "numbers? --label names the column of events."
            )
        return events

    def _known(self, series: Series) -> bool:
        """Whether a held-out sequence has only events and numbers that training has."""
        try:
            encode_labels(series, self.classes)
            if self.kind == "numbers" and series.inputs.shape[1] != self.train[0].inputs.shape[1]:
                raise InputError(
                    f"{series.name} has {series.inputs.shape[1]} numbers a step, expected "
                    f"{self.train[0].inputs.shape[1]} as {self.train[0].name} has"
                )
        except InputError as error:
            self.refused(str(error))
            return False
        return True

    def _prepare(self) -> None:
        """What the front end must know of the training data: its words, or its mean and deviation."""
        self._encoding: dict[str, Any] = {}
        if self.kind == "words":
            self._counts = Counter(word.lower() for one in self.train for word in one.inputs)
            characters = sorted({character for one in self.train for word in one.inputs for character in word})
            self._encoding = {"words": sorted(self._counts), "characters": "".join(characters)}
            self._spelling = Spelling(**self._encoding)
            counts = np.array([0, *(self._counts[word] for word in sorted(self._counts))])
            # A word seen once is replaced the most often (Kiperwasser & Goldberg 2016).
            self._forgotten = self.options.word_dropout / np.maximum(self.options.word_dropout + counts, 1e-9)
        if self.kind == "numbers":
            steps = np.concatenate([one.inputs for one in self.train]).astype(np.float64)
            for column in np.flatnonzero(np.isnan(steps).all(0)):
                name = repr(self.layout.features[column]) if self.layout.features else str(column)
                raise InputError(f"{', '.join(self.names)}: column {name} has no number, expected at least one.")
            deviation = np.nanstd(steps, 0)
            if self.options.scale == "common":
                deviation = np.full_like(deviation, np.sqrt(np.mean(deviation**2)))
            self._encoding = {
                "mean": np.nanmean(steps, 0).tolist(),
                "deviation": np.where(deviation > 0, deviation, 1.0).tolist(),
            }

    @staticmethod
    def files(path: str | Path) -> Sequence[Path]:
        """The files of sequences that `path` is read as."""
        return [source.path for source in sequences.sources([path])]

    @property
    def architecture(self) -> LabelArchitecture:
        """The model's sizes."""
        o, words = self.options, self.kind == "words"
        inputs = {
            "words": len(self._encoding.get("words", ())) + 1,
            "films": self.layout.side,
            "numbers": len(self._encoding.get("mean", ())),
        }
        return LabelArchitecture(
            kind=self.kind,
            inputs=inputs[self.kind],
            characters=len(self._encoding["characters"]) + 1 if words else 0,
            embedding=0 if self.kind == "numbers" else o.embedding,
            spelling=o.spelling if words else 0,
            cell=o.cell,
            hidden=o.hidden,
            layers=o.layers,
            bidirectional=o.bidirectional,
            members=o.members,
            classes=len(self.classes),
        )

    def build(self) -> "torch.nn.Module":
        """A `LabelNetwork` with fresh weights."""
        from unrolled.models.label import LabelNetwork

        o = self.options
        return LabelNetwork(self.architecture, o.dropout, o.input_dropout, o.smoothing, o.longest_gap)

    def batch(self, step: int) -> Batch:
        """inputs [T, B, ...], lengths [B], targets [T, B]; to balance weights [T, B], for words spelling."""
        rng = np.random.default_rng([self.seed, step])
        pieces = [self._piece(self.train[place], rng) for place in self._batches.of(step)]
        batch = self._gather(pieces)
        if self.kind == "words":
            batch["inputs"][rng.random(batch["inputs"].shape) < self._forgotten[batch["inputs"]]] = 0
        if self.options.balance:
            weights = [step_weights(targets, self.options.balance) for _, targets in pieces]
            batch["weights"] = pad(weights)[0]
        return batch

    def _piece(self, series: Series, rng: np.random.Generator) -> tuple[Any, NDArray[np.int64]]:
        """A sequence as it is trained on this time: inputs [T, ...] and targets [T]."""
        inputs, targets = self._encoded(series)
        o, numbers = self.options, self.kind == "numbers"
        if numbers and o.exchange:
            inputs, targets = self._exchange(inputs, targets, o.exchange, rng)
        if numbers and o.stretch > 1:
            inputs, targets = stretched(inputs, targets, o.stretch, rng)
        if o.window and len(inputs) > o.window:
            start = int(rng.integers(len(inputs) - o.window + 1))
            inputs, targets = inputs[start : start + o.window], targets[start : start + o.window]
        return shaken(inputs, o.noise, o.offset, rng) if numbers else inputs, targets

    @cached_property
    def _exchange(self) -> Exchange:
        return Exchange([self._encoded(one) for one in self.train])

    def _encoded(self, series: Series) -> tuple[Any, NDArray[np.int64]]:
        inputs = series.inputs
        if self.kind == "numbers":
            mean, deviation = (np.array(self._encoding[name], np.float32) for name in ("mean", "deviation"))
            inputs = held((inputs - mean) / deviation, np.zeros_like(mean))
        return inputs, encode_labels(series, self.classes)

    def _gather(self, pieces: Sequence[tuple[Any, NDArray[np.int64]]]) -> Batch:
        """Several sequences as one batch."""
        targets, lengths = pad([targets for _, targets in pieces], NO_EVENT)
        if self.kind != "words":
            return {"inputs": pad([inputs for inputs, _ in pieces])[0], "lengths": lengths, "targets": targets}
        different = sorted({word for words, _ in pieces for word in words})
        place = {word: number for number, word in enumerate(different)}
        spelled = [np.array([place[word] for word in words], np.int64) for words, _ in pieces]
        spellings, spelling_lengths = self._spelling.spell(different)
        return {
            "inputs": pad([self._spelling.encode(words) for words, _ in pieces])[0],
            "lengths": lengths,
            "targets": targets,
            "spellings": spellings,
            "spelling_lengths": spelling_lengths,
            "spelling_of": pad(spelled)[0],
        }

    @cached_property
    def _held_out(self) -> list[tuple[Batch, int]]:
        ordered = sorted(self.held, key=lambda one: len(one.inputs))
        size = self.options.batch
        parts = [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
        batches = [self._gather([self._encoded(one) for one in part]) for part in parts]
        return [(batch, int((batch["targets"] != NO_EVENT).sum())) for batch in batches]

    def held_out(self) -> list[tuple[Batch, int]]:
        """The held-out sequences by length, whole; none where the last weights are to be kept."""
        return self._held_out if self.options.keep == "best" else []

    @cached_property
    def _data(self) -> dict[str, str]:
        """What was trained on and what was held out: SHA-256 of each."""
        parts = {"data": self.train, "held_out_data": self.held}
        if self.names == [rendered.NAME]:  # other releases of a decoder may give other pixels
            parts = {name: [replace(one, inputs=[]) for one in part] for name, part in parts.items()}
        return {name: sequences.fingerprint(part) for name, part in parts.items()}

    def settings(self) -> dict[str, Any]:
        """The options and the fingerprints of the data."""
        return {**asdict(self.options), **self._data}

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        left_out = len(self.refused.reasons)
        example = self.held[0].name if Path(self.held[0].name).is_file() else None
        further = {"left_out": left_out, "example": example, **self.settings(), **training}
        document = {**whereabouts.kept(self.names), **further}
        encoding = {
            "layout": self.layout.to_json(),
            "classes": self.classes,
            "switch_penalty": self.options.switch_penalty,
            **self._encoding,
        }
        return ModelFile(self.name, self.architecture, encoding, document, tensors)

    def report(self, model: LabelModel) -> Evaluation:
        """The scores on what was held out, of the recurrent layers and of a classifier of single steps."""
        measured, reads = model.measure(self.held), model.reads()
        trained_on = {"sequences": len(self.train), "steps": sum(len(one.inputs) for one in self.train)}
        rows = [[name, one if isinstance(one, str) else listed(one)] for name, one in reads.items() if one]
        sizes = [["trained on", _size(trained_on)], ["held out", _size(measured.figures)]]
        used = Table(["the data", ""], [*sizes, *rows])
        further = {"trained_on": trained_on, "reads": reads, "left_out": len(self.refused.reasons)}
        return replace(
            measured,
            figures={**measured.figures, **further},
            tables=[used, *measured.tables],
            shown=model.show(self.held[0]),
        )


def _size(part: dict[str, Any]) -> str:
    count = part["sequences"]
    return f"{count:,} sequence{'s' if count > 1 else ''}, {part['steps']:,} steps"
