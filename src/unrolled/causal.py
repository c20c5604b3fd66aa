"""A causal model as streams see it: a front end, recurrent layers, and a reader of what comes out.

A `Causal` holds weights, packed once, and no state. A stream's state is one record of `layout`, a NumPy structured
type whose fields are the position, h and c, and what front end and reader keep; many streams are an array of such
records, run together with the same bits as alone. Nothing here knows where records are kept, or what a task is.

Inputs and outputs of many streams lie one stream after another, N in all, with `lengths` [B] saying how many each
has.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.floats import Floats
from unrolled.network import Network
from unrolled.snapshot import Snapshot
from unrolled.stepper import State

__all__ = ["Causal", "Field", "Front", "Lengths", "Reader", "Records", "Tail"]

Field = tuple[str, Any, tuple[int, ...]]
"""A part of a state: its name, dtype and shape."""
Records = NDArray[np.void]
Lengths = NDArray[np.int64]


class Front(Protocol):
    """What makes of inputs the steps that the recurrent layers read."""

    fields: Sequence[Field]
    """What it keeps of a stream from one call to the next."""
    unit: int
    """How many inputs make a step. Where they are several, inputs come in chunks of any size."""
    dtype: np.dtype[Any] | None
    """Of inputs that come as bytes; None where they cannot."""
    shape: tuple[int, ...]
    """Of one input."""

    def checked(self, inputs: Any) -> NDArray[Any]:
        """The inputs [T, ...] of one stream as `run` takes them; raises `InputError` for others."""

    def run(self, inputs: NDArray[Any], lengths: Lengths, states: Records) -> tuple[NDArray[Any], Lengths]:
        """The steps [N, ...] that these inputs complete, and how many each stream has.

        `states` is brought up to date.
        """


class Reader(Protocol):
    """What outputs say, in words."""

    fields: Sequence[Field]

    def read(self, outputs: Floats, state: np.void) -> list[str]:
        """What the outputs [T, outputs] of one stream's next steps say; `state` is brought up to date."""


class Tail(Protocol):
    """What makes outputs of what the networks give, and of the steps that they have read."""

    fields: Sequence[Field]

    def run(self, found: Floats, steps: NDArray[Any], lengths: Lengths, states: Records) -> Floats:
        """The outputs [N, outputs] for what was found [N, ...] of steps [N, ...], so many of each stream.

        `states` is brought up to date.
        """

    def last(self, found: Floats, states: Records) -> Floats:
        """The outputs [B, outputs] for what was found [B, ...] of the steps that were run last."""


class Causal:
    """A model that reads a stream as it comes.

    `networks` read the same steps, and the mean of the first `outputs` numbers of each is what comes out, by way
    of the `tail` where there is one. `weights` is the SHA-256 of the model's weights, to which its snapshots are
    tied.
    """

    def __init__(
        self,
        weights: str,
        front: Front,
        networks: Sequence[Network],
        outputs: int,
        reader: Reader,
        tail: Tail | None = None,
    ) -> None:
        self.weights = weights
        self.front = front
        self.outputs = outputs
        self.reader = reader
        self._networks = networks
        self._tail = tail
        several = len(networks) > 1
        self._names: list[list[str]] = []
        fields: list[Field] = [("position", "<i8", ()), *front.fields, *reader.fields]
        fields += tail.fields if tail else ()
        for number, network in enumerate(networks):
            parts: list[Field] = [
                (f"{number}.{name}" if several else name, "<f4", (network.layers, width))
                for name, width in zip("hc", network.state_widths, strict=False)
            ]
            self._names.append([name for name, *_ in parts])
            fields += parts
        self.layout = np.dtype(fields)
        self._in_format = {"float32": self}

    def with_weights(self, weights: str) -> "Causal":
        """The same model with the weights of its recurrent layers and head in another format, packed once.

        The formats are those of `unrolled.stepper.packed`; raises `InputError` for others.
        """
        if weights not in self._in_format:
            networks = [network.with_weights(weights) for network in self._networks]
            self._in_format[weights] = Causal(
                self.weights, self.front, networks, self.outputs, self.reader, self._tail
            )
        return self._in_format[weights]

    def initial(self, count: int = 1) -> Records:
        """The states of streams that have consumed nothing: zeros."""
        return np.zeros(count, self.layout)

    def run(self, inputs: NDArray[Any], lengths: Lengths, states: Records) -> tuple[Floats, Lengths]:
        """Consume checked inputs [N, ...]; returns outputs [M, outputs] and how many each stream has.

        `states` [B] is brought up to date, but for what the reader keeps: see `read`.
        """
        steps, counts = self.front.run(inputs, lengths, states)
        found = [
            self._through(network, names, steps, counts, states)[:, : self.outputs]
            for network, names in zip(self._networks, self._names, strict=True)
        ]
        states["position"] += lengths
        outputs: Floats = found[0] if len(found) == 1 else np.mean(found, axis=0)
        return self._tail.run(outputs, steps, counts, states) if self._tail else outputs, counts

    def read(self, outputs: Floats, counts: Lengths, states: Records) -> list[list[str]]:
        """What the outputs of each stream say; to be called with all that `run` gives, in order."""
        pieces = np.split(outputs, np.cumsum(counts)[:-1])
        return [self.reader.read(piece, states[row]) for row, piece in enumerate(pieces)]

    def last(self, states: Records) -> Floats:
        """The outputs [B, outputs] of the steps that were run last; of a fresh stream, those of a zero state."""
        found = [
            network.last(_state(states, names))[:, : self.outputs]
            for network, names in zip(self._networks, self._names, strict=True)
        ]
        outputs: Floats = found[0] if len(found) == 1 else np.mean(found, axis=0)
        return self._tail.last(outputs, states) if self._tail else outputs

    def magnitude(self, states: Records) -> Floats:
        """The largest of |h| and |c| of each stream [B]: at most 1 for h, for c whatever it has counted up to."""
        arrays = [states[name] for names in self._names for name in names]
        largest: Floats = np.max([np.abs(array).max(axis=(1, 2)) for array in arrays], axis=0)
        return largest

    def _through(
        self, network: Network, names: list[str], x: NDArray[Any], counts: Lengths, states: Records
    ) -> Floats:
        """Streams of like length go in one batch; a longer one goes on without those that are through."""
        state = _state(states, names)
        longest = int(counts.max(initial=0))
        if counts.min(initial=longest) == longest:
            batch = x.reshape(len(counts), longest, *x.shape[1:]).swapaxes(0, 1)
            return network.run(batch, state).swapaxes(0, 1).reshape(len(x), network.outputs)
        return _ragged(network, x, counts, state)

    def snapshot(self, state: np.void) -> Snapshot:
        """A copy of one stream's state that may leave the program."""
        names = [name for name in self.layout.names or () if name != "position"]
        return Snapshot(self.weights, int(state["position"]), {name: np.array(state[name]) for name in names})

    def restored(self, snapshot: Snapshot) -> Records:
        """The state [1] of a snapshot; raises `InputError` for one of another model, and for what is none."""
        if not isinstance(snapshot, Snapshot):
            raise InputError(f"the state is a {type(snapshot).__name__}, expected a Snapshot")
        if snapshot.weights != self.weights:
            raise InputError(
                f"the state belongs to a model of weights {snapshot.weights[:12]}…, not to this one of "
                f"{self.weights[:12]}…"
            )
        states = self.initial()
        expected = set(self.layout.names or ()) - {"position"}
        if set(snapshot.arrays) != expected:
            raise InputError(f"the state has {sorted(snapshot.arrays)}, expected {sorted(expected)}")
        for name in expected:
            found = snapshot.arrays[name]
            field = states[name][0]
            if found.shape != field.shape or found.dtype != field.dtype:
                raise InputError(
                    f"the state's {name} is {found.dtype} {list(found.shape)}, expected {field.dtype} "
                    f"{list(field.shape)}"
                )
            states[name] = found
        states["position"] = snapshot.position
        return states


def _state(states: Records, names: list[str]) -> State:
    """The states of B streams as a network takes them, h [L, B, P] and c [L, B, H]: a view of the records."""
    h, *c = (states[name].swapaxes(0, 1) for name in names)
    return State(h, c[0] if c else None)


def _ragged(network: Network, x: NDArray[Any], counts: Lengths, state: State) -> Floats:
    """Outputs [N, outputs] of streams of different length: as long as all have steps, then as long as most do …"""
    outputs = np.empty((len(x), network.outputs), np.float32)
    starts = np.cumsum(counts) - counts
    begin = 0
    for end in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts >= end)
        places = starts[rows] + np.arange(begin, end)[:, None]
        part = state.take(rows)
        outputs[places] = network.run(x[places], part)
        state.put(rows, part)
        begin = end
    return outputs
