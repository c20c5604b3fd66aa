"""What narrow weights cost a trained text model; `benchmarks.kernels weights` says what they bring.

    python -m benchmarks.narrow MODEL [TEXT...]

Scores the model on TEXT (default: what was held out of its training), the state carried through, with its weights
in each format. Records it in `benchmarks/results/narrow.json`; the last line is the result as JSON.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.record import record
from unrolled import modelfile
from unrolled.stepper import WEIGHTS
from unrolled.tasks.text.model import TextModel

GOAL = 0.01  # nats a symbol more than with float32


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
        nats = TextModel(file, weights).score_symbols(symbols).nats
        lost = nats - (rows["float32"]["nats"] if rows else nats)
        rows[weights] = {"nats": nats, "more_than_float32": lost}
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
    record("narrow.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
