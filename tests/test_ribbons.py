"""Events drawn over time: the picture ends where the last of them does."""

from pathlib import Path
from typing import Any

import pytest

from unrolled import plots
from unrolled.tasks.label import ribbons
from unrolled.tasks.label.events import Event

pytest.importorskip("matplotlib")


def test_a_ribbon_ends_with_its_events_also_where_the_last_is_not_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    rows = {"truth": [Event(0, 2, "enters")], "model": [Event(0, 3, "enters"), Event(3, 7, "nothing")]}
    ribbons.draw(tmp_path / "a.png", [("a", rows)], ["enters", "nothing"], "seconds", blank="nothing")
    (axes,) = figures[0].axes
    assert axes.get_xlim() == (0, 7) and axes.get_title(loc="left") == ""
    assert len(axes.patches) == 2
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["enters"]
