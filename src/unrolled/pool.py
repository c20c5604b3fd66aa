"""Thousands of streams of one model, stepped together: those that have input go in one batch.

A stream's outputs are the same bits as if it were alone.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unrolled.errors import InputError, counted
from unrolled.floats import Floats
from unrolled.snapshot import Snapshot
from unrolled.stream import CausalModel, causal_of

__all__ = ["StreamPool"]


class StreamPool:
    """Up to `capacity` streams of a model, each named by the number that `open` gives.

    Raises `InputError` as `Stream` does, and for a number that is no open stream's.
    """

    def __init__(self, model: CausalModel, capacity: int, weights: str = "float32") -> None:
        if not isinstance(capacity, int | np.integer) or capacity < 1:
            raise InputError(f"capacity is {capacity!r}, expected a whole number, 1 or more")
        self._causal = causal_of(model, weights)
        self._states = self._causal.initial(capacity)
        self._open = np.zeros(capacity, bool)
        self._free = list(range(capacity - 1, -1, -1))

    def open(self, snapshot: Snapshot | None = None) -> int:
        """A new stream, from the zero state or from a snapshot; raises `InputError` if the pool is full."""
        state = self._causal.initial() if snapshot is None else self._causal.restored(snapshot)
        if not self._free:
            raise InputError(f"all {len(self._open)} streams of the pool are open, expected one to be free")
        stream = self._free.pop()
        self._states[stream] = state[0]
        self._open[stream] = True
        return stream

    def close(self, stream: int) -> None:
        """End a stream; its number may be another's from then on."""
        self._checked([stream])
        self._open[stream] = False
        self._free.append(stream)

    def position(self, stream: int) -> int:
        """How many inputs a stream has consumed."""
        return int(self._states["position"][self._checked([stream])[0]])

    def snapshot(self, stream: int) -> Snapshot:
        """The state of a stream as it is now."""
        return self._causal.snapshot(self._states[self._checked([stream])[0]])

    def step(self, streams: ArrayLike, inputs: Any) -> Floats:
        """One input [B, ...] for each of B different streams; returns their outputs [B, outputs].

        Raises `InputError` for a speech model, whose chunks go to `feed`.
        """
        if self._causal.front.unit > 1:
            raise InputError("a step of this model is a chunk of samples, which goes to feed")
        rows, sequence = self._checked(streams), self._causal.front.checked(inputs)
        if len(rows) != len(sequence):
            raise _not_one_each(len(sequence), "input", len(rows))
        return self._run(rows, sequence, np.ones(len(rows), np.int64))[0]

    def feed(self, streams: ArrayLike, inputs: Sequence[Any]) -> list[Floats]:
        """Inputs [T, ...], of any length, for each of B different streams; returns the outputs [T, outputs] of
        each.
        """
        rows = self._checked(streams)
        sequences = [self._causal.front.checked(one) for one in inputs]
        if len(rows) != len(sequences):
            raise _not_one_each(len(sequences), "sequence", len(rows))
        if not sequences:
            return []
        lengths = np.array([len(one) for one in sequences])
        outputs, counts = self._run(rows, np.concatenate(sequences), lengths)
        return np.split(outputs, np.cumsum(counts)[:-1])

    def _run(
        self, rows: NDArray[np.int64], inputs: NDArray[Any], lengths: NDArray[np.int64]
    ) -> tuple[Floats, NDArray[np.int64]]:
        states = self._states[rows]
        outputs, counts = self._causal.run(inputs, lengths, states)
        if self._causal.reader.fields:
            self._causal.read(outputs, counts, states)
        self._states[rows] = states
        return outputs, counts

    def _checked(self, streams: ArrayLike) -> NDArray[np.int64]:
        given = np.asarray(streams)
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
            raise InputError(f"streams: expected a list of whole numbers, got {streams!r}")
        rows = given.astype(np.int64)
        known = (rows >= 0) & (rows < len(self._open))
        known[known] = self._open[rows[known]]
        if not known.all():
            raise InputError(f"stream {rows[~known][0]} is not open")
        if np.bincount(rows, minlength=1).max() > 1:
            raise InputError("a stream is named twice, expected each once")
        return rows


def _not_one_each(count: int, what: str, streams: int) -> InputError:
    return InputError(f"got {counted(count, what)} for {counted(streams, 'stream')}, expected one for each")
