"""Strings of digits from the Free Spoken Digit Dataset, written as sound files with their transcripts.

Strings of 1 to 7 digits of one speaker with random pauses; those to test on are of clips of index 0 to 4, which
are never trained on. `benchmarks.tasks` trains on them and measures.
"""

import tempfile
import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unrolled.tasks.speech import audio, transcripts

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
    archive: Path,
    folder: Path,
    seed: int,
    speakers: Collection[str],
    indices: Collection[int],
    count: int,
    mixed: float = 0.0,
) -> Path:
    """Write `count` digit strings as WAV files into `folder`, with their transcripts; returns the TSV.

    Each is of one of `speakers`, of clips whose index is one of `indices`, with silence around and between them; a
    part `mixed` of them has a speaker drawn anew for each digit.
    """
    clips = _clips(archive, speakers, indices)
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted(speakers)
    rows = [transcripts.HEADER]
    for number in range(count):
        speaker = names[rng.integers(len(names))]
        digits = rng.integers(10, size=rng.integers(1, LONGEST + 1))
        each = mixed > 0 and rng.random() < mixed
        pieces = [_pause(rng)]
        for digit in digits:
            speaker = names[rng.integers(len(names))] if each else speaker
            recorded = clips[speaker, int(digit)]
            pieces += [recorded[rng.integers(len(recorded))], _pause(rng)]
        name = f"{number:05}_{speaker}.wav"
        audio.write(folder / name, np.concatenate(pieces), RATE)
        rows.append(f"{name}\t{''.join(map(str, digits))}")
    table = folder / "transcripts.tsv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return table


def compose_both(
    data: Path, folder: Path, seed: int, heard: Collection[str], tested: Collection[str], mixed: float = 0.0
) -> tuple[Path, Path]:
    """Strings to train on, of the speakers `heard`, and 500 to test on, of the speakers `tested`: two TSVs.

    `mixed` is that of `compose`, for training.
    """
    archive = data / "fsdd" / "recordings.zip"
    train = compose(archive, folder / "train", seed, heard, TRAIN_INDICES, TRAIN_COUNT, mixed)
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
