"""How much memory a pass forward and back takes at its peak, and what recomputing costs that needs less.

    python -m benchmarks.kernels.memory CELL NAME

prints the peak of one contestant, in bytes, in a process of its own: the resident set at its highest during the
pass less what it was before, when libraries, weights, input and the gradient of the output were there and one step
had been taken forward and back. Linux says both (VmHWM, VmRSS) and lets the first be reset. So all that a pass
takes counts: what is kept for the way back, the output itself, gradients of weights and input, working memory.
"""

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch

from benchmarks.kernels.peers import difference, fallback, pair
from benchmarks.kernels.row import OWN, Case, Trial
from benchmarks.kernels.training import drawn, exactly, train

__all__ = ["memory_cases"]

B, T, D, H = 32, 1000, 256, 256
CELLS = ("lstm", "gru")
EVERY = 64  # steps, between two states that are kept: four chunks of the engine's with 32 rows
KEPT = "all kept"


def memory_cases() -> Iterator[Case]:
    """As it comes, and with states kept every `EVERY` steps."""
    size = f"{B}-{T}-{D}-{H}"
    for cell in CELLS:
        goals = ({"torch": 2.0}, {"torch": 5.0}) if cell == "lstm" else ({}, {})
        yield Case(f"{cell}-{size}", partial(trial, cell, False), memory_goals=goals[0])
        yield Case(
            f"{cell}-{size}-recompute-{EVERY}",
            partial(trial, cell, True),
            {KEPT: 1 / 1.4},
            memory_goals=goals[1],
        )


def contestants(cell: str) -> dict[str, torch.nn.Module]:
    """All that are measured, by name."""
    kept, theirs = pair(cell, D, H)
    recomputing, _ = pair(cell, D, H, recompute=EVERY)
    return {KEPT: kept, "recompute": recomputing, "torch": theirs}


def trial(cell: str, recomputes: bool) -> Trial:
    """Check and make ready a row; memory is measured here, each contestant alone."""
    layers = contestants(cell)
    x, grad = drawn((B, T, D, H))
    own = "recompute" if recomputes else KEPT
    run = partial(train, layers[own], x, grad)
    exact, _ = pair(cell, D, H)
    wrong = difference(run(), exactly(exact, x, grad))
    chosen = {OWN: own, KEPT: KEPT, "torch": "torch"} if recomputes else {OWN: own, "torch": "torch"}
    return Trial(
        {name: partial(train, layers[layer], x, grad) for name, layer in chosen.items()},
        wrong or fallback(run, cell),
        memory={name: peak_alone(cell, layer) for name, layer in chosen.items()},
    )


def peak_alone(cell: str, name: str) -> float:
    """The peak of one contestant, in bytes, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.kernels.memory", cell, name]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def peak(layer: torch.nn.Module) -> int:
    """Bytes that a pass forward and back takes at its peak."""
    train(layer, *drawn((B, 1, D, H)))
    x, grad = drawn((B, T, D, H))
    Path("/proc/self/clear_refs").write_text("5")  # the peak is from now on
    before = resident("VmRSS")
    train(layer, x, grad)
    return resident("VmHWM") - before


def resident(what: str) -> int:
    """Bytes in memory, now (VmRSS) or at most (VmHWM)."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(what)]
    return int(line.split()[1]) << 10


if __name__ == "__main__":
    cell, name = sys.argv[1:]
    print(peak(contestants(cell)[name]))
