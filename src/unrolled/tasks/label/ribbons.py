"""Events over time, drawn as ribbons."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unrolled import plots
from unrolled.tasks.label import films

__all__ = ["draw"]


def draw(path: Path, rows: Mapping[str, Sequence[films.Event]], names: Sequence[str], unit: str) -> None:
    """Draw a ribbon of events for each of `rows`, one below the other, into `path` (.png, .svg or .pdf).

    `names` are all the events, which give the colours; `unit` says what their times are in.
    """
    figure_of = plots.library(path)
    from matplotlib.patches import Patch

    colours = {name: "#{:02x}{:02x}{:02x}".format(*films.colour(number)) for number, name in enumerate(names)}
    figure = figure_of(figsize=(10, 1.4 + 0.45 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for place, events in enumerate(rows.values()):
        for event in events:
            width = event.end - event.start
            axes.barh(place, width, left=event.start, height=0.8, color=colours[event.name])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.set_xlim(left=0)
    shown = [name for name in names if any(event.name == name for events in rows.values() for event in events)]
    handles = [Patch(color=colours[name], label=name) for name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    plots.save(figure, path)
