"""Where the built-in data is kept once it has been made."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from unrolled.errors import InputError
from unrolled.locks import alone_in

__all__ = ["folder"]


@contextmanager
def folder(name: str) -> Iterator[Path]:
    """The folder `name` for built-in data, which need not be there before; who else makes them waits meanwhile.

    Under `XDG_CACHE_HOME` (default ~/.cache). Raises `InputError` where it cannot be made.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unrolled" / name
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{cache} cannot be made for the built-in data: {error.strerror}.") from error
    with alone_in(cache):
        yield cache
