"""A trained model run one step at a time, for ever, on NumPy and the engine alone.

A `Network` is a model's weights packed once; it holds no state and any number of streams share it. A `Stream`
is a network with a state of its own: what it has consumed so far, in constant memory. Neither knows what the
symbols mean.
"""

from dataclasses import dataclass
from typing import Any, Self

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
    """Recurrent layers and head, packed for the engine, with an embedding before them where the model has one.

    A row's outputs are the same bits whether it is stepped alone, in a batch, or as one long sequence. `symbols`
    is how many symbols an input may be, or None where inputs are `width` numbers a step; `outputs` is the width
    of what comes out.
    """

    def __init__(self, model: ModelFile) -> None:
        tensors, sizes = model.tensors, model.architecture
        self._embedding = tensors.get("embedding.weight")
        self.symbols = None if self._embedding is None else len(self._embedding)
        self.width: int = tensors["recurrent.0.weight_ih_l0"].shape[1]
        self.outputs = len(tensors["head.bias"])
        self._stack = _engine.Stack("rnn_tanh" if sizes.cell == "rnn" else sizes.cell, self.width, sizes.hidden)
        for layer in range(sizes.layers):
            names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            self._stack.add_layer(*(tensors[f"recurrent.{layer}.{name}_l0"] for name in names))
        self._head = _engine.Linear(tensors["head.weight"], tensors["head.bias"])
        self._state_shape = (sizes.layers, sizes.hidden)
        self._has_c = sizes.cell == "lstm"

    def initial_state(self, batch: int = 1) -> State:
        """The state before anything was consumed: zeros."""
        layers, hidden = self._state_shape
        shape = (layers, batch, hidden)
        return State(np.zeros(shape, np.float32), np.zeros(shape, np.float32) if self._has_c else None)

    def run(self, inputs: NDArray[Any], state: State) -> Floats:
        """Consume `inputs`, symbols [T, B] or numbers [T, B, width]; returns the outputs [T, B, outputs].

        `state` is brought up to date.
        """
        steps, batch = inputs.shape[:2]
        x = inputs if self._embedding is None else self._embedding[inputs]
        hidden = np.empty((steps, batch, self._state_shape[1]), np.float32)
        self._stack.run(np.ascontiguousarray(x, np.float32), hidden, state.h, state.c)
        outputs = np.empty((steps * batch, self.outputs), np.float32)
        self._head.run(hidden.reshape(steps * batch, self._state_shape[1]), outputs)
        return outputs.reshape(steps, batch, self.outputs)

    def checked(self, inputs: ArrayLike) -> NDArray[Any]:
        """Inputs of one stream, [T] or [T, width], as `run` takes them; raises `ValueError` for others."""
        sequence = np.asarray(inputs)
        if self.symbols is None:
            if sequence.ndim != 2 or sequence.shape[1] != self.width:
                raise ValueError(f"inputs: expected shape [T, {self.width}], got {list(sequence.shape)}")
            return sequence.astype(np.float32)
        if sequence.ndim != 1:
            raise ValueError(f"symbols: expected shape [T], got {list(sequence.shape)}")
        if sequence.size and sequence.dtype.kind not in "iu":
            raise TypeError(f"symbols: expected whole numbers, got {sequence.dtype}")
        sequence = sequence.astype(np.int64)
        if sequence.size and not 0 <= sequence.min() <= sequence.max() < self.symbols:
            raise ValueError(f"symbols: expected numbers from 0 to {self.symbols - 1}")
        return sequence


class Stream:
    """One stream through a network.

    `position` is how many steps it has consumed. Cutting a sequence anywhere changes no bit of the outputs.
    """

    def __init__(self, network: Network) -> None:
        self._network = network
        self._state = network.initial_state()
        self.position = 0

    def step(self, x: ArrayLike) -> Floats:
        """Consume one symbol, or numbers [width]; returns the outputs [outputs] of this step."""
        outputs: Floats = self.feed(np.asarray(x)[None])[0]
        return outputs

    def feed(self, inputs: ArrayLike) -> Floats:
        """Consume symbols [T], or numbers [T, width]; returns the outputs [T, outputs] of each step.

        For a text model these are the logits of the next symbol. Raises `ValueError` for an unknown symbol or
        another shape, and consumes nothing then.
        """
        sequence = self._network.checked(inputs)
        outputs = self._network.run(sequence[:, None], self._state)[:, 0]
        self.position += len(sequence)
        return outputs

    def reset(self) -> None:
        """Forget everything: the state becomes zero and the position 0."""
        self._state = self._network.initial_state()
        self.position = 0

    def fork(self) -> Self:
        """A second stream that goes on from here on its own."""
        other = type(self)(self._network)
        other._state, other.position = self._state.copy(), self.position
        return other
