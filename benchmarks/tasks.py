"""What a task reaches on real data, beside what others have published.

    UNROLLED_DATA=../shared/data python -m benchmarks.tasks NAME [--seed 0] [--minutes M] [--folder F]

NAME is gtea, 50salads, ewt, fsdd, fsdd-left-out, multi30k, mnist-pixels, mnist-permuted or mnist-scenes. Trains by
`configs/NAME.toml` as `unrolled train TASK --config` does, a model for each fold, measures each on test data that
neither training nor the choice of weights has seen, and records it all in `benchmarks/results/`. With a folder, a
run that was cut off goes on from what it left there. The last line is the result as JSON.
"""

import argparse
import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

import unrolled
from benchmarks import fsdd, machine, pixels, scenes
from benchmarks.data import at
from benchmarks.record import record
from unrolled import settings
from unrolled.examples import Refused
from unrolled.progress import train_with_progress
from unrolled.recipe import TrainOptions
from unrolled.run_files import checkpoint_path
from unrolled.tasks import TASKS
from unrolled.training import Run


@dataclass(frozen=True)
class Fold:
    """One model's data: what it trains on, what is held out while it does (None: a part of that), the test."""

    name: str
    train: list[Path]
    held_out: str | None
    test: list[Path]


@dataclass(frozen=True)
class Benchmark:
    """A data set: its task, its folds from (data folder, scratch folder, seed), and figures published for it."""

    task: str
    config: str
    folds: Callable[[Path, Path, int], Iterator[Fold]]
    peers: dict[str, Any]


def action_films(folder: str, count: int) -> Callable[[Path, Path, int], Iterator[Fold]]:
    """A fold for each of `count` splits: the other splits' films are trained on.

    `held_out` must name something, and is the test itself; with `keep = "last"` nothing is chosen by it.
    """

    def folds(data: Path, _: Path, __: int) -> Iterator[Fold]:
        files = [data / "action_segmentation" / folder / f"{number + 1}.mat" for number in range(count)]
        for test in files:
            yield Fold(f"split {test.stem}", [one for one in files if one != test], str(test), [test])

    return folds


def treebank(data: Path, _: Path, __: int) -> Iterator[Fold]:
    """Train, dev and test as released."""
    train, dev, test = (data / "ud_ewt" / f"en_ewt-ud-{part}.conllu.gz" for part in ("train", "dev", "test"))
    yield Fold("release", [train], str(dev), [test])


def digits(data: Path, folder: Path, seed: int) -> Iterator[Fold]:
    """Strings of all six speakers; clips of index 0 to 4 only in the test."""
    train, test = fsdd.compose_both(data, folder, seed, fsdd.SPEAKERS, fsdd.SPEAKERS)
    yield Fold("all speakers", [train], None, [test])


def digits_of_strangers(data: Path, folder: Path, seed: int) -> Iterator[Fold]:
    """A fold for each speaker, who is heard in the test alone; half of the training strings mix the others."""
    for speaker in fsdd.SPEAKERS:
        others = [one for one in fsdd.SPEAKERS if one != speaker]
        train, test = fsdd.compose_both(data, folder / speaker, seed, others, [speaker], mixed=0.5)
        yield Fold(speaker, [train], None, [test])


def sentence_pairs(data: Path, _: Path, __: int) -> Iterator[Fold]:
    """German to English; the validation pairs choose the weights."""
    train, valid, test = (
        [data / "multi30k" / f"{part}.{language}.gz" for language in ("de", "en")]
        for part in ("train", "val", "test_2016_flickr")
    )
    yield Fold("test_2016_flickr", train, ",".join(map(str, valid)), test)


def digit_scenes(data: Path, folder: Path, seed: int) -> Iterator[Fold]:
    """Scenes of MNIST's training digits, and 1,000 of its test digits."""
    scenes.write_both(data / "mnist", folder, seed)
    yield Fold("scenes", [folder / "train"], None, [folder / "test"])


def pixels_of_digits(permuted: bool) -> Callable[[Path, Path, int], Iterator[Fold]]:
    """MNIST's digits pixel by pixel; a twentieth of the training digits chooses the weights."""

    def folds(data: Path, folder: Path, _: int) -> Iterator[Fold]:
        train, test = pixels.write_both(data / "mnist", folder, permuted)
        yield Fold("t10k", [train], None, [test])

    return folds


BENCHMARKS = {
    "gtea": Benchmark(
        "label",
        "gtea",
        action_films("gtea", 3),
        {
            "per-frame SVM (Lea et al.)": {"accuracy": 53.1, "edit": 40.7, "f1@10": 46.8},
            "ED-TCN on richer features (Lea et al. 2017)": {"accuracy": 63.3, "edit": 65.6, "f1@10": 68.4},
        },
    ),
    "50salads": Benchmark(
        "label",
        "50salads",
        action_films("50salads_eval", 5),
        {
            "per-frame SVM (Lea et al.)": {"accuracy": 68.1, "edit": 29.7, "f1@10": 35.0},
            "ED-TCN at a higher frame rate (Lea et al. 2017)": {"accuracy": 73.6, "edit": 61.5, "f1@10": 63.9},
        },
    ),
    "ewt": Benchmark("label", "ewt", treebank, {"plain biLSTM with a character biLSTM": {"accuracy": 95.0}}),
    "fsdd": Benchmark("speech", "fsdd", digits, {"plain recipe, 150 s": {"digit error rate": 0.013}}),
    "fsdd-left-out": Benchmark(
        "speech", "fsdd-left-out", digits_of_strangers, {"plain recipe, one speaker": {"digit error rate": 0.32}}
    ),
    "multi30k": Benchmark(
        "translate",
        "multi30k",
        sentence_pairs,
        {"bidirectional GRU with attention, 20.5 million parameters": {"bleu": 28.3}},
    ),
    "mnist-pixels": Benchmark(
        "label",
        "mnist-pixels",
        pixels_of_digits(permuted=False),
        {"LSTM baselines": {"accuracy": [87.2, 98.9]}},
    ),
    "mnist-permuted": Benchmark(
        "label", "mnist-pixels", pixels_of_digits(permuted=True), {"LSTM baselines": {"accuracy": [85.7, 92.9]}}
    ),
    "mnist-scenes": Benchmark("caption", "mnist-scenes", digit_scenes, {}),
}


def train(benchmark: Benchmark, fold: Fold, given: dict[str, Any], out: Path) -> tuple[Any, dict[str, Any]]:
    """The model of one fold, and how it came to be."""
    kind = TASKS[benchmark.task]
    source = f"configs/{benchmark.config}.toml"
    chosen = {**kind.defaults, **settings.read_toml(Path(source)), **given, "held_out": fold.held_out}
    options, train_options = settings.fill([kind.Options, TrainOptions], chosen, source)
    task = kind(options, fold.train, train_options.seed)
    before = machine.processor_seconds()
    done = out.exists() and not checkpoint_path(out).exists()
    run = Run(task, train_options, out, checkpoint_path(out).exists())
    if not done and not train_with_progress(run, Console(stderr=True)):
        sys.exit(130)
    stolen = machine.stolen_share(before)
    model = unrolled.load(out)
    trained = {
        "parameters": model.file.architecture.parameters,
        "stolen_share_of_processor": stolen,
        "settings": {**asdict(options), **asdict(train_options)},
        "steps_done": model.file.training["steps_done"],
        "seconds": model.file.training["seconds"],
    }
    return model, trained


def pooled(models: list[Any], tests: list[list[Path]]) -> dict[str, Any]:
    """The scores over the films of all folds together, for each way of reading them."""
    pairs: dict[str, list[Any]] = {}
    for model, test in zip(models, tests, strict=True):
        for name, found in model.readings(model.read(test, Refused(False))).items():
            pairs.setdefault(name, []).extend(found)
    widest = max(models, key=lambda model: len(model.classes))
    return {name: widest.scored(found).figures() for name, found in pairs.items()}


def main() -> None:
    """Measure once and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BENCHMARKS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, help="in place of the configuration's steps or minutes")
    parser.add_argument("--folder", type=Path, help="keep data and models here, and go on from them")
    arguments = parser.parse_args()
    benchmark = BENCHMARKS[arguments.name]
    given = {"seed": arguments.seed} | ({"minutes": arguments.minutes} if arguments.minutes else {})
    data_folder = at()
    folds, models, tests = [], [], []
    keep = arguments.folder
    if keep:
        keep.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext(keep) if keep else tempfile.TemporaryDirectory() as folder:
        for fold in benchmark.folds(data_folder, Path(folder), arguments.seed):
            model, trained = train(benchmark, fold, given, Path(folder) / f"{fold.name}.safetensors")
            folds.append({"fold": fold.name, "test": model.evaluate(fold.test).figures, **trained})
            print(json.dumps(folds[-1]["test"]), file=sys.stderr)
            models.append(model)
            tests.append(fold.test)
    minutes = f" --minutes {arguments.minutes:g}" if arguments.minutes else ""
    result = {
        "command": f"python -m benchmarks.tasks {arguments.name} --seed {arguments.seed}{minutes}",
        "machine": machine.describe(),
        "peers": benchmark.peers,
        **({"pooled": pooled(models, tests)} if benchmark.task == "label" else {}),
        "folds": folds,
    }
    record(f"{benchmark.task}-{arguments.name}-seed{arguments.seed}.json", result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
