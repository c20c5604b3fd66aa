"""The streams of a server: in its store, and the latest used of them in memory too.

What may be done with one but to feed it, each a function for `Keeper.call`: the keeper's thread alone uses this.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from unrolled.causal import Causal
from unrolled.floats import Floats
from unrolled.server.refusal import Refusal
from unrolled.snapshot import Snapshot
from unrolled.store import Change, Key, Moment, Store, Stored, Summary

__all__ = ["Entry", "StreamInfo", "Streams"]

NO_REQUEST = bytes(16)


@dataclass(frozen=True)
class StreamInfo:
    """A stream as clients see it."""

    id: str
    model: str
    position: int
    ended: bool = False


class Entry:
    """A stream in memory: what the store holds of it."""

    __slots__ = ("causal", "model", "position", "state", "version")

    def __init__(self, model: str, causal: Causal, moment: Moment) -> None:
        self.model, self.causal = model, causal
        self.take(moment)

    def take(self, moment: Moment) -> None:
        """This moment is stored: it is the stream's newest."""
        self.version, self.position, self.state = moment.version, moment.position, moment.state


class Streams:
    """Streams of `models` in `store`, of which the `in_memory` latest used are in memory too.

    What needs the store raises `StoreError` where that does not answer.
    """

    def __init__(self, models: Mapping[str, Causal], store: Store, in_memory: int) -> None:
        self.models = models
        self.store = store
        self._in_memory = in_memory
        self._entries: OrderedDict[Key, Entry] = OrderedDict()

    def __len__(self) -> int:
        """How many are in memory."""
        return len(self._entries)

    def forget(self, key: Key) -> None:
        """Have it no longer in memory: the store will say what it is."""
        self._entries.pop(key, None)

    def entry(self, key: Key) -> Entry:
        """A stream in memory, brought there from the store if need be; raises `Refusal`, `StoreError`."""
        entry = self._entries.get(key)
        if entry is None:
            return self.newest(key)
        self._entries.move_to_end(key)
        return entry

    def newest(self, key: Key) -> Entry:
        """A stream as the store has it."""
        entry = self._entries.get(key)
        if entry is not None and self.store.version(key) == entry.version:
            self._entries.move_to_end(key)
            return entry
        self._entries.pop(key, None)
        entry = self._opened(self._found(key))
        self._entries[key] = entry
        while len(self._entries) > self._in_memory:
            self._entries.popitem(last=False)
        return entry

    def create(self, key: Key, model: str) -> tuple[StreamInfo, bool]:
        """A new stream, and whether it is new: the same request again finds it."""
        causal = self.models[model]
        return self._add(key, model, causal, causal.initial().tobytes())

    def _add(self, key: Key, model: str, causal: Causal, state: bytes) -> tuple[StreamInfo, bool]:
        position = int(np.frombuffer(state, causal.layout)["position"][0])
        moment = Moment(0, position, position, NO_REQUEST, state)
        if self.store.create(key, model, causal.weights, moment):
            return StreamInfo(key.id, model, position), True
        found = self.store.moments(key)
        entry = self.newest(key)
        if entry.model != model or (found and found[-1].version == 0 and found[-1].state != state):
            raise Refusal(409, "exists", f"there is another stream of this name, of the model {entry.model!r}.")
        return StreamInfo(key.id, entry.model, entry.position), False

    def info(self, key: Key) -> StreamInfo:
        """A stream as it is now."""
        entry = self.newest(key) if self.store.shared else self.entry(key)
        return StreamInfo(key.id, entry.model, entry.position)

    def last(self, key: Key) -> Floats:
        """The outputs [outputs] of the newest step."""
        entry = self.entry(key)
        outputs: Floats = entry.causal.last(np.frombuffer(entry.state, entry.causal.layout))[0]
        return outputs

    def fork(self, key: Key, other: Key) -> tuple[StreamInfo, bool]:
        """A second stream that goes on from here."""
        entry = self.newest(key)
        return self._add(other, entry.model, entry.causal, entry.state)

    def rewind(self, key: Key, position: int) -> StreamInfo:
        """Go back to a position where a request began or ended."""
        stored = self._found(key)
        moments = self.store.moments(key)
        found = next((moment for moment in moments if moment.position == position), None)
        if found is None:
            kept = ", ".join(str(place) for place in sorted({moment.position for moment in moments}))
            raise Refusal(409, "not_kept", f"position {position} is not kept; there are {kept or 'none'}.")
        self._replace(key, stored.version, found.position, found.state, found.version)
        return self.info(key)

    def download(self, key: Key) -> Snapshot:
        """The state as it is now."""
        entry = self.newest(key) if self.store.shared else self.entry(key)
        return entry.causal.snapshot(np.frombuffer(entry.state, entry.causal.layout)[0])

    def upload(self, key: Key, snapshot: Snapshot) -> StreamInfo:
        """Go on from a snapshot; raises `InputError` for one of another model."""
        stored = self._found(key)
        state = self._model(stored).restored(snapshot)
        self._replace(key, stored.version, snapshot.position, state.tobytes(), None)
        return self.info(key)

    def _replace(self, key: Key, version: int, position: int, state: bytes, undo: int | None) -> None:
        moment = Moment(version + 1, position, position, NO_REQUEST, state)
        self._entries.pop(key, None)
        if not self.store.save([Change(key, version, moment, undo)])[0]:
            raise Refusal(503, "contended", "another server wrote to this stream; try again.")

    def delete(self, key: Key) -> None:
        """Forget a stream."""
        self._entries.pop(key, None)
        if not self.store.delete(key):
            raise Refusal(404, "no_such_stream", "there is no such stream.")

    def sweep(self, elapsed: float, lifetime: float) -> bool:
        """Let time pass; whether streams ended."""
        ended = self.store.sweep(elapsed, lifetime)
        if ended:
            self._entries.clear()  # which of them is the store's to say
        return ended

    def listed(self, tenant: str, after: str, limit: int) -> list[Summary]:
        """A tenant's streams."""
        return self.store.list(tenant, after, limit)

    def _found(self, key: Key) -> Stored:
        stored = self.store.load(key)
        if stored is None:
            raise Refusal(404, "no_such_stream", "there is no such stream.")
        if stored.ended:
            raise Refusal(410, "ended", "the stream's life time is over.")
        return stored

    def _opened(self, stored: Stored) -> Entry:
        causal = self._model(stored)
        moment = stored.moment
        if moment is None or len(moment.state) != causal.layout.itemsize:
            raise Refusal(
                409, "state_damaged", "what is stored of this stream is damaged; rewind it, or upload a state."
            )
        return Entry(stored.model, causal, moment)

    def _model(self, stored: Stored) -> Causal:
        causal = self.models.get(stored.model)
        if causal is None:
            raise Refusal(409, "other_model", f"the stream's model {stored.model!r} is not served here.")
        if causal.weights != stored.weights:
            raise Refusal(
                409, "other_model", f"the stream's state belongs to another model than {stored.model!r}."
            )
        return causal
