"""What a run gains by starting from a trained model, and at which learning rate: `unrolled train --start`.

    UNROLLED_DATA=../shared/data python -m benchmarks.start [--seed 0]

Text: 400,000 characters of tinyshakespeare's second half and 60,000 of them, measured on its last 100,000, from a
model of its first half and from one of Python's language reference. Sound: strings of digits of one speaker, from
a model of five others, measured on held-out strings and on clips that were not trained on. Each at several rates,
and beside random weights. Records it in `benchmarks/results`; the last line is the result as JSON.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import unrolled
from benchmarks import fsdd, machine
from benchmarks.data import at
from benchmarks.record import record
from unrolled.loop import Report

RATES = (0.02, 0.0067, 0.002)  # the default, a third of it and a tenth
SIZES = {"large": 400_000, "small": 60_000}  # characters
MEASURED = 100_000
STRANGER = "yweweler"
STRINGS = 150
SHAKESPEARE_STEPS, REFERENCE_STEPS, FIVE_STEPS = 2000, 1000, 500  # of the models to start from
TEXT_STEPS, SOUND_STEPS = 300, 150


def main() -> None:
    """Measure and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    with tempfile.TemporaryDirectory() as folder:
        rows = [*_texts(Path(folder), seed), *_sounds(Path(folder), seed)]
    result = {
        "command": f"python -m benchmarks.start --seed {seed}",
        "machine": machine.describe(),
        "rows": rows,
    }
    record(f"start-seed{seed}.json", result)
    print(json.dumps(result))


def _texts(folder: Path, seed: int) -> list[dict[str, Any]]:
    text = at("tinyshakespeare", "input.txt").read_text(encoding="utf-8")
    half, held_out = len(text) // 2, folder / "held-out.txt"
    text = text[:half] + "".join(
        filter(set(text[:half]).__contains__, text[half:])
    )  # without the 3 of Henry VI, Part 3
    held_out.write_text(text[-MEASURED:], encoding="utf-8")
    (folder / "first.txt").write_text(text[:half], encoding="utf-8")
    olds = {"Shakespeare": folder / "first.safetensors", "Python's reference": folder / "reference.safetensors"}
    unrolled.train(
        "text",
        folder / "first.txt",
        out=olds["Shakespeare"],
        seed=seed,
        steps=SHAKESPEARE_STEPS,
        held_out=held_out,
    )
    unrolled.train("text", out=olds["Python's reference"], seed=seed, steps=REFERENCE_STEPS)
    rows = []
    for size, characters in SIZES.items():
        data = folder / f"{size}.txt"
        data.write_text(text[half : half + characters], encoding="utf-8")
        given: dict[str, Any] = {"seed": seed, "steps": TEXT_STEPS, "held_out": held_out}
        fresh = _least("text", data, None, **given)
        for name, old in olds.items():
            rows.append(_told({"old": name, "data": size, **_from("text", data, old, **given), "random": fresh}))
    return rows


def _sounds(folder: Path, seed: int) -> list[dict[str, Any]]:
    others = [one for one in fsdd.SPEAKERS if one != STRANGER]
    five, test = fsdd.compose_both(at(), folder, seed, others, [STRANGER])
    archive = at("fsdd", "recordings.zip")
    own = fsdd.compose(archive, folder / "own", seed, [STRANGER], fsdd.TRAIN_INDICES, STRINGS)
    old = folder / "five.safetensors"
    unrolled.train("speech", five, out=old, seed=seed, steps=FIVE_STEPS)
    given: dict[str, Any] = {"seed": seed, "steps": SOUND_STEPS, "test": test}
    found = {"old": "five speakers", "data": "a sixth one", **_from("speech", own, old, **given)}
    return [_told({**found, "random": _least("speech", own, None, **given)})]


def _from(task: str, data: Path, old: Path, test: Path | None = None, **given: Any) -> dict[str, Any]:
    """A model as it is, and what runs that start from it come to at each rate."""
    runs = {str(rate): _least(task, data, old, test, lr=rate, **given) for rate in RATES}
    (before,) = {run.pop("before") for run in runs.values()}
    return {"itself": {"nats": before, **_wrong(unrolled.load(old), test)}, "rates": runs}


def _least(task: str, data: Path, old: Path | None, test: Path | None = None, **given: Any) -> dict[str, Any]:
    """The least held-out loss of a run's own steps, that of the model it starts from, and errors on a test."""
    measured: list[Report] = []

    def watch(report: Report) -> None:
        if report.held_out is not None:
            measured.append(report)

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "model.safetensors"
        model = unrolled.train(task, data, out=out, start=old, on_step=watch, **given)
    before = {} if old is None else {"before": measured[0].held_out}
    own = [one.held_out for one in measured if one.step and one.held_out is not None]
    return {"nats": min(own), **before, **_wrong(model, test)}


def _wrong(model: Any, test: Path | None) -> dict[str, float]:
    """The part of a test's strings of digits, each of which is one word, that a speech model gets wrong."""
    return {} if test is None else {"wrong": model.evaluate([test]).figures["greedy"]["word_error_rate"]}


def _told(row: dict[str, Any]) -> dict[str, Any]:
    rates = "  ".join(f"{rate}: {run['nats']:.3f}" for rate, run in row["rates"].items())
    itself, fresh = row["itself"]["nats"], row["random"]["nats"]
    print(f"{row['old']}, {row['data']}: itself {itself:.3f}  {rates}  random {fresh:.3f}", file=sys.stderr)
    return row


if __name__ == "__main__":
    main()
