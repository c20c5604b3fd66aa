"""Standard input as a speech model reads it: raw PCM, whose text is told as it becomes certain."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from unrolled.errors import InputError
from unrolled.results import Output
from unrolled.stream import Stream
from unrolled.tasks.speech import audio
from unrolled.tasks.speech.filterbank import Bank

__all__ = ["piped"]


def piped(bank: Bank, stream: Stream, source: BinaryIO, ends: bool) -> Iterator[Output]:
    """The text of each chunk of PCM (16 bits, mono, little-endian); see `unrolled.piping.PipedModel`.

    Where the sound ends, what `Listener.finish` would give is told too. Raises `InputError` for a sound file.
    """
    if audio.is_file(source.peek(4)):  # type: ignore[attr-defined]
        raise InputError(
            f"standard input is a sound file, expected raw PCM: {bank.rate:,} samples a second, 16 bits, "
            "little-endian, one channel; `unrolled run` hears files."
        )

    for samples in audio.as_it_comes(source, bank.rate):
        yield _output(stream.read(samples), stream.position, bank.rate)
    if ends and (heard := stream.position):
        yield _output(stream.read(np.zeros(bank.padding(heard), np.float32)), heard, bank.rate)


def _output(said: list[str], position: int, rate: int) -> Output:
    text = "".join(said)
    return Output(text, {"position": position, "seconds": position / rate, "text": text})
