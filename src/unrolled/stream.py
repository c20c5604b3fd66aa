"""A trained model run one step at a time, for ever, on NumPy and the engine alone.

A `Stream` is a model with a state of its own: what it has consumed so far, in constant memory. Any number of
streams share the model's weights.
"""

from collections import deque
from typing import Any, NoReturn, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from unrolled.causal import Causal
from unrolled.errors import InputError
from unrolled.floats import Floats
from unrolled.snapshot import Snapshot

__all__ = ["CausalModel", "Stream", "causal_of"]

HISTORY = 64


class CausalModel(Protocol):
    """A model that `unrolled.load` opened."""

    @property
    def causal(self) -> Causal:
        """The model as a stream sees it; raises `InputError` with the reason for one that cannot read a stream."""


def causal_of(model: CausalModel, weights: str) -> Causal:
    """The model as a stream sees it, with its weights in this format; raises `InputError` for what is no model."""
    if not hasattr(model, "causal"):
        raise InputError(f"model is a {type(model).__name__}, expected a model that unrolled.load opened")
    return model.causal.with_weights(weights)


class Stream:
    """One stream through a model that `unrolled.load` opened.

    An input is a symbol of a text model (or a character, say), a row of numbers, a word or a frame of a label
    model, a sample of a speech model. What comes out are the model's outputs, one row of numbers for each step:
    the logits of the next symbol, of the events, or of the symbols and the blank of connectionist temporal
    classification, at every step of the filter bank. Cutting a sequence anywhere changes no bit of them.

    `weights` is the format of the model's in memory, float32, bfloat16 or int8 (`unrolled.stepper.packed`);
    `history` is how many of the latest calls `rewind` may take back. Raises `InputError` with the reason for a
    model that does not read its inputs as they come.
    """

    def __init__(self, model: CausalModel, weights: str = "float32", history: int = HISTORY) -> None:
        self._causal = causal_of(model, weights)
        if not isinstance(history, int) or history < 0:
            raise InputError(f"history is {history!r}, expected a whole number of calls, 0 or more")
        self._state = self._causal.initial()
        self._history: deque[NDArray[np.void]] = deque(maxlen=history)

    @property
    def position(self) -> int:
        """How many inputs it has consumed."""
        return int(self._state["position"][0])

    @property
    def trace(self) -> dict[str, NDArray[Any]]:
        """What it carries now: h [L, P] and, for an LSTM, c [L, H], and what front end and reader keep."""
        return dict(self.snapshot().arrays)

    @property
    def outputs(self) -> Floats:
        """The outputs [outputs] of its newest step, once more; of a fresh stream, those of a zero state."""
        outputs: Floats = self._causal.last(self._state)[0]
        return outputs

    def step(self, x: Any) -> Floats:
        """Consume one input; returns the outputs [outputs].

        A step of a speech model is a chunk of samples, as for `feed`. Raises `InputError` as `feed` does.
        """
        return self.feed(x) if self._causal.front.unit > 1 else self.feed([x])[0]

    def feed(self, inputs: Any) -> Floats:
        """Consume inputs [T, ...]; returns the outputs [T, outputs] of each step.

        A speech model's samples complete fewer steps than they are. Raises `InputError` for an unknown symbol or
        another shape, and consumes nothing then.
        """
        return self._advance(inputs, reads=bool(self._causal.reader.fields))[0]

    def read(self, inputs: Any) -> list[str]:
        """Consume inputs as `feed` does; returns what the model says.

        That is the likeliest next symbol after each, the event of each, or the text of a sound that has become
        certain.
        """
        return self.advance(inputs)[1]

    def advance(self, inputs: Any) -> tuple[Floats, list[str]]:
        """Consume inputs once; returns both the outputs, as `feed` does, and what they say, as `read` does."""
        return self._advance(inputs, reads=True)

    def peek(self, x: Any) -> Floats:
        """What `step` would return; the stream stays where it is."""
        return self.fork().step(x)

    def reset(self) -> None:
        """Forget everything: the state becomes zero, the position 0, and nothing is left to rewind to."""
        self._put(self._causal.initial())

    def snapshot(self) -> Snapshot:
        """The state as it is now: `Snapshot.write` keeps it in a file."""
        return self._causal.snapshot(self._state[0])

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot, of this stream or another; raises `InputError` if it is another model's."""
        self._put(self._causal.restored(snapshot))

    def __copy__(self) -> Self:
        return self.fork()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.fork()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stream cannot be pickled, for it shares its model's weights; its snapshot() can")

    def fork(self) -> Self:
        """A second stream that goes on from here on its own."""
        other = type(self).__new__(type(self))
        other._causal, other._state, other._history = self._causal, self._state.copy(), self._history.copy()
        return other

    def rewind(self, position: int) -> None:
        """Go back to a position where a call began; raises `InputError` for one that is not in the history."""
        known = [int(state["position"][0]) for state in self._history]
        if position == self.position:
            return
        if position not in known:
            kept = ", ".join(map(str, known)) or "none"
            raise InputError(f"position is {position}, expected one that is kept: {kept}")
        while (state := self._history.pop())["position"][0] != position:
            pass
        self._state = state.copy()  # a fork may have the same history

    def _put(self, state: NDArray[np.void]) -> None:
        self._state = state
        self._history.clear()

    def _advance(self, inputs: Any, reads: bool) -> tuple[Floats, list[str]]:
        causal = self._causal
        sequence = causal.front.checked(inputs)
        before = self._state.copy()
        outputs, counts = causal.run(sequence, np.array([len(sequence)]), self._state)
        said = causal.read(outputs, counts, self._state)[0] if reads else []
        if len(sequence):
            self._history.append(before)
        return outputs, said
