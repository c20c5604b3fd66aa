"""Digit strings from the Free Spoken Digit Dataset, and how well a speech model hears them.

    UNROLLED_DATA=../shared/data python -m benchmarks.fsdd [--seed 0] [--left-out SPEAKER]

Composes strings of 1 to 7 digits of one speaker with random pauses, trains by `configs/fsdd.toml`, and measures
the digit error rate on 500 strings of clips of index 0 to 4, which are never trained on. With `--left-out`, one
speaker is heard in the test alone. The last line is the result as JSON, which is also recorded in
`benchmarks/results/`.
"""

import argparse
import json
import os
import sys
import tempfile
import zipfile
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

import unrolled
from benchmarks import machine
from unrolled import settings
from unrolled.progress import train_with_progress
from unrolled.recipe import TrainOptions
from unrolled.tasks.speech import SpeechOptions, SpeechTask, audio, transcripts

CONFIG = Path("configs/fsdd.toml")
RESULTS = Path("benchmarks/results")
RATE = 8000
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
TEST_INDICES = range(5)
TRAIN_INDICES = range(5, 50)
TEST_SEED, TEST_COUNT = 1000, 500
TRAIN_COUNT = 4000
LONGEST = 7  # digits
PAUSE = (0.05, 0.4)  # seconds

Clips = dict[tuple[str, int], list[NDArray[np.float32]]]


def compose(
    archive: Path, folder: Path, seed: int, speakers: Collection[str], indices: Collection[int], count: int
) -> Path:
    """Write `count` digit strings as WAV files into `folder`, with their transcripts; returns the TSV.

    Each is of one of `speakers`, of clips whose index is one of `indices`, with silence around and between them.
    """
    clips = _clips(archive, speakers, indices)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(speakers)
    rows = [transcripts.HEADER]
    for number in range(count):
        speaker = names[rng.integers(len(names))]
        digits = rng.integers(10, size=rng.integers(1, LONGEST + 1))
        pieces = [_pause(rng)]
        for digit in digits:
            recorded = clips[speaker, int(digit)]
            pieces += [recorded[rng.integers(len(recorded))], _pause(rng)]
        name = f"{number:05}_{speaker}.wav"
        audio.write(folder / name, np.concatenate(pieces), RATE)
        rows.append(f"{name}\t{''.join(map(str, digits))}")
    table = folder / "transcripts.tsv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def compose_both(
    data: Path, folder: Path, seed: int, heard: Collection[str], tested: Collection[str]
) -> tuple[Path, Path]:
    """Strings to train on, of the speakers `heard`, and 500 to test on, of the speakers `tested`: two TSVs."""
    archive = data / "fsdd" / "recordings.zip"
    train = compose(archive, folder / "train", seed, heard, TRAIN_INDICES, TRAIN_COUNT)
    return train, compose(archive, folder / "test", TEST_SEED, tested, TEST_INDICES, TEST_COUNT)


def _clips(archive: Path, speakers: Collection[str], indices: Collection[int]) -> Clips:
    clips: Clips = {}
    with zipfile.ZipFile(archive) as zipped, tempfile.TemporaryDirectory() as folder:
        for name in sorted(zipped.namelist()):
            stem = name.rsplit("/", 1)[-1].removesuffix(".wav")
            if stem.count("_") != 2:
                continue
            digit, speaker, index = stem.split("_")
            if speaker in speakers and int(index) in indices:
                path = Path(zipped.extract(name, folder))
                clips.setdefault((speaker, int(digit)), []).append(audio.read(path, RATE))
    return clips


def _pause(rng: np.random.Generator) -> NDArray[np.float32]:
    return np.zeros(int(RATE * rng.uniform(*PAUSE)), np.float32)


def measure(
    archive: Path, seed: int, left_out: str | None, chosen: dict[str, Any], folder: Path
) -> dict[str, Any]:
    """Train one model in `folder` and measure it; `chosen` are settings beside those of the configuration."""
    heard = [speaker for speaker in SPEAKERS if speaker != left_out]
    train = compose(archive, folder / "train", seed, heard, TRAIN_INDICES, TRAIN_COUNT)
    tested = [left_out] if left_out else SPEAKERS
    test = compose(archive, folder / "test", TEST_SEED, tested, TEST_INDICES, TEST_COUNT)
    given = settings.read_toml(CONFIG) | chosen | {"seed": seed}
    speech_options, train_options = settings.fill([SpeechOptions, TrainOptions], given, str(CONFIG))
    out = folder / "model.safetensors"
    total, stolen = machine.processor_seconds()
    train_with_progress(SpeechTask(speech_options, [train], seed), train_options, out, False, Console(stderr=True))
    total_after, stolen_after = machine.processor_seconds()
    model = unrolled.load(out)
    return {
        "left_out": left_out,
        "test": model.evaluate([test]).figures,
        "parameters": model.file.architecture.parameters,
        "stolen_share_of_processor": round((stolen_after - stolen) / max(1e-9, total_after - total), 3),
        "training": model.file.training,
        "settings": {**asdict(speech_options), **asdict(train_options)},
    }


def main() -> None:
    """Measure once and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--left-out", choices=SPEAKERS)
    arguments = parser.parse_args()
    archive = Path(os.environ.get("UNROLLED_DATA", "../shared/data")) / "fsdd" / "recordings.zip"
    with tempfile.TemporaryDirectory() as folder:
        result = measure(archive, arguments.seed, arguments.left_out, {}, Path(folder))
    command = f"python -m benchmarks.fsdd --seed {arguments.seed}"
    if arguments.left_out:
        command += f" --left-out {arguments.left_out}"
    result = {"command": command, "machine": machine.describe(), **result}
    RESULTS.mkdir(parents=True, exist_ok=True)
    name = f"speech-fsdd-{arguments.left_out or 'all'}-seed{arguments.seed}.json"
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
    for decoding in ("greedy", "beam"):
        print(
            f"digit error rate, {decoding:7} {result['test'][decoding]['character_error_rate']:.4f}",
            file=sys.stderr,
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
