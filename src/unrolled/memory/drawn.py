"""A fresh network learns a problem of numbers, whose sequences are drawn anew for every step of training."""

import math
from collections import deque

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled import kinds, optimizers
from unrolled.memory.problems import Drawn, Sequences
from unrolled.memory.trial import TEST_SEED, TESTED, Budget, Row, Trial, most_hidden
from unrolled.models.layers import Head, Layers
from unrolled.recipe import TrainOptions, learning_rate_factor

__all__ = ["SequenceNetwork", "learn"]

MEASURED_EVERY = 50  # steps, or a twentieth of them
NEARLY, RECENT = 2.0, 10  # the gap grows when the mean error of the last ten batches is below twice that of solved


class SequenceNetwork(nn.Module):
    """Steps of numbers in; a number, or the logits of classes, out."""

    def __init__(self, problem: Drawn, cell: str, hidden: int, longest_gap: int | None = None) -> None:
        super().__init__()
        self.recurrent = Layers(cell, problem.width, hidden, longest_gap=longest_gap)
        self.head = Head(self.recurrent.width, problem.outputs)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor, answers: int) -> Tensor:
        """Inputs [T, B, width] -> the outputs [answers, B, outputs] at the last steps."""
        h, _ = self.recurrent(inputs)
        outputs: Tensor = self.head(h[-answers:])
        return outputs

    def answers(self, sequences: Sequences) -> Tensor:
        """The outputs [S, B, outputs] where answers are due."""
        return self.forward(torch.from_numpy(sequences.inputs), len(sequences.targets))


def learn(problem: Drawn, trial: Trial, budget: Budget) -> list[Row]:
    """Training begins at a short gap, which grows by half whenever the network has nearly solved it.

    `reached` says how far it came. The error is measured at the trial's own gap on 512 sequences that training
    never draws, and the trial ends when it is low enough.
    """
    (gap,) = trial.gaps
    kind = kinds.named(trial.kind)
    hidden = most_hidden(
        budget.parameters,
        lambda units: kind.parameters(problem.width, units) + problem.outputs * (kind.width(units) + 1),
    )
    network = SequenceNetwork(problem, trial.kind, hidden, trial.longest_gap)
    moving = optimizers.make(network, TrainOptions())
    rng = np.random.default_rng([trial.seed, gap])
    test = problem.draw(gap, TESTED, np.random.default_rng(TEST_SEED))
    every = max(1, min(MEASURED_EVERY, budget.steps // 20))
    reached = max(problem.shortest, min(gap, budget.first_gap))
    recent: deque[float] = deque(maxlen=RECENT)
    error, step = math.nan, 0
    while step < budget.steps:
        optimizers.set_rate(moving, budget.lr * learning_rate_factor(step / budget.steps))
        sequences = problem.draw(reached, budget.batch, rng)
        outputs, targets = network.answers(sequences), torch.from_numpy(sequences.targets)
        _loss(outputs, targets).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), TrainOptions().clip)
        for optimizer in moving:
            optimizer.step()
            optimizer.zero_grad()
        step += 1
        recent.append(_error(problem, outputs.detach(), targets))
        nearly = len(recent) == RECENT and sum(recent) / RECENT < NEARLY * problem.solved(reached)
        if nearly and reached < gap:
            reached = min(gap, reached + max(1, reached // 2))
            recent.clear()
        if step % every == 0 or step == budget.steps:
            error = _tested(problem, network, test)
            if error < problem.solved(gap) or not math.isfinite(error):
                break
    parameters = sum(parameter.numel() for parameter in network.parameters())
    row = {
        "gap": gap,
        "error": error if math.isfinite(error) else None,
        "hidden": hidden,
        "parameters": parameters,
        "steps": step,
    }
    return [{**row, "reached": reached}]


def _tested(problem: Drawn, network: SequenceNetwork, test: Sequences) -> float:
    with torch.no_grad():
        return _error(problem, network.answers(test), torch.from_numpy(test.targets))


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return F.mse_loss(outputs[..., 0], targets)
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def _error(problem: Drawn, outputs: Tensor, targets: Tensor) -> float:
    """The error in the problem's measure: its loss, or the part of wrong answers."""
    if problem.measure == "wrong answers":
        return (outputs.argmax(dim=-1) != targets).float().mean().item()
    return _loss(outputs, targets).item()
