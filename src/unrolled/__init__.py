"""Recurrent networks that remember: train them, run them as streams, measure their memory.

`load` opens a trained model and needs no torch; the layers are in `unrolled.nn`, training in `unrolled.train`.
"""

from unrolled.errors import InputError
from unrolled.stream import Stream
from unrolled.tasks import load

__all__ = ["InputError", "Stream", "load"]
