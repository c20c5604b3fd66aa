"""A trained model of any task, with data, as the probes see it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from unrolled.errors import InputError
from unrolled.examples import Refused, pad
from unrolled.memory.decoding import Decoding
from unrolled.memory.layered import Layered, member, numbers
from unrolled.memory.subject import Subject
from unrolled.sequences import encode_labels
from unrolled.tasks.caption.data import spoken
from unrolled.tasks.caption.model import AT_ONCE, CaptionModel
from unrolled.tasks.forecast import ForecastModel
from unrolled.tasks.label import LabelModel
from unrolled.tasks.speech.model import SpeechModel
from unrolled.tasks.text import TextModel
from unrolled.tasks.translate.model import TranslateModel
from unrolled.tasks.translate.sentences import encode

__all__ = ["subject"]

SOURCES = 1024  # sentences or pictures whose translations or captions are looked at


def subject(model: Any, paths: Sequence[str | Path] = (), seed: int = 0) -> Subject:
    """A trained model with data (default: what was held out of its training).

    Of a bidirectional label model, it is the part that reads forward; of translate and caption, the decoder, with
    the source in sight. `seed` chooses among more than 1,024 sources. Raises `InputError` for data that the model
    cannot read.
    """
    if isinstance(model, TextModel):
        return _text(model, paths)
    if isinstance(model, LabelModel):
        return _label(model, paths)
    if isinstance(model, SpeechModel):
        return _speech(model, paths)
    if isinstance(model, TranslateModel):
        return _translate(model, paths, seed)
    if isinstance(model, CaptionModel):
        return _caption(model, paths, seed)
    if isinstance(model, ForecastModel):
        raise InputError("the model forecasts numbers, expected one that names symbols, events or words.")
    raise InputError(f"model is a {type(model).__name__}, expected a model that unrolled.load opened")


def _text(model: TextModel, paths: Sequence[str | Path]) -> Subject:
    symbols = np.asarray(model.symbols(paths), np.int64)
    table = torch.from_numpy(model.file.tensors["embedding.weight"])
    names = {"char": "character", "word": "word", "byte": "byte", "bpe": "piece"}
    return Layered(
        [member(model.file)],
        lambda inputs: table[torch.from_numpy(inputs)],
        [symbols[:-1]],
        [symbols[1:]],
        names[model.vocabulary.level],
    )


def _label(model: LabelModel, paths: Sequence[str | Path]) -> Subject:
    series = model.read(paths, Refused()) if paths else model.held_out()
    members = [member(model.file, f"members.{number}.") for number in range(model.file.architecture.members)]
    inputs = [model.features(one.inputs) for one in series]
    return Layered(members, numbers, inputs, [encode_labels(one, model.classes) for one in series], "step")


def _speech(model: SpeechModel, paths: Sequence[str | Path]) -> Subject:
    recordings = model.recordings(paths)
    heard = [model.steps(recordings.sound(number)) for number in range(len(recordings))]
    return Layered([member(model.file)], numbers, heard, [None] * len(heard), "step")


def _translate(model: TranslateModel, paths: Sequence[str | Path], seed: int) -> Subject:
    pairs = model.pairs(paths)
    chosen = [pairs[number] for number in _some(len(pairs), seed)]
    sources, lengths = (
        torch.from_numpy(array) for array in pad([encode(model.source, one.source) for one in chosen])
    )
    with torch.no_grad():
        memory = model.network.encode(sources, lengths)
    written = [encode(model.target, one.target) for one in chosen]
    return Decoding(model.network.decoder, memory, lengths, written, "translated piece")


def _caption(model: CaptionModel, paths: Sequence[str | Path], seed: int) -> Subject:
    examples = model.pictures(paths)
    chosen = _some(len(examples), seed)
    parts = [np.array(chosen[begin : begin + AT_ONCE]) for begin in range(0, len(chosen), AT_ONCE)]
    with torch.no_grad():
        looked = [model.network.look(torch.from_numpy(examples.pixels(part))) for part in parts]
    memory, lengths = (torch.cat(parts, dim) for parts, dim in zip(zip(*looked, strict=True), (1, 0), strict=True))
    words, end = model.vocabulary, model.vocabulary.size
    written = [np.append(words.encode(spoken(examples.captions[number][0])), end) for number in chosen]
    return Decoding(model.network.decoder, memory, lengths, written, "word")


def _some(count: int, seed: int) -> list[int]:
    chosen: list[int] = np.random.default_rng(seed).permutation(count)[:SOURCES].tolist()
    return chosen
