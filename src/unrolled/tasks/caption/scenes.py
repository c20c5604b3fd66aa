"""Scenes of handwritten digits, with captions that say which digit is where.

A scene has one to four digits in one or two rows of one or two, and one caption, in the order of reading: "a three
to the left of a seven", "a three above a seven", "above, a three to the left of a seven; below, an eight". A
caption stands for one arrangement of digits and no other.
"""

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import unrolled.cache
from unrolled.atomic import replacing
from unrolled.examples import divide
from unrolled.extras import extra
from unrolled.tasks.caption.pictures import CAPTIONS, pillow

__all__ = ["BUILTIN", "Scene", "builtin", "caption", "compose", "sklearn_digits", "write"]

BUILTIN = "digit-scenes"
SEED = 0  # of what is kept: another one where scenes are made in another way
TRAIN_SCENES, HELD_OUT_SCENES = 12_000, 1_000
SIZE, SIDE = 32, 12  # pixels of a built-in scene and of a digit in it
DIGITS = 2  # of a built-in scene

LAYOUTS = {1: ((1,),), 2: ((2,), (1, 1)), 3: ((2, 1), (1, 2)), 4: ((2, 2),)}  # digits of each row, from the top
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True)
class Scene:
    """`pixels` [S, S], grey, white on black, and the caption."""

    pixels: NDArray[np.uint8]
    caption: str


def caption(rows: Sequence[Sequence[int]]) -> str:
    """What a scene of these rows of digits says."""
    said = [
        " to the left of ".join(f"{'an' if digit == 8 else 'a'} {NAMES[digit]}" for digit in row) for row in rows
    ]
    if len(rows) == 1:
        return said[0]
    return " above ".join(said) if all(len(row) == 1 for row in rows) else f"above, {said[0]}; below, {said[1]}"


def compose(
    digits: NDArray[np.uint8],
    labels: NDArray[np.integer],
    count: int,
    *,
    size: int,
    side: int,
    turn: float = 15.0,
    least: int = 2,
    most: int = 4,
    seed: int = 0,
) -> Iterator[Scene]:
    """`count` scenes of `size` x `size` pixels, of `least` to `most` digits drawn from `digits` [N, h, w].

    A digit is about `side` pixels wide and high, up to 15 % more or less, and turned by up to `turn` degrees.
    `labels` [N] are 0 to 9. The same seed gives the same scenes.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        layouts = LAYOUTS[int(rng.integers(least, most + 1))]
        layout = layouts[int(rng.integers(len(layouts)))]
        drawn = [rng.integers(len(digits), size=columns) for columns in layout]
        pixels = np.zeros((size, size), np.uint8)
        for row, places in zip(drawn, _places(layout, size, side, rng), strict=True):
            for digit, (top, left) in zip(row, places, strict=True):
                _paste(pixels, _drawn(digits[digit], side, turn, rng), top, left)
        yield Scene(pixels, caption([[int(label) for label in labels[row]] for row in drawn]))


def write(folder: Path, scenes: Iterator[Scene]) -> None:
    """Write scenes as PNG files and, when all are there, a captions.txt, in the form that `pictures` reads."""
    library = pillow()
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(folder / CAPTIONS) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(["image", "caption"])
        for number, scene in enumerate(scenes):
            name = f"{number:05}.png"
            library.Image.fromarray(scene.pixels).save(folder / name)
            rows.writerow([name, scene.caption])


def sklearn_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """scikit-learn's handwritten digits: pictures [1797, 8, 8] from 0 to 255, and which digit each is [1797]."""
    with extra("pictures", "the built-in scenes need scikit-learn"):
        from sklearn.datasets import load_digits
    data = load_digits()
    return np.round(data.images * (255 / 16)).astype(np.uint8), data.target.astype(np.int64)


def builtin() -> tuple[Path, Path]:
    """Two folders: 12,000 scenes to train on, of one or two of scikit-learn's digits, and 1,000 held out, of two.

    A tenth of the digits is in the held-out scenes alone. Single digits are what the network learns to see from:
    with two from the start, it takes several times as long to find out which word is which digit. The folders are
    written where they are not yet; raises `InputError` where they cannot be.
    """
    with unrolled.cache.folder(f"scenes-{SEED}") as cache:
        folders = cache / "train", cache / "held-out"
        if not all((folder / CAPTIONS).exists() for folder in folders):
            digits, labels = sklearn_digits()
            parts = divide(len(digits), 0.9, SEED)
            sizes = (TRAIN_SCENES, 1), (HELD_OUT_SCENES, DIGITS)
            for folder, places, (count, least) in zip(folders, parts, sizes, strict=True):
                drawn = (digits[places], labels[places], count)
                write(folder, compose(*drawn, size=SIZE, side=SIDE, least=least, most=DIGITS, seed=SEED))
    return folders


def _places(
    layout: tuple[int, ...], size: int, side: int, rng: np.random.Generator
) -> list[list[tuple[float, float]]]:
    """The top left corner of each digit, in rows: rows and digits do not overlap but for the jitter."""
    jitter = side / 8
    tops = _apart(len(layout), size, side, rng)
    lean = rng.uniform(0, size - side)  # where single digits stand, one about below the other
    rows = []
    for columns, top in zip(layout, tops, strict=True):
        lefts = [lean] if columns == 1 else _apart(columns, size, side, rng)
        rows.append([(top + rng.uniform(-jitter, jitter), left + rng.uniform(-jitter, jitter)) for left in lefts])
    return rows


def _apart(count: int, size: int, side: int, rng: np.random.Generator) -> list[float]:
    """Where `count` stretches of `side` begin that lie in `size` in any way, none over another."""
    free = np.sort(rng.uniform(0, size - count * side, count))
    return [float(gap) + number * side for number, gap in enumerate(free)]


def _drawn(digit: NDArray[np.uint8], side: int, turn: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    image = pillow().Image
    length = max(1, round(side * rng.uniform(0.85, 1.15)))
    smooth = image.Resampling.BICUBIC
    picture = image.fromarray(digit).resize((length, length), smooth).rotate(rng.uniform(-turn, turn), smooth)
    return np.asarray(picture, np.uint8)


def _paste(pixels: NDArray[np.uint8], digit: NDArray[np.uint8], top: float, left: float) -> None:
    height, width = digit.shape
    row = int(np.clip(round(top), 0, len(pixels) - height))
    column = int(np.clip(round(left), 0, len(pixels) - width))
    part = pixels[row : row + height, column : column + width]
    np.maximum(part, digit, out=part)
