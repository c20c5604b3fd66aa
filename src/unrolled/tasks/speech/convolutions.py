"""The convolutions of a speech model, on NumPy and the engine alone: what a step is does not depend on the others.

The same mathematics as `unrolled.models.speech`, for a finished model.
"""

import numpy as np

from unrolled import _engine
from unrolled.architecture import BATCH_NORM, CONVOLUTIONS, Convolution
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile

__all__ = ["Convolutions"]

EPSILON = 1e-5  # torch's, of batch normalisation
STEPS = 128  # worked on at a time


class Convolutions:
    """Normalised frames [context + T stack, mels] in, steps [T, width] out."""

    def __init__(self, file: ModelFile) -> None:
        self._sizes = file.architecture
        self._layers = []
        for number, one in enumerate(CONVOLUTIONS):
            weight = file.tensors[f"front.convolutions.{number}.weight"]
            scale, shift, mean, variance = (file.tensors[f"front.norms.{number}.{name}"] for name in BATCH_NORM)
            scale = scale / np.sqrt(variance + np.float32(EPSILON))
            kernel = (weight * scale[:, None, None, None]).reshape(len(weight), -1)
            self._layers.append((one, _engine.Linear(kernel, shift - mean * scale), len(weight)))

    def __call__(self, frames: Floats) -> Floats:
        """The steps of normalised frames."""
        sizes = self._sizes
        steps = max(0, len(frames) - sizes.context) // sizes.stack
        y = np.empty((steps, sizes.width), np.float32)
        for begin in range(0, steps, STEPS):
            end = min(begin + STEPS, steps)
            x = frames[begin * sizes.stack : end * sizes.stack + sizes.context, :, None]
            for layer in self._layers:
                x = _convolved(x, *layer)
            y[begin:end] = x.transpose(0, 2, 1).reshape(end - begin, -1)
        return y


def _convolved(x: Floats, one: Convolution, kernel: _engine.Linear, channels: int) -> Floats:
    """x [frames, mels, before], convolved, rectified, and of places next to each other the largest."""
    side = one.mels // 2
    windows = np.lib.stride_tricks.sliding_window_view(
        np.pad(x, ((0, 0), (side, side), (0, 0))), (one.frames, one.mels), (0, 1)
    )
    frames, mels = windows.shape[:2]
    columns = np.ascontiguousarray(windows.reshape(frames * mels, -1), np.float32)
    y = np.empty((len(columns), channels), np.float32)
    kernel.run(columns, y)
    kept = mels // one.pooled_mels * one.pooled_mels
    pooled = y.reshape(frames, mels, channels)[:, :kept].reshape(
        frames // one.pooled_frames, one.pooled_frames, kept // one.pooled_mels, one.pooled_mels, channels
    )
    largest: Floats = np.maximum(pooled.max((1, 3)), 0)
    return largest
