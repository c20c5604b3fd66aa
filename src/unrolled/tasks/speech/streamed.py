"""A speech model as a stream sees it: samples in, logits of each step of the filter bank out, and text of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.causal import Field, Lengths, Records
from unrolled.errors import InputError
from unrolled.floats import Floats, as_array
from unrolled.tasks.speech import audio
from unrolled.tasks.speech.ctc import Greedy
from unrolled.tasks.speech.filterbank import FilterBank
from unrolled.vocabulary import Vocabulary

__all__ = ["BestPath", "Samples"]


class Samples:
    """Samples go through the filter bank; those of a step that is not yet complete are kept."""

    dtype: np.dtype[Any] | None = np.dtype("<f4")
    shape: tuple[int, ...] = ()

    def __init__(self, fresh: FilterBank) -> None:
        self._fresh = fresh
        self.unit = fresh.bank.advance
        kept = fresh.bank.lead + fresh.bank.span
        self.fields: Sequence[Field] = [("samples", "<f4", (kept,)), ("held", "<i8", ())]

    def checked(self, inputs: Any) -> NDArray[np.float32]:
        """Samples [N] as `audio.amplitudes` makes them; raises `InputError` for anything else."""
        if isinstance(inputs, str):
            raise InputError("samples: expected shape [N], got a text")
        samples = as_array(inputs, "samples: expected shape [N]")
        if samples.ndim != 1:
            raise InputError(f"samples: expected shape [N], got {list(samples.shape)}")
        return audio.amplitudes(samples)

    def run(
        self, inputs: NDArray[np.float32], lengths: Lengths, states: Records
    ) -> tuple[NDArray[np.float32], Lengths]:
        """The steps that each stream's samples complete."""
        found = []
        for row, samples in enumerate(np.split(inputs, np.cumsum(lengths)[:-1])):
            filters = self._fresh.fork()
            filters.rest = states["samples"][row, : self._fresh.bank.lead + states["held"][row]]
            found.append(filters.feed(samples))
            states["held"][row] = len(filters.rest) - self._fresh.bank.lead
            states["samples"][row] = 0
            states["samples"][row, : len(filters.rest)] = filters.rest
        return np.concatenate(found), np.array([len(one) for one in found])


class BestPath:
    """The text that becomes certain at once: the likeliest class of each step, repeats joined, blanks removed."""

    # The class of the last step, plus 1: zero before there is one.
    fields: Sequence[Field] = [("newest", "<i8", ())]

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def read(self, outputs: Floats, state: np.void) -> list[str]:
        """The text, if there is any, of the steps [T, V + 1]."""
        search = Greedy(self._vocabulary.size)
        if state["newest"]:
            search.last = int(state["newest"]) - 1
        found = search.feed(outputs)
        if len(outputs):
            state["newest"] = search.last + 1
        return [self._vocabulary.decode(found)] if found else []
