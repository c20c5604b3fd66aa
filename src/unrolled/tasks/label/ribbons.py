"""Events over time, drawn as ribbons."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unrolled import plots
from unrolled.tasks.label import films

__all__ = ["draw"]


def draw(
    path: Path,
    rows: Mapping[str, Sequence[films.Event]],
    names: Sequence[str],
    unit: str,
    blank: str | None = None,
) -> None:
    """Draw a ribbon of events for each of `rows`, one below the other, into `path` (.png, .svg or .pdf).

    `names` are all the events, which give the colours; `unit` says what their times are in. Where the event is
    `blank` there is nothing.
    """
    figure_of = plots.figure_class(path)
    from matplotlib.patches import Patch

    colours = {name: "#{:02x}{:02x}{:02x}".format(*films.colour(number)) for number, name in enumerate(names)}
    figure = figure_of(figsize=(10, 1.4 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    drawn = [[event for event in events if event.name != blank] for events in rows.values()]
    for place, events in enumerate(drawn):
        for event in events:
            width = event.end - event.start
            axes.barh(place, width, left=event.start, height=0.8, color=colours[event.name])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_xlim(0, max((event.end for events in rows.values() for event in events), default=1))
    shown = [name for name in names if any(event.name == name for events in drawn for event in events)]
    handles = [Patch(color=colours[name], label=name) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    plots.save(figure, path)
