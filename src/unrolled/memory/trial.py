"""One trial: a fresh network learns one problem at one gap, until it has solved it or its steps are over."""

import math
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unrolled import optimizers
from unrolled.memory.problems import PROBLEMS, Problem, Sequences
from unrolled.models.layers import Head, Layers
from unrolled.recipe import TrainOptions, learning_rate_factor

__all__ = ["CELLS", "Budget", "Trial", "hidden_for", "learn"]

CELLS = ("rnn", "gru", "gru-chrono", "lstm", "lstm-chrono")
"""Standard RNN; gated recurrent unit; LSTM with forget bias 1; with chrono initialisation for the gap."""

TESTED = 512  # sequences that the error is measured on
TEST_SEED = 1 << 32
MEASURED_EVERY = 50  # steps, or a twentieth of them
NEARLY, RECENT = 2.0, 10  # the gap grows when the mean error of the last ten batches is below twice that of solved


@dataclass(frozen=True)
class Budget:
    """What every network of an experiment may use.

    The most parameters and steps, sequences a step, the learning rate, and the gap at which training begins.
    """

    parameters: int
    steps: int
    batch: int
    lr: float
    first_gap: int


@dataclass(frozen=True)
class Trial:
    """A network with this cell and seed, and the problem and gap that it is to learn."""

    problem: str
    cell: str
    gap: int
    seed: int


class SequenceNetwork(nn.Module):
    """Steps of numbers in, at every step a number or the logits of classes out."""

    def __init__(self, problem: Problem, cell: str, hidden: int, longest_gap: int) -> None:
        super().__init__()
        kind, _, chrono = cell.partition("-")
        self.recurrent = Layers(kind, problem.width, hidden, longest_gap=longest_gap if chrono else None)
        self.head = Head(hidden, problem.outputs)
        nn.init.zeros_(self.head.bias)

    def forward(self, inputs: Tensor, answers: int) -> Tensor:
        """Inputs [T, B, width] -> the outputs [answers, B, outputs] at the last steps."""
        h, _ = self.recurrent(inputs)
        outputs: Tensor = self.head(h[-answers:])
        return outputs

    def answers(self, sequences: Sequences) -> Tensor:
        """The outputs [S, B, outputs] where answers are due."""
        return self.forward(torch.from_numpy(sequences.inputs), len(sequences.targets))


def hidden_for(problem: Problem, cell: str, parameters: int) -> int:
    """The most hidden units (at least 1) with which the network has at most so many parameters."""
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[cell.partition("-")[0]]
    hidden = 1
    while _size(problem, gates, hidden + 1) <= parameters:
        hidden += 1
    return hidden


def _size(problem: Problem, gates: int, hidden: int) -> int:
    return gates * hidden * (problem.width + hidden + 2) + problem.outputs * (hidden + 1)


def learn(trial: Trial, budget: Budget) -> dict[str, Any]:
    """What came of a trial: `solved`, the `steps` and `seconds` it took, the last `error` beside that of `chance`.

    Training begins at a short gap, which grows by half whenever the network has nearly solved it, up to the
    trial's own: `reached` says how far it came. The error is measured at the trial's gap on 512 sequences that
    training never draws, every 50 steps or more often, and the trial ends when it is low enough. Runs in one
    thread, so that trials beside each other do not disturb each other and a seed gives the same numbers.
    """
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    problem = PROBLEMS[trial.problem]
    hidden = hidden_for(problem, trial.cell, budget.parameters)
    network = SequenceNetwork(problem, trial.cell, hidden, trial.gap)
    moving = optimizers.make(network, TrainOptions())
    rng = np.random.default_rng([trial.seed, trial.gap])
    test = problem.draw(trial.gap, TESTED, np.random.default_rng(TEST_SEED))
    every = max(1, min(MEASURED_EVERY, budget.steps // 20))
    reached = max(problem.shortest, min(trial.gap, budget.first_gap))
    recent: deque[float] = deque(maxlen=RECENT)
    error, step, started = math.nan, 0, time.monotonic()
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
        if nearly and reached < trial.gap:
            reached = min(trial.gap, reached + max(1, reached // 2))
            recent.clear()
        if step % every == 0 or step == budget.steps:
            error = _tested(problem, network, test)
            if error < problem.solved(trial.gap) or not math.isfinite(error):
                break
    return {
        "hidden": hidden,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "solved": error < problem.solved(trial.gap),
        "steps": step,
        "reached": reached,
        "error": error if math.isfinite(error) else None,
        "chance": problem.chance(trial.gap),
        "seconds": round(time.monotonic() - started, 1),
    }


def _tested(problem: Problem, network: SequenceNetwork, test: Sequences) -> float:
    with torch.no_grad():
        return _error(problem, network.answers(test), torch.from_numpy(test.targets))


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    if targets.is_floating_point():
        return F.mse_loss(outputs[..., 0], targets)
    return F.cross_entropy(outputs.flatten(0, 1), targets.flatten())


def _error(problem: Problem, outputs: Tensor, targets: Tensor) -> float:
    """The error in the problem's measure: its loss, or the part of wrong answers."""
    if problem.measure == "wrong answers":
        return (outputs.argmax(dim=-1) != targets).float().mean().item()
    return _loss(outputs, targets).item()
