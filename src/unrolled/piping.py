"""A stream between standard input and standard output: a line, or a chunk of sound, a step.

What was printed is in the state: it is stored, if there is a file for it, before the line about it goes out.
"""

import csv
import math
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from unrolled.errors import InputError
from unrolled.locks import holding
from unrolled.results import Output
from unrolled.snapshot import Snapshot
from unrolled.stream import Stream
from unrolled.tasks.label import LabelModel
from unrolled.tasks.label.delimited import SEPARATORS
from unrolled.tasks.label.names import listed
from unrolled.tasks.label.tables import is_gap
from unrolled.tasks.speech import audio
from unrolled.tasks.text import TextModel

__all__ = ["opened", "piped"]

COLUMNS = 50  # that a sentence about a heading lists
LOGITS = 1 << 20  # in memory at a time, of a line of any length
TRUTHS = {"true": 1.0, "false": 0.0}


@contextmanager
def opened(model: Any, state: Path | None) -> Iterator[Stream]:
    """A stream that goes on from the file `state`, if that is there, which is this process's alone meanwhile.

    Raises `InputError` for another model's state, for one that another process has, and for a place that cannot be
    written.
    """
    stream = Stream(model, history=0)
    if state is None:
        yield stream
        return
    with holding(
        state, f"{state} is the state of another stream that runs; expected another, or that it ends first"
    ):
        if state.exists():
            snapshot = Snapshot.read(state)
            try:
                stream.restore(snapshot)
            except InputError as error:
                raise InputError(f"{state}: {error}") from error
        yield stream


def piped(
    model: Any, stream: Stream, source: BinaryIO, state: Path | None, refused: Callable[[str], None]
) -> Iterator[Output]:
    """What the model says of each line of `source`; a speech model reads raw PCM (16 bits, mono, little-endian).

    Of a text, how surprising the line was, in nats a symbol; of a row of numbers, with commas, semicolons or tabs
    between, its event; of a line of words, the event of each. A line of words is a sentence, which starts from
    nothing: positions count within it. So does what follows a blank line among rows of numbers, about which
    nothing is said. Their first line may be the heading of the training table. A line that is none of these goes
    to `refused`, and the stream stays where it was. Where the sound ends, so does its text, and what
    `Listener.finish` would give is said too; with a `state` the stream goes on later, and only what is certain is
    said. Raises `InputError` for models of films, for a sound file, and for the heading of a table of as many
    other columns, whose rows could not be told from the model's own.
    """
    if model.file.task == "speech":
        outputs = _heard(model, stream, source, ends=state is None)
    elif model.file.task == "label" and model.kind == "films":
        raise InputError("the model reads films, which come in files: unrolled run MODEL FILM")
    else:
        outputs = _told(model, stream, source, refused)
    for output in outputs:
        if state is not None:
            stream.snapshot().write(state)
        if output.line:
            yield output


def _told(model: Any, stream: Stream, source: BinaryIO, refused: Callable[[str], None]) -> Iterator[Output]:
    for number, content in enumerate(source, 1):
        if number == 1 and not _reads_bytes(model):
            content = content.removeprefix(BOM_UTF8)
            if isinstance(model, LabelModel) and _is_heading(model, content, refused):
                continue
        try:
            output = _of_line(model, stream, content)
        except InputError as error:
            refused(f"standard input, line {number}: {error}")
            continue
        yield output


def _reads_bytes(model: Any) -> bool:
    return isinstance(model, TextModel) and model.vocabulary.level == "byte"


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{content[error.start]:02X} at offset {error.start} of it is not UTF-8"
        raise InputError(f"{wrong}, expected text in UTF-8") from error


def _is_heading(model: LabelModel, content: bytes, refused: Callable[[str], None]) -> bool:
    """Whether a first line has names and no numbers; that of another table goes to `refused`, or raises."""
    columns = [name.strip() for name in model.layout.features]
    try:
        names = [name.strip() for name in _cells(content.decode("utf-8", "replace").strip(), len(columns))]
    except ValueError:
        return False
    if not columns or any(map(_is_number, names)) or all(map(is_gap, names)):
        return False
    if names != columns:
        found, expected = listed(names, COLUMNS), listed(columns, COLUMNS)
        wrong = f"standard input, line 1: the columns are {found}, expected {expected} in this order, or numbers"
        if len(names) == len(columns):
            raise InputError(wrong)
        refused(wrong)
    return True


def _number(cell: str) -> float:
    """What a cell is to a model of tables, of which true and false are 1 and 0; raises `ValueError` for none."""
    if "_" in cell:  # which Python takes, and no table
        raise ValueError(f"{cell!r} is no number")
    return float(TRUTHS.get(cell.strip().lower(), cell))


def _is_number(cell: str) -> bool:
    try:
        _number(cell)
    except ValueError:
        return False
    return True


def _cells(row: str, width: int) -> list[str]:
    """The cells of a row, quoted or not, by the separator that makes `width` of them, else by commas.

    Raises `ValueError` for a line that is more than one row.
    """
    try:
        found = [next(csv.reader([row], delimiter=one, skipinitialspace=True), []) for one in SEPARATORS]
    except csv.Error as error:
        raise ValueError(str(error)) from error
    return next((cells for cells in found if len(cells) == width), found[0])


def _of_line(model: Any, stream: Stream, content: bytes) -> Output:
    if isinstance(model, TextModel):
        return _of_text(model, stream, content)
    assert isinstance(model, LabelModel)
    bare = _decoded(content).rstrip("\r\n")
    return _of_words(stream, bare.split()) if model.kind == "words" else _of_numbers(model, stream, bare)


def _of_text(model: TextModel, stream: Stream, content: bytes) -> Output:
    if _reads_bytes(model):
        symbols: Any = np.frombuffer(content, np.uint8)
    else:
        symbols = model.vocabulary.encode(_decoded(content))
    nats = _surprise(stream, symbols)
    bare = content.decode("utf-8", "replace").rstrip("\r\n")
    return Output(f"{nats:.3f}\t{bare}", {"position": stream.position, "nats": nats})


def _of_words(stream: Stream, words: list[str]) -> Output:
    """A sentence, which has nothing to do with the one before, as in training."""
    stream.reset()
    events = stream.read(words)
    said = " ".join(f"{word}/{event}" for word, event in zip(words, events, strict=True))
    return Output(said, {"position": stream.position, "words": words, "events": events})


def _of_numbers(model: LabelModel, stream: Stream, bare: str) -> Output:
    if not bare.strip():  # the end of a sequence
        stream.reset()
        return Output("", {"position": stream.position})
    width = model.file.architecture.inputs
    try:
        row = [None if is_gap(cell) else _number(cell) for cell in _cells(bare, width)]
    except ValueError as error:
        raise InputError(
            f"{bare[:80]!r} is no row of numbers with commas, semicolons or tabs between them"
        ) from error
    if any(number is not None and math.isinf(number) for number in row):
        raise InputError(f"{bare[:80]!r} has an infinite number, expected finite ones")
    if len(row) != width:
        raise InputError(f"{bare[:80]!r} has {len(row)} numbers, expected {width}")
    (event,) = stream.read([row])
    return Output(event, {"position": stream.position, "event": event})


def _surprise(stream: Stream, symbols: Any) -> float:
    """The mean of -log p over the symbols [T] of a text that something stood before; 0 if there is none."""
    first = stream.position == 0
    losses, part = [np.zeros(0)], max(1, LOGITS // len(stream.outputs))
    for begin in range(0, len(symbols), part):
        chosen, before = symbols[begin : begin + part], stream.outputs
        logits = np.concatenate([before[None], stream.feed(chosen)[:-1]]).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(axis=-1)) - logits[np.arange(len(chosen)), chosen])
    foreseen = np.concatenate(losses)[first:]
    return float(foreseen.mean()) if len(foreseen) else 0.0


def _heard(model: Any, stream: Stream, source: BinaryIO, ends: bool) -> Iterator[Output]:
    rate = model.bank.rate
    if audio.is_file(source.peek(4)):  # type: ignore[attr-defined]
        raise InputError(
            f"standard input is a sound file, expected raw PCM: {rate:,} samples a second, 16 bits, "
            "little-endian, one channel; `unrolled run` hears files."
        )
    for samples in audio.as_it_comes(source, rate):
        text = "".join(stream.read(samples))
        yield _of_sound(text, stream.position, rate)
    if ends and (heard := stream.position):
        text = "".join(stream.read(np.zeros(model.bank.padding(heard), np.float32)))
        yield _of_sound(text, heard, rate)


def _of_sound(text: str, position: int, rate: int) -> Output:
    return Output(text, {"position": position, "seconds": position / rate, "text": text})
