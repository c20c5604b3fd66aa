"""A picture of what a model remembers: loss by context, reach, and how long its units hold what they have."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unrolled import plots
from unrolled.memory.remember import Memory

__all__ = ["draw"]

BLUE, RED, GREY = "#2e6f95", "#c0392b", "#8e9aaf"
FEW = 200.0  # times: an axis of less than that has few powers of ten


def draw(path: Path, memory: Memory) -> None:
    """Draw the three panels into `path` (.png, .svg or .pdf)."""
    figure = plots.figure_class(path)(figsize=(13, 3.8), layout="constrained")
    by_context, by_distance, lives = figure.subplots(1, 3)
    _context(by_context, memory)
    _reach(by_distance, memory)
    _half_lives(lives, memory)
    for axes in (by_context, by_distance, lives):
        axes.spines[["top", "right"]].set_visible(False)
    plots.save(figure, path)


def _context(axes: Any, memory: Memory) -> None:
    ks = [one.k for one in memory.contexts]
    low, high = ([memory.full + getattr(one, name) for one in memory.contexts] for name in ("low", "high"))
    axes.fill_between(ks, low, high, color=BLUE, alpha=0.2)
    axes.plot(ks, [one.loss for one in memory.contexts], color=BLUE, marker="o", markersize=4)
    axes.axhline(memory.full, color=GREY, linestyle="--", linewidth=1, label=f"all: {memory.full:.3f}")
    least = "at least " if memory.horizon.high is None else ""
    axes.axvline(memory.horizon.k, color=RED, linewidth=1, label=f"horizon: {least}{memory.horizon.k:,}")
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlim(left=0)
    _write_out(axes.xaxis, 1, ks[-1], first=[0])
    axes.set_title("loss by length of context")
    axes.set_xlabel(f"{memory.step}s of context")
    axes.set_ylabel(f"nats a {memory.step}")
    axes.legend(frameon=False)


def _reach(axes: Any, memory: Memory) -> None:
    ks = [one.k for one in memory.gradients]
    most = max(*(one.median for one in memory.gradients), 1e-12)
    low, high = ([max(getattr(one, name) / most, 1e-9) for one in memory.gradients] for name in ("low", "high"))
    axes.fill_between(ks, low, high, color=BLUE, alpha=0.2)
    axes.plot(ks, [max(one.median / most, 1e-9) for one in memory.gradients], color=BLUE, label="gradient")
    replaced = [one.k for one in memory.substitutions]
    most = max(*(one.median for one in memory.substitutions), 1e-12)
    moved = [max(one.median / most, 1e-9) for one in memory.substitutions]
    axes.plot(replaced, moved, color=RED, marker="o", markersize=4, label="another input in its place")
    axes.set_xscale("symlog", linthresh=1)
    _write_out(axes.xaxis, 1, ks[-1], first=[0])
    axes.set_yscale("log")
    _write_out(axes.yaxis, *axes.get_ylim())
    axes.set_title("what an input still changes, later")
    axes.set_xlabel(f"{memory.step}s back")
    axes.set_ylabel("of the most that one changes")
    axes.legend(frameon=False)


def _half_lives(axes: Any, memory: Memory) -> None:
    lives = [np.array(one.half_lives) for one in memory.units if one.half_lives is not None]
    axes.set_title("how long units hold what they have")
    if not lives:
        axes.text(0.5, 0.5, "no gates", ha="center", va="center", transform=axes.transAxes)
        axes.set_axis_off()
        return
    bins = np.logspace(np.log10(min(one.min() for one in lives)), np.log10(max(one.max() for one in lives)), 40)
    for number, one in enumerate(lives):
        axes.hist(one, bins=bins, alpha=0.6, label=f"layer {number + 1}")
    axes.set_xscale("log")
    _write_out(axes.xaxis, bins[0], bins[-1])
    axes.set_xlabel(f"half-life in {memory.step}s, by the gates")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set_ylabel("units")
    if len(lives) > 1:
        axes.legend(frameon=False)


def _write_out(axis: Any, low: float, high: float, first: Sequence[float] = ()) -> None:
    """Mark the powers of ten on an axis, as people write them; where there are few, twos and fives as well.

    An axis of less than a power of ten that would have fewer than three marks is marked as a linear one is.
    """
    from matplotlib.ticker import MaxNLocator

    digits = (1, 2, 5) if high < FEW * low else (1,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    between = [digit * 10.0**power for power in powers for digit in digits]
    inside = [place for place in between if low <= place <= high]
    if len(inside) < 3 and high < 10 * low:
        evenly = MaxNLocator(5, steps=(1, 2, 5, 10), integer=bool(first)).tick_values(low, high)
        inside = [place for place in evenly if low <= place <= high]
    places = [*first, *inside]
    axis.set_ticks(
        places, [f"{p:,g}" if p >= 0.001 or p == 0 else f"$10^{{{math.log10(p):.0f}}}$" for p in places]
    )
    axis.set_minor_formatter("")
