"""The one training loop, for every task.

It knows a task's batches, loss and held-out batches, and nothing of what they mean. `train` is a generator: it
gives a `Report` after every step, so that whoever draws progress, logs or stops needs no callback. The device
comes from Accelerate.
"""

import json
import math
import os
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from unrolled import _engine, checkpoint, locks, modelfile, optimizers, whereabouts
from unrolled.atomic import replacing
from unrolled.checkpoint import Checkpoint
from unrolled.errors import InputError
from unrolled.rates import accelerator, quickest
from unrolled.recipe import TrainOptions, learning_rate_factor
from unrolled.resume import check_same, check_task
from unrolled.run_files import check_out, checkpoint_path, digest, log_path, previous_path
from unrolled.start import Start
from unrolled.tasks import Batch, Task

__all__ = ["Diverged", "Report", "in_bfloat16", "train"]

DIVERGED = 3.0  # times the loss of a model that knows nothing
EVALUATIONS = 10  # held-out evaluations a run, evenly spaced


@dataclass(frozen=True)
class Report:
    """Where a run stands after a step: `step` of them done, `progress` from 0 to 1, the step's mean loss, and the
    held-out loss when it was just measured: in nats, but for forecasts, whose unit is the standard deviation.
    `seconds` counts the whole run, also before a resume.

    Of a run that starts from a model, or from a fresh one that is of use already, the first is of no step, and has
    no `loss` but the held-out one.
    """

    step: int
    progress: float
    loss: float | None
    held_out: float | None
    best: float
    seconds: float


class Diverged(RuntimeError):
    """Training broke down: the loss is far above its beginning, or not a number. The last checkpoint is kept."""


def in_bfloat16(options: TrainOptions) -> bool:
    """Whether a run's products read bfloat16: where it is to, and this machine multiplies float32 no faster."""
    return options.precision == "bfloat16" and quickest(accelerator() or "cpu") == torch.bfloat16


def train(
    task: Task, options: TrainOptions, out: Path, resume: bool = False, paths: Sequence[str | Path] = ()
) -> Generator[Report]:
    """Train `task`'s model; the best one on the held-out part is written to `out` whenever it improves.

    The model that a run starts from, or a fresh one that is of use already, is the first of them, and so what is
    written is never worse.
    A checkpoint is written before the first step, and one now and then; the call itself writes nothing.
    Closing the generator (`break`, Ctrl-C) ends the run with a checkpoint, from which `resume` goes on; it has the
    `paths` that the task was made of, for `unrolled.resume`. A model that is at `out` already goes to
    `previous_path`.
    Raises `InputError` as `check_out` does, for a checkpoint that does not fit, for a file that cannot be
    written and while another process trains for `out`, and `Diverged`.
    """
    check_out(out, paths, task.start.name if task.start else None)
    with suppress(OSError), open(log_path(out), "rb") as log:  # before a checkpoint of that process is judged
        _lock(log, out)
    run = _Run(task, options, out, paths)
    if resume:
        run.restore()
    elif checkpoint_path(out).exists() and (done := checkpoint.read(checkpoint_path(out)).run["steps_done"]):
        raise InputError(
            f"{checkpoint_path(out)} holds an interrupted run (step {done}); resume it, or remove the file to "
            "start anew."
        )
    elif task.start:
        run.take_over(task.start)
    return _reports(run, resume)


def _reports(run: "_Run", resume: bool) -> Generator[Report]:
    run.open_log()
    try:
        if not resume:
            run.save_first()
        run.log.truncate()
        known = run.task.start or run.task.ready
        if known and math.isinf(run.best) and (report := run.measure_start()):
            yield report
        while run.progress < 1:
            yield run.step()
            if run.checkpoint_due():
                run.save()
    except GeneratorExit:
        run.save()
        raise
    finally:
        with suppress(OSError):  # every line was flushed
            run.log.close()
    checkpoint_path(run.out).unlink(missing_ok=True)


def _lock(log: BinaryIO, out: Path) -> None:
    """Hold the log of the run for `out` while it is open; raises `InputError` where another process does."""
    with suppress(OSError):  # a file system without locks
        locks.hold(
            log,
            f"{out} is what another process trains at this moment; expected another --out, or that it ends first.",
        )


class _Run:
    """A run between its steps: all that a checkpoint saves, and the few operations of the loop."""

    def __init__(self, task: Task, options: TrainOptions, out: Path, paths: Sequence[str | Path]) -> None:
        self.task, self.options, self.out, self.paths = task, options, out, paths
        _engine.keep_freed_memory()
        self.accelerator = Accelerator()
        if self.accelerator.num_processes > 1:
            raise InputError(
                f"{self.accelerator.num_processes} processes were started; training runs in one so far."
            )
        self.bfloat16 = in_bfloat16(options)
        torch.manual_seed(options.seed)
        model = task.build()
        self.model, *self.optimizers = self.accelerator.prepare(model, *optimizers.make(model, options))
        self.state: tuple[Tensor, ...] = ()
        self.steps_done = 0
        self.best = math.inf
        self.first_loss = math.inf if task.ready else 0.0
        self.found = digest(out)  # at `out`, as the run begins
        self.seconds_before = 0.0
        self.log_bytes: int | None = None  # of the run that goes on
        self.started = time.monotonic()
        self.saved = self.started

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    @property
    def progress(self) -> float:
        if self.options.minutes is not None:
            return min(1.0, self.seconds / (60 * self.options.minutes))
        return self.steps_done / self.options.steps

    def take_over(self, start: Start) -> None:
        """Go on from a model's weights; by how the fresh ones do, a loss will be judged to have diverged."""
        with torch.no_grad(), self._autocast():
            loss, _ = self.model(**self._on_device(self.task.batch(0)))
        self.first_loss = self.first_loss or loss.item()
        weights = start.model.file.tensors
        self._bare_model().load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})

    def measure_start(self) -> Report | None:
        """How the model does that the run begins with; None where nothing is held out."""
        held_out = self.evaluate()
        if held_out is None:
            return None
        self._keep_best(held_out)
        self._write_log({"step": 0, "held_out": held_out})
        return Report(0, 0.0, None, held_out, self.best, self.seconds)

    def step(self) -> Report:
        before = self.progress
        rate = self.options.lr * learning_rate_factor(before)
        optimizers.set_rate(self.optimizers, rate)
        batch = self._on_device(self.task.batch(self.steps_done))
        with self._autocast():
            loss, state = self.model(**batch, **self._carried(self.state))
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.options.clip)
        value = loss.item()
        self.first_loss = self.first_loss or value
        if not (value < DIVERGED * self.first_loss and math.isfinite(float(norm))):
            first = "that of random weights was" if self.task.start else "it began at"
            raise Diverged(
                f"training diverged at step {self.steps_done + 1}: the loss is {value:g} ({first} "
                f"{self.first_loss:g}) and the gradient's norm {float(norm):g}; try a lower lr than {rate:g}"
            )
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.state = tuple(part.detach() for part in state)
        self.steps_done += 1
        held_out = None
        if int(self.progress * EVALUATIONS) > int(before * EVALUATIONS):
            held_out = self.evaluate()
            self._keep_best(held_out)
        self._write_log({"step": self.steps_done, "loss": value, "lr": rate, "held_out": held_out})
        return Report(self.steps_done, self.progress, value, held_out, self.best, self.seconds)

    def evaluate(self) -> float | None:
        """The mean held-out loss; None where nothing is held out."""
        self.model.eval()
        total, count, state = 0.0, 0, ()
        with torch.no_grad(), self._autocast():
            for batch, weight in self.task.held_out():
                loss, state = self.model(**self._on_device(batch), **self._carried(state))
                total += loss.item() * weight
                count += weight
        self.model.train()
        return total / count if count else None

    def _keep_best(self, held_out: float | None) -> None:
        """Write the model where it does better than before on what is held out, or nothing is."""
        if held_out is None or held_out < self.best:
            self.best = math.inf if held_out is None else held_out
            self._write_model()

    @staticmethod
    def _carried(state: tuple[Tensor, ...]) -> dict[str, tuple[Tensor, ...]]:
        """The argument that takes a state on; none where batches have nothing to do with each other."""
        return {"state": state} if state else {}

    def _autocast(self) -> torch.autocast:
        """Matrix products in the chosen precision, in training and in held-out evaluation alike."""
        return torch.autocast(self.accelerator.device.type, torch.bfloat16, enabled=self.bfloat16)

    def checkpoint_due(self) -> bool:
        return time.monotonic() - self.saved >= 60 * self.options.checkpoint_minutes

    def save_first(self) -> None:
        """The checkpoint that is written before the first step; without it there is to be no log either."""
        try:
            self.save()
        except InputError:
            if not os.fstat(self.log.fileno()).st_size:  # else it is an earlier run's
                log_path(self.out).unlink()
            raise

    def save(self) -> None:
        tensors = {f"model.{name}": value for name, value in self._bare_model().state_dict().items()}
        tensors |= {f"optimizer.{name}": value for name, value in optimizers.state(self.optimizers).items()}
        tensors |= {f"state.{number}": part for number, part in enumerate(self.state)}
        tensors["random.cpu"] = torch.get_rng_state()
        os.fsync(self.log.fileno())
        run = {
            "steps_done": self.steps_done,
            "best": self.best,
            "first_loss": self.first_loss,
            "seconds": self.seconds,
            "log_bytes": self.log.tell(),
            "settings": {**self._settings(), "checkpoint_minutes": self.options.checkpoint_minutes},
            "task": self.task.name,
            "paths": [str(path) for path in self.paths],
            "folder": whereabouts.here(),
            "found": self.found,
            "start": self.task.start.document() if self.task.start else None,
        }
        checkpoint.write(checkpoint_path(self.out), Checkpoint(run, tensors))
        self.saved = time.monotonic()

    def restore(self) -> None:
        path = checkpoint_path(self.out)
        saved = checkpoint.read(path)
        check_task(path, saved.run, self.task.name)
        check_same(path, saved.run["settings"], self._settings())
        self._bare_model().load_state_dict(saved.part("model"))
        optimizers.load_state(self.optimizers, saved.part("optimizer"))
        state = saved.part("state")
        self.state = tuple(state[str(n)].to(self.accelerator.device) for n in range(len(state)))
        torch.set_rng_state(saved.tensors["random.cpu"])
        self.steps_done, self.best = saved.run["steps_done"], saved.run["best"]
        self.first_loss, self.found = saved.run["first_loss"], saved.run.get("found")
        self.seconds_before = saved.run["seconds"]
        self.log_bytes = saved.run["log_bytes"]

    def open_log(self) -> None:
        """A fresh log, or the old one at the place of the checkpoint: the steps after it are done again."""
        path = log_path(self.out)
        try:
            flags = os.O_RDWR | (os.O_CREAT if self.log_bytes is None else 0)
            self.log = os.fdopen(os.open(path, flags, 0o666), "r+b")  # closed by _reports()
        except OSError as error:
            gone = self.log_bytes is not None and isinstance(error, FileNotFoundError)  # the folder is there
            wrong = ", of the interrupted run, is not there; move it with the checkpoint"
            raise InputError(f"{path}{wrong if gone else f' cannot be written: {error.strerror}'}.") from error
        _lock(self.log, self.out)
        kept = self.log_bytes or 0
        if (found := os.fstat(self.log.fileno()).st_size) < kept:
            raise InputError(
                f"{path}, of the interrupted run, has {found:,} bytes, expected the {kept:,} of its checkpoint."
            )
        self.log.seek(kept)

    def _settings(self) -> dict[str, Any]:
        """What must be the same for a resumed run to go on as the one that was interrupted."""
        own = {
            f.name: getattr(self.options, f.name) for f in fields(self.options) if f.name != "checkpoint_minutes"
        }
        start = self.task.start.sha256 if self.task.start else None
        return {**own, **self.task.settings(), "start": start, "threads": torch.get_num_threads()}

    def _bare_model(self) -> torch.nn.Module:
        model: torch.nn.Module = self.accelerator.unwrap_model(self.model)
        return model

    def _on_device(self, batch: Batch) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self.accelerator.device) for name, array in batch.items()}

    def _write_model(self) -> None:
        tensors = {
            name: value.detach().cpu().numpy().astype(np.float32)
            for name, value in self._bare_model().state_dict().items()
        }
        training = {
            **asdict(self.options),
            "steps_done": self.steps_done,
            "seconds": round(self.seconds, 1),
            "held_out_loss": self.best if math.isfinite(self.best) else None,
        }
        if start := self.task.start:
            training |= {"start": start.name, "start_sha256": start.sha256}
        if self.found and digest(self.out) == self.found:  # not what this run wrote before it was killed
            with replacing(previous_path(self.out)) as temporary:
                shutil.copy2(self.out, temporary)
        self.found = None
        modelfile.write(self.out, self.task.describe(tensors, training))

    def _write_log(self, entry: dict[str, Any]) -> None:
        present = {name: value for name, value in entry.items() if value is not None}
        try:
            self.log.write(json.dumps(present).encode() + b"\n")
            self.log.flush()
        except OSError as error:
            raise InputError(f"{log_path(self.out)} could not be written: {error.strerror}.") from error
