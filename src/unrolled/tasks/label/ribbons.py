"""Events over time, drawn as ribbons."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unrolled import plots
from unrolled.sequences.events import Event, colour

__all__ = ["MOST", "Ribbons", "draw"]

MOST = 24  # sequences in a picture

Ribbons = tuple[str, Mapping[str, Sequence[Event]]]
"""What a sequence is called, and the events of each of its rows, as truth and model."""


def draw(
    path: Path, sequences: Sequence[Ribbons], names: Sequence[str], unit: str, blank: str | None = None
) -> None:
    """Draw each of `sequences`, one below the other, a ribbon for each row, into `path` (.png, .svg or .pdf).

    `names` are all the events, which give the colours; `unit` says what their times are in. Where the event is
    `blank` there is nothing.
    """
    figure_of = plots.figure_class(path)
    from matplotlib.patches import Patch

    colours = {name: "#{:02x}{:02x}{:02x}".format(*colour(number)) for number, name in enumerate(names)}
    ribbons = sum(len(rows) for _, rows in sequences)
    height = 0.9 + 0.45 * ribbons + (0.5 if len(sequences) == 1 else 0.4 * len(sequences))
    figure = figure_of(figsize=(10, height), layout="constrained")
    panels = figure.subplots(len(sequences), sharex=True, squeeze=False)[:, 0]
    shown = set()
    for axes, (title, rows) in zip(panels, sequences, strict=True):
        for place, events in enumerate(rows.values()):
            for event in (event for event in events if event.name != blank):
                width = event.end - event.start
                axes.barh(place, width, left=event.start, height=0.8, color=colours[event.name])
                shown.add(event.name)
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        if len(sequences) > 1:
            axes.set_title(title, fontsize="medium", loc="left")
    panels[-1].set_xlabel(unit)
    every = [event for _, rows in sequences for events in rows.values() for event in events]
    panels[-1].set_xlim(0, max((event.end for event in every), default=1))
    handles = [Patch(color=colours[name], label=name) for name in names if name in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), frameon=False)
    plots.save(figure, path)
