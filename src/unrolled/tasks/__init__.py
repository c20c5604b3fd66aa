"""What a model is for: one folder a task, all of one shape.

A task (`task.py`) reads examples, builds the model, hands out batches and says what is held out; the training loop
knows these parts and no more. `model.py` has the finished model: how it is run and measured. A task is made for
the command line by being named in `TASKS`.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from unrolled import modelfile
from unrolled.causal import Causal
from unrolled.errors import InputError
from unrolled.modelfile import ModelFile
from unrolled.results import Evaluation, Output
from unrolled.tasks.caption import CaptionTask
from unrolled.tasks.forecast import ForecastTask
from unrolled.tasks.label import LabelTask
from unrolled.tasks.speech import SpeechTask
from unrolled.tasks.text import TextTask
from unrolled.tasks.translate import TranslateTask

if TYPE_CHECKING:
    import torch

    from unrolled.start import Start

__all__ = ["TASKS", "Batch", "Model", "Task", "load"]

Batch = dict[str, NDArray[Any]]
"""The keyword arguments of one call of the model, as arrays."""


class Model(Protocol):
    """A finished model."""

    RunOptions: ClassVar[type[Any]]
    """A dataclass of settings: what `run` may be told."""

    file: ModelFile

    def __init__(self, file: ModelFile) -> None: ...

    @property
    def causal(self) -> Causal:
        """The model as a stream sees it; raises `InputError` with the reason for one that reads no stream."""

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """Measure the model, decoding freely, on data like that it was trained on (default: what was held out)."""

    def run(self, inputs: Sequence[str], options: Any) -> Iterator[Output]:
        """What the model does with each input, as it comes; `options` is a `RunOptions`."""

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""


class Task(Protocol):
    """What the training loop and the command line ask of a task. Its docstring is its help."""

    name: ClassVar[str]
    example: ClassVar[str]
    """The data of an example command: what stands between `unrolled train NAME` and `--out`."""
    Options: ClassVar[type[Any]]
    """A dataclass of settings."""
    Model: ClassVar[type[Any]]
    defaults: ClassVar[dict[str, Any]]
    """Training settings that suit this task better than the common defaults."""
    changeable: ClassVar[frozenset[str]]
    """Settings of those that a model to start from has `decided` which may be given anew."""
    ready: ClassVar[bool]
    """Whether a fresh model is of use already: then it is measured before the first step, as one to start from,
    and no batch's loss is a sign that training broke down.
    """
    start: "Start | None"
    """What the run starts from: its weights are for the training loop to take."""

    def __init__(
        self, options: Any, paths: Sequence[str | Path] = (), seed: int = 0, start: "Start | None" = None
    ) -> None:
        """With `start`, what would be measured from the data, such as a vocabulary, is that model's.

        Then `options` are those that `Start.over` gives.
        """

    @staticmethod
    def files(path: str | Path) -> Sequence[str | Path]:
        """The files that say what there is in a `path` of DATA, which may be a folder; raises `InputError`."""

    @staticmethod
    def decided(file: ModelFile) -> dict[str, Any]:
        """The settings that a model to start from decides, with the values that it has; None for those without."""

    def build(self) -> "torch.nn.Module":
        """A fresh model. Called with a Batch (and `state=`, once there is one), it returns the mean loss and the
        state that the next batch goes on from: () where batches have nothing to do with each other.
        """

    def settings(self) -> dict[str, Any]:
        """What the task was made with (its options and the data's fingerprint), for JSON."""

    def batch(self, step: int) -> Batch:
        """The batch of a training step (0 is the first): a function of the step alone, so that runs resume."""

    def held_out(self) -> list[tuple[Batch, int]]:
        """The held-out batches in order, the state carried on, each with its weight in the mean.

        A weight of 0 marks a batch that only brings the state into the course of things. With no batches at all
        the run keeps its last weights, else those with the least mean loss.
        """

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""

    def report(self, model: Any) -> Evaluation:
        """How good the finished model is on what was held out, beside baselines where there are any."""


TASKS: dict[str, type[Task]] = {
    task.name: task for task in (TextTask, LabelTask, ForecastTask, SpeechTask, TranslateTask, CaptionTask)
}


def load(path: str | Path) -> Any:
    """Open a trained model, ready to run: a `TextModel` for a file of the task text, and so on.

    Raises `InputError` for a file that is refused. Needs no torch, but where the model's class says so.
    """
    if not str(path):
        raise InputError("the path of the model is empty, expected the name of a model file.")
    model = modelfile.read(Path(path))
    try:
        return TASKS[model.task].Model(model)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
