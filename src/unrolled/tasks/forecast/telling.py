"""What a forecast model says, told: a row for each step, and a picture of it all."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled import plots
from unrolled.errors import InputError
from unrolled.results import Output
from unrolled.sequences.names import cell
from unrolled.sequences.options import TellOptions
from unrolled.tasks.forecast.data import Course
from unrolled.tasks.forecast.plan import Plan
from unrolled.tasks.forecast.streamed import Forecast, shown

__all__ = ["Telling", "record"]

MOST = 24  # panels in a picture


def record(targets: Sequence[str], median: Any, low: Any, high: Any) -> dict[str, dict[str, float]]:
    """The forecast of one step, numbers [K] each, for programs."""
    return {
        name: {"median": float(middle), "low": float(least), "high": float(most)}
        for name, middle, least, most in zip(targets, median, low, high, strict=True)
    }


class _Panel(NamedTuple):
    """A course of one target: what came, [T], NaN where unknown, and what was forecast."""

    title: str
    true: NDArray[np.floating]
    said: Forecast


class Telling:
    """How courses are told, as `options` have it; raises `InputError` for a picture that cannot be drawn."""

    def __init__(self, plan: Plan, options: TellOptions) -> None:
        self._plan, self._options = plan, options
        self._panels: list[_Panel] = []
        if options.plot:
            plots.check_name(Path(options.plot))

    def check(self, given: str, found: Sequence[Course]) -> None:
        """Raise `InputError` for the sequences of the input `given` that the options do not go with."""
        if self._options.time and found[0].times is None:
            raise InputError(f"{given} has no columns with names, expected a table for --time.")
        drawn = len(self._panels) + len(found) * len(self._plan.targets)
        if self._options.plot and drawn > MOST:
            raise InputError(f"{given}: --plot draws at most {MOST} courses of all inputs, found {drawn:,}.")

    def told(self, course: Course, found: Forecast) -> Iterator[Output]:
        """A row for each step of a course; then it is kept for `draw`."""
        targets, times = self._plan.targets, course.times
        columns = ["step", *(["time"] if times else [])]
        columns += [column for name in targets for column in (name, f"{name} low", f"{name} high")]
        heading = f"# {course.name}\n{','.join(map(cell, columns))}\n"
        for step, numbers in enumerate(zip(*found, strict=True)):
            when = {"time": times[step]} if times else {}
            cells = [str(step), *map(cell, when.values())]
            cells += [shown(float(one)) for of_target in zip(*numbers, strict=True) for one in of_target]
            whole = {"sequence": course.name, "step": step, **when, "forecast": record(targets, *numbers)}
            yield Output(heading + ",".join(cells), whole)
            heading = ""
        if self._options.plot:
            for k, target in enumerate(targets):
                title = f"{course.name}: {target}" if len(targets) > 1 else course.name
                self._panels.append(_Panel(title, course.targets[:, k], Forecast(*(one[:, k] for one in found))))

    def draw(self) -> None:
        """Draw what was told, if that is wanted: what came over the forecasts of it, at the steps when it came."""
        if not self._options.plot or not self._panels:
            return
        path, panels, ahead = Path(self._options.plot), self._panels, self._plan.ahead
        figure = plots.figure_class(path)(figsize=(10, 0.7 + 2.3 * len(panels)), layout="constrained")
        for axes, panel in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            steps = np.arange(len(panel.true)) + ahead
            axes.fill_between(steps, panel.said.low, panel.said.high, color="#9ecae1", lw=0, label="its range")
            axes.plot(steps, panel.said.median, color="#2171b5", lw=1.2, label="forecast")
            if not np.isnan(panel.true).all():
                axes.plot(steps, panel.true, color="black", lw=0.8, label="true")
            axes.set_title(panel.title, fontsize="medium", loc="left")
            axes.margins(x=0)
        axes.set_xlabel("steps")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
        plots.save(figure, path)
