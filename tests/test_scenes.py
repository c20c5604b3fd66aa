"""Scenes of digits: the captions say what is in the picture, and nothing else could be meant."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from unrolled.examples import Refused
from unrolled.tasks.caption import pictures, scenes

SIDE = 8


def shades() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Ten squares, each of a brightness of its own, in place of digits: 20 for the zero, 40 for the one, ..."""
    levels = 20 * np.arange(1, 11, dtype=np.uint8)
    return np.broadcast_to(levels[:, None, None], (10, SIDE, SIDE)).copy(), np.arange(10)


def made(count: int, **options: int) -> list[scenes.Scene]:
    digits, labels = shades()
    return list(scenes.compose(digits, labels, count, size=24, side=SIDE, turn=0, **options))


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([[8]], "an eight"),
        ([[3, 7]], "a three to the left of a seven"),
        ([[8], [1]], "an eight above a one"),
        ([[3, 7], [8]], "above, a three to the left of a seven; below, an eight"),
        ([[0], [1, 2]], "above, a zero; below, a one to the left of a two"),
        ([[3, 7], [1, 2]], "above, a three to the left of a seven; below, a one to the left of a two"),
    ],
)
def test_a_caption_says_what_is_where(rows: list[list[int]], said: str) -> None:
    assert scenes.caption(rows) == said


def test_no_caption_fits_two_scenes() -> None:
    layouts: list[list[list[int]]] = [[[a]] for a in range(10)]
    layouts += [[[a, b]] for a in range(10) for b in range(10)] + [
        [[a], [b]] for a in range(10) for b in range(10)
    ]
    layouts += [[[a, b], [c]] for a in range(10) for b in range(10) for c in range(10)]
    layouts += [[[a], [b, c]] for a in range(10) for b in range(10) for c in range(10)]
    layouts += [[[a, b], [c, d]] for a in range(10) for b in range(10) for c in range(10) for d in range(10)]
    assert len({scenes.caption(rows) for rows in layouts}) == len(layouts)


def mentioned(caption: str) -> list[int]:
    names = caption.replace(",", "").replace(";", "").split()
    return [scenes.NAMES.index(name) for name in names if name in scenes.NAMES]


def middle(pixels: NDArray[np.uint8], digit: int) -> tuple[float, float]:
    rows, columns = np.nonzero(pixels == 20 * (digit + 1))
    return float(rows.mean()), float(columns.mean())


def test_the_digits_stand_where_the_caption_says() -> None:
    counts = set()
    for scene in made(300, seed=1):
        said = scene.caption
        digits = mentioned(said)
        counts.add(len(digits))
        if len(set(digits)) < len(digits):
            continue
        at = [middle(scene.pixels, digit) for digit in digits]
        above = said.split("; ")[0] if ";" in said else said
        for clause in said.replace("above, ", "").replace("below, ", "").split("; "):
            one, *other = mentioned(clause)
            if other and "left" in clause:
                first, second = at[digits.index(one)], at[digits.index(other[0])]
                assert second[1] - first[1] > SIDE / 2 > abs(second[0] - first[0])
            elif other:
                first, second = at[digits.index(one)], at[digits.index(other[0])]
                assert second[0] - first[0] > SIDE / 2 > abs(second[1] - first[1])
        if ";" in said:
            upper = mentioned(above)
            heights = [place[0] for place in at]
            assert max(heights[: len(upper)]) < min(heights[len(upper) :])
    assert counts == {2, 3, 4}


def test_the_same_seed_gives_the_same_scenes() -> None:
    first, again, other = made(20, seed=3), made(20, seed=3), made(20, seed=4)
    assert all(
        np.array_equal(a.pixels, b.pixels) and a.caption == b.caption for a, b in zip(first, again, strict=True)
    )
    assert [scene.caption for scene in first] != [scene.caption for scene in other]


def test_a_scene_has_as_many_digits_as_were_asked_for() -> None:
    assert {len(mentioned(scene.caption)) for scene in made(100, most=2)} == {2}
    assert {len(mentioned(scene.caption)) for scene in made(100, least=1, most=3)} == {1, 2, 3}


def test_written_scenes_are_read_again(tmp_path: Path) -> None:
    written = made(5)
    scenes.write(tmp_path / "folder", iter(written))
    read = pictures.read([tmp_path / "folder"], Refused(False))
    assert list(read.captions) == [(scene.caption,) for scene in written]
    assert np.array_equal(read.pixels(slice(None))[:, 0], [scene.pixels for scene in written])
    assert Image.open(tmp_path / "folder" / "00000.png").mode == "L"


def test_scikit_learns_digits_are_the_labels_they_say() -> None:
    digits, labels = scenes.sklearn_digits()
    assert digits.shape == (1797, 8, 8) and digits.dtype == np.uint8 and digits.max() == 255
    means = np.stack([digits[labels == digit].mean(0) for digit in range(10)])
    nearest = ((digits[:, None] - means) ** 2).sum((2, 3)).argmin(1)
    assert (nearest == labels).mean() > 0.85, "most digits are nearest to the mean of their kind"
