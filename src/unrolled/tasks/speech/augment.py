"""Sounds as another voice, another room and another day would have made them: for training only.

Pitch and formants (resampling), tempo (the hop of the filter bank), the length of the vocal tract (warped mel
filters), level, noise, and SpecAugment's masks. Each is drawn anew for every example from the generator that is
handed in, and nothing else is random.
"""

import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from unrolled.floats import Floats
from unrolled.settings import setting
from unrolled.tasks.speech import audio
from unrolled.tasks.speech.audio import Samples
from unrolled.tasks.speech.filterbank import Bank, features

__all__ = ["AugmentOptions", "augmented", "mask"]

LEVEL = 10.0  # dB up or down
QUIETEST_NOISE = 40.0  # dB below the sound
PITCH_STEPS = 40  # resampling by n / 40, for short filters
WARP_STEPS = 50
WAVES = 4  # of a microphone's loudness over the bands
VOICE = 0.1  # how far a voice is changed by default


@dataclass(frozen=True)
class AugmentOptions:
    """How far the examples of training are changed; each by an amount drawn up to this."""

    pitch: float | None = setting(
        None,
        "Shift pitch and formants by up to this fraction.",
        at_least=0,
        below=0.5,
        default_help=f"{VOICE}; 0 for the built-in tones, which are told apart by it",
        heading="Regularisation",
    )
    tempo: float = setting(0.1, "Change the tempo by up to this fraction.", at_least=0, below=0.5)
    vocal_tract: float | None = setting(
        None,
        "Shift formants alone by up to this fraction.",
        at_least=0,
        below=0.5,
        default_help=f"as for pitch, {VOICE}",
    )
    noise: float | None = setting(15.0, "Add white to brown noise, at its loudest this many dB below the sound.")
    channel: float = setting(
        0.0, "Make bands louder or softer by about this many dB, like another microphone.", at_least=0
    )
    augment_steps: int = setting(
        0, "Training steps over which voices and channel come to be changed that far.", at_least=0
    )
    masks: int = setting(2, "Stretches of time to mask, and as many of frequency.", at_least=0)

    def scaled(self, factor: float) -> Self:
        """The same with voices and channels changed only so far, from 0 (not at all) to 1."""
        return replace(
            self,
            pitch=(self.pitch or 0.0) * factor,
            tempo=self.tempo * factor,
            vocal_tract=(self.vocal_tract or 0.0) * factor,
            channel=self.channel * factor,
        )

    def settled(self, voices: bool) -> Self:
        """The same with numbers where nothing was said: those for `voices`, or for sounds that are none."""
        usual = VOICE if voices else 0.0
        return replace(
            self,
            pitch=usual if self.pitch is None else self.pitch,
            vocal_tract=usual if self.vocal_tract is None else self.vocal_tract,
        )


def augmented(samples: Samples, bank: Bank, options: AugmentOptions, rng: np.random.Generator) -> Floats:
    """The log-mel frames [T * stack, mels] of a changed copy of a sound [N], not yet masked or normalised."""
    pitch, tempo, tract = rng.uniform(-1, 1, 3)
    changed = samples
    pitched = PITCH_STEPS + round(PITCH_STEPS * pitch * (options.pitch or 0))
    if pitched != PITCH_STEPS:
        changed = audio.resample(changed, pitched, PITCH_STEPS)
    changed = changed * np.float32(10 ** (rng.uniform(-LEVEL, LEVEL) / 20))
    if options.noise is not None:
        changed = changed + _noise(changed, options.noise, rng)
    hop = max(1, round(bank.hop * (1 + tempo * options.tempo)))
    warp = 1 + round(WARP_STEPS * tract * (options.vocal_tract or 0)) / WARP_STEPS
    frames = features(changed, replace(bank, hop=hop), warp)
    return frames + _channel(bank.mels, options.channel, rng) if options.channel else frames


def mask(frames: Floats, masks: int, rng: np.random.Generator) -> Floats:
    """Frames [N, mels] with `masks` stretches of time and of frequency set to 0, the mean (Park et al. 2019).

    A stretch is up to a fifth of the filters wide, or up to 100 ms long (10 frames).
    """
    masked = frames.copy()
    count, mels = frames.shape
    for _ in range(masks):
        width = int(rng.integers(mels // 5 + 1))
        start = int(rng.integers(mels - width + 1))
        masked[:, start : start + width] = 0
        length = int(rng.integers(min(10, count) + 1))
        begin = int(rng.integers(count - length + 1))
        masked[begin : begin + length] = 0
    return masked


def _channel(mels: int, decibels: float, rng: np.random.Generator) -> Floats:
    """What a microphone adds to the logarithms of the bands [mels]: a few slow waves of about `decibels` each."""
    waves = np.arange(1, WAVES + 1)
    heights = rng.uniform(-1, 1, WAVES) * decibels * math.log(10) / 10
    curve: Floats = (heights @ np.cos(np.pi * np.outer(waves, np.arange(mels) + 0.5) / mels)).astype(np.float32)
    return curve


def _noise(samples: Samples, loudest: float, rng: np.random.Generator) -> Samples:
    """Noise [N] of a random colour, between `loudest` and 40 dB below the sound."""
    slope = rng.uniform(0, 1)  # of the amplitude over frequency: 0 white, 0.5 pink, 1 brown
    length = 1 << len(samples).bit_length()
    real, imaginary = rng.standard_normal((2, length // 2 + 1), np.float32)
    spectrum = (real + 1j * imaginary) * np.arange(1, length // 2 + 2, dtype=np.float32) ** np.float32(-slope)
    noise = np.fft.irfft(spectrum, length)[: len(samples)]
    below = rng.uniform(min(loudest, QUIETEST_NOISE), QUIETEST_NOISE)
    power = float(np.mean(np.square(samples, dtype=np.float64)))
    factor = np.sqrt(power * 10 ** (-below / 10) / max(float(np.mean(noise**2)), 1e-30))
    scaled: Samples = (noise * factor).astype(np.float32)
    return scaled
