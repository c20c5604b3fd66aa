"""What a stream of a model of sequences reads: numbers, words or frames."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.causal import Field, Lengths, Records
from unrolled.errors import InputError
from unrolled.floats import Floats, as_array, as_float32
from unrolled.modelfile import ModelFile
from unrolled.sequences.categories import numbers_of
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import is_gap
from unrolled.sequences.numbers import Numbers, held

__all__ = ["Steps"]


class Steps:
    """The inputs of a model: numbers [T, width], words [T], or frames [T, side, side, 3] of bytes.

    Of numbers that may be missing, a stream keeps the last of each that was there.
    """

    unit = 1

    def __init__(self, file: ModelFile, front: Callable[[Any], Floats]) -> None:
        self._front = front
        self._kind: str = file.architecture.kind
        size: int = file.architecture.inputs
        dtypes: dict[str, np.dtype[Any] | None] = {
            "numbers": np.dtype("<f4"),
            "films": np.dtype("u1"),
            "words": None,
        }
        shapes: dict[str, tuple[int, ...]] = {"numbers": (size,), "films": (size, size, 3), "words": ()}
        self.dtype = dtypes[self._kind]
        self.shape = shapes[self._kind]
        self._gaps = isinstance(front, Numbers) and front.gaps
        self._layout = Layout.from_json(file.encoding["layout"])
        self.fields: Sequence[Field] = [("held", "<f4", (size,))] if self._gaps else ()

    def checked(self, inputs: Any) -> NDArray[Any]:
        """The inputs of one stream as an array; raises `InputError` for what is not of the model's kind."""
        if self._kind == "words":
            return _words(inputs)
        films, shape = self._kind == "films", self.shape
        if isinstance(inputs, str):
            raise InputError(f"inputs: expected shape {_shown(shape)}, got a text")
        if self._layout.categories and not (isinstance(inputs, np.ndarray) and inputs.dtype.kind in "biuf"):
            inputs = numbers_of(inputs, self._layout.features, self._layout.categories)
        sequence = as_array(inputs, f"inputs: expected shape {_shown(shape)}")
        if not sequence.size and sequence.ndim == 1:
            sequence = sequence.reshape(0, *shape)
        if sequence.shape[1:] != shape or not sequence.ndim:
            raise InputError(f"inputs: expected shape {_shown(shape)}, got {list(sequence.shape)}")
        if films and sequence.dtype != np.uint8:
            raise InputError(f"frames: expected bytes (uint8), got {sequence.dtype}")
        if sequence.dtype == object and any(map(is_gap, sequence.flat)):
            if not self._gaps:
                raise InputError("inputs: a number is missing: expected a model trained with --missing hold")
            with contextlib.suppress(TypeError, ValueError):
                sequence = sequence.astype(np.float64)
        if sequence.dtype.kind not in "iufb":
            raise InputError(f"inputs: expected numbers, got {sequence.dtype}")
        return sequence if films else as_float32(sequence, "inputs", self._gaps)

    def run(self, inputs: NDArray[Any], lengths: Lengths, states: Records) -> tuple[NDArray[Any], Lengths]:
        """Each input makes one step, whatever stands beside it, but for a number that is missing."""
        if not (self._gaps and isinstance(self._front, Numbers)):
            return self._front(inputs), lengths
        x, end = self._front.normalised(inputs), 0
        for row, length in enumerate(lengths.tolist()):
            begin, end = end, end + length
            if length:
                x[begin:end] = held(x[begin:end], states["held"][row])
                states["held"][row] = x[end - 1]
        return x, lengths


def _words(inputs: Any) -> NDArray[Any]:
    """Words [T] as an array; raises `InputError` for what is no list of words."""
    if isinstance(inputs, str) or not isinstance(inputs, Sequence) or any(type(one) is not str for one in inputs):
        raise InputError("words: expected a list of texts, one for each word")
    if "" in inputs:
        raise InputError(f"words: word {list(inputs).index('') + 1} is empty, expected a character or more")
    return np.array(list(inputs), object)


def _shown(shape: tuple[int, ...]) -> str:
    return f"[T, {', '.join(map(str, shape))}]"
