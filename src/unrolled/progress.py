"""A training run, or the trials of an experiment, on a terminal: a bar, or lines where there is none; a clean end.

That is on Ctrl-C, on SIGTERM and on SIGHUP.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from unrolled.errors import counted
from unrolled.loop import Report, in_bfloat16
from unrolled.memory.gap import Experiment, outcome
from unrolled.run_files import checkpoint_path, previous_path
from unrolled.training import Run

__all__ = ["train_with_progress", "trials_with_progress"]


def train_with_progress(run: Run, console: Console) -> bool:
    """Train, showing loss, held-out loss, rate and time left; False when Ctrl-C ended the run early.

    SIGTERM ends it likewise, with a checkpoint, and then the process with status 143, as a shell would give; so
    does SIGHUP, of a terminal that is closed, with 129. What was ignored before, as by nohup, stays so.
    """
    stopped_by = 0

    def interrupt(signal_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped_by
        stopped_by = signal_number

    report: Report | None = None
    with _stopped(interrupt):
        reports = run.reports()  # or a refusal, before anything is said of a run
        _tell_beforehand(run, console)
        with _Display(console) as display:
            for report in reports:
                display.show(report)
                if stopped_by:
                    reports.close()
                    break
    if stopped_by and report and report.progress < 1:
        console.print(
            f"Stopped after {counted(report.step, 'step')}; {checkpoint_path(run.out)} is "
            "saved, and the same command with --resume goes on from it."
        )
        if stopped_by != signal.SIGINT:
            sys.exit(128 + stopped_by)
        return False
    if report and display.kept and display.kept.step < report.step:
        which = f"that of step {display.kept.step}" if display.kept.step else "the one that the run began with"
        console.print(f"The model is {which}, the best on what is held out: {report.best:.4f}.")
    return True


def _tell_beforehand(run: Run, console: Console) -> None:
    if os.path.isfile(run.out) and not run.resume:
        console.print(
            f"{run.out} is there already: once this run's model takes its place, it is {previous_path(run.out)}."
        )
    if run.options.precision == "bfloat16" and not in_bfloat16(run.options):
        console.print("precision bfloat16: this processor multiplies float32 faster, and so does this run.")


@contextmanager
def _stopped(by: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Let `by` have the signals that stop a run, but for those that are ignored."""
    previous = {
        number: signal.signal(number, by)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def trials_with_progress(experiment: Experiment, console: Console) -> bool:
    """Do the trials of an experiment, with a bar or a line for each; False when Ctrl-C ended it early.

    SIGTERM and SIGHUP end it likewise, and then the process, as they do a training run.
    """
    stopped_by = 0
    printing = False  # a line that is interrupted as it is printed would be printed twice

    def interrupt(signal_number: int, _frame: FrameType | None) -> None:
        nonlocal stopped_by
        if not stopped_by:  # else it is ending
            stopped_by = signal_number
            if not printing:
                raise KeyboardInterrupt

    columns = [TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TextColumn("left")]
    bar = Progress(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal)
    total = sum(trial.work for trial in experiment.trials)
    task, done = bar.add_task("", total=total), 0
    running = experiment.run()
    with _stopped(interrupt):
        try:
            with bar:
                for trial, rows in running:
                    done += 1
                    bar.update(task, advance=trial.work, description=f"{done} of {len(experiment.trials)} trials")
                    last = rows[-1]
                    printing = True
                    console.print(
                        f"{trial.problem} {trial.cell} gap {trial.gaps[-1]} seed {trial.seed}: {outcome(last)}, "
                        f"{last['seconds']:.0f} s"
                    )
                    printing = False
                    if stopped_by:
                        raise KeyboardInterrupt
        except KeyboardInterrupt:
            running.close()
    if not stopped_by:
        return True
    console.print(f"Stopped; {experiment.out} has what was done, and the same command goes on from it.")
    if stopped_by != signal.SIGINT:
        sys.exit(128 + stopped_by)
    return False


class _Display:
    def __init__(self, console: Console) -> None:
        self._console = console
        self.kept: Report | None = None  # of the weights that are the best so far
        self._loss = 0.0
        self._held_out = ""
        columns = [
            TextColumn("step {task.fields[step]}"),
            BarColumn(),
            TextColumn("loss {task.fields[loss]}  held out {task.fields[held_out]}  {task.fields[rate]} steps/s"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        ]
        self._bar = Progress(*columns, console=console, transient=False, disable=not console.is_terminal)
        self._task = self._bar.add_task("", total=1.0, step="0", loss="-", held_out="-", rate="-")

    def __enter__(self) -> "_Display":
        self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.stop()

    def show(self, report: Report) -> None:
        if report.loss is not None:
            self._loss = report.loss if not self._loss else 0.95 * self._loss + 0.05 * report.loss
        loss = f"{self._loss:.4f}" if self._loss else "-"
        if report.held_out is not None:
            if report.held_out == report.best:
                self.kept = report
            self._held_out = f"{report.held_out:.4f}"
            if not self._console.is_terminal:
                self._console.print(
                    f"step {report.step}  {report.seconds:.0f} s  loss {loss}  held out {self._held_out}"
                )
        rate = report.step / report.seconds if report.seconds else 0.0
        self._bar.update(
            self._task,
            completed=report.progress,
            step=f"{report.step:,}",
            loss=loss,
            held_out=self._held_out or "-",
            rate=f"{rate:.1f}",
        )
