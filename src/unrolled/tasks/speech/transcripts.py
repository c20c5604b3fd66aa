"""Sounds with what is said in them: a table of transcripts beside sound files, or the built-in tones.

A table is a TSV file in UTF-8 whose first line is `file<TAB>text`; each other line names a sound file, as seen
from the table's folder, and says what is spoken. Sounds are read when they are asked for, so that a set may be
far larger than memory. This file knows no model.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unrolled.errors import InputError, counted
from unrolled.examples import Refused
from unrolled.tasks.speech import audio, tones
from unrolled.tasks.speech.audio import Samples
from unrolled.texts import decoded

__all__ = ["BUILTIN", "HEADER", "Recordings", "builtin", "read", "select", "table"]

BUILTIN = "keypad-tones"
BUILTIN_COUNT = 2000
HEADER = "file\ttext"
HIGHEST_RATE = 16_000  # samples a second; more says little about speech


@dataclass(frozen=True)
class Recordings:
    """A set of sounds and transcripts.

    `sound(i)` reads the samples of number i at `rate`; `places` name each for an error; `seconds` its length;
    `fingerprint` is the SHA-256 of all sound files and transcripts.
    """

    names: tuple[str, ...]
    places: Sequence[str]
    texts: Sequence[str]
    seconds: Sequence[float]
    rate: int
    fingerprint: str
    sound: Callable[[int], Samples]

    def __len__(self) -> int:
        return len(self.texts)


def read(paths: Sequence[str | Path], rate: int | None, refused: Refused) -> Recordings:
    """The sounds of all tables in `paths` (each a TSV file, or a folder with one), every file read once over.

    `rate` (default: the lowest of the files, at most 16,000) is what sounds are resampled to. Raises
    `InputError` for a table that is not one; a sound that cannot be used goes to `refused`.
    """
    tables = [table(Path(path)) for path in paths]
    rows = [row for one in tables for row in _rows(one, refused)]
    usable: list[tuple[str, Path, str]] = []
    digest, rates = hashlib.sha256(), []
    for place, path, text in rows:
        try:
            rates.append(audio.rate_of(path))
        except InputError as error:
            refused(f"{place}: {error}")
            continue
        usable.append((place, path, text))
    chosen = rate or min([HIGHEST_RATE, *rates])
    places, files, texts, seconds = [], [], [], []
    for place, path, text in usable:
        try:
            length = len(audio.read(path, chosen))
        except InputError as error:
            refused(f"{place}: {error}")
            continue
        digest.update(text.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
        places.append(f"{place} ({path})")
        files.append(path)
        texts.append(text)
        seconds.append(length / chosen)
    if not texts:
        where = ", ".join(map(str, tables))
        raise InputError(f"{where}: there is no sound with a transcript that can be used{refused.first}")
    names = tuple(str(path) for path in paths)
    return Recordings(
        names, places, texts, seconds, chosen, digest.hexdigest(), lambda i: audio.read(files[i], chosen)
    )


def builtin(rate: int | None = None) -> Recordings:
    """Digit strings as keypad tones, the same every time."""
    chosen = rate or tones.RATE

    def dial(number: int) -> tuple[Samples, str]:
        return tones.dial(np.random.default_rng([0, number]))

    def sound(number: int) -> Samples:
        return audio.resample(dial(number)[0], tones.RATE, chosen)

    digest = hashlib.sha256()
    texts, seconds = [], []
    for number in range(BUILTIN_COUNT):
        samples, text = dial(number)
        digest.update(samples.tobytes() + text.encode())
        texts.append(text)
        seconds.append(len(samples) / tones.RATE)
    places = [f"{BUILTIN}, number {number}" for number in range(BUILTIN_COUNT)]
    return Recordings((BUILTIN,), places, texts, seconds, chosen, digest.hexdigest(), sound)


def select(recordings: Recordings, chosen: Sequence[int]) -> Recordings:
    """Some of a set, in the order of `chosen`; the fingerprint stays that of the whole."""
    return Recordings(
        recordings.names,
        [recordings.places[i] for i in chosen],
        [recordings.texts[i] for i in chosen],
        [recordings.seconds[i] for i in chosen],
        recordings.rate,
        recordings.fingerprint,
        lambda i: recordings.sound(int(chosen[i])),
    )


def table(path: Path) -> Path:
    """The table of transcripts that `path` is, or that is in the folder `path`.

    Raises `InputError` for a folder that does not have just one.
    """
    if not path.is_dir():
        return path
    tables = sorted(path.glob("*.tsv"))
    if len(tables) != 1:
        raise InputError(f"{path} is a folder with {len(tables)} TSV files, expected one with the transcripts.")
    return tables[0]


def _rows(table: Path, refused: Refused) -> list[tuple[str, Path, str]]:
    """Where each row stands, its sound file and its text."""
    try:
        lines = decoded(table.read_bytes()).removeprefix("\ufeff").split("\n")
    except FileNotFoundError as error:
        raise InputError(f"{table} does not exist; expected a TSV file of transcripts.") from error
    except OSError as error:
        raise InputError(f"{table} cannot be read: {error.strerror}.") from error
    except InputError as error:  # it may be a sound
        raise InputError(f"{table} is not a TSV of transcripts: {error}") from error
    if lines[0].rstrip("\r") != HEADER:
        raise InputError(f"{table}, line 1: found {lines[0][:80]!r}, expected the heading {HEADER!r}.")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if not (line := line.rstrip("\r")):
            continue
        place = f"{table}, line {number}"
        fields = line.split("\t")
        if len(fields) != 2:
            refused(f"{place}: found {counted(len(fields), 'column')}, expected 2: a file and its text")
        elif not (text := " ".join(fields[1].split())):
            refused(f"{place}: the text is empty, expected what is said in {fields[0]}")
        else:
            rows.append((place, table.parent / fields[0], text))
    return rows
