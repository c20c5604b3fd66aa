"""Recurrent networks that remember: train them, run them as streams, measure their memory.

`train` trains a model, with torch; `load` opens a trained one, `Stream` steps it and `StreamPool` thousands
together, without. `nn` has the layers. Each is imported when it is first asked for: torch takes a second, and a
program may want to set up its threads before.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from unrolled.errors import InputError

if TYPE_CHECKING:
    from unrolled import nn
    from unrolled.pool import StreamPool
    from unrolled.snapshot import Snapshot
    from unrolled.stream import Stream
    from unrolled.tasks import load
    from unrolled.training import train

__all__ = ["InputError", "Snapshot", "Stream", "StreamPool", "load", "nn", "train"]

_HOMES = {
    "Snapshot": "unrolled.snapshot",
    "Stream": "unrolled.stream",
    "StreamPool": "unrolled.pool",
    "load": "unrolled.tasks",
    "train": "unrolled.training",
}


def __getattr__(name: str) -> Any:
    if name == "nn":
        return import_module("unrolled.nn")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        return metadata.version("unrolled")
    raise AttributeError(f"module 'unrolled' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
