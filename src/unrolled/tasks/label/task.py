"""The label task: an event at every step of a sequence of numbers, words or frames.

A model reads each step alone, as it comes and, if it is bidirectional, also the whole sequence at once; it is
trained for all of these together, so that they are measured side by side. Nothing here needs torch but
`LabelTask.build`.
"""

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import sequences, whereabouts
from unrolled.architecture import NO_EVENT, LabelArchitecture
from unrolled.errors import InputError, counted
from unrolled.examples import Batches, pad
from unrolled.modelfile import ModelFile
from unrolled.results import Evaluation, Table
from unrolled.sequences import Series, encode_labels
from unrolled.sequences.categories import spread
from unrolled.sequences.names import cell, listed
from unrolled.sequences.numbers import held
from unrolled.tasks.label import rendered
from unrolled.tasks.label.augment import Exchange, shaken, stretched
from unrolled.tasks.label.data import Data, LabelOptions
from unrolled.tasks.label.fronts import Spelling
from unrolled.tasks.label.model import LabelModel
from unrolled.tasks.label.segments import step_weights

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["LabelTask"]

Batch = dict[str, NDArray[Any]]

MEASURED = {"words": ("words", "characters"), "numbers": ("mean", "deviation"), "films": ()}
"""What the front end for each kind of sequences must know of the training data."""


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
    changeable: ClassVar[frozenset[str]] = frozenset({"label", "sequence", "ignore", "missing", "switch_penalty"})
    ready: ClassVar[bool] = False

    def __init__(
        self,
        options: LabelOptions,
        paths: Sequence[str | Path] = (),
        seed: int = 0,
        start: "Start | None" = None,
    ) -> None:
        self.options = (
            options if paths else replace(options, longest_gap=options.longest_gap or rendered.LONGEST_GAP)
        )
        self.seed = seed
        self.start = start
        self.data = Data(options, paths, seed, start.model if start else None)
        self._prepare()
        lengths = [min(len(one.inputs), options.window or len(one.inputs)) for one in self.data.train]
        self._batches = Batches(lengths, options.batch, seed)

    def _prepare(self) -> None:
        """What the front end must know: words and characters, or means and deviations."""
        data = self.data
        encoding = self.start.model.file.encoding if self.start else self._measured()
        self._encoding: dict[str, Any] = {name: encoding[name] for name in MEASURED[data.kind]}
        if data.kind == "words":
            self._spelling = Spelling(**self._encoding)
            often = Counter(word.lower() for one in data.train for word in one.inputs)
            counts = np.array([0, *(often[word] for word in self._encoding["words"])])
            # A word seen once is replaced the most often (Kiperwasser & Goldberg 2016).
            self._forgotten = self.options.word_dropout / np.maximum(self.options.word_dropout + counts, 1e-9)

    def _measured(self) -> dict[str, Any]:
        """What the front end must know of the training data."""
        data = self.data
        if data.kind == "words":
            words = sorted({word.lower() for one in data.train for word in one.inputs})
            characters = sorted({character for one in data.train for word in one.inputs for character in word})
            return {"words": words, "characters": "".join(characters)}
        if data.kind == "numbers":
            steps = np.concatenate([one.inputs for one in data.train]).astype(np.float64)
            columns = spread(data.layout.features, data.layout.categories)
            if len(empty := np.flatnonzero(np.isnan(steps).all(0))):
                name, hint = str(empty[0]), ""
                if names := [columns[place] for place in empty if columns]:
                    name = repr(names[0])
                    hint = f"; --ignore {shlex.quote(','.join(map(cell, names)))} leaves out what has no numbers"
                raise InputError(
                    f"{', '.join(data.names)}: column {name} has no number, expected at least one{hint}."
                )
            measured = np.ones(steps.shape[1], bool)
            measured[: len(columns)] = [column not in data.layout.categories for column in columns]
            deviation = np.nanstd(steps, 0)
            if self.options.scale == "common" and measured.any():
                deviation[:] = np.sqrt(np.mean(deviation[measured] ** 2))
            return {
                "mean": np.where(measured, np.nanmean(steps, 0), 0.0).tolist(),
                "deviation": np.where(measured & (deviation > 0), deviation, 1.0).tolist(),
            }
        return {}

    @staticmethod
    def files(path: str | Path) -> Sequence[Path]:
        """The files of sequences that `path` is read as."""
        return [source.path for source in sequences.sources([path])]

    @property
    def architecture(self) -> LabelArchitecture:
        """The model's sizes."""
        o, words = self.options, self.data.kind == "words"
        inputs = {
            "words": len(self._encoding.get("words", ())) + 1,
            "films": self.data.layout.side,
            "numbers": len(self._encoding.get("mean", ())),
        }
        return LabelArchitecture(
            kind=self.data.kind,
            inputs=inputs[self.data.kind],
            characters=len(self._encoding["characters"]) + 1 if words else 0,
            embedding=0 if self.data.kind == "numbers" else o.embedding,
            spelling=o.spelling if words else 0,
            cell=o.cell,
            hidden=o.hidden,
            layers=o.layers,
            bidirectional=o.bidirectional,
            members=o.members,
            classes=len(self.data.classes),
        )

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """How sequences are read, and the model's sizes."""
        of_tables = ("label", "sequence", "ignore", "category", "missing", "scale")
        read = (*of_tables, "ahead", "fps", "side", "background", "switch_penalty")
        sizes = ("embedding", "spelling", "cell", "hidden", "layers", "bidirectional", "members", "longest_gap")
        return file.had(*read, *sizes)

    def build(self) -> "torch.nn.Module":
        """A `LabelNetwork` with fresh weights."""
        from unrolled.models.label import LabelNetwork

        o = self.options
        return LabelNetwork(self.architecture, o.dropout, o.input_dropout, o.smoothing, o.longest_gap)

    def batch(self, step: int) -> Batch:
        """inputs [T, B, ...], lengths [B], targets [T, B]; to balance weights [T, B], for words spelling."""
        rng = np.random.default_rng([self.seed, step])
        pieces = [self._piece(self.data.train[place], rng) for place in self._batches.of(step)]
        batch = self._gather(pieces)
        if self.data.kind == "words":
            batch["inputs"][rng.random(batch["inputs"].shape) < self._forgotten[batch["inputs"]]] = 0
        if self.options.balance:
            weights = [step_weights(targets, self.options.balance) for _, targets in pieces]
            batch["weights"] = pad(weights)[0]
        return batch

    def _piece(self, series: Series, rng: np.random.Generator) -> tuple[Any, NDArray[np.int64]]:
        """A sequence as it is trained on this time: inputs [T, ...] and targets [T]."""
        inputs, targets = self._encoded(series)
        o, numbers = self.options, self.data.kind == "numbers"
        if numbers and o.exchange:
            inputs, targets = self._exchange(inputs, targets, o.exchange, rng)
        if numbers and o.stretch > 1:
            other = stretched(inputs, targets, o.stretch, rng)
            if (other[1] != NO_EVENT).any():  # else the few steps with an event were passed over
                inputs, targets = other
        if o.window and len(inputs) > o.window:
            known = np.concatenate([[0], np.cumsum(targets != NO_EVENT)])
            # A piece in which no step has an event would teach nothing.
            starts = np.flatnonzero(known[o.window :] > known[: -o.window])
            start = int(starts[rng.integers(len(starts))])
            inputs, targets = inputs[start : start + o.window], targets[start : start + o.window]
        return shaken(inputs, o.noise, o.offset, rng) if numbers else inputs, targets

    @cached_property
    def _exchange(self) -> Exchange:
        return Exchange([self._encoded(one) for one in self.data.train])

    def _encoded(self, series: Series) -> tuple[Any, NDArray[np.int64]]:
        inputs = series.inputs
        if self.data.kind == "numbers":
            mean, deviation = (np.array(self._encoding[name], np.float32) for name in ("mean", "deviation"))
            inputs = held((inputs - mean) / deviation, np.zeros_like(mean))
        return inputs, encode_labels(series, self.data.classes)

    def _gather(self, pieces: Sequence[tuple[Any, NDArray[np.int64]]]) -> Batch:
        """Several sequences as one batch."""
        targets, lengths = pad([targets for _, targets in pieces], NO_EVENT)
        if self.data.kind != "words":
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
        ordered = sorted(self.data.held_out, key=lambda one: len(one.inputs))
        size = self.options.batch
        parts = [ordered[begin : begin + size] for begin in range(0, len(ordered), size)]
        batches = [self._gather([self._encoded(one) for one in part]) for part in parts]
        return [(batch, int((batch["targets"] != NO_EVENT).sum())) for batch in batches]

    def held_out(self) -> list[tuple[Batch, int]]:
        """The held-out sequences by length, whole; none where the last weights are to be kept."""
        return self._held_out if self.options.keep == "best" else []

    def settings(self) -> dict[str, Any]:
        """The options and the fingerprints of the data."""
        return {**asdict(self.options), **self.data.fingerprints}

    def _example(self) -> str | None:
        """What a person may run the model on: a file that was held out, or the data that a held-out sequence is a
        part of; of words, a sentence of some six.
        """
        if self.data.kind != "words":
            names = [self.data.held_out[0].name, *self.data.names]
            return next((name for name in names if Path(name).exists()), None)
        sentences = [" ".join(one.inputs) for one in self.data.held_out if not one.inputs[0].startswith("-")]
        return min(sentences, key=lambda text: abs(text.count(" ") - 5), default=None)

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        left_out = len(self.data.refused.reasons)
        further = {"left_out": left_out, "example": self._example(), **self.settings(), **training}
        document = {**whereabouts.kept(self.data.names), **further}
        encoding = {
            "layout": self.data.layout.to_json(),
            "classes": self.data.classes,
            "switch_penalty": self.options.switch_penalty,
            **self._encoding,
        }
        return ModelFile(self.name, self.architecture, encoding, document, tensors)

    def report(self, model: LabelModel) -> Evaluation:
        """The scores on what was held out, of the recurrent layers and of a classifier of single steps."""
        measured, reads = model.measure(self.data.held_out), model.reads()
        trained_on = {"sequences": len(self.data.train), "steps": sum(len(one.inputs) for one in self.data.train)}
        rows = [
            [name, listed(list(one)) if isinstance(one, list | dict) else str(one)]
            for name, one in reads.items()
            if one
        ]
        sizes = [["trained on", _size(self.data.train)], ["held out", _size(self.data.held_out)]]
        used = Table(["the data", ""], [*sizes, *rows])
        further = {"trained_on": trained_on, "reads": reads, "left_out": len(self.data.refused.reasons)}
        return replace(
            measured,
            figures={**measured.figures, **further},
            tables=[used, *measured.tables],
            shown=model.show(self.data.held_out[0]),
        )


def _size(part: Sequence[Series]) -> str:
    steps = sum(len(one.inputs) for one in part)
    known = sum(len(one.labels) - one.labels.count(None) for one in part if one.labels)
    some = f", {known:,} of them with an event" if known < steps else ""
    return f"{counted(len(part), 'sequence')}, {counted(steps, 'step')}{some}"
