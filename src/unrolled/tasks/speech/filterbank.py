"""Sound becomes features: a log-mel filter bank as a stream, the same to the last bit however it is cut.

A step of the model sees `stack` frames of the filter bank at once, with `context` frames before them where the
model wants such (silence before a sound begins), and moves on by `stack`. Every step is
computed from its own samples in one fixed order: windowed discrete Fourier transform and mel filters are matrix
products on the engine, whose rows do not depend on one another, and the rest goes frame by frame. This file
knows no file format and no model.
"""

import atexit
import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from unrolled import _engine
from unrolled.errors import InputError
from unrolled.floats import Floats

__all__ = ["Bank", "FilterBank", "features", "mel_filters"]


FLOOR = 1e-7  # added to a filter's power: full scale is 1, and silence has a finite logarithm
LOWEST = 60.0  # Hz, where the first filter begins
BLOCK = 1024  # frames transformed at a time


@dataclass(frozen=True)
class Bank:
    """The sizes of a filter bank.

    `rate` is samples a second, `window` and `hop` are samples (a frame's length, and from one to the next),
    `mels` the number of filters, `stack` the frames of a step, `tail` the samples of silence that follow a sound
    at least, for a model that answers a little late, `context` the frames that a step sees before its own.
    """

    rate: int
    window: int
    hop: int
    mels: int
    stack: int
    tail: int
    context: int = 0

    @classmethod
    def usual(cls, rate: int, mels: int, stack: int, context: int = 0) -> Self:
        """Windows of 25 ms every 10 ms, and 0.3 s of silence."""
        return cls(rate, round(0.025 * rate), round(0.01 * rate), mels, stack, round(0.3 * rate), context)

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read what `dataclasses.asdict` wrote; raises `InputError` for anything else."""
        names = ("rate", "window", "hop", "mels", "stack", "tail", "context")
        if not isinstance(document, dict) or set(document) != set(names):
            raise InputError(f"the filter bank must have {', '.join(names)}")
        for name in names:
            least = 0 if name == "context" else 1
            if type(document[name]) is not int or not least <= document[name] <= 1_000_000:
                raise InputError(
                    f"the filter bank's {name} is {document[name]!r}, expected a whole number from {least}"
                )
        return cls(**document)

    @property
    def span(self) -> int:
        """The samples that a step's own frames see."""
        return self.window + (self.stack - 1) * self.hop

    @property
    def lead(self) -> int:
        """The samples before those that a step sees for its context."""
        return self.context * self.hop

    @property
    def advance(self) -> int:
        """The samples from one step to the next."""
        return self.stack * self.hop

    def steps(self, samples: int) -> int:
        """How many steps so many samples make."""
        return max(0, (samples - self.span) // self.advance + 1)

    def padding(self, samples: int) -> int:
        """How many samples of silence follow so many of a sound: the tail, filled up to the end of a step."""
        further = -(-max(0, samples + self.tail - self.span) // self.advance)  # steps after the first, rounded up
        return self.span + further * self.advance - samples


class FilterBank:
    """A stream of samples in, a stream of steps out.

    `mean` and `deviation` [mels] are those of the training data. `front` makes of normalised log-mel frames
    [context + T stack, mels] the steps [T, width]; by default a step is its own frames, one after another. `rest`
    is what is kept from one `feed` to the next: the context of the coming step, and less than its own samples.
    """

    def __init__(
        self, bank: Bank, mean: Floats, deviation: Floats, front: Callable[[Floats], Floats] | None = None
    ) -> None:
        self.bank = bank
        self._mean = np.asarray(mean, np.float32)
        self._scale = np.float32(1) / np.asarray(deviation, np.float32)
        self._front = front
        self.rest = np.zeros(bank.lead, np.float32)

    def feed(self, samples: Floats) -> Floats:
        """The steps [T, width] that these samples [N] complete."""
        bank = self.bank
        self.rest = np.concatenate([self.rest, samples.astype(np.float32, copy=False)])
        steps = bank.steps(len(self.rest) - bank.lead)
        logs = _log_mel(bank, self.rest, bank.context + steps * bank.stack if steps else 0)
        self.rest = self.rest[steps * bank.advance :].copy()
        normalised: Floats = (logs - self._mean) * self._scale
        return self._front(normalised) if self._front else normalised.reshape(-1, bank.mels * bank.stack)

    def finish(self) -> Floats:
        """The steps of what is left and of the silence after it."""
        return self.feed(np.zeros(self.bank.padding(len(self.rest) - self.bank.lead), np.float32))

    def fork(self) -> Self:
        """A second stream that goes on from here on its own."""
        return copy.copy(self)  # nothing in it is ever changed in place


def features(samples: Floats, bank: Bank, warp: float = 1.0) -> Floats:
    """The log-mel frames [context + T stack, mels] of a whole sound [N] and its silence, not normalised.

    `warp` is that of `mel_filters`.
    """
    after = bank.padding(len(samples))
    padded = np.pad(samples, (bank.lead, after)).astype(np.float32, copy=False)
    return _log_mel(bank, padded, bank.context + bank.steps(len(samples) + after) * bank.stack, warp)


def mel_filters(bank: Bank, warp: float = 1.0) -> Floats:
    """Triangular filters [mels, bins] over the power spectrum, evenly spaced in mel from 60 Hz to half the rate.

    mel = 2595 log10(1 + f / 700) (O'Shaughnessy 1987). With `warp` the frequencies of the filters are
    multiplied by it: what a vocal tract of another length would say (Jaitly & Hinton 2013, without the bend at
    the top: filters stop at half the rate).
    """
    highest = bank.rate / 2
    edges = _from_mel(np.linspace(_to_mel(LOWEST), _to_mel(highest), bank.mels + 2))
    edges = np.minimum(edges * warp, highest)
    bins = np.arange(_bins(bank)) * bank.rate / _transform(bank)
    # A filter narrower than a bin still takes part of one: widen to one bin on either side.
    step = bank.rate / _transform(bank)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - centre[:, None]) / np.maximum(centre - left, step)[:, None] + 1
    falling = (centre[:, None] - bins) / np.maximum(right - centre, step)[:, None] + 1
    return np.maximum(0, np.minimum(rising, falling)).astype(np.float32)


def _to_mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


def _from_mel(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    hertz: NDArray[np.float64] = 700 * (10 ** (mel / 2595) - 1)
    return hertz


def _transform(bank: Bank) -> int:
    """The length of the Fourier transform: the next power of two."""
    return 1 << (bank.window - 1).bit_length()


def _bins(bank: Bank) -> int:
    return _transform(bank) // 2 + 1


@lru_cache(maxsize=8)
def _fourier(window: int, transform: int) -> Any:
    """The windowed transform as one layer [2 * bins, window]: real parts, then imaginary parts.

    Hann window, scaled so that a sine of full scale has power 1 in its bin.
    """
    time = np.arange(window)
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * time / window)
    shape *= 2 / shape.sum()
    angle = 2 * np.pi * np.outer(np.arange(transform // 2 + 1), time) / transform
    matrix = np.concatenate([np.cos(angle), -np.sin(angle)]) * shape
    return _engine.Linear(matrix.astype(np.float32), np.zeros(len(matrix), np.float32))


@lru_cache(maxsize=128)
def _mels(bank: Bank, warp: float) -> Any:
    """The mel filters as one layer. Call it with a hop of 1: the hop makes no difference to them."""
    return _engine.Linear(mel_filters(bank, warp), np.full(bank.mels, FLOOR, np.float32))


# What the engine packed must go before the engine does, or it warns of a leak when Python ends.
atexit.register(_fourier.cache_clear)
atexit.register(_mels.cache_clear)


def _log_mel(bank: Bank, samples: Floats, frames: int, warp: float = 1.0) -> Floats:
    """The first `frames` frames of samples, as log power a filter [frames, mels]."""
    logs = np.empty((frames, bank.mels), np.float32)
    if not frames:
        return logs
    bins = _bins(bank)
    fourier, mels = _fourier(bank.window, _transform(bank)), _mels(replace(bank, hop=1), warp)
    windows = np.lib.stride_tricks.sliding_window_view(samples, bank.window)[:: bank.hop][:frames]
    one = np.empty(bank.mels, np.float32)
    for begin in range(0, frames, BLOCK):
        part = np.ascontiguousarray(windows[begin : begin + BLOCK], np.float32)
        spectrum = np.empty((len(part), 2 * bins), np.float32)
        fourier.run(part, spectrum)
        np.multiply(spectrum, spectrum, out=spectrum)
        power = np.ascontiguousarray(spectrum[:, :bins] + spectrum[:, bins:])
        energies = np.empty((len(part), bank.mels), np.float32)
        mels.run(power, energies)
        for row, energy in enumerate(energies, start=begin):
            # From one place in memory to one place, so that the same lanes of the processor take the same numbers.
            one[:] = energy
            np.log(one, out=one)
            logs[row] = one
    return logs
