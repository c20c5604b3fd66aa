"""Recurrent networks that remember: train them, run them as streams, measure their memory.

`load` opens a trained model, `Stream` steps one and `StreamPool` thousands together, all without torch; `nn` has
the layers. Each is imported when it is first asked for: torch takes a second, and a program may want to set up
its threads before.
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

__all__ = ["InputError", "Snapshot", "Stream", "StreamPool", "load", "nn"]

_HOMES = {
    "Snapshot": "unrolled.snapshot",
    "Stream": "unrolled.stream",
    "StreamPool": "unrolled.pool",
    "load": "unrolled.tasks",
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
