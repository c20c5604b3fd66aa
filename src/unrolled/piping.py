"""A stream between standard input and standard output: a line, or a chunk of sound, a step.

What was printed is in the state: it is stored, if there is a file for it, before the line about it goes out. How a
model reads its input is its task's to say (`tasks/NAME/piped.py`); nothing here knows a task.
"""

from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import BinaryIO, Protocol

from unrolled.errors import InputError
from unrolled.locks import holding
from unrolled.results import Output
from unrolled.snapshot import Snapshot
from unrolled.stream import CausalModel, Stream

__all__ = ["PipedModel", "decoded", "each", "numbered", "opened", "piped"]

MOST = 16 << 20  # bytes of a line; one that never ends would take all memory that there is


class PipedModel(CausalModel, Protocol):
    """A model that reads standard input."""

    def piped(
        self, stream: Stream, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """What it says of each line, or chunk of sound, of `source`, when `stream` has just read that.

        Where there is nothing to say, the output's line is empty. A line that cannot be read goes to `refused`,
        and the stream stays where it was. Where `source` ends, so does the sequence, if it `ends`; else it goes
        on later. Raises `InputError` where no line could be read.
        """


@contextmanager
def opened(model: CausalModel, state: Path | None) -> Iterator[Stream]:
    """A stream that goes on from the file `state`, if that is there, which is this process's alone meanwhile.

    Raises `InputError` for another model's state, for one that another process has, and for a place that cannot be
    written.
    """
    stream = Stream(model, history=0)
    if state is None:
        yield stream
        return
    with holding(
        state, f"{state} is the state of another stream that runs; expected another, or that it ends first"
    ):
        if state.exists():
            snapshot = Snapshot.read(state)
            try:
                stream.restore(snapshot)
            except InputError as error:
                raise InputError(f"{state}: {error}") from error
        yield stream


def piped(
    model: PipedModel, stream: Stream, source: BinaryIO, state: Path | None, refused: Callable[[str], None]
) -> Iterator[Output]:
    """What the model says of `source`, told when `state` has it; with a `state` the stream goes on later.

    Raises `InputError` as the model's own `piped` does.
    """
    for output in model.piped(stream, source, refused, ends=state is None):
        if state is not None:
            stream.snapshot().write(state)
        if output.line:
            yield output


def numbered(source: BinaryIO, marked: bool = True) -> Iterator[tuple[int, bytes]]:
    """The lines of a text, counted from 1, the first without a byte order mark if it is `marked`.

    Of a line of more than `MOST` bytes there is the beginning alone, which is that long.
    """
    for number in count(1):
        line = source.readline(MOST + 1)
        if not line:
            return
        yield number, line.removeprefix(BOM_UTF8) if marked and number == 1 and len(line) <= MOST else line
        while len(line) > MOST and not line.endswith(b"\n"):
            line = source.readline(MOST + 1)


def each(
    lines: Iterable[tuple[int, bytes]], told: Callable[[bytes], Output], refused: Callable[[str], None]
) -> Iterator[Output]:
    """What is `told` of each line; one for which that raises `InputError` goes to `refused`, with its number."""
    for number, line in lines:
        try:
            if len(line) > MOST:
                raise InputError(f"it has more than {MOST >> 20} MB, expected shorter lines")
            output = told(line)
        except InputError as error:
            refused(f"standard input, line {number}: {error}")
        else:
            yield output


def decoded(line: bytes) -> str:
    """The text of a line; raises `InputError` for what is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{line[error.start]:02X} at offset {error.start} of it is not UTF-8"
        raise InputError(f"{wrong}, expected text in UTF-8") from error
