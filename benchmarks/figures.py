"""The pictures of docs/memory.md, drawn again from the results that are recorded.

    python -m benchmarks.figures

The results are made by the commands that stand in docs/memory.md.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS
from unrolled import plots
from unrolled.memory import curves, gap, portrait
from unrolled.memory.remember import Memory

PICTURES = Path("docs/pictures")


def by_hand(path: Path, rows: list[dict[str, Any]]) -> None:
    """Right answers against the gap: weights set by hand, and trained ones."""
    figure = plots.figure_class(path)(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    gaps = [row["gap"] for row in rows]
    axes.plot(gaps, [1 - row["by_hand"] for row in rows], color="#1b7f4d", marker="o", label="set by hand")
    errors = [[one["error"] for one in row["trained"]] for row in rows]
    axes.fill_between(
        gaps, [1 - max(one) for one in errors], [1 - min(one) for one in errors], color="#c0392b", alpha=0.15
    )
    means = [1 - sum(one) / len(one) for one in errors]
    axes.plot(gaps, means, color="#c0392b", marker="o", label="trained")
    axes.axhline(0.25, color="#8e9aaf", linestyle="--", linewidth=1, label="chance")
    axes.set_xscale("log")
    axes.set_xticks(gaps, [str(one) for one in gaps])
    axes.minorticks_off()
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("gap (steps)")
    axes.set_ylabel("right answers")
    axes.set_title(f"a standard RNN of {rows[0]['units']} units: in which order came 2 symbols?", fontsize=10)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    plots.save(figure, path)


def vanishing(path: Path, gradients: dict[str, list[float]]) -> None:
    """The gradient of the last state by an input against the distance, for each cell."""
    figure = plots.figure_class(path)(figsize=(5.2, 3.4), layout="constrained")
    axes = figure.subplots()
    for cell, shares in gradients.items():
        axes.plot(range(len(shares)), [max(one, 1e-12) for one in shares], color=curves.COLOURS[cell], label=cell)
    axes.set_yscale("log")
    axes.set_xlabel("steps back")
    axes.set_ylabel("gradient, of that by the last input")
    axes.set_title("fresh networks of 128 units", fontsize=10)
    axes.legend(frameon=False, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    plots.save(figure, path)


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    measured = json.loads((RESULTS / "memory.json").read_text())
    by_hand(PICTURES / "by-hand.png", measured["by_hand"])
    vanishing(PICTURES / "vanishing.png", measured["gradients"])
    curves.draw(PICTURES / "gap.png", gap.read(RESULTS / "memory-gap.json"))
    for name in ("lstm", "rnn"):
        found = json.loads((RESULTS / f"memory-remember-{name}.json").read_text())
        portrait.draw(PICTURES / f"remember-{name}.png", Memory.from_figures(found))


if __name__ == "__main__":
    main()
