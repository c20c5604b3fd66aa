"""Random numbers; small models with random weights, one of every kind that reads a stream, and inputs for them."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.architecture import (
    Architecture,
    ForecastArchitecture,
    LabelArchitecture,
    SpeechArchitecture,
    TextArchitecture,
)
from unrolled.modelfile import ModelFile
from unrolled.sequences.layout import Layout
from unrolled.snapshot import Snapshot
from unrolled.stream import Stream
from unrolled.tasks.forecast import ForecastModel
from unrolled.tasks.label.model import LabelModel
from unrolled.tasks.speech import SpeechModel
from unrolled.tasks.speech.filterbank import Bank
from unrolled.tasks.text import TextModel
from unrolled.vocabulary import CharVocabulary, Vocabulary

__all__ = [
    "CELLS",
    "KINDS",
    "SOUND",
    "forecast_file",
    "inputs_for",
    "label_file",
    "model_of",
    "poisoned",
    "random",
    "speech_file",
    "text_file",
]

CELLS = (
    *("rnn", "gru", "lstm", "lstm-peephole", "lstm-coupled", "lstm-peephole-coupled-zoneout0.2"),
    *("lstm-recurrent_dropout0.1", "gru-zoneout0.1", "rnn-weight_drop0.5", "lstm-proj0.4-zoneout0.1"),
    *("lstm-layer_norm", "lstm-coupled-proj0.4-layer_norm"),
)
"""Plain cells and variants, as models may have them."""
CHARACTERS = CharVocabulary("\n abcdefgh")
BANK = Bank(rate=8000, window=200, hop=80, mels=6, stack=2, tail=800)
CONVOLVED_BANK = Bank(rate=8000, window=200, hop=80, mels=11, stack=4, tail=800, context=28)
WORDS = ["the", "old", "man", "boat"]


def random(*shape: int, seed: int = 0, scale: float = 1.0) -> NDArray[np.float32]:
    """Normal numbers of this shape, whose deviation is `scale`."""
    return np.random.default_rng([seed, *shape]).normal(0, scale, shape).astype(np.float32)


def _file(
    task: str,
    architecture: Architecture,
    encoding: dict[str, Any],
    seed: int,
    training: dict[str, Any] | None = None,
) -> ModelFile:
    rng = np.random.default_rng(seed)
    # Wide enough that some symbols are far likelier than others, and the past matters.
    shapes = architecture.shapes().items()
    tensors = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes}
    tensors |= {
        name: np.abs(one) + np.float32(0.5) for name, one in tensors.items() if name.endswith("running_var")
    }
    return ModelFile(task, architecture, encoding, training or {}, tensors)


def text_file(
    cell: str = "lstm", layers: int = 2, hidden: int = 17, seed: int = 0, vocabulary: Vocabulary = CHARACTERS
) -> ModelFile:
    """A text model, of ten characters unless there is another vocabulary."""
    architecture = TextArchitecture(cell, vocabulary.size, 5, hidden, layers)
    training = {"names": ["a.txt"], "data": "0" * 64, "level": vocabulary.level, "split": 0.9}
    return _file("text", architecture, vocabulary.to_json(), seed, training)


def label_file(
    kind: str,
    cell: str = "lstm",
    bidirectional: bool = False,
    members: int = 1,
    penalty: float = 0.2,
    seed: int = 0,
) -> ModelFile:
    """A label model of three events: of 3 numbers a step, of words, or of films of 8 x 8 pixels."""
    inputs = {"numbers": 3, "words": len(WORDS) + 1, "films": 8}[kind]
    of_words = {"characters": 9, "embedding": 4, "spelling": 3}
    sizes = {"numbers": {}, "words": of_words, "films": {"embedding": 6}}[kind]
    fields = {"characters": 0, "embedding": 0, "spelling": 0, **sizes}
    architecture = LabelArchitecture(
        kind=kind, inputs=inputs, cell=cell, hidden=9, layers=2, bidirectional=bidirectional, members=members,
        classes=3, **fields,
    )  # fmt: skip
    encoding = {
        "layout": Layout(side=8).to_json(),
        "classes": ["still", "left", "right"],
        "switch_penalty": penalty,
        "mean": [0.5, 0.0, -1.0],
        "deviation": [1.0, 2.0, 0.5],
        "words": WORDS,
        "characters": "abehlmno",
    }
    file = _file("label", architecture, encoding, seed)
    # So that no event is the likeliest at every step.
    usual = Stream(LabelModel(file)).feed(inputs_for(kind, 100)).mean(0)
    for name, tensor in file.tensors.items():
        if name.endswith("head.bias"):
            tensor -= usual
    return file


def forecast_file(cell: str = "lstm", ahead: int = 2, seed: int = 0) -> ModelFile:
    """A forecast model of 3 numbers a step; of two of them, by their last five, or with `ahead` 0 of a fourth."""
    architecture = ForecastArchitecture(
        inputs=3, targets=2 if ahead else 1, lags=5 if ahead else 0, cell=cell, hidden=9, layers=2
    )
    encoding = {
        "layout": Layout(None).to_json(),
        "columns": ["0", "1", "2"] if ahead else ["0", "1", "2", "3"],
        "targets": ["2", "0"] if ahead else ["3"],
        "ahead": ahead,
        "mean": [0.5, 0.0, -1.0],
        "deviation": [1.0, 2.0, 0.5],
        "target_mean": [-1.0, 0.5] if ahead else [20.0],
        "target_deviation": [0.5, 1.0] if ahead else [3.0],
    }
    return _file("forecast", architecture, encoding, seed)


def speech_file(cell: str = "lstm", seed: int = 0, channels: int = 0) -> ModelFile:
    """A speech model of ten characters at 8 kHz, with convolutions where there are channels."""
    bank = CONVOLVED_BANK if channels else BANK
    architecture = SpeechArchitecture(cell, bank.mels, bank.stack, channels, 11, 1, CHARACTERS.size)
    encoding = {
        "vocabulary": CHARACTERS.to_json(),
        "bank": asdict(bank),
        "mean": [-8.0] * bank.mels,
        "deviation": [2.0] * bank.mels,
    }
    return _file("speech", architecture, encoding, seed)


KINDS: dict[str, Callable[[str], Any]] = {
    "text": lambda cell: TextModel(text_file(cell)),
    "numbers": lambda cell: LabelModel(label_file("numbers", cell)),
    "members": lambda cell: LabelModel(label_file("numbers", cell, bidirectional=True, members=3, penalty=0.0)),
    "words": lambda cell: LabelModel(label_file("words", cell)),
    "films": lambda cell: LabelModel(label_file("films", cell)),
    "forecast": lambda cell: ForecastModel(forecast_file(cell)),
    "estimate": lambda cell: ForecastModel(forecast_file(cell, ahead=0)),
    "speech": lambda cell: SpeechModel(speech_file(cell)),
    "convolved": lambda cell: SpeechModel(speech_file(cell, channels=3)),
}


SOUND = ("speech", "convolved")
"""The kinds whose inputs are samples."""


def model_of(kind: str, cell: str = "lstm") -> Any:
    """A loaded model of a kind in `KINDS`."""
    return KINDS[kind](cell)


def inputs_for(kind: str, count: int, seed: int = 1) -> Any:
    """`count` inputs that a model of this kind may read; for sound, 53 samples for each of them."""
    rng = np.random.default_rng(seed)
    if kind == "text":
        return rng.integers(0, CHARACTERS.size, count)
    if kind == "words":
        return [str(word) for word in rng.choice([*WORDS, "unknown", "Éa"], count)]
    if kind == "films":
        return rng.integers(0, 256, (count, 8, 8, 3), np.uint8)
    if kind in SOUND:
        return (0.3 * rng.standard_normal(53 * count)).astype(np.float32)
    return rng.normal(0, 1, (count, 3)).astype(np.float32)


def poisoned(snapshot: Snapshot) -> Snapshot:
    """The same with a state in which nothing is a number, which no input brings about."""
    layers = {name: np.full_like(one, np.nan) for name, one in snapshot.arrays.items() if name[-1] in "hc"}
    return Snapshot(snapshot.weights, snapshot.position, {**snapshot.arrays, **layers})
