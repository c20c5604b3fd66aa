"""Digit strings as the tones of a telephone keypad, with noise: the speech task's data when there is no other.

Dual-tone multi-frequency signalling (ITU-T Q.23): each key is the sum of two tones, one for its row and one for
its column. Lengths, pauses, levels and noise vary from key to key; the frequencies are off by up to 1.5 %, as
the standard allows for.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["KEYS", "RATE", "dial"]

RATE = 8000
ROWS = (697.0, 770.0, 852.0, 941.0)  # Hz
COLUMNS = (1209.0, 1336.0, 1477.0)
KEYS = {
    key: (ROWS[row], COLUMNS[column])
    for row, keys in enumerate(("123", "456", "789", "*0#"))
    for column, key in enumerate(keys)
}
LONGEST = 8  # digits


def dial(rng: np.random.Generator) -> tuple[NDArray[np.float32], str]:
    """Samples [N] of a random string of 1 to 8 digits at 8 kHz, and the string."""
    digits = "".join(map(str, rng.integers(10, size=rng.integers(1, LONGEST + 1))))
    pieces = [_silence(rng)]
    for digit in digits:
        pieces += [_tone(digit, rng), _silence(rng)]
    clean = np.concatenate(pieces)
    level = 10 ** rng.uniform(-1.5, -0.3)
    noise = level * 10 ** (-rng.uniform(0, 25) / 20) * rng.standard_normal(len(clean))
    return (level * clean + noise).astype(np.float32), digits


def _silence(rng: np.random.Generator) -> NDArray[np.float64]:
    return np.zeros(int(RATE * rng.uniform(0.04, 0.25)))


def _tone(key: str, rng: np.random.Generator) -> NDArray[np.float64]:
    time = np.arange(int(RATE * rng.uniform(0.05, 0.2))) / RATE
    tone = np.zeros(len(time))
    for frequency in KEYS[key]:
        frequency *= 1 + rng.uniform(-0.015, 0.015)
        tone += 0.5 * 10 ** (rng.uniform(-3, 0) / 20) * np.sin(2 * np.pi * (frequency * time + rng.random()))
    fade = np.minimum(1, np.minimum(time, time[::-1]) / 0.003)
    faded: NDArray[np.float64] = tone * fade
    return faded
