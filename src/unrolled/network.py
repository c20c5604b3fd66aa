"""Recurrent layers and a head on the engine: a model's weights, packed once.

A `Network` holds no state, and any number of streams share it; it does not know what its numbers mean.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled import _engine, kinds
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.stepper import State, packed, zero_state

__all__ = ["Network"]


class Network:
    """Recurrent layers and head, packed for the engine, with an embedding before them where the model has one.

    A row's outputs are the same bits whether it is stepped alone, in a batch, or as one long sequence. `symbols`
    is how many symbols an input may be, or None where inputs are `width` numbers a step; `outputs` is the width
    of what comes out. `weights` is the format of theirs in memory: see `unrolled.stepper.packed`.
    """

    def __init__(self, model: ModelFile, weights: str = "float32") -> None:
        tensors, sizes = model.tensors, model.architecture
        self._model, self.weights = model, weights
        embedding = tensors.get("embedding.weight")
        self.symbols = None if embedding is None else len(embedding)
        self.width: int = tensors["recurrent.0.weight_ih_l0"].shape[1]
        self.outputs = len(tensors["head.bias"])
        kind = kinds.named(sizes.cell)
        self.layers: int = sizes.layers
        self.state_widths = kind.state_widths(sizes.hidden)  # of h and, for an LSTM, of c
        zoneout = {
            f"zoneout_{name}": np.full(width, kind.zoneout, np.float32)
            for name, width in zip("hc", self.state_widths, strict=False)
            if kind.zoneout
        }
        names = [name for name, _ in kind.tensors(self.width, sizes.hidden)]
        layers = [
            {name: tensors[f"recurrent.{number}.{name}_l0"] for name in names} | zoneout
            for number in range(sizes.layers)
        ]
        projected = kind.arguments(sizes.hidden).get("proj_size", 0)
        self._stack = packed(kind.engine, self.width, sizes.hidden, layers, weights, embedding, projected)
        self._head = _engine.Linear(tensors["head.weight"], tensors["head.bias"], weights)

    def __reduce__(self) -> tuple[Any, ...]:
        return Network, (self._model, self.weights)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Network":
        return self  # which nothing changes

    def with_weights(self, weights: str) -> "Network":
        """The same model with its weights in another format."""
        return Network(self._model, weights)

    def initial_state(self, batch: int = 1) -> State:
        """The state before anything was consumed: zeros."""
        return zero_state(self.layers, batch, self.state_widths)

    def run(self, inputs: NDArray[Any], state: State) -> Floats:
        """Consume `inputs`, symbols [T, B] or numbers [T, B, width]; returns the outputs [T, B, outputs].

        `state` is brought up to date. Raises `ValueError` for an unknown symbol, and consumes nothing then.
        """
        x = np.ascontiguousarray(inputs, np.float32 if self.symbols is None else np.int64)
        hidden = np.empty((*x.shape[:2], self.state_widths[0]), np.float32)
        self._stack.run(x, hidden, state.h, state.c)
        return self._outputs(hidden)

    def last(self, state: State) -> Floats:
        """The outputs [B, outputs] of the step that `state` came from; before any step, those of zeros."""
        return self._outputs(state.h[-1])

    def _outputs(self, hidden: Floats) -> Floats:
        outputs = np.empty((*hidden.shape[:-1], self.outputs), np.float32)
        self._head.run(
            np.ascontiguousarray(hidden).reshape(-1, self.state_widths[0]), outputs.reshape(-1, self.outputs)
        )
        return outputs
