"""Training a speech model: sounds changed anew in every batch, and connectionist temporal classification.

Nothing here needs torch but `SpeechTask.build`.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import examples, whereabouts
from unrolled.architecture import SpeechArchitecture
from unrolled.examples import Batches
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.results import Evaluation
from unrolled.tasks.speech import transcripts
from unrolled.tasks.speech.augment import augmented, mask
from unrolled.tasks.speech.data import Data, SpeechOptions
from unrolled.tasks.speech.filterbank import features
from unrolled.tasks.speech.model import SpeechModel

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["SpeechTask"]

NORMALISING = 500  # sounds that the filters' means and deviations are measured on
HELD_OUT_BATCH = 64


class SpeechTask:
    """Train speech recognition on sounds and transcripts (without DATA: on digits dialled on a keypad).

    DATA is a TSV file (or a folder with one): a heading, `file` tab `text`, and a row for each sound file.
    """

    name: ClassVar[str] = "speech"
    example: ClassVar[str] = "transcripts.tsv --minutes 10"
    Options: ClassVar[type[Any]] = SpeechOptions
    Model: ClassVar[type[Any]] = SpeechModel
    defaults: ClassVar[dict[str, Any]] = {"steps": 500}
    changeable: ClassVar[frozenset[str]] = frozenset()
    ready: ClassVar[bool] = False

    def __init__(
        self,
        options: SpeechOptions,
        paths: Sequence[str | Path] = (),
        seed: int = 0,
        start: "Start | None" = None,
    ) -> None:
        self.options = options.settled(voices=bool(paths))
        self.seed = seed
        self.start = start
        known, bank = (start.model.vocabulary, start.model.bank) if start else (None, None)
        self._data = Data.read(options, paths, seed, known, bank)
        train = self._data.train
        self._batches = Batches([round(100 * seconds) for seconds in train.seconds], options.batch, seed)
        self._mean: Floats
        self._deviation: Floats
        self._mean, self._deviation = (start.model.mean, start.model.deviation) if start else self._measured()

    @staticmethod
    def files(path: str | Path) -> Sequence[Path]:
        """The table of transcripts that `path` is read as."""
        return [transcripts.table(Path(path))]

    @property
    def architecture(self) -> SpeechArchitecture:
        """The model's sizes."""
        o, symbols = self.options, self._data.vocabulary.size
        return SpeechArchitecture(o.cell, o.mels, o.stack, o.channels, o.hidden, o.layers, symbols)

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """How a sound is read, and the model's sizes."""
        sizes = file.had("mels", "stack", "channels", "cell", "hidden", "layers")
        return {"rate": file.encoding["bank"]["rate"], **sizes}

    def build(self) -> "torch.nn.Module":
        """A `SpeechNetwork` with fresh weights."""
        from unrolled.models.speech import SpeechNetwork

        return SpeechNetwork(self.architecture, self.options.dropout)

    def batch(self, step: int) -> dict[str, NDArray[Any]]:
        """Frames `inputs` [context + T stack, B, mels], the steps [B] that they make, targets [S, B] and their
        lengths [B], each example changed anew.
        """
        rng = np.random.default_rng([self.seed, step])
        data, masks = self._data, self.options.masks
        changes = self.options.scaled(min(1.0, (step + 1) / max(1, self.options.augment_steps)))
        inputs = []
        chosen = self._batches.of(step)
        for number in chosen:
            frames = augmented(data.train.sound(int(number)), data.bank, changes, rng)
            inputs.append(mask(self._normalised(frames), masks, rng))
        return self._padded(inputs, [data.train.texts[number] for number in chosen])

    @cached_property
    def _held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        sounds, bank = self._data.held_out, self._data.bank
        order = np.argsort(sounds.seconds)
        batches = []
        for begin in range(0, len(order), HELD_OUT_BATCH):
            part = [int(number) for number in order[begin : begin + HELD_OUT_BATCH]]
            inputs = [self._normalised(features(sounds.sound(number), bank)) for number in part]
            texts = [sounds.texts[number] for number in part]
            batches.append((self._padded(inputs, texts), sum(map(len, texts))))
        return batches

    def held_out(self) -> list[tuple[dict[str, NDArray[Any]], int]]:
        """The held-out sounds as they are, in batches of like length."""
        return self._held_out

    def settings(self) -> dict[str, Any]:
        """The options, the fingerprint of the data, and how many examples could not be used."""
        data = self._data
        return {**asdict(self.options), "data": data.fingerprint, "left_out": len(data.refused.reasons)}

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""
        document = {**whereabouts.kept(self._data.train.names), **self.settings(), **training}
        encoding = {
            "vocabulary": self._data.vocabulary.to_json(),
            "bank": asdict(self._data.bank),
            "mean": self._mean.tolist(),
            "deviation": self._deviation.tolist(),
        }
        return ModelFile(self.name, self.architecture, encoding, document, tensors)

    def report(self, model: SpeechModel) -> Evaluation:
        """Error rates on the held-out sounds, and some of what was heard."""
        evaluation = model.measure(self._data.held_out)
        left_out = len(self._data.refused.reasons)
        return replace(evaluation, figures={**evaluation.figures, "left_out": left_out})

    def _measured(self) -> tuple[Floats, Floats]:
        """The mean and deviation [mels] of each filter over the training sounds, or many of them."""
        train = self._data.train
        chosen = np.random.default_rng(self.seed).permutation(len(train))[:NORMALISING]
        total, squares, count = np.zeros(self.options.mels), np.zeros(self.options.mels), 0
        for number in chosen:
            frames = features(train.sound(int(number)), self._data.bank).astype(np.float64)
            total, squares, count = total + frames.sum(0), squares + (frames**2).sum(0), count + len(frames)
        mean = total / count
        deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0)) + 1e-3
        return mean.astype(np.float32), deviation.astype(np.float32)

    def _normalised(self, frames: Floats) -> Floats:
        return (frames - self._mean) / self._deviation

    def _padded(self, frames: list[Floats], texts: list[str]) -> dict[str, NDArray[Any]]:
        inputs, counts = examples.pad(frames)
        lengths = (counts - self._data.bank.context) // self._data.bank.stack
        targets, target_lengths = examples.pad([self._data.vocabulary.encode(text) for text in texts])
        return {"inputs": inputs, "lengths": lengths, "targets": targets, "target_lengths": target_lengths}
