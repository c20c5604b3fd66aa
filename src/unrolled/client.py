"""A client of `unrolled serve`: streams that live on a server, in a program as if they were here.

`Client` and `AsyncClient` are two ways to do what the rules of `unrolled.exchange` ask for.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Self

import httpx

from unrolled.errors import InputError
from unrolled.exchange import Flow, Request, Rules, ServerError, StreamRules, Unreachable
from unrolled.floats import Floats
from unrolled.snapshot import Snapshot

__all__ = ["AsyncClient", "AsyncRemoteStream", "Client", "RemoteStream", "ServerError", "Unreachable"]


class RemoteStream(StreamRules):
    """A stream on a server: as `unrolled.Stream`, with a name, `id`, and that of its `model`."""

    def step(self, x: Any) -> Floats:
        """Consume one input; returns the outputs [outputs]. Raises as `feed` does.

        A step of a speech model is a chunk of samples, as for `feed`.
        """
        outputs: Floats = self._client._do(self._stepped("/feed", x))
        return outputs

    def feed(self, inputs: Any) -> Floats:
        """Consume inputs; returns the outputs [T, outputs]. Raises `ServerError`, `Unreachable`."""
        outputs: Floats = self._client._do(self._fed("/feed", inputs))
        return outputs

    def read(self, inputs: Any) -> list[str]:
        """Consume inputs; returns what the model says."""
        said: list[str] = self._client._do(self._said(inputs))
        return said

    def advance(self, inputs: Any) -> tuple[Floats, list[str]]:
        """Consume inputs once; returns both the outputs, as `feed` does, and what they say, as `read` does."""
        both: tuple[Floats, list[str]] = self._client._do(self._said(inputs, outputs=True))
        return both

    def peek(self, x: Any) -> Floats:
        """What `step` would return; the stream stays where it is."""
        outputs: Floats = self._client._do(self._stepped("/peek", x))
        return outputs

    def fork(self, name: str | None = None) -> "RemoteStream":
        """A second stream that goes on from here on its own."""
        return RemoteStream(self._client, self._client._do(self._forked(name)))

    def rewind(self, position: int) -> None:
        """Go back to a position where one of the latest requests began or ended."""
        self._client._do(self._rewound(position))

    def refresh(self) -> None:
        """Learn where the stream is, if another client moved it."""
        self._client._do(self._changed(Request("GET", self._path())))

    def snapshot(self) -> Snapshot:
        """The state, which an `unrolled.Stream` of the same model may go on from."""
        snapshot: Snapshot = self._client._do(self._downloaded())
        return snapshot

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of the same model."""
        self._client._do(self._uploaded(snapshot))

    def delete(self) -> None:
        """Forget the stream."""
        self._client._do(self._client._json(Request("DELETE", self._path())))


class Client(Rules):
    """A server at `address`; `patience` is for how many seconds a request is tried again.

    A context manager, which closes its connections. Raises `InputError` for what is no address.
    """

    def __init__(self, address: str, token: str | None = None, patience: float = 30.0) -> None:
        super().__init__(patience)
        self._http = httpx.Client(base_url=_checked(address), headers=_headers(token), timeout=patience)

    def create(self, model: str | None = None, name: str | None = None) -> RemoteStream:
        """A new stream; with a `name` that is taken already, that stream. Raises as `stream` does."""
        return RemoteStream(self, self._do(self._created(model, name)))

    def stream(self, name: str) -> RemoteStream:
        """A stream that is there; raises `ServerError`, `InputError` for what is no name."""
        return RemoteStream(self, self._do(self._found(name)))

    def streams(self) -> Iterator[RemoteStream]:
        """Every stream of this client's tenant that has not ended."""
        return (RemoteStream(self, info) for info in self._do(self._listed()))

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _do(self, flow: Flow) -> Any:
        answer: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                wanted = flow.send(answer)
            except StopIteration as done:
                return done.value
            if isinstance(wanted, float):
                time.sleep(wanted)
                continue
            try:
                answer = self._http.request(**vars(wanted))
            except httpx.TransportError as error:
                answer = error


class AsyncRemoteStream(StreamRules):
    """`RemoteStream` for asyncio."""

    async def step(self, x: Any) -> Floats:
        """Consume one input; returns the outputs [outputs]. Raises as `feed` does.

        A step of a speech model is a chunk of samples, as for `feed`.
        """
        outputs: Floats = await self._client._do(self._stepped("/feed", x))
        return outputs

    async def feed(self, inputs: Any) -> Floats:
        """Consume inputs; returns the outputs [T, outputs]. Raises `ServerError`, `Unreachable`."""
        outputs: Floats = await self._client._do(self._fed("/feed", inputs))
        return outputs

    async def read(self, inputs: Any) -> list[str]:
        """Consume inputs; returns what the model says."""
        said: list[str] = await self._client._do(self._said(inputs))
        return said

    async def advance(self, inputs: Any) -> tuple[Floats, list[str]]:
        """Consume inputs once; returns both the outputs, as `feed` does, and what they say, as `read` does."""
        both: tuple[Floats, list[str]] = await self._client._do(self._said(inputs, outputs=True))
        return both

    async def peek(self, x: Any) -> Floats:
        """What `step` would return; the stream stays where it is."""
        outputs: Floats = await self._client._do(self._stepped("/peek", x))
        return outputs

    async def fork(self, name: str | None = None) -> "AsyncRemoteStream":
        """A second stream that goes on from here on its own."""
        return AsyncRemoteStream(self._client, await self._client._do(self._forked(name)))

    async def rewind(self, position: int) -> None:
        """Go back to a position where one of the latest requests began or ended."""
        await self._client._do(self._rewound(position))

    async def refresh(self) -> None:
        """Learn where the stream is, if another client moved it."""
        await self._client._do(self._changed(Request("GET", self._path())))

    async def snapshot(self) -> Snapshot:
        """The state, which an `unrolled.Stream` of the same model may go on from."""
        snapshot: Snapshot = await self._client._do(self._downloaded())
        return snapshot

    async def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot of the same model."""
        await self._client._do(self._uploaded(snapshot))

    async def delete(self) -> None:
        """Forget the stream."""
        await self._client._do(self._client._json(Request("DELETE", self._path())))


class AsyncClient(Rules):
    """`Client` for asyncio; an asynchronous context manager."""

    def __init__(self, address: str, token: str | None = None, patience: float = 30.0) -> None:
        super().__init__(patience)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._http = httpx.AsyncClient(
            base_url=_checked(address), headers=_headers(token), timeout=patience, limits=limits
        )

    async def create(self, model: str | None = None, name: str | None = None) -> AsyncRemoteStream:
        """A new stream; with a `name` that is taken already, that stream. Raises as `stream` does."""
        return AsyncRemoteStream(self, await self._do(self._created(model, name)))

    async def stream(self, name: str) -> AsyncRemoteStream:
        """A stream that is there; raises `ServerError`, `InputError` for what is no name."""
        return AsyncRemoteStream(self, await self._do(self._found(name)))

    async def streams(self) -> AsyncIterator[AsyncRemoteStream]:
        """Every stream of this client's tenant that has not ended."""
        for info in await self._do(self._listed()):
            yield AsyncRemoteStream(self, info)

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _do(self, flow: Flow) -> Any:
        answer: httpx.Response | httpx.TransportError | None = None
        while True:
            try:
                wanted = flow.send(answer)
            except StopIteration as done:
                return done.value
            if isinstance(wanted, float):
                await asyncio.sleep(wanted)
                continue
            try:
                answer = await self._http.request(**vars(wanted))
            except httpx.TransportError as error:
                answer = error


def _checked(address: str) -> str:
    """An address that httpx can reach; of another it would say so at every try, as of a server that is down."""
    if not re.match("https?://.", address):
        raise InputError(f"address is {address!r}, expected one such as 'http://127.0.0.1:8000'")
    return address


def _headers(token: str | None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}
