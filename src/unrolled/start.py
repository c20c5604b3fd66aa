"""A finished model that a run starts from: whose it is, and which settings it decides.

What the model reads and names is for the task to take from it, its weights for the training loop. A checkpoint has
all of it, so that an interrupted run goes on without the model's file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from unrolled import modelfile
from unrolled.checkpoint import Checkpoint
from unrolled.errors import InputError
from unrolled.tasks import TASKS, Task, load

__all__ = ["Start"]


@dataclass(frozen=True)
class Start:
    """A `model` to start from, as `unrolled.load` gives it, its file's `name` as it was given, and SHA-256 of its
    weights.
    """

    model: Any
    name: str
    sha256: str

    @classmethod
    def read(cls, path: Path, task: str) -> Self:
        """The model in a file; raises `InputError` for what is no model, or one of another task."""
        model = load(path)
        if model.file.task != task:
            raise InputError(
                f"{path} was trained for the task {model.file.task!r}, but this is `unrolled train {task}`; "
                "expected a model of the same task to start from."
            )
        return cls(model, str(path), model.file.fingerprint())

    @classmethod
    def of(cls, saved: Checkpoint, path: Path) -> Self | None:
        """What the run of the checkpoint `path` started from, with its weights of now; None for random ones."""
        if (start := saved.run.get("start")) is None:
            return None
        tensors = {name: value.numpy().astype(np.float32) for name, value in saved.part("model").items()}
        file = modelfile.parsed(start["model"], tensors, path)
        return cls(TASKS[file.task].Model(file), start["name"], start["sha256"])

    def document(self) -> dict[str, Any]:
        """All but the weights, for `of`."""
        return {"name": self.name, "sha256": self.sha256, "model": modelfile.document(self.model.file)}

    def is_in(self, path: Path, folder: str) -> bool:
        """Whether `path` is the file that it was read from, by a run in `folder`."""
        return os.path.realpath(path) == os.path.realpath(os.path.join(folder, self.name))

    def over(self, task: type[Task], chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The `chosen` settings, and those that the model decides; raises `InputError` where it has another."""
        decided = task.decided(self.model.file)
        for name, had in decided.items():
            if name in chosen and chosen[name] != had and name not in task.changeable:
                has = "was trained without" if had is None else f"has {had!r}"
                raise InputError(
                    f"{name} is {chosen[name]!r}, but {self.name}, which the run starts from, {has}; "
                    f"leave {name} out, and it is the model's."
                )
        return {**{name: had for name, had in decided.items() if had is not None}, **chosen}
