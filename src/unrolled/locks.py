"""Files that one process at a time may use; who comes second is told so, and waits for a folder alone.

The locks are those of open files (flock), which end with the process that holds one, however it ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from unrolled.errors import InputError

__all__ = ["alone_in", "hold", "holding"]


def hold(file: int | IO[bytes], refusal: str) -> None:
    """Hold an open file for this process alone until it is closed.

    Raises `InputError` with the sentence `refusal` where another process holds it, and `OSError` on a file system
    without locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(refusal) from error


@contextmanager
def holding(path: Path, refusal: str) -> Iterator[None]:
    """Hold the name `path`, whatever file is there or takes its place, for this process alone.

    What is locked is an empty file beside it, which a process that is killed leaves behind and the next one takes.
    Raises `InputError` as `hold` does, and where there can be no such file; without locks nothing is held.
    """
    target = Path(os.path.realpath(path))
    lock = target.with_name(f".{target.name}.lock")
    try:
        file = _held(lock, refusal)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()
        os.close(file)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Hold `folder` for this process alone, once no other holds it; without locks nothing is held."""
    file = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def _held(lock: Path, refusal: str) -> int:
    """The descriptor of the file `lock`, which is made where it is not there, held."""
    while True:
        with ExitStack() as opened:
            file = os.open(lock, os.O_RDONLY | os.O_CREAT, 0o666)
            opened.callback(os.close, file)
            with suppress(OSError):  # a file system without locks
                hold(file, refusal)
            with suppress(FileNotFoundError):  # who held it removes it when it is done with it
                if os.path.samestat(os.fstat(file), os.stat(lock)):
                    opened.pop_all()
                    return file
