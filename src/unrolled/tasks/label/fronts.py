"""What stands before the recurrent layers of a label model, on NumPy and the engine alone.

The same mathematics as `unrolled.models.label`, for a finished model. A step's numbers are the same whether it
comes alone or among others.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled import _engine
from unrolled.architecture import FILM_CHANNELS, FILM_GROUPS
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.sequences.numbers import Numbers

__all__ = ["UNKNOWN", "Spelling", "front"]


FRAMES = 32  # worked on at a time
EPSILON = 1e-5  # torch's, of group normalisation
UNKNOWN = 0
"""The number of a word or a character that training did not have."""


class Spelling:
    """Words as numbers: each word's own, whatever its case, and those of its characters."""

    LONGEST = 32  # characters of a word that are read

    def __init__(self, words: Sequence[str], characters: str) -> None:
        self.words = {word: number for number, word in enumerate(words, UNKNOWN + 1)}
        self.characters = {character: number for number, character in enumerate(characters, UNKNOWN + 1)}

    def encode(self, words: Sequence[str]) -> NDArray[np.int64]:
        """The number of each word [T]."""
        return np.array([self.words.get(word.lower(), UNKNOWN) for word in words], np.int64)

    def spell(self, words: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The characters of each word, [C, U], and how many it has, [U]."""
        cut = [word[: self.LONGEST] for word in words]
        lengths = np.array([len(word) for word in cut], np.int64)
        spelled = np.zeros((int(lengths.max()), len(cut)), np.int64)
        for place, word in enumerate(cut):
            spelled[: len(word), place] = [self.characters.get(character, UNKNOWN) for character in word]
        return spelled, lengths


def front(file: ModelFile) -> Callable[[Any], Floats]:
    """What makes of a sequence's inputs [T] the numbers [T, width] that the recurrent layers read."""
    if file.architecture.kind == "words":
        return _Words(file)
    if file.architecture.kind == "films":
        return _Films(file)
    return Numbers(file)


class _Words:
    """A word's vector beside what two LSTMs, one from each side, make of its characters."""

    def __init__(self, file: ModelFile) -> None:
        self._spelling = Spelling(file.encoding["words"], file.encoding["characters"])
        tensors = file.tensors
        self._words, self._characters = tensors["front.words.weight"], tensors["front.characters.weight"]
        self._hidden = file.architecture.spelling
        self._stacks = []
        for suffix in ("", "_reverse"):
            stack = _engine.Stack("lstm", self._hidden, self._hidden)
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            stack.add_layer(*(tensors[f"front.spelling.0.{name}_l0{suffix}"] for name in names))
            self._stacks.append(stack)

    def __call__(self, inputs: Sequence[str]) -> Floats:
        if not len(inputs):
            return np.zeros((0, self._words.shape[1] + 2 * self._hidden), np.float32)
        spelled, lengths = self._spelling.spell(inputs)
        t = np.arange(len(spelled))[:, None]
        turned = np.take_along_axis(spelled, np.where(t < lengths, lengths - 1 - t, t), axis=0)
        parts = [self._words[self._spelling.encode(inputs)]]
        for stack, order in zip(self._stacks, (spelled, turned), strict=True):
            x = np.ascontiguousarray(self._characters[order], np.float32)
            y = np.empty((*x.shape[:2], self._hidden), np.float32)
            stack.run(x, y, *np.zeros((2, 1, len(inputs), self._hidden), np.float32))
            parts.append(y[lengths - 1, np.arange(len(inputs))])
        return np.concatenate(parts, axis=-1)


class _Films:
    """Three convolutions with stride 2, each normalised in groups, and a linear layer."""

    def __init__(self, file: ModelFile) -> None:
        tensors = file.tensors
        self._convolutions = []
        for number, channels in enumerate(FILM_CHANNELS):
            named = [tensors[f"front.{part}.{number}.{name}"] for part, name in _PARTS]
            kernel = _engine.Linear(np.ascontiguousarray(named[0].reshape(channels, -1)), named[1])
            self._convolutions.append((kernel, channels, named[2], named[3]))
        self._out = _engine.Linear(tensors["front.out.weight"], tensors["front.out.bias"])
        self._width = file.architecture.embedding

    def __call__(self, inputs: NDArray[np.uint8]) -> Floats:
        y = np.empty((len(inputs), self._width), np.float32)
        for begin in range(0, len(inputs), FRAMES):
            x: Floats = inputs[begin : begin + FRAMES].astype(np.float32) / np.float32(255) - np.float32(0.5)
            for convolution in self._convolutions:
                x = _convolve(x, *convolution)
            flat = np.ascontiguousarray(x.transpose(0, 3, 1, 2).reshape(len(x), -1))
            self._out.run(flat, y[begin : begin + FRAMES])
        return np.maximum(y, 0)


_PARTS = (("convolutions", "weight"), ("convolutions", "bias"), ("norms", "weight"), ("norms", "bias"))


def _convolve(x: Floats, kernel: _engine.Linear, channels: int, scale: Floats, shift: Floats) -> Floats:
    """A 3 x 3 convolution of x [N, side, side, before] with stride 2, normalised and rectified."""
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (1, 2))[:, ::2, ::2]
    count, side = windows.shape[:2]
    columns = np.ascontiguousarray(windows.reshape(count * side * side, -1), np.float32)
    y = np.empty((len(columns), channels), np.float32)
    kernel.run(columns, y)
    grouped = y.reshape(count, side * side, FILM_GROUPS, channels // FILM_GROUPS)
    centred = grouped - grouped.mean((1, 3), keepdims=True)
    centred /= np.sqrt((centred * centred).mean((1, 3), keepdims=True) + np.float32(EPSILON))
    normalised: Floats = np.maximum(centred.reshape(count, side, side, channels) * scale + shift, 0)
    return normalised
