"""What a model is for: one module a task, all of one shape.

A task reads examples, builds the model, hands out batches and measures what is held out; the training loop
knows these parts and no more. The same module says how a finished model is run, without torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unrolled import modelfile
from unrolled.errors import InputError
from unrolled.modelfile import ModelFile
from unrolled.tasks.text import TextModel

if TYPE_CHECKING:
    import torch

__all__ = ["Batch", "Task", "load"]

Batch = dict[str, NDArray[Any]]
"""The keyword arguments of one call of the model, as arrays."""


class Task(Protocol):
    """What the training loop asks of a task."""

    name: str

    def build(self) -> "torch.nn.Module":
        """A fresh model. Called with a Batch and `state=`, it returns the mean loss in nats and the new state."""

    def settings(self) -> dict[str, Any]:
        """What the task was made with (its options and the data's fingerprint), for JSON."""

    def batch(self, step: int) -> Batch:
        """The batch of a training step (0 is the first): a function of the step alone, so that runs resume."""

    def held_out(self) -> "list[tuple[Batch, int]]":
        """The held-out batches in order, the state carried on, each with its weight in the mean.

        A weight of 0 marks a batch that only brings the state into the course of things.
        """

    def describe(self, tensors: dict[str, NDArray[np.float32]], training: dict[str, Any]) -> ModelFile:
        """The model file of a model with these weights."""


def load(path: str | Path) -> TextModel:
    """Open a trained model, ready to run; needs no torch. Raises `InputError` for a file that is refused."""
    model = modelfile.read(Path(path))
    if model.task != "text":
        raise InputError(f"{path} was trained for the task {model.task!r}, which this version cannot run.")
    try:
        return TextModel(model)
    except InputError as error:
        raise InputError(f"{path} cannot be used: {error}") from error
