"""A trained model in one file: weights, and one JSON document that says everything else about it.

The file is safetensors; the document is the metadata entry `unrolled`. Nothing here knows what a task does
with its model, or needs torch: `shapes` says which tensors an architecture has, and that is all it takes to
refuse a file whose tensors do not fit.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unrolled.architecture import ARCHITECTURES
from unrolled.atomic import replacing
from unrolled.errors import InputError, counted

__all__ = ["VERSION", "Loaded", "ModelFile", "document", "is_model", "parsed", "read", "write"]

FORMAT = "unrolled model"
VERSION = 2

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    `architecture` is of the task's own class (`unrolled.architecture`).
    `encoding` says what the numbers that go in and come out stand for (vocabulary, labels, normalisation), as
    the task reads it; `training` says how the model came to be (data fingerprint, split, seed, steps, metrics).
    `path` is the file that it was read from, with every folder; of a model that is in none yet an empty text.
    """

    task: str
    architecture: Any
    encoding: dict[str, Any] = field(repr=False)
    training: dict[str, Any] = field(repr=False)
    tensors: Tensors = field(repr=False)
    path: str = field(default="", compare=False)

    @property
    def folder(self) -> str:
        """Where its file is, or an empty text."""
        return os.path.dirname(self.path)

    def had(self, *names: str) -> dict[str, Any]:
        """Settings of its training, or its sizes, by name; None for what it did not have."""
        known = {**asdict(self.architecture), **self.training}
        return {name: known.get(name) for name in names}

    def fingerprint(self) -> str:
        """SHA-256 over the weights: what a saved state is tied to."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.tensors[name]).tobytes())
        return digest.hexdigest()


class Loaded:
    """What a task makes of a model file, which a person at a prompt sees in one line."""

    def __init__(self, file: ModelFile) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.file,)  # weights that are packed are packed again

    def reads(self) -> dict[str, Any]:
        """What it reads and what it names, as it was trained, where sizes alone do not tell."""
        return {}

    def idle(self) -> set[str]:
        """Its sizes and the settings of its training that made no difference."""
        return {"steps"} if self.file.training.get("minutes") is not None else set()  # which chose the steps

    def __repr__(self) -> str:
        sizes, name = self.file.architecture, os.path.basename(self.file.path)
        layers = getattr(sizes, "layers", 1)  # a caption model has one
        what = f"{counted(layers, f'{sizes.cell} layer')} of {sizes.hidden:,} units"
        return f"<{f'{type(self).__name__} {name}'.strip()}: {what}, {sizes.parameters:,} parameters>"


def write(path: Path, model: ModelFile) -> None:
    """Write `model` to `path` in one step; an older file stays whole if that fails (`InputError`)."""
    tensors = {name: np.asarray(tensor, order="C") for name, tensor in model.tensors.items()}
    content = save(tensors, metadata={"unrolled": json.dumps(document(model))})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def document(model: ModelFile) -> dict[str, Any]:
    """All of a model but its weights, for JSON."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "task": model.task,
        "architecture": asdict(model.architecture),
        "encoding": model.encoding,
        "training": model.training,
    }


def read(path: Path) -> ModelFile:
    """Read a model file; `InputError` says in one sentence why a file is refused."""
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a model file written by `unrolled train`.")
    if path.is_dir():
        raise InputError(f"{path} is a folder; expected a model file written by `unrolled train`.")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        reason = str(error).rstrip(".")
        raise InputError(
            f"{path} is damaged or not a model file ({reason}); expected one written by `unrolled train`."
        ) from error
    if "unrolled" not in metadata:
        raise InputError(f"{path} is a safetensors file, but not one written by `unrolled train`.")
    try:
        description = json.loads(metadata["unrolled"])
    except ValueError as error:
        raise InputError(f"{path} cannot be used: {error}.") from error
    model = parsed(description, tensors, path)
    return replace(model, path=os.path.join(os.path.realpath(path.parent), path.name))


def parsed(description: Any, tensors: Tensors, path: Path) -> ModelFile:
    """The model of a `document` and its weights, both in the file `path`; raises `InputError` for none."""
    try:
        return _parse(description, tensors)
    except (ValueError, KeyError) as error:
        reason = f"no {error} in its description" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} cannot be used: {reason.rstrip('.')}.") from error


def is_model(path: Path) -> bool:
    """Whether a file says of itself that it is a model, of this version or another; its weights are not read."""
    try:
        with safe_open(path, framework="numpy") as file:
            document = json.loads((file.metadata() or {})["unrolled"])
    except (SafetensorError, OSError, ValueError, KeyError):
        return False
    return isinstance(document, dict) and document.get("format") == FORMAT


def _parse(document: Any, tensors: Tensors) -> ModelFile:
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError("its description is not that of a model")
    if document.get("version") != VERSION:
        raise ValueError(f"format version {document.get('version')!r} is unknown; this program reads {VERSION}")
    if not isinstance(document["task"], str):
        raise ValueError("task is not a name")
    if document["task"] not in ARCHITECTURES:
        raise ValueError(f"it was trained for the task {document['task']!r}, which this version cannot run")
    architecture = ARCHITECTURES[document["task"]].from_json(document["architecture"])
    for name, shape in architecture.shapes().items():
        if name not in tensors:
            raise ValueError(f"tensor {name} is missing")
        found = tensors[name]
        if found.shape != shape or found.dtype != np.float32:
            raise ValueError(
                f"tensor {name} is {found.dtype} {list(found.shape)}, its architecture needs float32 {list(shape)}"
            )
    if extra := sorted(set(tensors) - set(architecture.shapes())):
        raise ValueError(f"tensor {extra[0]} does not belong to its architecture")
    for name in ("encoding", "training"):
        if not isinstance(document[name], dict):
            raise ValueError(f"{name} is not a JSON object")
    return ModelFile(document["task"], architecture, document["encoding"], document["training"], tensors)
