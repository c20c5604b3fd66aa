"""Standard input as a label model of words reads it: of each line, a sentence, the event of each word.

A sentence starts from nothing: positions count within it.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import BinaryIO

from unrolled.piping import each
from unrolled.results import Output
from unrolled.sequences.names import by_name
from unrolled.softmax import softmax
from unrolled.stream import Stream
from unrolled.texts import decoded, numbered

__all__ = ["of_sentences"]


def of_sentences(
    classes: Sequence[str], stream: Stream, source: BinaryIO, refused: Callable[[str], None]
) -> Iterator[Output]:
    """The events, of `classes`, of each line's words; see `unrolled.piping.PipedModel`."""
    return each(numbered(source), partial(_sentence, stream, classes), refused)


def _sentence(stream: Stream, classes: Sequence[str], line: bytes) -> Output:
    """A sentence has nothing to do with the one before, as in training."""
    words = decoded(line).split()
    stream.reset()
    logits, events = stream.advance(words)
    said = " ".join(f"{word}/{event}" for word, event in zip(words, events, strict=True))
    likely = [by_name(classes, one) for one in softmax(logits)]
    record = {"position": stream.position, "words": words, "events": events, "probabilities": likely}
    return Output(said, record)
