"""Events drawn over time: as they are told, each in its colour, to the end of the last of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unrolled import plots
from unrolled.errors import InputError
from unrolled.sequences.events import Event
from unrolled.sequences.layout import Layout
from unrolled.tasks.label import ribbons
from unrolled.tasks.label.telling import EventOptions, Step, Telling

pytest.importorskip("matplotlib")


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What would have been saved."""
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: drawn.append(figure))
    return drawn


def legend(figure: Any) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def bars(axes: Any) -> list[tuple[float, float]]:
    """Where each begins and ends."""
    return [(bar.get_x(), bar.get_x() + bar.get_width()) for bar in axes.patches]


def test_a_ribbon_ends_with_its_events_also_where_the_last_is_not_drawn(
    tmp_path: Path, figures: list[Any]
) -> None:
    rows = {"truth": [Event(0, 2, "enters")], "model": [Event(0, 3, "enters"), Event(3, 7, "nothing")]}
    ribbons.draw(tmp_path / "a.png", [("a", rows)], ["enters", "nothing"], "seconds", blank="nothing")
    (axes,) = figures[0].axes
    assert axes.get_xlim() == (0, 7) and axes.get_title(loc="left") == ""
    assert bars(axes) == [(0, 2), (0, 3)] and legend(figures[0]) == ["enters"]


@pytest.mark.parametrize("every", [False, True])
@pytest.mark.parametrize(
    ("kind", "unit", "blank", "drawn", "shown"),
    [
        ("films", "seconds", "nothing", [(0, 0.5), (0.5, 1.5), (1, 2.5)], ["up", "jump"]),
        ("numbers", "steps", "", [(0, 1), (1, 3), (0, 2), (2, 5)], ["nothing", "up", "jump"]),
    ],
)
def test_events_are_drawn_as_they_are_told_below_the_true_ones(
    tmp_path: Path, figures: list[Any], kind: str, unit: str, blank: str, drawn: Any, shown: list[str], every: bool
) -> None:
    """One that the model does not know has a colour, too; there is none where a film has its background, and where
    the event of a step is not known.
    """
    options = EventOptions(plot=str(tmp_path / "a.png"), every=every)
    telling = Telling(kind, Layout(fps=2), ["nothing", "up"], options, 1)
    steps = [Step(name, np.array([0.5, 0.5])) for name in ("nothing", "nothing", "up", "up", "up")]
    assert list(telling.told("a", steps, telling.events(["up", "jump", "jump", blank])))
    telling.draw()
    (axes,) = figures[0].axes
    assert axes.get_xlabel() == unit and bars(axes) == drawn and legend(figures[0]) == shown
    assert len({bar.get_facecolor() for bar in axes.patches}) == len(shown)


def test_as_many_sequences_as_a_picture_has_room_for_are_drawn(tmp_path: Path) -> None:
    options = EventOptions(plot=str(tmp_path / "a.png"))
    Telling("numbers", Layout(), ["up"], options, ribbons.MOST)
    with pytest.raises(InputError, match=r"^25 inputs; --plot draws at most 24 sequences"):
        Telling("numbers", Layout(), ["up"], options, ribbons.MOST + 1)
