"""What models are made of: their sizes, and the name and shape of every tensor, without torch.

One dataclass a task. `unrolled.models` makes the same tensors in torch, `unrolled.stream` packs them for the
engine, and `unrolled.modelfile` refuses a file that has others. This file knows no tensor's values.
"""

import typing
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np

__all__ = ["ARCHITECTURES", "Architecture", "TextArchitecture", "embedding", "linear", "recurrent"]

GATES = {"lstm": 4, "gru": 3, "rnn": 1}
MOST_LAYERS = 1000  # a damaged file may speak of 10^9

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model.

    A field is true or false, a whole number of at least 1 (or its metadata's `at_least`), or a text: one of its
    metadata's `choices`, and of the cells where it has none.
    """

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read what `dataclasses.asdict` wrote; `ValueError` says what does not fit."""
        hints = typing.get_type_hints(cls)
        known = {field.name: field.metadata for field in fields(cls)}
        if not isinstance(document, dict) or set(document) != set(known):
            raise ValueError(f"architecture must have {', '.join(known)}")
        for name, value in document.items():
            choices, least = known[name].get("choices", tuple(GATES)), known[name].get("at_least", 1)
            if hints[name] is str and (not isinstance(value, str) or value not in choices):
                raise ValueError(f"{name} {value!r} is not one of {', '.join(choices)}")
            if hints[name] is int and (type(value) is not int or value < least):
                raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")
            if hints[name] is bool and type(value) is not bool:
                raise ValueError(f"{name} is {value!r}, expected true or false")
            if name.endswith("layers") and value > MOST_LAYERS:
                raise ValueError(f"{name} is {value}, expected at most {MOST_LAYERS}")
        return cls(**document)


def embedding(name: str, symbols: int, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A table of one row a symbol."""
    yield f"{name}.weight", (symbols, width)


def linear(name: str, inputs: int, outputs: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A linear layer with a bias."""
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def recurrent(
    name: str, cell: str, inputs: int, hidden: int, layers: int, bidirectional: bool = False
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Recurrent layers, each a module of its own; a bidirectional one gives 2 `hidden` to the next."""
    rows = GATES[cell] * hidden
    directions = ("", "_reverse") if bidirectional else ("",)
    for layer in range(layers):
        width = len(directions) * hidden if layer else inputs
        for suffix in directions:
            yield f"{name}.{layer}.weight_ih_l0{suffix}", (rows, width)
            yield f"{name}.{layer}.weight_hh_l0{suffix}", (rows, hidden)
            yield f"{name}.{layer}.bias_ih_l0{suffix}", (rows,)
            yield f"{name}.{layer}.bias_hh_l0{suffix}", (rows,)


@dataclass(frozen=True)
class TextArchitecture(Architecture):
    """An embedding, recurrent layers, and a head over the same symbols.

    `symbols` is V (inputs and outputs), `embedding` the width of an embedded symbol, `hidden` H, `layers` L.
    """

    cell: str
    symbols: int
    embedding: int
    hidden: int
    layers: int

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        return dict(
            [
                *embedding("embedding", self.symbols, self.embedding),
                *recurrent("recurrent", self.cell, self.embedding, self.hidden, self.layers),
                *linear("head", self.hidden, self.symbols),
            ]
        )


ARCHITECTURES: dict[str, type[Architecture]] = {"text": TextArchitecture}
"""The architecture of each task's models."""
