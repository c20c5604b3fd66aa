"""A label model's weights on the engine: what it thinks of each step.

Three ways to read a sequence: each step alone, as it comes (by all steps up to it), and offline (by all steps).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from unrolled import _engine
from unrolled.floats import Floats
from unrolled.modelfile import ModelFile
from unrolled.network import Network
from unrolled.tasks.label.fronts import front

__all__ = ["Labeller"]


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
