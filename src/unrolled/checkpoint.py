"""Everything a training run needs to go on as if it had never stopped, in one file.

Weights, optimiser state, the random generators, the carried state and the run's own counters: a run that is
killed at any instant and resumed from here computes the same losses, bit for bit, as one left alone. The file
is safetensors (no pickle), written in one step. What the tensors mean to a task is not known here.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unrolled.atomic import replacing
from unrolled.errors import InputError

__all__ = ["Checkpoint", "read", "write"]

VERSION = 1


@dataclass
class Checkpoint:
    """A run between two steps.

    `run` holds what JSON can say: the step that comes next, seconds spent, best held-out loss so far, and the
    settings that the run was started with. `tensors` holds the rest under dotted names.
    """

    run: dict[str, Any]
    tensors: dict[str, Tensor]

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name` and a dot, without it."""
        return {key[len(name) + 1 :]: value for key, value in self.tensors.items() if key.startswith(f"{name}.")}


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Write in one step; when that fails (`InputError`) the older checkpoint is still whole."""
    document = {"format": "unrolled checkpoint", "version": VERSION, "run": checkpoint.run}
    # Each tensor its own memory: safetensors refuses two names for one.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in checkpoint.tensors.items()}
    content = save(tensors, metadata={"unrolled": json.dumps(document)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def read(path: Path) -> Checkpoint:
    """Read a checkpoint; `InputError` says why one is refused."""
    if not path.is_file():
        raise InputError(
            f"{path} does not exist: there is no interrupted run to resume; without --resume one begins."
        )
    try:
        with safe_open(path, framework="pt") as file:
            document = json.loads((file.metadata() or {})["unrolled"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise InputError(f"{path} is damaged or not a checkpoint: {str(error).rstrip('.')}.") from error
    if document.get("format") != "unrolled checkpoint" or document.get("version") != VERSION:
        raise InputError(
            f"{path} is {document.get('format')!r} version {document.get('version')!r}; expected an unrolled "
            f"checkpoint of version {VERSION}."
        )
    return Checkpoint(document["run"], tensors)
