"""A trained model in one file: weights, and one JSON document that says everything else about it.

The file is safetensors; the document is the metadata entry `unrolled`. Nothing here knows what a task does
with its model, or needs torch: `shapes` says which tensors an architecture has, and that is all it takes to
refuse a file whose tensors do not fit.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from unrolled.atomic import replacing
from unrolled.errors import InputError

__all__ = ["VERSION", "Architecture", "ModelFile", "read", "write"]

VERSION = 1
GATES = {"lstm": 4, "gru": 3, "rnn": 1}

Tensors = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Architecture:
    """An embedding, a stack of recurrent layers, and a linear head.

    `symbols` is V (inputs and outputs), `embedding` the width of an embedded symbol, `hidden` H, `layers` L.
    """

    cell: str
    symbols: int
    embedding: int
    hidden: int
    layers: int

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The name and shape of every tensor, as `torch` names them."""
        rows = GATES[self.cell] * self.hidden
        shapes: dict[str, tuple[int, ...]] = {"embedding.weight": (self.symbols, self.embedding)}
        for layer in range(self.layers):
            inputs = self.hidden if layer else self.embedding
            shapes[f"recurrent.{layer}.weight_ih_l0"] = (rows, inputs)
            shapes[f"recurrent.{layer}.weight_hh_l0"] = (rows, self.hidden)
            shapes[f"recurrent.{layer}.bias_ih_l0"] = (rows,)
            shapes[f"recurrent.{layer}.bias_hh_l0"] = (rows,)
        shapes["head.weight"] = (self.symbols, self.hidden)
        shapes["head.bias"] = (self.symbols,)
        return shapes

    @property
    def parameters(self) -> int:
        """How many numbers the model has learned."""
        return sum(int(np.prod(shape)) for shape in self.shapes().values())

    @classmethod
    def from_json(cls, document: Any) -> "Architecture":
        """Read what `dataclasses.asdict` wrote; `ValueError` says what does not fit."""
        if not isinstance(document, dict) or set(document) != {field.name for field in fields(cls)}:
            raise ValueError(f"architecture must have {', '.join(field.name for field in fields(cls))}")
        if not isinstance(document["cell"], str) or document["cell"] not in GATES:
            raise ValueError(f"cell {document['cell']!r} is not one of {', '.join(GATES)}")
        for name in ("symbols", "embedding", "hidden", "layers"):
            if type(document[name]) is not int or document[name] < 1:
                raise ValueError(f"{name} is {document[name]!r}, expected a whole number of at least 1")
        return cls(**document)


@dataclass(frozen=True)
class ModelFile:
    """What a model file holds.

    `vocabulary` is the document of `unrolled.vocabulary`; `training` says how the model came to be (data
    fingerprint, split, seed, steps, metrics) and is for people: nothing is computed from it.
    """

    task: str
    architecture: Architecture
    vocabulary: dict[str, Any]
    training: dict[str, Any]
    tensors: Tensors

    def fingerprint(self) -> str:
        """SHA-256 over the weights: what a saved state is tied to."""
        digest = hashlib.sha256()
        for name in sorted(self.tensors):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(self.tensors[name]).tobytes())
        return digest.hexdigest()


def write(path: Path, model: ModelFile) -> None:
    """Write `model` to `path` in one step; an older file stays whole if that fails (`InputError`)."""
    document = {
        "format": "unrolled model",
        "version": VERSION,
        "task": model.task,
        "architecture": asdict(model.architecture),
        "vocabulary": model.vocabulary,
        "training": model.training,
    }
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in model.tensors.items()}
    content = save(tensors, metadata={"unrolled": json.dumps(document)})
    with replacing(path) as temporary:
        temporary.write_bytes(content)


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
        raise InputError(f"{path} is damaged or not a model file: {str(error).rstrip('.')}.") from error
    if "unrolled" not in metadata:
        raise InputError(f"{path} is a safetensors file, but not one written by `unrolled train`.")
    try:
        return _parse(json.loads(metadata["unrolled"]), tensors)
    except (ValueError, KeyError) as error:
        reason = f"no {error} in its description" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path} cannot be used: {reason.rstrip('.')}.") from error


def _parse(document: Any, tensors: Tensors) -> ModelFile:
    if not isinstance(document, dict) or document.get("format") != "unrolled model":
        raise ValueError("its description is not that of a model")
    if document.get("version") != VERSION:
        raise ValueError(f"format version {document.get('version')!r} is unknown; this program reads {VERSION}")
    architecture = Architecture.from_json(document["architecture"])
    if architecture.layers > len(tensors):  # before naming them all: a damaged file may speak of 10^9
        raise ValueError(f"its {len(tensors)} tensors are too few for {architecture.layers} layers")
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
    for name in ("vocabulary", "training"):
        if not isinstance(document[name], dict):
            raise ValueError(f"{name} is not a JSON object")
    if not isinstance(document["task"], str):
        raise ValueError("task is not a name")
    return ModelFile(document["task"], architecture, document["vocabulary"], document["training"], tensors)
