"""A text model as a stream sees it: symbols in, logits of the next symbol out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.causal import Field, Lengths, Records
from unrolled.errors import InputError
from unrolled.floats import Floats, as_array
from unrolled.vocabulary import Vocabulary

__all__ = ["NextSymbol", "Symbols"]


class Symbols:
    """Symbols, as numbers or as a text, go to the embedding as they are."""

    fields: Sequence[Field] = ()
    unit = 1
    dtype: np.dtype[Any] | None = np.dtype("<u4")
    shape: tuple[int, ...] = ()

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def checked(self, inputs: Any) -> NDArray[np.int64]:
        """Symbols [T], of a text, a list of symbols as texts, or numbers; raises `InputError` for others."""
        if isinstance(inputs, str):
            return self._vocabulary.encode(inputs)
        if isinstance(inputs, list) and inputs and all(isinstance(one, str) for one in inputs):
            return np.concatenate([self._one(text) for text in inputs])
        sequence = as_array(inputs, "symbols: expected shape [T]")
        if sequence.ndim != 1:
            raise InputError(f"symbols: expected shape [T], got {list(sequence.shape)}")
        if not sequence.size:
            return np.zeros(0, np.int64)
        if sequence.dtype.kind not in "iu":
            raise InputError(f"symbols: expected whole numbers, got {sequence.dtype}")
        least, most = sequence.min(), sequence.max()
        if least < 0 or most >= self._vocabulary.size:
            wrong = least if least < 0 else most
            raise InputError(f"symbols: expected numbers from 0 to {self._vocabulary.size - 1}, got {wrong}")
        return sequence.astype(np.int64)

    def _one(self, text: str) -> NDArray[np.int64]:
        symbols = self._vocabulary.encode(text)
        if len(symbols) != 1:
            raise InputError(
                f"symbols: {text!r} is {len(symbols)} symbols, expected one; a longer text is not put into a list"
            )
        return symbols

    def run(
        self, inputs: NDArray[np.int64], lengths: Lengths, states: Records
    ) -> tuple[NDArray[np.int64], Lengths]:
        """The symbols themselves."""
        return inputs, lengths


class NextSymbol:
    """What a text model says after each symbol: the likeliest next one."""

    fields: Sequence[Field] = ()

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def read(self, outputs: Floats, state: np.void) -> list[str]:
        """The likeliest symbol [T] by logits [T, V]; of bytes that are no character alone, a sign for them."""
        return [self._vocabulary.symbol(int(one)) for one in outputs.argmax(axis=-1)]
