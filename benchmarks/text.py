"""Held-out loss on tinyshakespeare after three minutes of training on this machine.

    UNROLLED_DATA=../shared/data python -m benchmarks.text [--seed 0] [--cell lstm]

Trains by `configs/tinyshakespeare.toml`, as `unrolled train text --config` does, scores the best model on the
last tenth of the text with the state carried through and in windows of 64, sets two n-grams beside it, and
records all of it in `benchmarks/results/`. The last line is the result as JSON.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

import unrolled
from benchmarks import machine
from benchmarks.data import at
from benchmarks.record import record
from unrolled import settings
from unrolled.progress import train_with_progress
from unrolled.recipe import TrainOptions
from unrolled.tasks.text import TextOptions, TextTask, ngram
from unrolled.training import Run

CONFIG = Path("configs/tinyshakespeare.toml")
OF_CELL = {"rnn": {"lr": 0.01}}  # a standard RNN diverges at the rate of the others


def main() -> None:
    """Measure once and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cell", choices=("lstm", "gru", "rnn"), default="lstm")
    arguments = parser.parse_args()
    text = at("tinyshakespeare", "input.txt")
    chosen = settings.read_toml(CONFIG) | {"seed": arguments.seed, "cell": arguments.cell}
    chosen |= OF_CELL.get(arguments.cell, {})
    text_options, train_options = settings.fill([TextOptions, TrainOptions], chosen, str(CONFIG))
    task = TextTask(text_options, [text], arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        before = machine.processor_seconds()
        train_with_progress(Run(task, train_options, out), Console(stderr=True))
        stolen = machine.stolen_share(before)
        model = unrolled.load(out)
    held_out, train, size = task.corpus.held_out, task.corpus.train, task.corpus.vocabulary.size
    result: dict[str, Any] = {
        "command": f"python -m benchmarks.text --seed {arguments.seed} --cell {arguments.cell}",
        "machine": machine.describe(),
        "stolen_share_of_processor": stolen,
        "held_out_nats": model.score_symbols(held_out).nats,
        "held_out_nats_windows_of_64": model.score_symbols(held_out, 64).nats,
        "unigram_nats": ngram.unigram(train, held_out, size),
        "5gram_nats": ngram.ngram(train, held_out, size),
        "parameters": model.file.architecture.parameters,
        "training": model.file.training,
        "settings": {**asdict(text_options), **asdict(train_options)},
    }
    record(f"text-tinyshakespeare-{arguments.cell}-seed{arguments.seed}.json", result)
    for key in ("held_out_nats", "held_out_nats_windows_of_64", "5gram_nats", "unigram_nats"):
        print(f"{key:30} {result[key]:.4f}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
