"""A trained model run one step at a time, for ever, on NumPy and the engine alone.

A `Network` is a model's weights packed once; it holds no state and any number of streams share it. A `Stream`
is a network with a state of its own: what it has consumed so far, in constant memory. Neither knows what the
symbols mean.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from unrolled import _engine
from unrolled.modelfile import ModelFile

__all__ = ["Network", "State", "Stream"]

Floats = NDArray[np.float32]


@dataclass
class State:
    """What the recurrent layers carry from one step to the next: h and, for an LSTM, c, each [L, B, H]."""

    h: Floats
    c: Floats | None

    def copy(self) -> "State":
        """A state of its own with the same values."""
        return State(self.h.copy(), None if self.c is None else self.c.copy())


class Network:
    """Embedding, recurrent layers and head, packed for the engine.

    A row's outputs are the same bits whether it is stepped alone, in a batch, or as one long sequence.
    """

    def __init__(self, model: ModelFile) -> None:
        architecture, tensors = model.architecture, model.tensors
        self.symbols = architecture.symbols
        self._embedding = tensors["embedding.weight"]
        cell = "rnn_tanh" if architecture.cell == "rnn" else architecture.cell
        self._stack = _engine.Stack(cell, architecture.embedding, architecture.hidden)
        for layer in range(architecture.layers):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self._stack.add_layer(*(tensors[f"recurrent.{layer}.{name}_l0"] for name in names))
        self._head = _engine.Linear(tensors["head.weight"], tensors["head.bias"])
        self._state_shape = (architecture.layers, architecture.hidden)
        self._has_c = architecture.cell == "lstm"

    def initial_state(self, batch: int = 1) -> State:
        """The state before anything was consumed: zeros."""
        layers, hidden = self._state_shape
        shape = (layers, batch, hidden)
        return State(np.zeros(shape, np.float32), np.zeros(shape, np.float32) if self._has_c else None)

    def run(self, symbols: NDArray[np.integer], state: State) -> Floats:
        """Consume `symbols` [T, B]; `state` is brought up to date; returns logits [T, B, V]."""
        steps, batch = symbols.shape
        embedded = self._embedding[symbols]
        outputs = np.empty((steps, batch, self._state_shape[1]), np.float32)
        self._stack.run(embedded, outputs, state.h, state.c)
        logits = np.empty((steps * batch, self.symbols), np.float32)
        self._head.run(outputs.reshape(steps * batch, self._state_shape[1]), logits)
        return logits.reshape(steps, batch, self.symbols)


class Stream:
    """One stream through a network.

    `position` is how many symbols it has consumed. Cutting a sequence anywhere changes no bit of the outputs.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._state = network.initial_state()
        self.position = 0

    def step(self, symbol: int) -> Floats:
        """Consume one symbol; returns the logits [V] of the next."""
        logits: Floats = self.feed([symbol])[0]
        return logits

    def feed(self, symbols: ArrayLike) -> Floats:
        """Consume symbols [T]; returns the logits [T, V] after each. Raises `ValueError` for an unknown one."""
        sequence = np.asarray(symbols)
        if sequence.ndim != 1:
            raise ValueError(f"symbols: expected shape [T], got {list(sequence.shape)}")
        if sequence.size and sequence.dtype.kind not in "iu":
            raise TypeError(f"symbols: expected whole numbers, got {sequence.dtype}")
        sequence = sequence.astype(np.int64)
        if sequence.size and not 0 <= sequence.min() <= sequence.max() < self._network.symbols:
            raise ValueError(f"symbols: expected numbers from 0 to {self._network.symbols - 1}")
        logits = self._network.run(sequence[:, None], self._state)[:, 0]
        self.position += len(sequence)
        return logits

    def reset(self) -> None:
        """Forget everything: the state becomes zero and the position 0."""
        self._state = self._network.initial_state()
        self.position = 0

    def fork(self) -> Self:
        """A second stream that goes on from here on its own."""
        other = type(self)(self._network)
        other._state, other.position = self._state.copy(), self.position
        return other
