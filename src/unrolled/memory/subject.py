"""What the probes look at: a trained model that reads step by step, and passages of data run through it.

The same for every task. What stands before the recurrence is done once; the probes run what comes after it from
any step on, from any state.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled.errors import InputError

__all__ = ["LONGEST", "NO_TARGET", "Passages", "States", "Steps", "Subject", "losses"]

LONGEST = 2048  # steps of a passage
TOGETHER = 32 * LONGEST  # steps of all passages
MOST = 1024  # passages
LEAST = 100  # steps of all data
NO_TARGET = -1

States = list[tuple[Tensor, ...]]
"""For each layer what it carries, each [B, width], in the order of `Steps.carried`."""


class Steps(NamedTuple):
    """All that one recurrent layer computed: h [T, B, H]; an LSTM's c; its gates after activation [T, B, 4H] (of
    an RNN None); and a decoder's attended vector [T, B, E].
    """

    h: Tensor
    c: Tensor | None
    gates: Tensor | None
    attended: Tensor | None = None

    @property
    def carried(self) -> tuple[Tensor, ...]:
        """What goes from one step to the next."""
        return tuple(part for part in (self.h, self.c, self.attended) if part is not None)


@dataclass(frozen=True)
class Passages:
    """Passages of the data and what the model makes of them, each from its beginning on.

    `x` [T, B, width] is what the recurrence reads, `lengths` [B] how long each passage is, `sequences` [B] of
    which of the inputs it is; `targets` [T, B] are the classes that the model should say (-1 none), `logits`
    [T, B, V] what it says, and `traces` all states and gates, one for each layer. `contents` has for each passage
    what a person would call its steps.
    """

    x: Tensor
    lengths: Tensor
    sequences: Tensor
    targets: Tensor
    logits: Tensor
    traces: list[Steps]
    contents: list[Any]


class Subject(ABC):
    """A model and its data: one or many sequences.

    `inputs` are sequences [T, ...]; `targets` [T] are classes, or None where the model itself says what to expect
    (speech). `step` is what a step is called, `classes` how many the model tells apart; `endless` says whether it
    may read on and on, or begins anew with every sequence.
    """

    step: str
    inputs: list[NDArray[Any]]
    targets: list[NDArray[np.int64] | None]
    classes: int
    endless: bool

    @abstractmethod
    def vectors(self, inputs: NDArray[Any]) -> Tensor:
        """What the recurrence reads of inputs [T, ...]: [T, width]."""

    @abstractmethod
    def beginning(self, sequences: Tensor) -> States:
        """What the layers carry before the first step of these of the inputs."""

    @abstractmethod
    def run(
        self, x: Tensor, sequences: Tensor, state: States | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, list[Steps]]:
        """What comes out for x [T, B, width], [T, B, ...], and what each layer computed.

        `sequences` [B] says of which of the inputs each column is, `state` what was before (default: the
        beginning), `lengths` [B] how many steps of each count (default: all).
        """

    @abstractmethod
    def logits(self, outputs: Tensor) -> Tensor:
        """The logits [..., V] of what `run` gave."""

    def passages(self, seed: int = 0) -> Passages:
        """Passages of at most 2,048 steps, of some 65 thousand in all, chosen at random, run through the model.

        Raises `InputError` where all the data have fewer than 100 steps.
        """
        steps = sum(map(len, self.inputs))
        if steps < LEAST:
            raise InputError(f"the data have {steps} {self.step}s to look at, expected at least {LEAST}.")
        chosen = self._chosen(seed)
        contents = [self.inputs[number][start : start + LONGEST] for number, start in chosen]
        lengths = torch.tensor([len(one) for one in contents])
        sequences = torch.tensor([number for number, _ in chosen])
        x = nn.utils.rnn.pad_sequence([self.vectors(one) for one in contents])
        with torch.no_grad():
            outputs, traces = self.run(x, sequences, lengths=lengths)
            logits = self.logits(outputs)
        targets = torch.full(logits.shape[:2], NO_TARGET)
        for row, (number, start) in enumerate(chosen):
            known, end = self.targets[number], int(lengths[row])
            expected = logits[:end, row].argmax(-1) if known is None else torch.from_numpy(known[start:][:end])
            targets[:end, row] = expected
        return Passages(x, lengths, sequences, targets, logits, traces, contents)

    def _chosen(self, seed: int) -> list[tuple[int, int]]:
        """Sequences and the steps where a passage begins."""
        starts = [
            (number, start)
            for number, one in enumerate(self.inputs)
            if len(one)
            for start in range(0, max(1, len(one) - LONGEST // 2), LONGEST)
        ]
        chosen, together = [], 0
        for i in np.random.default_rng(seed).permutation(len(starts))[:MOST]:
            number, start = starts[i]
            together += min(LONGEST, len(self.inputs[number]) - start)
            chosen.append((number, start))
            if together >= TOGETHER:
                break
        return chosen


def losses(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss in nats of each of targets [...] under logits [..., V]."""
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)
