"""A stream between standard input and standard output: a line, or a chunk of sound, a step.

What was printed is in the state: it is stored, if there is a file for it, before the line about it goes out.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unrolled.errors import InputError
from unrolled.results import Output
from unrolled.snapshot import Snapshot
from unrolled.stream import Stream
from unrolled.tasks.label import LabelModel
from unrolled.tasks.speech import audio
from unrolled.tasks.text import TextModel

__all__ = ["opened", "piped"]

CHUNK = 0.1  # seconds of sound


def opened(model: Any, state: Path | None) -> Stream:
    """A stream that goes on from the file `state`, if that is there; raises `InputError` for another model's."""
    stream = Stream(model, history=0)
    if state is not None and state.exists():
        stream.restore(Snapshot.read(state))
    return stream


def piped(model: Any, stream: Stream, source: BinaryIO, state: Path | None) -> Iterator[Output]:
    """What the model says of each line of `source`; a speech model reads raw PCM (16 bits, mono, little-endian).

    Of a text, how surprising the line was, in nats a symbol; of a row of numbers, comma-separated, its event; of a
    line of words, the event of each. Raises `InputError` for a line that is none, and for models of films.
    """
    outputs = _heard(model, stream, source) if model.file.task == "speech" else _told(model, stream, source)
    for output in outputs:
        if state is not None:
            stream.snapshot().write(state)
        if output.line:
            yield output


def _told(model: Any, stream: Stream, source: BinaryIO) -> Iterator[Output]:
    for number, content in enumerate(source, 1):
        try:
            line = content.decode("utf-8")
            yield _of_line(model, stream, line)
        except (InputError, UnicodeDecodeError) as error:
            raise InputError(f"standard input, line {number}: {error}") from error


def _of_line(model: Any, stream: Stream, line: str) -> Output:
    bare = line.rstrip("\r\n")
    if isinstance(model, TextModel):
        nats = _surprise(model, stream, line)
        return Output(f"{nats:.3f}\t{bare}", {"position": stream.position, "nats": nats})
    assert isinstance(model, LabelModel)
    if model.kind == "films":
        raise InputError("the model reads films, which come in files: unrolled run MODEL FILM")
    if model.kind == "words":
        words = bare.split()
        events = stream.read(words)
        said = " ".join(f"{word}/{event}" for word, event in zip(words, events, strict=True))
        return Output(said, {"position": stream.position, "words": words, "events": events})
    try:
        row = [float(cell) for cell in bare.split(",")]
    except ValueError as error:
        raise InputError(f"{bare[:80]!r} is no row of numbers with commas between them") from error
    (event,) = stream.read([row])
    return Output(event, {"position": stream.position, "event": event})


def _surprise(model: TextModel, stream: Stream, text: str) -> float:
    """The mean of -log p over the symbols of `text` that something stood before; 0 if there is none."""
    symbols = model.vocabulary.encode(text)
    first = stream.position == 0
    before = stream.outputs
    logits = np.concatenate([before[None], stream.feed(symbols)[:-1]]).astype(np.float64)
    logits -= logits.max(axis=-1, keepdims=True)
    losses = np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(symbols)), symbols]
    foreseen = losses[first:]
    return float(foreseen.mean()) if len(foreseen) else 0.0


def _heard(model: Any, stream: Stream, source: BinaryIO) -> Iterator[Output]:
    rate, rest = model.bank.rate, b""
    while content := source.read1(2 * round(CHUNK * rate)):  # type: ignore[attr-defined]
        content = rest + content
        whole = len(content) - len(content) % 2
        rest = content[whole:]
        text = "".join(stream.read(audio.from_pcm(content[:whole])))
        yield Output(text, {"position": stream.position, "seconds": stream.position / rate, "text": text})
