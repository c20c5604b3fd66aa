"""What the probes look at: a trained model's recurrent layers and head, and passages of data run through them.

The same for every task whose model is a front end, causal recurrent layers and a head (text, label, speech).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.models.layers import Head, Layers
from unrolled.nn import Trace
from unrolled.tasks.label import LabelModel
from unrolled.tasks.label.model import encode_labels
from unrolled.tasks.speech.model import SpeechModel
from unrolled.tasks.text import TextModel

__all__ = ["LONGEST", "Passages", "Subject", "subject"]

LONGEST = 2048  # steps of a passage
PASSAGES = 32
LEAST = 100  # steps of all data
NO_TARGET = -1


@dataclass(frozen=True)
class Passages:
    """Passages of the data and what the model makes of them, from the zero state on.

    `x` [T, B, width] is what the recurrent layers read, `lengths` [B] how long each passage is; `targets` [T, B]
    are the classes that the head should say (-1 none), `logits` [T, B, V] what it says, and `traces` all states
    and gates, one for each layer. `contents` has for each passage what a person would call its steps.
    """

    x: Tensor
    lengths: Tensor
    targets: Tensor
    logits: Tensor
    traces: list[Trace]
    contents: list[Any]


@dataclass(frozen=True)
class Subject:
    """A model's recurrent `layers` and `head`, in torch, and its data: one or many sequences.

    `inputs` are symbols [T] where there is an `embedding` [V, width], else numbers [T, width]; `targets` [T] are
    classes, or None where the model itself says what to expect (speech). `step` is what a step is called.
    """

    layers: Layers
    head: nn.Linear
    embedding: Tensor | None
    inputs: list[NDArray[Any]]
    targets: list[NDArray[np.int64] | None]
    step: str

    def vectors(self, inputs: NDArray[Any]) -> Tensor:
        """What the layers read of inputs [T, ...]: [T, ..., width]."""
        if self.embedding is None:
            return torch.from_numpy(np.ascontiguousarray(inputs, np.float32))
        return self.embedding[torch.from_numpy(inputs.astype(np.int64))]

    def run(
        self, x: Tensor, state: list[tuple[Tensor, ...]] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Trace]]:
        """What the last layer gives for x [T, B, width], and a trace of each layer.

        `state` has for each layer what it carries, each [B, H] (default zero).
        """
        traces = []
        for number, layer in enumerate(self.layers):
            before = None if state is None else [part[None] for part in state[number]]
            hx = before and (tuple(before) if len(before) == 2 else before[0])
            x, _, (trace,) = layer(x, hx, lengths=lengths, trace=True)
            traces.append(trace)
        return x, traces

    def passages(self, seed: int = 0) -> Passages:
        """Up to 32 passages of at most 2,048 steps, chosen at random, run through the model."""
        steps = sum(map(len, self.inputs))
        if steps < LEAST:
            raise InputError(f"the data have {steps} {self.step}s to look at, expected at least {LEAST}.")
        rng = np.random.default_rng(seed)
        starts = [
            (number, start)
            for number, one in enumerate(self.inputs)
            if len(one)
            for start in range(0, max(1, len(one) - LONGEST // 2), LONGEST)
        ]
        chosen = [starts[i] for i in rng.permutation(len(starts))[:PASSAGES]]
        contents = [self.inputs[number][start : start + LONGEST] for number, start in chosen]
        lengths = torch.tensor([len(one) for one in contents])
        x = nn.utils.rnn.pad_sequence([self.vectors(one) for one in contents])
        with torch.no_grad():
            h, traces = self.run(x, lengths=lengths)
            logits = self.head(h)
        targets = torch.full(logits.shape[:2], NO_TARGET)
        for row, (number, start) in enumerate(chosen):
            known, end = self.targets[number], int(lengths[row])
            expected = logits[:end, row].argmax(-1) if known is None else torch.from_numpy(known[start:][:end])
            targets[:end, row] = expected
        return Passages(x, lengths, targets, logits, traces, contents)


def losses(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss in nats of each of targets [...] under logits [..., V]."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)


def subject(model: Any, paths: Sequence[str | Path] = ()) -> Subject:
    """A trained model with data (default: what was held out of its training).

    Of a bidirectional label model, it is the part that reads forward. Raises `InputError` for models that are not
    of this form, and for data that the model cannot read.
    """
    if isinstance(model, TextModel):
        symbols = np.asarray(model.symbols(paths), np.int64)
        names = {"char": "character", "word": "word", "byte": "byte", "bpe": "piece"}
        step = names[model.vocabulary.level]
        return _of(model, "", [symbols[:-1]], [symbols[1:]], step)
    if isinstance(model, LabelModel):
        if model.file.architecture.members > 1:
            raise InputError(
                f"it has {model.file.architecture.members} members, whose mean is what it says; remember looks at "
                "models of one."
            )
        series = model.read(paths, Refused(False)) if paths else model.held_out()
        inputs = [model.features(one.inputs) for one in series]
        return _of(model, "members.0.", inputs, [encode_labels(one, model.classes) for one in series], "step")
    if isinstance(model, SpeechModel):
        recordings = model.recordings(paths)
        sounds = [recordings.sound(number) for number in range(len(recordings))]
        heard = [
            np.concatenate([bank.feed(one), bank.finish()]) for bank, one in ((model.filters(), s) for s in sounds)
        ]
        return _of(model, "", heard, [None] * len(heard), "step")
    raise InputError(
        f"its task is {model.file.task!r}; remember looks at models of text, label and speech, whose recurrent "
        "layers read their data step by step."
    )


def _of(
    model: Any, prefix: str, inputs: list[NDArray[Any]], targets: list[NDArray[np.int64] | None], step: str
) -> Subject:
    """The subject whose tensors begin with `prefix`."""
    sizes, tensors = model.file.architecture, model.file.tensors
    named = {
        name.removeprefix(prefix): torch.from_numpy(tensor)
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }
    width = named["recurrent.0.weight_ih_l0"].shape[1]
    layers = Layers(sizes.cell, width, sizes.hidden, sizes.layers)
    layers.load_state_dict(
        {name.removeprefix("recurrent."): one for name, one in named.items() if name.startswith("recurrent.")}
    )
    head = Head(sizes.hidden, len(named["head.bias"]))
    head.load_state_dict({name: named[f"head.{name}"] for name in ("weight", "bias")})
    embedding = torch.from_numpy(tensors["embedding.weight"]) if "embedding.weight" in tensors else None
    return Subject(
        layers.eval().requires_grad_(False), head.requires_grad_(False), embedding, inputs, targets, step
    )
