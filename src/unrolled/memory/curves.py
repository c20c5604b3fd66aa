"""What was learned against the gap, drawn from the results of an experiment."""

import itertools
from pathlib import Path

from unrolled import plots
from unrolled.memory.gap import Results
from unrolled.memory.problems import PROBLEMS
from unrolled.memory.trial import CELLS

__all__ = ["draw"]

ACROSS = 3  # panels
COLOURS = dict(zip(CELLS, ("#c0392b", "#8e9aaf", "#2e6f95", "#e0a030", "#1b7f4d"), strict=True))
OTHERS = ("#7d3c98", "#a04000", "#117a65", "#5d6d7e", "#b03a8c")  # variants, over again where they are more


def draw(path: Path, results: Results) -> None:
    """Draw a panel for each problem and in it a line for each cell into `path` (.png, .svg or .pdf).

    The height is what was learned: 1 without error, 0 at chance or worse; lines are the mean of the seeds, bands
    reach from the worst to the best, and full dots are gaps that every seed solved.
    """
    figure_of = plots.figure_class(path)
    problems = results.values("problem")
    across = min(ACROSS, len(problems))
    down = -(-len(problems) // across)
    figure = figure_of(figsize=(4.4 * across, 3.6 * down), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False).flatten()
    for axes in panels[len(problems) :]:
        axes.set_axis_off()
    variants = sorted(set(results.values("cell")) - set(CELLS))
    colours = COLOURS | dict(zip(variants, itertools.cycle(OTHERS), strict=False))
    for number, (problem, axes) in enumerate(zip(problems, panels, strict=False)):
        rows = [row for row in results.rows if row["problem"] == problem]
        gaps = sorted({row["gap"] for row in rows})
        for cell in results.cells(problem):
            tried = [(gap, results.of(problem, cell, gap)) for gap in gaps]
            tried = [(gap, found) for gap, found in tried if found]
            at = [gap for gap, _ in tried]
            learned = [[_learned(row["error"], row["chance"]) for row in found] for _, found in tried]
            means = [sum(one) / len(one) for one in learned]
            colour = colours[cell]
            axes.fill_between(
                at, [min(one) for one in learned], [max(one) for one in learned], color=colour, alpha=0.15
            )
            axes.plot(at, means, color=colour, label=cell)
            solved = [all(row["solved"] for row in found) for _, found in tried]
            faces = [colour if all_of_them else "white" for all_of_them in solved]
            axes.scatter(at, means, s=28, color=faces, edgecolors=colour, zorder=3)
        axes.set_xscale("log")
        axes.set_xticks(gaps, [str(gap) for gap in gaps], minor=False)
        axes.minorticks_off()
        axes.set_ylim(-0.05, 1.05)
        axes.set_title(f"{problem}\n{PROBLEMS[problem].title}", fontsize=10)
        axes.set_xlabel("gap (words)" if problem == "recall" else "gap (steps)")
        if not number % across:
            axes.set_ylabel("learned (0 chance, 1 no error)")
        axes.spines[["top", "right"]].set_visible(False)
    named = {label: line for axes in panels for line, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(named.values(), named, loc="outside lower center", ncols=len(named), frameon=False, fontsize=9)
    plots.save(figure, path)


def _learned(error: float | None, chance: float) -> float:
    return 0.0 if error is None else min(1.0, max(0.0, 1 - error / chance))
