"""The experiment of the growing gap: every cell learns every problem at every gap, from several seeds.

Trials run beside each other, one a process. What is done stands in a result file, from which an interrupted
experiment goes on.
"""

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from unrolled.atomic import replacing
from unrolled.errors import InputError
from unrolled.locks import holding
from unrolled.memory.problems import PROBLEMS, Drawn, Problem
from unrolled.memory.trial import CELLS, Budget, Row, Trial, unmet
from unrolled.results import Evaluation, Table
from unrolled.settings import setting

__all__ = ["QUICK", "QUICK_PROBLEM", "Experiment", "GapOptions", "Results", "outcome", "read"]

FORMAT = "unrolled gap 1"
LEGEND = "Below each cell: how many of its seeds solved the problem, and the least error of any."
QUICK_PROBLEM = "order-2"
QUICK: dict[str, Any] = {"cells": "rnn,lstm", "gaps": "10,20,50,100", "seeds": 1, "steps": 2000}
"""The problem and the settings that show the essay's claim in about a minute."""


@dataclass(frozen=True)
class GapOptions:
    """What is tried, and what every network may use."""

    cells: str = setting(
        "rnn,gru,lstm,lstm-chrono",
        f"Cells, separated by commas: {', '.join(CELLS)} (a standard RNN; LSTMs begin with forget bias 1, "
        "chrono ones with gates open for up to the gap), or variants such as lstm-peephole, lstm-coupled-chrono.",
        several=True,
    )
    gaps: str | None = setting(
        None, "Gaps in steps, separated by commas.", several=True, default_help="a problem's own"
    )
    seeds: int = setting(3, "Networks of each kind.", at_least=1)
    parameters: int = setting(40_000, "The most parameters of a network, whatever its cell.", at_least=1000)
    steps: int = setting(3000, "The most steps of training.", at_least=1)
    batch: int = setting(32, "Sequences a step (recall reads 16 streams of text).", at_least=1)
    lr: float = setting(0.02, "Highest learning rate.", above=0)
    first_gap: int = setting(20, "The gap at which training begins; it grows as the network learns.", at_least=1)
    jobs: int | None = setting(None, "Trials at a time.", at_least=1, default_help="the number of cores")

    def budget(self) -> Budget:
        """What every network may use."""
        return Budget(self.parameters, self.steps, self.batch, self.lr, self.first_gap)


@dataclass
class Results:
    """A result file: the budget that all trials had, and a row for every trial and gap."""

    budget: dict[str, Any]
    rows: list[Row]

    def write(self, path: Path) -> None:
        """Replace the file, as a whole."""
        document = {"format": FORMAT, "version": version("unrolled"), "budget": self.budget, "rows": self.rows}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    def of(self, problem: str, cell: str, gap: int) -> list[Row]:
        """The rows of all seeds."""
        wanted = (problem, cell, gap)
        return [row for row in self.rows if (row["problem"], row["cell"], row["gap"]) == wanted]

    def values(self, name: str) -> list[Any]:
        """The different values that the rows have for `name`, in the order in which they first come."""
        return list(dict.fromkeys(row[name] for row in self.rows))

    def cells(self, problem: str) -> list[str]:
        """The cells that were tried on the problem: the usual ones in their order, then others by name."""
        tried = {row["cell"] for row in self.rows if row["problem"] == problem}
        return [cell for cell in CELLS if cell in tried] + sorted(tried - set(CELLS))

    def evaluation(self) -> Evaluation:
        """A table for each problem: gaps down, cells across; how many networks solved it, and the least error."""
        tables = []
        for name in self.values("problem"):
            rows = [row for row in self.rows if row["problem"] == name]
            cells = self.cells(name)
            gaps = sorted({row["gap"] for row in rows})
            shown = [
                [str(gap), _short(PROBLEMS[name].chance(gap))]
                + [_summary(self.of(name, cell, gap)) for cell in cells]
                for gap in gaps
            ]
            measure = PROBLEMS[name].measure
            tables.append(Table([f"{name}: gap", f"{measure} by chance", *cells], shown))
        return Evaluation({"budget": self.budget, "rows": self.rows}, tables, LEGEND if tables else "")


def _short(number: float) -> str:
    return f"{number:.3g}"


def outcome(row: Row) -> str:
    """How a trial ended at a gap, for people."""
    if row["solved"]:
        return f"solved in {row['steps']:,} steps"
    return "diverged" if row["error"] is None else f"error {_short(row['error'])}"


def _summary(rows: Sequence[Row]) -> str:
    """How many seeds solved it, and the least error."""
    if not rows:
        return ""
    solved = sum(row["solved"] for row in rows)
    errors = [row["error"] for row in rows if row["error"] is not None]
    error = _short(min(errors)) if errors else "diverged"
    return f"{solved} of {len(rows)}, {error}"


def read(path: Path) -> Results:
    """The results in a file; raises `InputError` for one that is not of this version's form."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{path} is not a result file of `unrolled gap`: {error}.") from error
    form = document.get("format") if isinstance(document, dict) else None
    if form != FORMAT:
        raise InputError(
            f"{path} has the format {form!r}, expected {FORMAT!r}; name another file for new results."
        )
    needed = {"problem", "cell", "gap", "seed", "error", "chance", "solved", "steps"}
    rows, budget = document.get("rows"), document.get("budget")
    whole = isinstance(rows, list) and all(
        isinstance(row, dict) and needed <= set(row) and row["problem"] in PROBLEMS and not unmet(str(row["cell"]))
        for row in rows
    )
    if not whole or not isinstance(budget, dict):
        raise InputError(
            f"{path} is damaged: expected a budget and rows of known problems and cells with "
            f"{', '.join(sorted(needed))}."
        )
    return Results(budget, rows)


class Experiment:
    """All trials of some problems; `run` does those that the result file `out` does not have.

    Raises `InputError` for a problem, cell or gap that is not one, and for a file with another budget.
    """

    def __init__(self, problems: Sequence[str], options: GapOptions, out: Path) -> None:
        self.out = out
        self._budget = options.budget()
        self._jobs = options.jobs or os.cpu_count() or 1
        cells = _cells(options.cells)
        trials = []
        for problem in (_known(name) for name in problems):
            for gaps in _gaps(options.gaps, problem):
                trials += [
                    Trial(problem.name, cell, gaps, seed) for seed in range(options.seeds) for cell in cells
                ]
        self.results = read(out) if out.exists() else Results(asdict(self._budget), [])
        for name, value in asdict(self._budget).items():
            if self.results.budget.get(name) != value:
                before = self.results.budget.get(name)
                raise InputError(
                    f"{out} has trials with {name} {before}, but this run has {value}; name another file."
                )
        done = {(row["problem"], row["cell"], row["gap"], row["seed"]) for row in self.results.rows}
        self.trials = [
            trial
            for trial in trials
            if not all((trial.problem, trial.cell, gap, trial.seed) in done for gap in trial.gaps)
        ]

    def run(self) -> Generator[tuple[Trial, list[Row]]]:
        """Do the trials, as many at a time as there are jobs, and give each with its rows when it is done.

        Each is in the result file by then. Closing the iterator ends those that run. Raises `InputError` where the
        file cannot be written, or another process writes it.
        """
        refusal = f"{self.out} is what another experiment writes; expected another --out, or that it ends first."
        with holding(self.out, refusal):
            self.results.write(self.out)  # if it cannot be written, better now
            context = multiprocessing.get_context("spawn")
            work = [(trial, self._budget) for trial in self.trials]
            with context.Pool(min(self._jobs, max(1, len(work))), _begin) as pool:
                for trial, rows in pool.imap_unordered(_run, work):
                    named = {"problem": trial.problem, "cell": trial.cell, "seed": trial.seed}
                    again = [row for row in self.results.rows if not _same(row, trial)]
                    self.results.rows = again + [{**named, **row} for row in rows]
                    self.results.write(self.out)
                    yield trial, rows


def _same(row: Row, trial: Trial) -> bool:
    mine = (row["problem"], row["cell"], row["seed"]) == (trial.problem, trial.cell, trial.seed)
    return mine and row["gap"] in trial.gaps


def _begin() -> None:
    """In a worker: Ctrl-C is for the parent, which ends its workers; one that has lost its parent ends itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["OMP_NUM_THREADS"] = "1"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(work: tuple[Trial, Budget]) -> tuple[Trial, list[Row]]:
    """Do one trial, and judge it: is the error that of a solved problem?"""
    import torch

    from unrolled.memory import drawn, recall

    trial, budget = work
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    problem = PROBLEMS[trial.problem]
    started = time.monotonic()
    rows = drawn.learn(problem, trial, budget) if isinstance(problem, Drawn) else recall.learn(trial, budget)
    seconds = round(time.monotonic() - started, 1)
    return trial, [{**row, **_judged(problem, row), "seconds": seconds} for row in rows]


def _judged(problem: Problem, row: Row) -> Row:
    error, gap = row["error"], row["gap"]
    return {"solved": error is not None and error < problem.solved(gap), "chance": problem.chance(gap)}


def _known(name: str) -> Problem:
    if name not in PROBLEMS:
        raise InputError(f"{name!r} is not a problem; expected {', '.join(PROBLEMS)}.")
    return PROBLEMS[name]


def _cells(given: str) -> list[str]:
    """The cells in a list with commas."""
    names = [name.strip() for name in given.split(",")]
    for name in names:
        if expected := unmet(name):
            raise InputError(f"{name!r} is not a cell; expected {expected}, with commas between cells.")
    return list(dict.fromkeys(names))


def _gaps(given: str | None, problem: Problem) -> list[tuple[int, ...]]:
    """What each trial of the problem takes: one gap, or all of them."""
    try:
        gaps = sorted({int(gap) for gap in given.split(",")}) if given else list(problem.gaps)
    except ValueError as error:
        raise InputError(f"gaps are {given!r}, expected whole numbers with commas between.") from error
    for gap in gaps:
        problem.check(gap)
    return [(gap,) for gap in gaps] if isinstance(problem, Drawn) else [tuple(gaps)]
