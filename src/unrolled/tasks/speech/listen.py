"""Listening: samples in, text out, as a stream without end.

A `Listener` is a stream and a search, each with a state of its own; what it keeps and what a chunk costs do not
grow with what it has heard. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.stream import Stream
from unrolled.tasks.speech import audio
from unrolled.tasks.speech.ctc import Search
from unrolled.tasks.speech.filterbank import Bank
from unrolled.vocabulary import Vocabulary

__all__ = ["Heard", "Listener", "live"]

PAUSE = 0.8  # seconds after which a word is over, though no space was heard


class Heard(NamedTuple):
    """A word of live sound, or (not `final`) a guess at what is not yet certain; `seconds` is when."""

    text: str
    seconds: float
    final: bool


class Listener:
    """One stream of sound, which becomes text.

    `feed` gives the text that has become certain; `partial` guesses what follows it, and changes nothing.
    """

    def __init__(self, bank: Bank, stream: Stream, search: Search, vocabulary: Vocabulary) -> None:
        self._bank, self._stream, self._search = bank, stream, search
        self._vocabulary = vocabulary
        self._silence = 0  # samples that `finish` has added

    @property
    def rate(self) -> int:
        """Samples a second."""
        return self._bank.rate

    @property
    def seconds(self) -> float:
        """How much sound it has heard, without the silence after it."""
        return (self._stream.position - self._silence) / self.rate

    def feed(self, samples: NDArray[Any]) -> str:
        """Hear samples [N] at the model's rate, amplitudes or PCM; returns the text that has become certain.

        Raises `InputError` for what `audio.amplitudes` refuses.
        """
        outputs = self._stream.feed(samples)
        return self._vocabulary.decode(self._search.feed(outputs)) if len(outputs) else ""

    def partial(self) -> str:
        """What would follow the certain text if the sound ended here: the newest sample counts."""
        return self.fork().finish()

    def finish(self) -> str:
        """The rest of the text; the sound is over, and a moment of silence is heard after it, if there was any."""
        if not self._stream.position:
            return ""
        silence = np.zeros(self._bank.padding(self._stream.position), np.float32)
        text = self.feed(silence)
        self._silence += len(silence)
        return text + self._vocabulary.decode(self._search.open())

    def fork(self) -> Listener:
        """A second stream that goes on from here on its own."""
        other = Listener(self._bank, self._stream.fork(), self._search.fork(), self._vocabulary)
        other._silence = self._silence
        return other


def live(source: BinaryIO, stream: Listener, spaced: bool, partial: bool) -> Iterator[Heard]:
    """Words as they are recognised in raw PCM from `source` (16 bits, mono, little-endian, the model's rate).

    Where texts are not `spaced` into words, each is what became certain at once. With `partial`, guesses come
    between them, each when it differs from the one before.
    """
    word, guess, newest = "", "", 0.0
    for samples in audio.as_it_comes(source, stream.rate):
        if new := stream.feed(samples):
            word, newest = word + new, stream.seconds
        over = not spaced or stream.seconds - newest > PAUSE
        cut = len(word) if over else word.rfind(" ") + 1
        done, word = word[:cut].strip(), word[cut:]
        if done:
            yield Heard(done, stream.seconds, True)
        if partial and (now := (word + stream.partial()).strip()) != guess:
            guess = now
            yield Heard(guess, stream.seconds, False)
    if last := (word + stream.finish()).strip():
        yield Heard(last, stream.seconds, True)
