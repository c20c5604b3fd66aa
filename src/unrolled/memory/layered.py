"""Recurrent layers with a head, as the probes see them: models of text, label and speech."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from unrolled.memory.subject import States, Steps, Subject
from unrolled.modelfile import ModelFile
from unrolled.models.layers import Head, Layers

__all__ = ["Layered", "Member", "member", "numbers"]


class Member(NamedTuple):
    """Recurrent layers and the head on them."""

    layers: Layers
    head: nn.Linear


class Layered(Subject):
    """Members that read the same vectors; what they say is the mean of their logits.

    `enter` makes of inputs [T, ...] the vectors [T, width].
    """

    endless = True

    def __init__(
        self,
        members: Sequence[Member],
        enter: Callable[[NDArray[Any]], Tensor],
        inputs: list[NDArray[Any]],
        targets: list[NDArray[np.int64] | None],
        step: str,
    ) -> None:
        self._members = [
            Member(layers.requires_grad_(False), head.requires_grad_(False)) for layers, head in members
        ]
        self._enter = enter
        self.inputs, self.targets, self.step = inputs, targets, step
        self.classes = members[0].head.out_features

    def vectors(self, inputs: NDArray[Any]) -> Tensor:
        """What the layers read of inputs [T, ...]: [T, width]."""
        return self._enter(inputs)

    def beginning(self, sequences: Tensor) -> States:
        """Zeros."""
        return [
            tuple(torch.zeros(len(sequences), width) for width in layers.state_widths)
            for layers, _ in self._members
            for _ in layers
        ]

    def run(
        self, x: Tensor, sequences: Tensor, state: States | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Steps]]:
        """What the last layers give, [T, B, members, H], and each layer's steps, member by member."""
        state = self.beginning(sequences) if state is None else state
        outputs: list[Tensor] = []
        traces: list[Steps] = []
        for layers, _ in self._members:
            h = x
            for layer in layers:
                h0, *c0 = (part[None] for part in state[len(traces)])
                h, _, (trace,) = layer(h, (h0, *c0) if c0 else h0, lengths=lengths, trace=True)
                traces.append(Steps(*trace))
            outputs.append(h)
        return torch.stack(outputs, dim=-2), traces

    def logits(self, outputs: Tensor) -> Tensor:
        """The mean of the members' logits."""
        said = [head(outputs[..., number, :]) for number, (_, head) in enumerate(self._members)]
        return said[0] if len(said) == 1 else torch.stack(said).mean(0)


def member(file: ModelFile, prefix: str = "") -> Member:
    """The layers and the head of the tensors whose names begin with `prefix`."""
    sizes = file.architecture
    named = {
        name.removeprefix(prefix): torch.from_numpy(tensor)
        for name, tensor in file.tensors.items()
        if name.startswith(prefix)
    }
    width = named["recurrent.0.weight_ih_l0"].shape[1]
    layers = Layers(sizes.cell, width, sizes.hidden, sizes.layers)
    layers.load_state_dict(
        {name.removeprefix("recurrent."): one for name, one in named.items() if name.startswith("recurrent.")}
    )
    head = Head(layers.width, len(named["head.bias"]))
    head.load_state_dict({name: named[f"head.{name}"] for name in ("weight", "bias")})
    return Member(layers.eval(), head)


def numbers(inputs: NDArray[Any]) -> Tensor:
    """Inputs that are vectors already."""
    return torch.from_numpy(np.ascontiguousarray(inputs, np.float32))
