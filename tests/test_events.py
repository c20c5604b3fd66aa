"""The events of a film: read from its CSV, as the event of each step, and back."""

from itertools import combinations
from math import dist
from pathlib import Path

import pytest

from unrolled.errors import InputError
from unrolled.sequences.events import Event, colour, label_steps, read_events, steps_to_events


def test_events_are_read_in_order_of_time(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("event,start,end\nb,1.5,2\na,0,1.5\n")
    assert read_events(tmp_path / "a.csv") == [Event(0, 1.5, "a"), Event(1.5, 2, "b")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("start,end\n0,1\n", "has no column 'event', expected start,end,event in line 1"),
        ("", "has no column 'start'"),
        ("start,end,event\n0,1,a\nsoon,2,b\n", "line 3: start is 'soon', expected a number of seconds"),
        ("start,end,event\n0,,a\n", "line 2: end is '', expected a number of seconds"),
        ("start,end,event\n0\n", "line 2: end is None, expected a number of seconds"),
        ("start,end,event\n0,nan,a\n", "line 2: end is 'nan', expected a number of seconds"),
        ("start,end,event\n2,1,a\n", "line 2: from 2 to 1 s, expected a start before the end"),
        ("start,end,event\n-1,1,a\n", "line 2: from -1 to 1 s, expected a start before the end"),
        ("start,end,event\n0,1,\n", "line 2: no event, expected its name"),
        ("start,end,event\n0,2,a\n1,3,b\n", "'b' starts at 1 s, before 'a' ends at 2 s"),
    ],
)
def test_events_that_cannot_be_read_are_refused_with_their_line(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(InputError) as refused:
        read_events(tmp_path / "a.csv")
    assert reason in str(refused.value)


def test_a_film_without_events_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.csv cannot be read: .*; expected the events of the film"):
        read_events(tmp_path / "a.csv")


def test_each_step_has_the_event_of_its_time() -> None:
    events = [Event(0.2, 0.5, "a"), Event(0.5, 9, "b")]
    labels = label_steps(events, Path("a.csv"), 8, 10, "-")
    assert labels == ["-", "-", "a", "a", "a", "b", "b", "b"]
    assert [event.name for event in steps_to_events(labels, 10)] == ["-", "a", "b"]
    assert list(steps_to_events(labels, 10))[1] == Event(0.2, 0.5, "a")
    with pytest.raises(InputError, match=r"^a\.csv: 'c' starts at 5 s, but the film ends at 0\.8 s; expected"):
        label_steps([Event(5, 6, "c")], Path("a.csv"), 8, 10, "-")


def test_an_event_is_told_as_soon_as_it_has_ended() -> None:
    told = steps_to_events(iter(["a", "a", "b", "endless"]), 1)
    assert next(told) == Event(0, 2, "a")
    assert list(steps_to_events([], 1)) == []


def test_the_colours_of_twenty_events_differ_from_each_other_and_from_paper_light_or_dark() -> None:
    paper = [(255, 255, 255), (27, 27, 29)]
    assert min(dist(*pair) for pair in combinations([*map(colour, range(20)), *paper], 2)) > 60
