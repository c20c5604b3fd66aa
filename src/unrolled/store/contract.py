"""What every store does, and the form in which a moment is kept."""

import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

from unrolled.errors import InputError

__all__ = [
    "MOST_HISTORY",
    "Change",
    "Key",
    "Moment",
    "Store",
    "StoreError",
    "Stored",
    "Summary",
    "check_history",
    "without_password",
]

MOST_HISTORY = 256  # moments of a stream that a store can be asked to keep
HEADER = struct.Struct("<IQQQ16s")  # CRC-32 of what follows it, version, position, at, request


class StoreError(Exception):
    """The store cannot be reached or written just now; the message is one sentence."""


class Key(NamedTuple):
    """A stream's name: no tenant can name another's."""

    tenant: str
    id: str


@dataclass(frozen=True)
class Moment:
    """A stream after a request.

    `version` counts the writes. `request` is a digest (16 bytes) of the inputs that led from position `at` here,
    or zeros where something else did.
    """

    version: int
    position: int
    at: int
    request: bytes
    state: bytes

    def pack(self) -> bytes:
        """As bytes that show whether they are whole."""
        body = HEADER.pack(0, self.version, self.position, self.at, self.request)[4:] + self.state
        return zlib.crc32(body).to_bytes(4, "little") + body

    @classmethod
    def unpack(cls, content: bytes) -> Self | None:
        """What `pack` made, or None: it is damaged."""
        if len(content) < HEADER.size or zlib.crc32(content[4:]) != int.from_bytes(content[:4], "little"):
            return None
        _, version, position, at, request = HEADER.unpack_from(content)
        return cls(version, position, at, request, content[HEADER.size :])


@dataclass(frozen=True)
class Stored:
    """A stream as it was found: its model's name and weights, its version, whether its life time is over.

    `moment` is its newest, None if that is damaged or the stream has ended.
    """

    model: str
    weights: str
    version: int
    ended: bool
    moment: Moment | None


@dataclass(frozen=True)
class Summary:
    """A stream in a list; `position` may be None where no moment is left, as of one that has ended."""

    id: str
    model: str
    position: int | None
    ended: bool


class Change(NamedTuple):
    """A moment that follows version `after`; moments since version `undo` are forgotten, if that is given."""

    key: Key
    after: int
    moment: Moment
    undo: int | None = None


def check_history(place: object, kept: int, history: int) -> None:
    """Raises `InputError` for a store at `place` that keeps another number of moments: they would not be found."""
    if kept != history:
        raise InputError(f"{place} was made to keep {kept} moments of a stream, but history is {history}")


def without_password(address: str) -> str:
    """The address of a store as it may be shown."""
    return re.sub("//.*@", "//", address)


class Store(Protocol):
    """Every method may raise `StoreError`; nothing is half done then, or `load` shows that it was done."""

    shared: bool
    """Whether other processes may write the same streams."""

    def create(self, key: Key, model: str, weights: str, moment: Moment) -> bool:
        """Keep a new stream; false, and nothing is done, if there is one of this name."""

    def load(self, key: Key) -> Stored | None:
        """A stream as it is now, None if it is not there."""

    def version(self, key: Key) -> int | None:
        """The version of a stream as it is now, None if it is not there or has ended: cheaper than `load`."""

    def moments(self, key: Key) -> list[Moment]:
        """The latest moments of a stream that are whole, newest first."""

    def save(self, changes: Sequence[Change]) -> list[bool]:
        """Keep moments, all at once; false for those that do not follow the newest version."""

    def delete(self, key: Key) -> bool:
        """Forget a stream; false if there is none."""

    def list(self, tenant: str, after: str, limit: int) -> list[Summary]:
        """A tenant's streams in the order of their names, from the first one beyond `after`."""

    def count(self, tenant: str | None = None) -> int:
        """How many streams a tenant has, those that ended too; or all together that have not ended."""

    def sweep(self, elapsed: float, lifetime: float) -> bool:
        """Let `elapsed` seconds pass, and end streams that were not written for `lifetime` seconds (0: never).

        Returns whether any ended.
        Time is that during which a server ran, so that neither a wrong clock nor an outage ends a stream.
        """

    def close(self) -> None:
        """Write what is left, and let go."""
