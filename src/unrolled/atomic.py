"""Files that are either whole or not there: written under a temporary name, flushed to the disk, renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from unrolled.errors import InputError

__all__ = ["replacing", "temporary_path"]


def temporary_path(path: Path) -> Path:
    """Where `path` is written before it is renamed."""
    return path.with_name(f".{path.name}.partial")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving, its content becomes `path` in one step.

    A process that is killed at any instant leaves the old file or the new one, never a part of one. The
    temporary name is always the same, so that what a killed process left is overwritten by the next one. A
    disk that is full, or a folder that cannot be written, raises `InputError` and keeps the old file.
    """
    temporary = temporary_path(path)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):  # it may never have come to be
            temporary.unlink()
        raise InputError(f"{path} could not be written: {error.strerror or error}.") from error
