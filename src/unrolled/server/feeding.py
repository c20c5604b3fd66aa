"""Requests that consume inputs: many of them, of different streams, advanced together by a slice.

What a request gives depends on the stream's state and on its inputs alone, so an answer that was lost is
computed again from the moment before it, to the same bits.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.causal import Causal
from unrolled.errors import InputError
from unrolled.floats import Floats
from unrolled.server.refusal import Refusal
from unrolled.server.streams import Entry
from unrolled.store import Key, Moment

__all__ = ["Answer", "Feed", "advance", "replay"]

SLICE = 64  # steps of a request in a round, so that a long one does not hold up the others


@dataclass(frozen=True)
class Answer:
    """The position after a request, the outputs [T, outputs], and what they say, if that was asked."""

    position: int
    outputs: Floats
    said: list[str]


@dataclass(slots=True, eq=False)
class Feed:
    """A request to consume inputs from position `at`, or (`peek`) to look what they would give.

    `inputs` are as they came: bytes in the model's dtype, or a value of JSON. At most `most` steps are taken.
    """

    key: Key
    at: int
    inputs: Any
    peek: bool = False
    reads: bool = False
    most: int = 1 << 62
    heard: Callable[[Any], None] = field(init=False)
    entry: Entry | None = None
    moment: Moment | None = None
    tries: int = 0
    sequence: NDArray[Any] | None = None
    offset: int = 0
    state: bytes = b""
    outputs: list[Floats] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether all its inputs are consumed."""
        return self.sequence is not None and self.offset == len(self.sequence)

    def start_again(self) -> None:
        """Forget what was done: the stream is not what it was thought to be."""
        self.entry, self.moment, self.sequence, self.offset, self.state = None, None, None, 0, b""
        self.outputs, self.said = [], []
        self.tries += 1

    def digest(self, causal: Causal) -> bytes:
        """What tells its inputs from others, however they came."""
        content = self.inputs
        if not isinstance(content, bytes):
            assert self.sequence is not None
            dtype = causal.front.dtype
            words = dtype is None
            content = (
                json.dumps(self.sequence.tolist()).encode() if words else self.sequence.astype(dtype).tobytes()
            )
        return hashlib.blake2b(content, digest_size=16).digest()

    def answer(self) -> Answer:
        """Once it is whole, and stored."""
        assert self.entry is not None
        outputs = self.outputs[0] if len(self.outputs) == 1 else np.concatenate(self.outputs)
        position = self.entry.position + (self.offset if self.peek else 0)
        return Answer(position, outputs, self.said)


def advance(feeds: Sequence[Feed], observe: Callable[[int, Floats], None]) -> list[tuple[Feed, Exception | None]]:
    """A slice of each of these requests, whose streams are all of one model and all different.

    `observe` is told how many inputs were consumed, and the largest number of each state. Those that become
    whole get the `moment` that is to be stored. Refused ones, or those whose inputs meet a defect, have consumed
    nothing.
    """
    assert feeds[0].entry is not None
    causal = feeds[0].entry.causal
    refused: list[tuple[Feed, Exception | None]] = []
    going = []
    for feed, refusal in _read(causal, feeds):
        if refusal is None:
            going.append(feed)
        else:
            refused.append((feed, refusal))
    if not going:
        return refused
    size = SLICE * causal.front.unit
    parts = [feed.sequence[feed.offset : feed.offset + size] for feed in going if feed.sequence is not None]
    lengths = np.array([len(part) for part in parts])
    states = np.frombuffer(
        b"".join([feed.state or feed.entry.state for feed in going if feed.entry is not None]), causal.layout
    ).copy()
    outputs, counts = causal.run(np.concatenate(parts), lengths, states)
    if causal.reader.fields or any(feed.reads for feed in going):
        for feed, said in zip(going, causal.read(outputs, counts, states), strict=True):
            feed.said += said if feed.reads else ()
    observe(int(lengths.sum()), causal.magnitude(states))
    _take(causal, going, lengths, states, outputs, counts)
    return [*refused, *((feed, None) for feed in going)]


def _take(
    causal: Causal,
    feeds: Sequence[Feed],
    lengths: NDArray[np.int64],
    states: NDArray[np.void],
    outputs: Floats,
    counts: NDArray[np.int64],
) -> None:
    """Give each request its part of what a round made."""
    raw, size = states.tobytes(), causal.layout.itemsize
    ends = np.cumsum(counts).tolist()
    begin = 0
    rows = zip(feeds, lengths.tolist(), ends, states["position"].tolist(), strict=True)
    for row, (feed, length, end, position) in enumerate(rows):
        feed.outputs.append(outputs[begin:end])
        begin = end
        feed.offset += length
        feed.state = raw[row * size : (row + 1) * size]
        if feed.whole and feed.offset and not feed.peek and feed.entry is not None:
            before = feed.entry.position
            feed.moment = Moment(feed.entry.version + 1, position, before, feed.digest(causal), feed.state)


def _read(causal: Causal, feeds: Sequence[Feed]) -> list[tuple[Feed, Exception | None]]:
    """Make arrays of the inputs of new requests: those that came as bytes all at once, if none is wrong."""
    fresh = [feed for feed in feeds if feed.sequence is None]
    front = causal.front
    if front.dtype is not None and len(fresh) > 1 and all(type(feed.inputs) is bytes for feed in fresh):
        size = front.dtype.itemsize * int(np.prod(front.shape))
        counts = [len(feed.inputs) // size for feed in fresh]
        fits = all(
            len(feed.inputs) == count * size <= feed.most * front.unit * size
            for feed, count in zip(fresh, counts, strict=True)
        )
        if fits:
            try:
                together = front.checked(_array(causal, b"".join([feed.inputs for feed in fresh])))
            except Exception:
                pass  # one of them is wrong: each by itself tells which
            else:
                begin = 0
                for feed, count in zip(fresh, counts, strict=True):
                    feed.sequence = together[begin : begin + count]
                    begin += count
    return [(feed, None if feed.sequence is not None else _read_one(causal, feed)) for feed in feeds]


def _read_one(causal: Causal, feed: Feed) -> Exception | None:
    try:
        inputs = _array(causal, feed.inputs) if isinstance(feed.inputs, bytes) else feed.inputs
        sequence = causal.front.checked(inputs)
    except InputError as error:
        return Refusal(422, "bad_input", str(error))
    except Exception as error:  # a defect: whose inputs these are hears of it, nobody else
        return error
    if len(sequence) > feed.most * causal.front.unit:
        return Refusal(
            413, "too_many_steps", f"the request has {len(sequence)} inputs, expected at most "
            f"{feed.most * causal.front.unit}."
        )  # fmt: skip
    feed.sequence = sequence
    return None


def _array(causal: Causal, content: bytes) -> NDArray[Any]:
    front = causal.front
    if front.dtype is None:
        raise InputError("this model's inputs are words, which come as JSON, not as bytes")
    size = front.dtype.itemsize * int(np.prod(front.shape))
    if len(content) % size:
        raise InputError(f"the body has {len(content)} bytes, expected a multiple of {size}: {front.dtype} inputs")
    return np.frombuffer(content, front.dtype).reshape(-1, *front.shape)


def replay(feed: Feed, moments: Sequence[Moment], observe: Callable[[int, Floats], None]) -> Answer | None:
    """The answer that this request was given before, if the stream's latest moments (newest first) know of it."""
    assert feed.entry is not None
    causal = feed.entry.causal
    for after, before in pairwise(moments):
        if not after.at == feed.at == before.position or after.version != before.version + 1:
            continue
        again = Feed(feed.key, feed.at, feed.inputs, True, feed.reads)
        again.entry = Entry(feed.entry.model, causal, before)
        if _read_one(causal, again) is not None or again.digest(causal) != after.request:
            return None
        while not again.whole:
            advance([again], observe)
        return again.answer()
    return None
