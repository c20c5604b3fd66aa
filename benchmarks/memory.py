"""What docs/memory.md says of standard RNNs: weights set by hand, training, and gradients that vanish.

    python -m benchmarks.memory

Two measurements on the problem `order-2`, recorded in `benchmarks/results/memory.json`; the last line is the
result as JSON:

- a standard RNN set by hand (`unrolled.memory.byhand`) at each gap, and three trained ones as large;
- how the gradient of the last state by an input shrinks with the distance, for fresh networks of each cell.
"""

import argparse
import json
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from benchmarks.record import record
from unrolled.memory import byhand, drawn
from unrolled.memory.drawn import SequenceNetwork
from unrolled.memory.problems import PROBLEMS, Drawn
from unrolled.memory.trial import CELLS, TEST_SEED, Budget, Trial

GAPS = (10, 20, 50, 100, 200, 500, 1000)
SEEDS = 3
UNITS = 128
BACK = 200  # steps


def problem() -> Drawn:
    """Temporal order of two symbols."""
    found = PROBLEMS["order-2"]
    assert isinstance(found, Drawn)
    return found


def set_by_hand() -> list[dict[str, Any]]:
    """The wrong answers of the network set by hand, and of trained ones with as many units, at each gap."""
    network = byhand.order(2)
    units = network.recurrent.width
    size = sum(parameter.numel() for parameter in network.parameters())
    rows = []
    for gap in GAPS:
        test = problem().draw(gap, 512, np.random.default_rng(TEST_SEED))
        with torch.no_grad():
            said = network.answers(test)[-1].argmax(-1).numpy()
        trained = []
        for seed in range(SEEDS):
            torch.manual_seed(seed)
            (row,) = drawn.learn(
                problem(), Trial("order-2", "rnn", (gap,), seed), Budget(size, 3000, 32, 0.02, 10)
            )
            trained.append({name: row[name] for name in ("hidden", "error", "steps", "reached")})
        rows.append({"gap": gap, "by_hand": float((said != test.targets[-1]).mean()), "trained": trained})
        print(rows[-1], flush=True)
    return [{"units": units, "parameters": size, **row} for row in rows]


def gradients(network: SequenceNetwork) -> list[float]:
    """The size of the gradient of the last state by each input, the last first, as a part of the last one's.

    The median over 64 sequences, each by one random direction of the state.
    """
    sequences = problem().draw(BACK + 1, 64, np.random.default_rng(0))
    x = torch.from_numpy(sequences.inputs).requires_grad_()
    h, _ = network.recurrent(x)
    (h[-1] * torch.randn(h[-1].shape, generator=torch.Generator().manual_seed(0))).sum().backward()
    assert x.grad is not None
    sizes = x.grad.norm(dim=-1).flip(0)
    shares: list[float] = (sizes / sizes[0]).quantile(0.5, dim=1).tolist()
    return shares


def vanishing() -> dict[str, list[float]]:
    """`gradients` of a fresh network of each cell."""
    found = {}
    for cell in CELLS:
        torch.manual_seed(0)
        trial = Trial("order-2", cell, (BACK,), 0)
        found[cell] = gradients(SequenceNetwork(problem(), trial.kind, UNITS, trial.longest_gap))
    return found


def main() -> None:
    """Measure once and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    torch.set_num_threads(1)
    result = {
        "command": "python -m benchmarks.memory",
        "machine": machine.describe(),
        "gradients": vanishing(),
        "by_hand": set_by_hand(),
    }
    record("memory.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
