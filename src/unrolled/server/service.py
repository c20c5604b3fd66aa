"""A service: models, store, keeper and access, from its start to its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from unrolled.causal import Causal
from unrolled.errors import InputError, counted
from unrolled.server import wire
from unrolled.server.access import Access, read_tokens
from unrolled.server.keeper import Keeper
from unrolled.server.observe import Observer
from unrolled.server.refusal import Refusal
from unrolled.server.settings import ServeSettings
from unrolled.server.streams import StreamInfo, Streams
from unrolled.store import Key, open_store
from unrolled.stream import causal_of

__all__ = ["Service"]

SWEEP_SECONDS = 10.0


class Service:
    """Serves loaded models, each under a name.

    Raises `InputError` for one that reads no streams, and where tokens or store cannot be used.
    """

    keeper: Keeper

    def __init__(self, models: Mapping[str, Any], settings: ServeSettings) -> None:
        self.settings = settings
        self.observer = Observer()
        self.stopping = False  # whoever answers for long is to come to an end
        self.models = dict(models)
        self._causal = {name: _streamed(name, model, settings.weights) for name, model in models.items()}
        self._access = Access(read_tokens(Path(settings.tokens)) if settings.tokens else None, settings.rate)
        self._store = open_store(settings.store, settings.history)
        self.streams = Streams(self._causal, self._store, settings.in_memory)

    @contextlib.asynccontextmanager
    async def running(self, tell_ended: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
        """Keep streams until the end; `tell_ended` is called when the life time of some is over."""
        self.keeper = Keeper(self.streams, self.observer)
        sweeping = asyncio.create_task(self._sweep(tell_ended))
        try:
            yield
        finally:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping
            await asyncio.to_thread(self.keeper.close)

    async def _sweep(self, tell_ended: Callable[[], Awaitable[None]]) -> None:
        """Let the streams' time pass, count them, end those whose life time is over."""
        lifetime = self.settings.lifetime
        interval = min(SWEEP_SECONDS, lifetime / 4) if lifetime else SWEEP_SECONDS
        while True:
            await asyncio.sleep(interval)  # longer, if the process stood still: no time for its streams
            with contextlib.suppress(Refusal):  # the store is away; time stands still
                ended = await self.keeper.call(None, partial(self.streams.sweep, interval, lifetime))
                self.observer.store_wrote()
                self.observer.stored(await self.keeper.call(None, self._store.count))
                if ended:
                    await tell_ended()

    def admitted(self, authorization: str | None) -> str:
        """The tenant of a request that may come in; raises `Refusal`."""
        tenant = self._access.tenant(authorization)
        self._access.count(tenant)
        return tenant

    def counted(self, tenant: str) -> None:
        """One more request of a tenant who is in already; raises `Refusal`."""
        self._access.count(tenant)

    async def check_store(self) -> None:
        """Raises `Refusal` if the store does not answer."""
        await self.keeper.call(None, lambda: self._store.version(Key("", "")))

    def model_infos(self) -> list[wire.ModelInfo]:
        """The models, for clients."""
        return [
            wire.ModelInfo(
                name=name, task=self.models[name].file.task, weights=causal.weights,
                dtype=causal.front.dtype.name if causal.front.dtype is not None else None,
                shape=list(causal.front.shape), unit=causal.front.unit, outputs=causal.outputs,
                reads=self.models[name].reads(),
            )
            for name, causal in self._causal.items()
        ]  # fmt: skip

    async def create(self, key: Key, model: str | None) -> tuple[StreamInfo, bool]:
        """A new stream of a model, which may be None where there is one alone."""
        if model is None and len(self.models) > 1:
            raise Refusal(422, "bad_request", f"model: expected one of {', '.join(self.models)}.")
        name = model or next(iter(self.models))
        if name not in self.models:
            raise Refusal(404, "no_such_model", f"model: expected one of {', '.join(self.models)}.")
        return await self._added(key, lambda: self.streams.create(key, name))

    async def fork(self, key: Key, other: Key) -> tuple[StreamInfo, bool]:
        """A second stream that goes on from where the first is."""
        return await self._added(other, lambda: self.streams.fork(key, other))

    async def _added(self, key: Key, function: Any) -> tuple[StreamInfo, bool]:
        def add() -> Any:
            full = self._store.count(key.tenant) >= self.settings.streams
            if full and self._store.load(key) is None:  # else it is there: a retry finds it
                have = counted(self.settings.streams, "stream")
                raise Refusal(429, "too_many_streams", f"the tenant has {have} already.")
            return function()

        found: tuple[StreamInfo, bool] = await self.keeper.call(key, add)
        return found


def _streamed(name: str, model: Any, weights: str) -> Causal:
    """A model as streams see it, with its weights in this format; raises `InputError` with its `name`."""
    try:
        return causal_of(model, weights)
    except InputError as error:
        raise InputError(f"{name}: {error}") from error
