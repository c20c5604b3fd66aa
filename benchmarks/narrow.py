"""What narrow weights cost a trained text model, and what they bring it.

    python -m benchmarks.narrow MODEL [TEXT...]

Scores the model on TEXT (default: what was held out of its training), the state carried through, with its weights
in each format, and takes single steps with each. Records it in `benchmarks/results/narrow.json`; the last line is
the result as JSON.
"""

import argparse
import json
import sys
import timeit
from pathlib import Path
from typing import Any

from benchmarks import machine
from unrolled import modelfile
from unrolled.stepper import WEIGHTS
from unrolled.tasks.text.model import TextModel

RESULTS = Path("benchmarks/results")
GOAL = 0.01  # nats a symbol more than with float32
STEPS = 2000


def seconds_a_step(model: TextModel) -> float:
    """The best of five runs of steps one by one, logits and all."""
    stream = model.stream()
    return min(timeit.repeat(lambda: stream.step(0), number=STEPS // 5, repeat=5)) * 5 / STEPS


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path, nargs="*")
    arguments = parser.parse_args()
    file = modelfile.read(arguments.model)
    symbols = TextModel(file).symbols(arguments.texts)
    rows: dict[str, Any] = {}
    for weights in WEIGHTS:
        model = TextModel(file, weights)
        nats = model.score_symbols(symbols).nats
        rows[weights] = {"nats": nats, "seconds_a_step": float(f"{seconds_a_step(model):.4g}")}
        rows[weights]["more_than_float32"] = lost = nats - rows["float32"]["nats"]
        verdict = "" if lost < GOAL else f"  short of the goal of {GOAL}"
        print(f"{weights:9} {nats:.5f} nats  {lost:+.5f}{verdict}", file=sys.stderr)
    result = {
        "command": "python -m benchmarks.narrow MODEL",
        "machine": machine.describe(),
        "parameters": file.architecture.parameters,
        "training": file.training,
        "symbols": len(symbols),
        "weights": rows,
    }
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / "narrow.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
