"""What models are made of: their sizes, and the name and shape of every tensor, without torch.

One dataclass a task. `unrolled.models` makes the same tensors in torch, `unrolled.network` packs them for the
engine, and `unrolled.modelfile` refuses a file that has others. This file knows no tensor's values.
"""

import math
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, Self

from unrolled import kinds

__all__ = [
    "ARCHITECTURES",
    "BATCH_NORM",
    "CONVOLUTIONS",
    "CONVOLVED_MELS",
    "CONVOLVED_STACK",
    "FILM_CHANNELS",
    "FILM_GROUPS",
    "GRID_STAGES",
    "MOST_LAYERS",
    "NO_EVENT",
    "Architecture",
    "CaptionArchitecture",
    "Convolution",
    "ForecastArchitecture",
    "LabelArchitecture",
    "SpeechArchitecture",
    "TextArchitecture",
    "TranslateArchitecture",
    "convolved_context",
    "film_side",
    "grid_side",
]

MOST_LAYERS = 1000  # a damaged file may speak of 10^9

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Architecture:
    """The sizes of a model.

    A field is true or false, a whole number of at least 1 (or its metadata's `at_least`), tensors' names and
    shapes, or a text: one of its metadata's `choices` (any, where that is None), or a cell's name (`kinds`).
    """

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(math.prod(shape) for shape in self.shapes().values())

    @classmethod
    def from_json(cls, document: Any) -> Self:
        """Read what `dataclasses.asdict` wrote; `ValueError` says what does not fit."""
        hints = typing.get_type_hints(cls)
        known = {field.name: field.metadata for field in fields(cls)}
        if not isinstance(document, dict) or set(document) != set(known):
            raise ValueError(f"architecture must have {', '.join(known)}")
        for name, value in document.items():
            least = known[name].get("at_least", 1)
            if hints[name] is str and (expected := _unmet(value, known[name])):
                raise ValueError(f"{name} is {value!r}, expected {expected}")
            if hints[name] == Shapes and not _are_shapes(value):
                raise ValueError(f"{name} must have a list of whole numbers for each tensor")
            if hints[name] is int and (type(value) is not int or value < least):
                raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")
            if hints[name] is bool and type(value) is not bool:
                raise ValueError(f"{name} is {value!r}, expected true or false")
            if name in ("layers", "members") and value > MOST_LAYERS:
                raise ValueError(f"{name} is {value}, expected at most {MOST_LAYERS}")
        shapes = {name for name, hint in hints.items() if hint == Shapes}
        return cls(**{name: _tupled(value) if name in shapes else value for name, value in document.items()})


def _unmet(value: Any, metadata: Mapping[str, Any]) -> str:
    """What is expected of a text that does not meet it, else an empty text."""
    if not isinstance(value, str):
        return "a text"
    if "choices" not in metadata:
        return kinds.unmet(value)
    choices = metadata["choices"]
    return "" if choices is None or value in choices else f"one of {', '.join(choices)}"


def _are_shapes(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(shape, list | tuple) and all(type(side) is int and side >= 0 for side in shape)
        for shape in value.values()
    )


def _tupled(shapes: dict[str, Iterable[int]]) -> Shapes:
    return {name: tuple(shape) for name, shape in shapes.items()}


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
    """Recurrent layers, each a module of its own; a bidirectional one gives twice its h to the next."""
    kind = kinds.named(cell)
    directions = ("", "_reverse") if bidirectional else ("",)
    for layer in range(layers):
        width = len(directions) * kind.width(hidden) if layer else inputs
        for suffix in directions:
            for tensor, shape in kind.tensors(width, hidden):
                yield f"{name}.{layer}.{tensor}_l0{suffix}", shape


def decoder(
    name: str, cell: str, symbols: int, width: int, hidden: int, memory: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """A decoder with attention (`models.decoder`): symbols `width` wide, a memory `memory` wide."""
    yield from embedding(f"{name}.embedding", symbols, width)
    yield from recurrent(f"{name}.recurrent", cell, 2 * width, hidden, 1)
    yield from linear(f"{name}.initial", memory, sum(kinds.named(cell).state_widths(hidden)))
    yield f"{name}.keys.weight", (hidden, memory)
    yield f"{name}.values.weight", (width, memory)
    yield from linear(f"{name}.combine", hidden, width)
    yield f"{name}.bias", (symbols,)


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
                *linear("head", kinds.named(self.cell).width(self.hidden), self.symbols),
            ]
        )


class Convolution(NamedTuple):
    """A convolution over frames and filters of a filter bank, and the maximum of its places by so many.

    It has `times` the channels that the architecture names, and sees no frame to come.
    """

    times: int
    frames: int
    mels: int
    pooled_frames: int
    pooled_mels: int


CONVOLUTIONS = (Convolution(1, 5, 7, 2, 2), Convolution(2, 5, 5, 2, 2), Convolution(3, 5, 3, 1, 2))
"""What stands before the recurrent layers of a speech model with channels."""
BATCH_NORM = ("weight", "bias", "running_mean", "running_var")
"""The tensors of a normalisation over the batch."""
CONVOLVED_STACK = math.prod(one.pooled_frames for one in CONVOLUTIONS)
"""Frames that convolutions make a step of."""
CONVOLVED_MELS = math.prod(one.pooled_mels for one in CONVOLUTIONS)
"""Filters that convolutions make a place of; those that are left over count for nothing."""


def convolved_context() -> int:
    """Frames before a step's own that the convolutions see for it."""
    frames = 1
    for one in reversed(CONVOLUTIONS):
        frames = frames * one.pooled_frames + one.frames - 1
    return frames - CONVOLVED_STACK


@dataclass(frozen=True)
class SpeechArchitecture(Architecture):
    """Convolutions over a filter bank or none, recurrent layers, and a head over the symbols and CTC's blank.

    `mels` filters of `stack` frames are a step; `channels` is how many the first convolution has (0: there are
    none), `hidden` H, `layers` L, `symbols` V; the head gives V + 1, the blank last.
    """

    cell: str
    mels: int
    stack: int
    channels: int = field(metadata={"at_least": 0})
    hidden: int
    layers: int
    symbols: int

    @property
    def context(self) -> int:
        """Frames before a step's own that are seen for it."""
        return convolved_context() if self.channels else 0

    @property
    def width(self) -> int:
        """Numbers a step that the recurrent layers read."""
        if self.channels:
            return self.channels * CONVOLUTIONS[-1].times * (self.mels // CONVOLVED_MELS)
        return self.mels * self.stack

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        tensors: list[tuple[str, tuple[int, ...]]] = []
        before = 1
        for number, one in enumerate(CONVOLUTIONS if self.channels else ()):
            after = one.times * self.channels
            tensors += [(f"front.convolutions.{number}.weight", (after, before, one.frames, one.mels))]
            tensors += [(f"front.norms.{number}.{name}", (after,)) for name in BATCH_NORM]
            before = after
        tensors += recurrent("recurrent", self.cell, self.width, self.hidden, self.layers)
        tensors += linear("head", kinds.named(self.cell).width(self.hidden), self.symbols + 1)
        return dict(tensors)


FILM_CHANNELS = (16, 32, 32)
"""Channels of a film's convolutions, each 3 x 3 with stride 2."""
FILM_GROUPS = 4
"""Groups of channels in which each of them is normalised."""
NO_EVENT = -1
"""The target of a step that has no event, and does not count."""


def film_side(side: int) -> int:
    """Places across, and down, that the convolutions leave of a frame of `side` pixels."""
    return _halved(side, len(FILM_CHANNELS))


@dataclass(frozen=True)
class LabelArchitecture(Architecture):
    """A front end and `members`, each with a head for each use.

    A member has recurrent layers that read forward and, if `bidirectional`, as many that read backward.
    `kind` is what a step is: `inputs` numbers, a word of a vocabulary of `inputs` spelled with `characters`, or a
    film's frame of `inputs` x `inputs` pixels. `embedding` is the width of a word's vector or of what the
    convolutions make of a frame, `spelling` the units of each direction that read a word's characters; both are
    0 where there are none. `classes` is how many events there are, `hidden` H, `layers` L.
    """

    kind: str = field(metadata={"choices": ("numbers", "words", "films")})
    inputs: int
    characters: int = field(metadata={"at_least": 0})
    embedding: int = field(metadata={"at_least": 0})
    spelling: int = field(metadata={"at_least": 0})
    cell: str
    hidden: int
    layers: int
    bidirectional: bool
    members: int
    classes: int

    @property
    def width(self) -> int:
        """Numbers a step that the front end gives the recurrent layers."""
        return self.inputs if self.kind == "numbers" else self.embedding + 2 * self.spelling

    def _front(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        if self.kind == "words":
            yield from embedding("front.words", self.inputs, self.embedding)
            yield from embedding("front.characters", self.characters, self.spelling)
            yield from recurrent("front.spelling", "lstm", self.spelling, self.spelling, 1, bidirectional=True)
        if self.kind == "films":
            before = 3
            for number, channels in enumerate(FILM_CHANNELS):
                yield f"front.convolutions.{number}.weight", (channels, before, 3, 3)
                yield f"front.convolutions.{number}.bias", (channels,)
                yield f"front.norms.{number}.weight", (channels,)
                yield f"front.norms.{number}.bias", (channels,)
                before = channels
            yield from linear("front.out", before * film_side(self.inputs) ** 2, self.embedding)

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        layers = (self.cell, self.width, self.hidden, self.layers)
        width = kinds.named(self.cell).width(self.hidden)
        tensors = [*self._front(), *linear("alone", self.width, self.classes)]
        for member in (f"members.{number}" for number in range(self.members)):
            tensors += recurrent(f"{member}.recurrent", *layers)
            tensors += linear(f"{member}.head", width, self.classes)
            if self.bidirectional:
                tensors += recurrent(f"{member}.backward_recurrent", *layers)
                tensors += linear(f"{member}.offline", 2 * width, self.classes)
        return dict(tensors)


GRID_STAGES = 3
"""Stages of a picture's convolutions; each halves its side and, but for the first, doubles its channels."""


def grid_side(side: int) -> int:
    """Places across, and down, that the convolutions leave of a picture of `side` pixels."""
    return _halved(side, GRID_STAGES)


def _halved(side: int, times: int) -> int:
    """What convolutions of stride 2, so many, leave of a side."""
    for _ in range(times):
        side = (side + 1) // 2
    return side


@dataclass(frozen=True)
class CaptionArchitecture(Architecture):
    """Convolutions that make a grid of a picture, and a decoder that looks at it and gives a word at a time.

    `channels` is 1 for grey and 3 for RGB pictures of `size` x `size` pixels; `symbols` is V, `embedding` the
    width of an embedded symbol, `hidden` H. The convolutions are the model's own, with `width` channels after the
    first stage, or timm's network `backbone`, whose tensors are `backbone_tensors` and which makes a grid of
    `backbone_side` places across with `backbone_memory` numbers each; what is not used is "", {} or 0.
    """

    channels: int
    size: int
    width: int = field(metadata={"at_least": 0})
    backbone: str = field(metadata={"choices": None})
    backbone_tensors: Shapes
    backbone_side: int = field(metadata={"at_least": 0})
    backbone_memory: int = field(metadata={"at_least": 0})
    cell: str = field(metadata={"choices": kinds.PLAIN})
    symbols: int
    embedding: int
    hidden: int

    @property
    def memory(self) -> int:
        """M, the numbers of a place of the grid: the channels of the last stage."""
        return self.backbone_memory if self.backbone else self.width << GRID_STAGES - 1

    @property
    def side(self) -> int:
        """Places of the grid across, and down."""
        return self.backbone_side if self.backbone else grid_side(self.size)

    def _grid(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        before = self.channels
        for stage in range(GRID_STAGES):
            after = self.width << stage
            for name, inputs in (("reduce", before), ("first", after), ("second", after)):
                yield f"grid.{stage}.{name}.weight", (after, inputs, 3, 3)
                for part in BATCH_NORM:
                    yield f"grid.{stage}.{name}_norm.{part}", (after,)
            before = after

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        named = ((f"grid.{name}", shape) for name, shape in self.backbone_tensors.items())
        position = ("position", (self.memory, self.side, self.side))
        sizes = (self.cell, self.symbols, self.embedding, self.hidden, self.memory)
        return dict([*(named if self.backbone else self._grid()), position, *decoder("decoder", *sizes)])


@dataclass(frozen=True)
class TranslateArchitecture(Architecture):
    """An embedding, bidirectional recurrent layers, and a decoder that attends to what they give.

    `source_symbols` and `target_symbols` count the sign that ends a sentence; `embedding` is the width of an
    embedded symbol on both sides, `hidden` H of each direction and of the decoder, `layers` L of the encoder.
    """

    cell: str = field(metadata={"choices": kinds.PLAIN})
    source_symbols: int
    target_symbols: int
    embedding: int
    hidden: int
    layers: int

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        memory = 2 * self.hidden
        return dict(
            [
                *embedding("embedding", self.source_symbols, self.embedding),
                *recurrent("encoder", self.cell, self.embedding, self.hidden, self.layers, bidirectional=True),
                *decoder("decoder", self.cell, self.target_symbols, self.embedding, self.hidden, memory),
            ]
        )


@dataclass(frozen=True)
class ForecastArchitecture(Architecture):
    """Recurrent layers with a head over `inputs` numbers a step and what a linear map of the last `lags` of each
    target gives, to which they add; with no lags there is no such map.

    Each of `targets` has three outputs of the head: its median, and how far its range goes down and up from there,
    in units of `spread`. `hidden` is H, `layers` L.
    """

    inputs: int
    targets: int
    lags: int = field(metadata={"at_least": 0})
    cell: str
    hidden: int
    layers: int

    @property
    def kind(self) -> str:
        """What a step is, in the words of `LabelArchitecture`."""
        return "numbers"

    @property
    def width(self) -> int:
        """Numbers a step that the recurrent layers read."""
        return self.inputs + (self.targets if self.lags else 0)

    def shapes(self) -> Shapes:
        """The name and shape of every tensor, as torch names them."""
        tensors = [
            *recurrent("recurrent", self.cell, self.width, self.hidden, self.layers),
            *linear("head", kinds.named(self.cell).width(self.hidden), 3 * self.targets),
            ("spread", (self.targets,)),
        ]
        if self.lags:
            tensors += [("lags.weight", (self.targets, self.lags)), ("lags.bias", (self.targets,))]
        return dict(tensors)


ARCHITECTURES: dict[str, type[Architecture]] = {
    "caption": CaptionArchitecture,
    "forecast": ForecastArchitecture,
    "label": LabelArchitecture,
    "speech": SpeechArchitecture,
    "text": TextArchitecture,
    "translate": TranslateArchitecture,
}
"""The architecture of each task's models."""
