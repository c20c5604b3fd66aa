"""What becomes of a state that is never reset: a million steps of the data, round and round."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from unrolled.memory import ENDURANCE
from unrolled.memory.subject import NO_TARGET, States, Subject, losses

__all__ = ["Endurance", "endure"]

CHUNK = 8192
LOGITS = 1 << 22  # at a time
MEASURED = 40_000  # steps at the beginning, and at the end, whose loss is compared


@dataclass(frozen=True)
class Endurance:
    """How large the state is, and the loss, after so many steps.

    `sizes` are the root mean square of the state (c, where there is one) over the 8,192 steps before each of
    `steps`; `early` the mean loss in nats over the first 40,000 steps, and `late` when the same data came for the
    last time. Where they did not come again it is of the last steps, and not `comparable`. `finite` is whether the
    state was a number to the end.
    """

    steps: list[int]
    sizes: list[float]
    early: float
    late: float
    finite: bool
    comparable: bool = True


def endure(subject: Subject, steps: int = ENDURANCE) -> Endurance:
    """Run an endless subject through the data again and again for so many steps, the state carried on and on."""
    inputs = np.concatenate(subject.inputs)
    known = [
        np.full(len(one), NO_TARGET) if targets is None else targets
        for one, targets in zip(subject.inputs, subject.targets, strict=True)
    ]
    targets = np.concatenate(known)
    measured = min(MEASURED, max(1, steps // 2), len(inputs))
    last = (steps - measured) // len(inputs) * len(inputs) or steps - measured
    state: States | None = None
    at: list[int] = []
    sizes: list[float] = []
    early: list[Tensor] = []
    late: list[Tensor] = []
    for begin in range(0, steps, CHUNK):
        end = min(begin + CHUNK, steps)
        places = np.arange(begin, end) % len(inputs)
        with torch.no_grad():
            x = subject.vectors(inputs[places])[:, None]
            h, traces = subject.run(x, torch.zeros(1, dtype=torch.int64), state)
            state = [tuple(part[-1] for part in trace.carried) for trace in traces]
            if begin < measured:
                early.append(_losses(subject, h[: measured - begin], targets[places][: measured - begin]))
            if end > last and begin < last + measured:
                part = slice(max(0, last - begin), last + measured - begin)
                late.append(_losses(subject, h[part], targets[places][part]))
        if not at or begin >= 2 * at[-1] or end == steps:
            at.append(end)
            parts = [trace.h if trace.c is None else trace.c for trace in traces]
            sizes.append(float(torch.cat([part.flatten() for part in parts]).square().mean().sqrt()))
    comparable = last % len(inputs) == 0
    return Endurance(at, sizes, _mean(early), _mean(late), bool(np.isfinite(sizes).all()), comparable)


def _losses(subject: Subject, h: Tensor, targets: NDArray[np.int64]) -> Tensor:
    """The losses of the steps that have a target; where none has, how uncertain the model is."""
    part = max(1, LOGITS // subject.classes)
    found = []
    for begin in range(0, len(h), part):
        logits = subject.logits(h[begin : begin + part, 0])
        wanted = torch.from_numpy(targets[begin : begin + part])
        known = wanted != NO_TARGET
        if bool(known.any()):
            found.append(losses(logits[known], wanted[known]))
        else:
            found.append(losses(logits, logits.argmax(-1)))
    return torch.cat(found)


def _mean(found: list[Tensor]) -> float:
    return float(torch.cat(found).mean())
