"""A stream's state as it leaves the program: a safetensors file.

It holds what the recurrent layers, the front end and the reader carry, the position, the SHA-256 of the weights it
belongs to, and one of its own content. Nothing here knows which arrays a model has.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from unrolled.atomic import replacing
from unrolled.errors import InputError

__all__ = ["VERSION", "Snapshot"]

VERSION = 1
MOST = 1 << 53  # inputs: no stream comes that far, and those who go on from there stay within 64 bits
HEADER = 8  # bytes that say how long safetensors' header is


@dataclass(frozen=True, eq=False)
class Snapshot:
    """What a stream carried after `position` inputs; `weights` is the SHA-256 of its model's weights.

    `arrays` has h [L, P] and, for an LSTM, c [L, H] (P is H but for a projection; with a member's number before
    the name where a model has several), and what front end and reader keep.
    """

    weights: str
    position: int
    arrays: Mapping[str, NDArray[Any]]

    def __repr__(self) -> str:
        arrays = ", ".join(f"{name} {list(array.shape)}" for name, array in self.arrays.items())
        return f"<Snapshot after {self.position:,} inputs: {arrays}; weights {self.weights[:12]}…>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Snapshot) and self._digest() == other._digest()

    def __hash__(self) -> int:
        return hash(self._digest())

    def to_bytes(self) -> bytes:
        """The content of a safetensors file."""
        arrays = {name: np.array(array, order="C") for name, array in self.arrays.items()}
        document = {
            "format": "unrolled state",
            "version": VERSION,
            "position": self.position,
            "weights": self.weights,
            "content": self._digest(),
        }
        return save(arrays, metadata={"unrolled": json.dumps(document)})

    @classmethod
    def from_bytes(cls, content: bytes, name: str = "the state") -> Self:
        """Read what `to_bytes` gave; raises `InputError`, which speaks of `name`, if it is damaged or not a
        state.
        """
        try:
            arrays = load(content)
            size = int.from_bytes(content[:HEADER], "little")
            document = json.loads(json.loads(content[HEADER : HEADER + size])["__metadata__"]["unrolled"])
            found = cls(document["weights"], document["position"], arrays)
            version, digest = document["version"], document["content"]
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{name} is damaged or not a stream's state") from error
        if document.get("format") != "unrolled state":
            raise InputError(f"{name} is not a stream's state")
        if version != VERSION:
            raise InputError(f"{name} has format version {version!r}; this program reads {VERSION}")
        if type(found.position) is not int or not 0 <= found.position < MOST or type(found.weights) is not str:
            raise InputError(f"{name} is damaged: its description does not hold")
        if digest != found._digest():
            raise InputError(f"{name} is damaged: its content is not what was written")
        return found

    def write(self, path: str | Path) -> None:
        """Write it to `path` in one step; an older file stays whole if that fails (`InputError`)."""
        with replacing(Path(path)) as temporary:
            temporary.write_bytes(self.to_bytes())

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read what `write` wrote; raises `InputError` as `from_bytes`, and for a file that cannot be read."""
        try:
            return cls.from_bytes(Path(path).read_bytes(), str(path))
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}; expected a stream's state") from error

    def _digest(self) -> str:
        digest = hashlib.sha256(f"{self.weights} {self.position}".encode())
        for name in sorted(self.arrays):
            digest.update(f" {name} {self.arrays[name].dtype} {self.arrays[name].shape} ".encode())
            digest.update(self.arrays[name].tobytes())
        return digest.hexdigest()
