"""The command line: what goes wrong in a command becomes a sentence and an exit status.

Exit status: 0 done, 1 the run failed, 2 the input cannot be used or a file not written, 130 stopped by Ctrl-C,
143 training stopped by SIGTERM, 129 by a terminal that was closed (training saves first).
"""

import os
import sys
from contextlib import redirect_stdout
from errno import EDQUOT, EFBIG, ENOSPC, EROFS
from typing import Any, NoReturn, TextIO, cast

from unrolled.commands import app
from unrolled.commands.frame import OutputError, fail
from unrolled.errors import InputError

__all__ = ["run"]

NO_ROOM = (EDQUOT, EFBIG, ENOSPC, EROFS)


def run() -> None:
    """Run the command that the command line names."""
    stream: TextIO | None = sys.stdout
    if stream is None:
        fail("standard output is closed, expected a place for what is printed.", 1)
    sys.stdin = sys.stdin or cast(TextIO, _NoInput())
    try:
        with redirect_stdout(cast(TextIO, _Output(stream))) as output:
            try:
                app(prog_name="unrolled")
            except InputError as error:
                fail(str(error), 2)
            except KeyboardInterrupt:  # before a command runs: Typer does the same while it does
                sys.exit(130)
            except MemoryError:
                fail("there is not enough memory for this.", 1)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                name = error.filename or "a temporary file"
                fail(f"{name} could not be written: {error.strerror}; TMPDIR may name another folder.", 1)
            finally:
                output.flush()
    except OutputError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # for what is flushed at exit
        if error.broken_pipe:
            sys.exit(1)
        fail(str(error), 1)


class _NoInput:
    """Standard input that is closed."""

    @property
    def buffer(self) -> NoReturn:
        raise InputError("standard input is closed, expected something to read.")


class _Output:
    """Standard output, whose errors are told from those of files."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's own; raises `OutputError`."""
        try:
            return self._stream.write(text)
        except (OSError, UnicodeEncodeError) as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        """As the stream's own; raises `OutputError`."""
        try:
            self._stream.flush()
        except OSError as error:
            raise OutputError(error) from error
