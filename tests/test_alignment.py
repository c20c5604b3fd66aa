"""The picture of an alignment: its darkness is the attention, and no label is cut off or covers another."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from unrolled.errors import InputError
from unrolled.tasks.translate import alignment

LONG = "Donaudampfschifffahrtsgesellschaftskapitän"


def test_dark_squares_stand_where_attention_is(tmp_path: Path) -> None:
    attention = np.eye(4)[:, ::-1]
    alignment.draw(tmp_path / "a.png", attention, [" "] * 4, [" "] * 4)
    pixels = image.imread(tmp_path / "a.png")[..., :3].mean(-1)
    dark = pixels < 0.3
    rows, columns = np.flatnonzero(dark.sum(1) > 40), np.flatnonzero(dark.sum(0) > 40)
    height, width = np.ptp(rows) / 3, np.ptp(columns) / 3
    assert height > 20 and width > 20
    corners = pixels[np.ix_([rows[0] + 5, rows[-1] - 5], [columns[0] + 5, columns[-1] - 5])]
    assert np.array_equal(corners < 0.3, [[False, True], [True, False]])


def test_no_label_is_cut_off_or_lies_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    save = Figure.savefig

    def saved(figure: Figure, *arguments: Any, **options: Any) -> None:
        drawn.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    source, target = ["Ein", LONG, "$kostet$", "Äpfel", "."], ["A", LONG, LONG, "$1_000^2$"]
    alignment.draw(tmp_path / "a.png", np.full((4, 5), 0.2), source, target)
    (figure,) = drawn
    (axes,) = figure.axes
    figure.canvas.draw()
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        for box in boxes:
            assert box.x0 >= 0 and box.y0 >= 0
            assert box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_kinds_of_picture(tmp_path: Path, kind: str) -> None:
    alignment.draw(tmp_path / f"a.{kind}", np.ones((1, 1)), ["a"], ["b"])
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert (tmp_path / f"a.{kind}").read_bytes().startswith(starts[kind])


def test_other_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.bmp is of an unknown kind of picture"):
        alignment.draw(tmp_path / "a.bmp", np.ones((1, 1)), ["a"], ["b"])


@pytest.mark.filterwarnings("error")
def test_words_that_no_font_has_are_drawn_without_a_warning(tmp_path: Path) -> None:
    alignment.draw(tmp_path / "a.png", np.ones((1, 1)), ["\x19 日本"], ["b"])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
