"""Recurrent layers stepped from outside: weights packed once for the engine, and a state that lasts.

Steps run at the speed of reading the weights. It knows no model, no task and no torch; `unrolled.nn` makes
steppers of its layers, and `unrolled.network` runs whole models on the same packed layers.

T steps, B rows, D input features, H hidden units, L layers, P width of h: with a projection its units, else H.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Self

import numpy as np
from numpy.typing import NDArray

from unrolled import _engine
from unrolled.errors import InputError, counted
from unrolled.floats import Floats

__all__ = ["WEIGHTS", "State", "Stepper", "packed", "zero_state"]


WEIGHTS = ("float32", "bfloat16", "int8")
"""The formats of packed weights. What narrow ones cost a model is measured by `benchmarks.narrow`."""


@dataclass
class State:
    """What the recurrent layers carry from one step to the next: h [L, B, P] and, for an LSTM, c [L, B, H].

    They may be views of a larger array, in which the numbers of a row are next to each other.
    """

    h: Floats
    c: Floats | None

    def copy(self) -> "State":
        """A state of its own with the same values."""
        return State(self.h.copy(), None if self.c is None else self.c.copy())

    def take(self, rows: NDArray[np.int64]) -> "State":
        """A copy of the states of these rows of the batch."""
        return State(self.h.take(rows, axis=1), None if self.c is None else self.c.take(rows, axis=1))

    def put(self, rows: NDArray[np.int64], state: "State") -> None:
        """Take over the states of these rows."""
        self.h[:, rows] = state.h
        if self.c is not None:
            self.c[:, rows] = state.c


def zero_state(layers: int, batch: int, widths: Sequence[int]) -> State:
    """The state before anything was consumed; `widths` are those of h and, for an LSTM, of c."""
    h, *c = (np.zeros((layers, batch, width), np.float32) for width in widths)
    return State(h, c[0] if c else None)


def packed(
    cell: str,
    input_size: int,
    hidden_size: int,
    layers: Iterable[Mapping[str, Floats]],
    weights: str = "float32",
    embedding: Floats | None = None,
    proj_size: int = 0,
) -> _engine.Stack:
    """Layers packed for the engine.

    A layer has weight_ih [G*H, D or P], weight_hh [G*H, P], and may have bias_ih and bias_hh [G*H] and what a
    variant adds (see `unrolled.ops.cells`, Variant and LayerNorm): an LSTM's peephole [G-1, H]; zoneout_h [P] and
    zoneout_c [H] (a GRU: zoneout_h), the part of the state that stays as it was; where `proj_size` P is not 0, an
    LSTM's weight_hr [P, H]; and its gain_ih, gain_hh [G*H], gain_c and bias_c [H]. `cell` is lstm, lstm_coupled,
    gru, rnn_tanh or rnn_relu.

    `weights` is the format they are kept in: "float32", "bfloat16", or "int8" with a scale for each output. With
    int8 what is multiplied, inputs and states, is rounded to 7 bits with a scale for each row. Sums and states
    stay float32. Raises `InputError` for another format.

    With an `embedding` [V, D] the layers read symbols, int64 from 0 to V-1, where they else read D numbers. The
    bits are those of the embedding's rows; but the products with them are made here, and a step looks them up,
    unless they would take more than 32 MB.
    """
    if weights not in WEIGHTS:
        raise InputError(f"weights is {weights!r}, expected one of {', '.join(WEIGHTS)}")
    stack = _engine.Stack(cell, input_size, hidden_size, weights, embedding, proj_size)
    # A coupled cell runs in training as one with zoneout, of 0 where it has none, which makes a 0 of a -0.
    given = {"zoneout_c": np.zeros(hidden_size, np.float32)} if cell == "lstm_coupled" else {}
    for layer in layers:
        stack.add_layer(**{**given, **layer})
    return stack


class Stepper:
    """Packed recurrent layers with a state of their own, for `batch` rows that are stepped together.

    A row's outputs are the same bits whether it is stepped alone, in a batch, or run as a sequence cut anywhere.
    `stack` is the packed layers, which any number of steppers may share; the stepper itself is not for several
    threads at once. Where they have an embedding, inputs are symbols, without D. Raises `InputError` for a batch
    under 1.

    >>> layer = {"weight_ih": np.ones((4 * 3, 2), np.float32), "weight_hh": np.ones((4 * 3, 3), np.float32)}
    >>> stepper = Stepper(packed("lstm", 2, 3, [layer]))
    >>> y = stepper.step(np.ones((1, 2), np.float32))
    >>> bool((y == stepper.state.h[-1]).all())
    True
    """

    def __init__(self, stack: _engine.Stack, batch: int = 1) -> None:
        if not isinstance(batch, int | np.integer) or isinstance(batch, bool):
            raise InputError(f"batch is {batch!r}, expected a whole number")
        if batch < 1:
            raise InputError(f"batch is {batch}, expected at least 1")
        self.stack = stack
        widths = (stack.output_size, stack.hidden_size)[: 1 + stack.cell.startswith("lstm")]
        self._carry(zero_state(stack.layers, batch, widths))
        self._output_shape = (batch, stack.output_size)

    @property
    def state(self) -> State:
        """A copy of the state; assigning one of the same shapes takes it over."""
        return self._state.copy()

    @state.setter
    def state(self, state: State) -> None:
        if not isinstance(state, State):
            raise InputError(f"state is a {type(state).__name__}, expected a State, as `state` gives it")
        own = self._state
        for name, mine, theirs in (("h", own.h, state.h), ("c", own.c, state.c)):
            if _shape(theirs) != _shape(mine):
                raise InputError(f"state.{name}: expected shape {_shape(mine)}, got {_shape(theirs)}")
            if (kind := np.asarray(theirs).dtype).kind not in "fiu" and theirs is not None:
                raise InputError(f"state.{name}: expected numbers, got {kind}")
        c = None if state.c is None else np.array(state.c, np.float32, order="C")
        self._carry(State(np.array(state.h, np.float32, order="C"), c))

    def __copy__(self) -> Self:
        """Another with the same layers, that goes on from here on its own."""
        other = type(self)(self.stack, self._output_shape[0])
        other.state = self._state
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Stepper cannot be pickled, for its packed weights cannot; its state can")

    def _carry(self, state: State) -> None:
        """Make these arrays the state, which every step brings up to date."""
        self._state, self._steps = state, _engine.Steps(self.stack, state.h, state.c)

    def reset(self) -> None:
        """Forget everything: the state becomes zero."""
        self._state.h.fill(0)
        if self._state.c is not None:
            self._state.c.fill(0)

    def step(self, x: NDArray[Any], out: Floats | None = None) -> Floats:
        """Consume one step x [B, D]; returns the last layer's h [B, P].

        The result is a new array, or `out`; with `out` a step allocates nothing. Arrays are C-contiguous float32
        (symbols: int64): raises `TypeError` for others, `ValueError` for another shape, an unknown symbol or an
        `out` that shares memory with x, and consumes nothing then.
        """
        try:
            y: Floats = self._steps.step(x, out)
        except TypeError:
            _expect_array(x)  # only now: a step takes a microsecond
            raise
        return y

    def run(self, xs: NDArray[Any]) -> Floats:
        """Consume xs [T, B, D]; returns the last layer's h of every step, [T, B, P]. Raises as `step` does."""
        _expect_array(xs)
        batch = self._output_shape[0]
        if xs.shape[1:2] != (batch,):
            raise ValueError(f"x: expected {counted(batch, 'row')} at each step, got shape {list(xs.shape)}")
        y = np.empty((len(xs), *self._output_shape), np.float32)
        self.stack.run(xs, y, self._state.h, self._state.c)
        return y


def _expect_array(x: object) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x: expected an array of NumPy's, got a {type(x).__name__}") from None


def _shape(array: Floats | None) -> list[int] | None:
    return None if array is None else list(np.shape(array))
