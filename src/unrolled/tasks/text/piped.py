"""Standard input as a text model reads it: of each line, how surprising it was, in nats a symbol."""

from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

import numpy as np

from unrolled.errors import InputError
from unrolled.piping import each
from unrolled.results import Output
from unrolled.softmax import log_softmax
from unrolled.stream import Stream
from unrolled.texts import decoded, numbered
from unrolled.vocabulary import UnknownCharacter, Vocabulary

__all__ = ["piped"]

LOGITS = 1 << 20  # in memory at a time, of a line of any length


def piped(
    vocabulary: Vocabulary, stream: Stream, source: BinaryIO, refused: Callable[[str], None]
) -> Iterator[Output]:
    """The surprise of each line, its end included; see `unrolled.piping.PipedModel`."""
    of_bytes = vocabulary.level == "byte"

    def told(line: bytes) -> Output:
        symbols = np.frombuffer(line, np.uint8) if of_bytes else _symbols(vocabulary, decoded(line))
        nats = _surprise(stream, symbols)
        bare = line.decode("utf-8", "replace").rstrip("\r\n")
        return Output(f"{nats:.3f}\t{bare}", {"position": stream.position, "nats": nats})

    return each(numbered(source, marked=not of_bytes), told, refused)


def _symbols(vocabulary: Vocabulary, line: str) -> Any:
    """The symbols of a line, whose number who reads it says."""
    try:
        return vocabulary.encode(line)
    except UnknownCharacter as error:
        way = "a model of --level byte reads any text"
        raise InputError(f"column {error.index + 1}: {error.fault}; {way}") from error


def _surprise(stream: Stream, symbols: Any) -> float:
    """The mean of -log p over the symbols [T] of a text that something stood before; 0 if there is none."""
    first = stream.position == 0
    losses, part = [np.zeros(0)], max(1, LOGITS // len(stream.outputs))
    for begin in range(0, len(symbols), part):
        chosen, before = symbols[begin : begin + part], stream.outputs
        logits = np.concatenate([before[None], stream.feed(chosen)[:-1]])
        losses.append(-log_softmax(logits)[np.arange(len(chosen)), chosen])
    foreseen = np.concatenate(losses)[first:]
    return float(foreseen.mean()) if len(foreseen) else 0.0
