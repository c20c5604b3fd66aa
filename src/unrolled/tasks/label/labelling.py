"""A label model on the engine: what it thinks of each step, and which event it then says.

Three ways to read a sequence: each step alone, as it comes (by all steps up to it), and offline (by all steps).
Saying another event than at the step before may cost something, so that one uncertain step makes no event.
"""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled import _engine
from unrolled.causal import Causal, Field, Lengths, Records
from unrolled.errors import InputError
from unrolled.floats import as_float32
from unrolled.modelfile import ModelFile
from unrolled.network import Network
from unrolled.softmax import log_softmax
from unrolled.tasks.label.fronts import Numbers, front, held
from unrolled.tasks.label.tables import is_gap

__all__ = ["Labeller", "SwitchFilter", "viterbi"]

Floats = NDArray[np.float32]
Classes = NDArray[np.int64]


class Labeller:
    """A label model's weights, packed once; it holds no state."""

    def __init__(self, file: ModelFile) -> None:
        sizes, tensors = file.architecture, file.tensors
        self.classes: int = sizes.classes
        self.bidirectional: bool = sizes.bidirectional
        self.front = front(file)
        self._alone = _engine.Linear(tensors["alone.weight"], tensors["alone.bias"])
        self.members = [Member(file, f"members.{number}.") for number in range(sizes.members)]

    def logits(self, inputs: Any) -> dict[str, Floats]:
        """The logits [T, classes] of a sequence's steps: `alone`, `causal` and, if bidirectional, `offline`."""
        x = self.front(inputs)
        alone = np.empty((len(x), self.classes), np.float32)
        self._alone.run(np.ascontiguousarray(x), alone)
        said = [member.logits(x) for member in self.members]
        return {"alone": alone, **{name: _mean([one[name] for one in said]) for name in said[0]}}

    def causal(self, file: ModelFile, classes: Sequence[str], penalty: float) -> Causal:
        """The part that reads forward, as a stream sees it."""
        networks = [member.network for member in self.members]
        front, reader = _Steps(file, self.front), _Events(classes, penalty)
        return Causal(file.fingerprint(), front, networks, self.classes, reader)


class Member:
    """The recurrent layers and heads of one member, its tensors those that begin with `prefix`."""

    def __init__(self, file: ModelFile, prefix: str) -> None:
        named = file.tensors.items()
        own = {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}
        self._classes: int = file.architecture.classes
        forward = {name: tensor for name, tensor in own.items() if name.startswith("recurrent.")}
        head = {name: own[f"head.{name}"] for name in ("weight", "bias")}
        self._backward: Network | None = None
        if file.architecture.bidirectional:
            # One product for both heads; what the backward layers add to the second comes later.
            ahead, back = np.split(own["offline.weight"], 2, axis=1)
            head["weight"] = np.concatenate([head["weight"], ahead])
            head["bias"] = np.concatenate([head["bias"], own["offline.bias"]])
            backward = {
                name.removeprefix("backward_"): tensor
                for name, tensor in own.items()
                if name.startswith("backward_recurrent.")
            }
            none = np.zeros_like(own["offline.bias"])
            self._backward = Network(_network(file, backward, {"weight": back, "bias": none}))
        self.network = Network(_network(file, forward, head))

    def logits(self, x: Floats) -> dict[str, Floats]:
        """The logits [T, classes] for x [T, width]: `causal` and, if bidirectional, `offline`."""
        ahead = self.network.run(x[:, None], self.network.initial_state())[:, 0]
        found = {"causal": ahead[:, : self._classes]}
        if self._backward is not None:
            turned = np.ascontiguousarray(x[::-1, None])
            back = self._backward.run(turned, self._backward.initial_state())[::-1, 0]
            found["offline"] = ahead[:, self._classes :] + back
        return found


def _mean(logits: Sequence[Floats]) -> Floats:
    """The mean of the members' logits, that is the geometric mean of what they hold likely."""
    mean: Floats = np.mean(logits, axis=0)
    return mean


def _network(file: ModelFile, recurrent: dict[str, Floats], head: dict[str, Floats]) -> ModelFile:
    """The model file of recurrent layers and a head alone, as `Network` takes it."""
    heads = {f"head.{name}": np.ascontiguousarray(tensor) for name, tensor in head.items()}
    return replace(file, tensors={**recurrent, **heads})


class _Steps:
    """The inputs of label models: numbers [T, width], words [T], or frames [T, side, side, 3] of bytes.

    Of numbers that may be missing, a stream keeps the last of each that was there.
    """

    unit = 1

    def __init__(self, file: ModelFile, front: Callable[[Any], Floats]) -> None:
        self._front = front
        self._kind: str = file.architecture.kind
        size: int = file.architecture.inputs
        dtypes: dict[str, np.dtype[Any] | None] = {
            "numbers": np.dtype("<f4"),
            "films": np.dtype("u1"),
            "words": None,
        }
        shapes: dict[str, tuple[int, ...]] = {"numbers": (size,), "films": (size, size, 3), "words": ()}
        self.dtype = dtypes[self._kind]
        self.shape = shapes[self._kind]
        self._gaps = isinstance(front, Numbers) and front.gaps
        self.fields: Sequence[Field] = [("held", "<f4", (size,))] if self._gaps else ()

    def checked(self, inputs: Any) -> NDArray[Any]:
        """The inputs of one stream as an array; raises `InputError` for what is not of the model's kind."""
        if self._kind == "words":
            if (
                not isinstance(inputs, Sequence)
                or isinstance(inputs, str)
                or not all(type(w) is str for w in inputs)
            ):
                raise InputError("words: expected a list of texts, one for each word")
            if "" in inputs:
                raise InputError(
                    f"words: word {list(inputs).index('') + 1} is empty, expected a character or more"
                )
            return np.array(list(inputs), object)
        films, shape = self._kind == "films", self.shape
        if isinstance(inputs, str):
            raise InputError(f"inputs: expected shape {_shown(shape)}, got a text")
        try:
            sequence = np.asarray(inputs)
        except ValueError as error:
            raise InputError(f"inputs: expected shape {_shown(shape)}, got rows of different length") from error
        if not sequence.size and sequence.ndim == 1:
            sequence = sequence.reshape(0, *shape)
        if sequence.shape[1:] != shape or not sequence.ndim:
            raise InputError(f"inputs: expected shape {_shown(shape)}, got {list(sequence.shape)}")
        if films and sequence.dtype != np.uint8:
            raise InputError(f"frames: expected bytes (uint8), got {sequence.dtype}")
        if sequence.dtype == object and any(map(is_gap, sequence.flat)):
            if not self._gaps:
                raise InputError("inputs: a number is missing: expected a model trained with --missing hold")
            with contextlib.suppress(TypeError, ValueError):
                sequence = sequence.astype(np.float64)
        if sequence.dtype.kind not in "iufb":
            raise InputError(f"inputs: expected numbers, got {sequence.dtype}")
        return sequence if films else as_float32(sequence, "inputs", self._gaps)

    def run(self, inputs: NDArray[Any], lengths: Lengths, states: Records) -> tuple[NDArray[Any], Lengths]:
        """Each input makes one step, whatever stands beside it, but for a number that is missing."""
        if not (self._gaps and isinstance(self._front, Numbers)):
            return self._front(inputs), lengths
        x, end = self._front.normalised(inputs), 0
        for row, length in enumerate(lengths.tolist()):
            begin, end = end, end + length
            if length:
                x[begin:end] = held(x[begin:end], states["held"][row])
                states["held"][row] = x[end - 1]
        return x, lengths


def _shown(shape: tuple[int, ...]) -> str:
    return f"[T, {', '.join(map(str, shape))}]"


class _Events:
    """The event of each step, by all steps up to it."""

    def __init__(self, classes: Sequence[str], penalty: float) -> None:
        self._classes, self._penalty = classes, penalty
        self.fields: Sequence[Field] = [("scores", "<f8", (len(classes),))] if penalty else []

    def read(self, outputs: Floats, state: np.void) -> list[str]:
        """The name of the event at each step [T], from logits [T, classes]."""
        if not self._penalty:
            return [self._classes[one] for one in outputs.argmax(-1)]
        switch = SwitchFilter(len(self._classes), self._penalty, state["scores"])
        found = switch.feed(outputs)
        state["scores"] = switch.scores
        return [self._classes[one] for one in found]


class SwitchFilter:
    """The class in which the likeliest course of classes up to now ends, where a change costs `penalty` nats.

    The forward half of Viterbi's algorithm: it never looks ahead. Without a penalty, the likeliest class of each
    step.
    """

    def __init__(self, classes: int, penalty: float, scores: NDArray[np.float64] | None = None) -> None:
        self._penalty = penalty
        self.scores = np.zeros(classes) if scores is None else scores

    def feed(self, logits: Floats) -> Classes:
        """The class at each of the next steps, from their logits [T, classes]."""
        found = np.empty(len(logits), np.int64)
        for t, likelihood in enumerate(log_softmax(logits)):
            stay_or_come = np.maximum(self.scores, self.scores.max() - self._penalty)
            self.scores = likelihood + stay_or_come
            self.scores -= self.scores.max()
            found[t] = int(self.scores.argmax())
        return found


def viterbi(logits: Floats, penalty: float) -> Classes:
    """The likeliest course of classes [T] as a whole, where a change costs `penalty` nats (Viterbi 1967)."""
    likelihoods = log_softmax(logits)
    steps, classes = likelihoods.shape
    came_from = np.empty((steps, classes), np.int64)
    scores, stay = np.zeros(classes), np.arange(classes)
    for t, likelihood in enumerate(likelihoods):
        best = int(scores.argmax())
        switched = scores[best] - penalty > scores
        came_from[t] = np.where(switched, best, stay)
        scores = likelihood + np.where(switched, scores[best] - penalty, scores)
    found = np.empty(steps, np.int64)
    now = int(scores.argmax())
    for t in range(steps - 1, -1, -1):
        found[t] = now
        now = int(came_from[t, now])
    return found
