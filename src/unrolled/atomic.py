"""Files that are either whole or not there: written under a temporary name, flushed to the disk, renamed."""

import os
import shutil
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
    symbolic link stays one, and what it leads to becomes the content; a file that was there keeps who may read
    it. A disk that is full, a folder that cannot be written, or what is no file, as a device, raises `InputError`
    and is kept as it was.
    """
    target = Path(os.path.realpath(path))
    temporary = temporary_path(target)
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise InputError(f"{path} is a device or a pipe, expected the name of a file.")
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):  # there is none yet
            shutil.copymode(target, temporary)
        os.replace(temporary, target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        with suppress(OSError):  # it may never have come to be
            temporary.unlink()
        raise InputError(f"{path} could not be written: {error.strerror or error}.") from error
