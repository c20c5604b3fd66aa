"""Streams between standard input and standard output: a line, or a chunk of sound, a step.

What was printed is in the state: it is stored, if there is a place for it, before the line about it goes out. How
a model reads its input is its task's to say (`tasks/NAME/piped.py`); nothing here knows a task.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import quote

from unrolled.errors import InputError
from unrolled.locks import holding
from unrolled.results import Output
from unrolled.snapshot import Snapshot
from unrolled.stream import CausalModel, Stream
from unrolled.texts import MOST

__all__ = ["PipedModel", "Streams", "each", "opened", "piped"]

LONGEST = 200  # bytes of a name in that of a file, which has at most 255


class _StateError(InputError):
    """A state that is not for this stream, whatever the line says that asks for it."""


class Streams:
    """The streams of a model that reads standard input: `one`, or one for each name that its lines have.

    With a `state`, each goes on from what is there of it: `one` from that file, those with names from files in a
    folder of that name. Raises `InputError` for another model's state.
    """

    def __init__(self, model: CausalModel, state: Path | None) -> None:
        self._model, self._state = model, state
        self._one = Stream(model, history=0)
        self._named: dict[str, Stream] = {}
        self._read: tuple[Stream, Path] | None = None
        self._folder = state is not None and state.is_dir()
        self._file = state is not None and not self._folder and state.exists()
        self.before = ""
        """What they go on from, for people; nothing where all begin."""
        if state is not None and self._folder:
            known = len(list(state.glob("*.state")))
            s = "" if known == 1 else "s"
            self.before = f"the state{s} of {known:,} sequence{s}" if known else ""
        elif state is not None and self._file:
            _restore(self._one, state)
            self.before = f"position {self._one.position}" if self._one.position else ""

    @property
    def one(self) -> Stream:
        """The only one; raises `InputError` where there are states of streams with names."""
        if self._folder:
            raise _StateError(
                f"{self._state} is a folder, of the states of sequences with names; expected the file of one state"
            )
        self._read = None if self._state is None else (self._one, self._state)
        return self._one

    def end(self) -> None:
        """What `one` has read, if anything, is over: it begins anew."""
        if self._one.position:
            self.one.reset()

    def named(self, name: str) -> Stream:
        """The one of this name; raises `InputError` where there is the state of a stream that has none."""
        if self._file:
            raise _StateError(f"{self._state} is the state of one sequence, expected a folder of states by name")
        place = None if self._state is None else self._state / _file_name(name)
        stream = self._named.get(name)
        if stream is None:
            stream = Stream(self._model, history=0)
            if place is not None and place.exists():
                _restore(stream, place)
            self._named[name] = stream
        self._read = None if place is None else (stream, place)
        return stream

    def keep(self) -> None:
        """Store the state of the one that was asked for last; raises `InputError` where it cannot be written."""
        if self._read is None:
            return
        stream, place = self._read
        if place == self._state:
            self._file = True
        elif not self._folder:
            try:
                place.parent.mkdir()
            except OSError as error:
                raise InputError(f"{place.parent} cannot be made: {error.strerror}") from error
            self._folder = True
        stream.snapshot().write(place)


def _file_name(name: str) -> str:
    """Where the state of a stream of this name is, whatever characters it has, and however many."""
    quoted = quote(name, safe="")
    if len(quoted) > LONGEST:
        quoted = f"{quoted[: LONGEST // 2]}-{sha256(name.encode()).hexdigest()}"
    return f"{quoted}.state"


def _restore(stream: Stream, state: Path) -> None:
    try:
        snapshot = Snapshot.read(state)
    except InputError as error:
        raise _StateError(str(error)) from error
    try:
        stream.restore(snapshot)
    except InputError as error:
        raise _StateError(f"{state}: {error}") from error


class PipedModel(CausalModel, Protocol):
    """A model that reads standard input."""

    def piped(
        self, streams: Streams, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """What it says of each line, or chunk of sound, of `source`, when one of `streams` has just read that.

        Where there is nothing to say, the output's line is empty. A line that cannot be read goes to `refused`,
        and the streams stay where they were. Where `source` ends, so does the sequence, if it `ends`; else it goes
        on later. Raises `InputError` where no line could be read.
        """


@contextmanager
def opened(model: CausalModel, state: Path | None) -> Iterator[Streams]:
    """Streams that go on from `state`, if that is there, which is this process's alone meanwhile.

    Raises `InputError` for another model's state, for one that another process has, and for a place that cannot be
    written.
    """
    if state is None:
        yield Streams(model, None)
        return
    with holding(
        state, f"{state} is the state of another stream that runs; expected another, or that it ends first"
    ):
        yield Streams(model, state)


def piped(
    model: PipedModel, streams: Streams, source: BinaryIO, stored: bool, refused: Callable[[str], None]
) -> Iterator[Output]:
    """What the model says of `source`, told when its state is `stored`, if it is to be; then it goes on later.

    Raises `InputError` as the model's own `piped` does.
    """
    for output in model.piped(streams, source, refused, ends=not stored):
        streams.keep()
        if output.line:
            yield output


def each(
    lines: Iterable[tuple[int, bytes]], told: Callable[[bytes], Output], refused: Callable[[str], None]
) -> Iterator[Output]:
    """What is `told` of each line; one that cannot be used goes to `refused`, with its number.

    That is one of which `told` raises `InputError`; a state that is not this stream's is no fault of a line.
    """
    for number, line in lines:
        try:
            if len(line) > MOST:
                raise InputError(f"it has more than {MOST >> 20} MB, expected shorter lines")
            output = told(line)
        except _StateError:
            raise
        except InputError as error:
            refused(f"standard input, line {number}: {error}")
        else:
            yield output
