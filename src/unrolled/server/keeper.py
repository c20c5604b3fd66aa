"""The keeper of the streams: engine and store behind one thread.

Requests come from the event loop and are answered there; what is between happens in the keeper's thread, in
rounds. A round takes what has arrived meanwhile, at most one request a stream, steps all of it together, stores
it at once, and then answers. So streams that arrive together are stepped together, nobody waits for a batch to
fill, and an answer never comes before its state is stored. A long request goes on for several rounds, a slice
in each, while others pass. Nothing here knows HTTP.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from unrolled.errors import InputError
from unrolled.server.feeding import Answer, Feed, advance, replay
from unrolled.server.observe import Observer
from unrolled.server.refusal import Refusal
from unrolled.server.streams import Streams
from unrolled.store import Change, Key, StoreError

__all__ = ["Keeper"]

AT_ONCE = 1024  # requests in a round
TRIES = 4  # of a request whose stream another process wrote to meanwhile


@dataclass
class _Call:
    """A request that touches one stream, or none, by itself."""

    key: Key | None
    function: Callable[[], Any]
    heard: Callable[[Any], None] = field(init=False)


Request = Feed | _Call
Answers = list[tuple[Request, Any]]  # an exception stands for what a request is refused with, or for a defect


class Keeper:
    """Feeds `streams`, which its thread alone touches. To be made where an event loop runs."""

    def __init__(self, streams: Streams, observer: Observer) -> None:
        self._streams = streams
        self._store = streams.store
        self._observer = observer
        self._arrived: list[Request] = []
        self._first = 0.0  # when the first of them came
        self._queue: SimpleQueue[list[Request] | None] = SimpleQueue()
        self._waiting: list[Request] = []
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="keeper")
        self._thread.start()

    async def feed(self, feed: Feed) -> Answer:
        """Consume inputs, or look what they would give; raises `Refusal`."""
        answer: Answer = await self._answer(feed)
        return answer

    async def call(self, key: Key | None, function: Callable[[], Any]) -> Any:
        """Let `function` run in the keeper's thread while nothing else happens to this stream."""
        return await self._answer(_Call(key, function))

    def close(self) -> None:
        """Answer what has arrived, and stop."""
        self._hand_over()
        self._queue.put(None)
        self._thread.join()
        self._store.close()

    # In the event loop's thread.

    def submit(self, request: Request, heard: Callable[[Any], None]) -> None:
        """As `feed`, but `heard` is called with the answer, or with the exception in its place."""
        request.heard = heard
        if not self._arrived:
            self._first = time.perf_counter()
            self._loop.call_soon(self._hand_over)  # when all that has come with it has been read
        self._arrived.append(request)

    def _hand_over(self) -> None:
        if self._arrived:
            self._queue.put(self._arrived)
            self._arrived = []

    async def _answer(self, request: Request) -> Any:
        future = self._loop.create_future()

        def heard(answer: Any) -> None:
            if future.done():  # its client has gone
                return
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)

        self.submit(request, heard)
        return await future

    @staticmethod
    def _deliver(answers: Answers) -> None:
        for request, answer in answers:
            request.heard(answer)

    # In the keeper's thread, which alone touches streams, engine and store.

    def _work(self) -> None:
        open_ = True
        while open_ or self._waiting:
            idle = not self._waiting and self._queue.empty()
            while open_ and not (self._waiting and self._queue.empty()):
                arrived = self._queue.get()
                open_ = arrived is not None
                self._waiting += arrived or []
            if idle:
                self._observer.window(time.perf_counter() - self._first)
            self._round()

    def _round(self) -> None:
        """One request of each stream that has any, in the order in which they came."""
        busy: set[Key] = set()
        feeds: list[Feed] = []
        later: list[Request] = []
        answers: Answers = []
        for request in self._waiting:
            if request.key in busy or len(feeds) >= AT_ONCE:
                later.append(request)
            elif isinstance(request, Feed):
                busy.add(request.key)
                feeds.append(request)
            else:
                answers.append((request, self._guarded(request.function)))
        self._waiting = later
        if feeds:
            begin = time.perf_counter()
            try:
                answers += self._fed(feeds)
            except Exception as error:  # a defect: whose requests these were hear of it, the thread goes on
                answers += [(feed, error) for feed in feeds]
            self._observer.batch(len(feeds), time.perf_counter() - begin, len(self._streams))
        self._loop.call_soon_threadsafe(self._deliver, answers)

    def _guarded(self, function: Callable[[], Any]) -> Any:
        """What a request gives, or what it is refused with."""
        try:
            return function()
        except Refusal as refusal:
            return refusal
        except StoreError as error:
            self._observer.store_failed(str(error))
            return Refusal(503, "store_unavailable", f"{error}; try again.")
        except InputError as error:
            return Refusal(422, "bad_input", str(error))
        except Exception as error:  # whose request it was hears of it; the others' go on
            return error

    def _fed(self, feeds: list[Feed]) -> Answers:
        answers: Answers = []
        ready: dict[int, list[Feed]] = {}
        for feed in feeds:
            answer = self._guarded(lambda feed=feed: self._begin(feed))  # type: ignore[misc]
            if answer is not None:
                answers.append((feed, answer))
            else:
                assert feed.entry is not None
                ready.setdefault(id(feed.entry.causal), []).append(feed)
        finished: list[Feed] = []
        again: list[Request] = []
        for group in ready.values():
            try:
                advanced = advance(group, self._observer.states)
            except Exception as error:  # a defect of one model: those who fed others go on
                answers += [(feed, error) for feed in group]
                continue
            for feed, refusal in advanced:
                if refusal is not None:
                    answers.append((feed, refusal))
                elif feed.whole:
                    finished.append(feed)
                else:
                    again.append(feed)
        answers += self._stored(finished, again)
        self._waiting = again + self._waiting
        return answers

    def _begin(self, feed: Feed) -> Answer | None:
        """Find the stream of a request; an answer here is one that was given before."""
        if feed.entry is not None:
            return None  # a slice of it is done
        entry = self._streams.entry(feed.key)
        if feed.at != entry.position or (self._store.shared and feed.peek):
            entry = self._streams.newest(feed.key)
        feed.entry = entry
        if feed.at == entry.position:
            return None
        moments = self._store.moments(feed.key) if not feed.peek else []
        if (answer := replay(feed, moments, self._observer.states)) is not None:
            return answer
        raise Refusal(
            409, "wrong_position", f"the stream is at {entry.position}, not at {feed.at}.", position=entry.position
        )

    def _stored(self, finished: list[Feed], again: list[Request]) -> Answers:
        """Store what was fed, and only then make it the streams' state."""
        changes, changed = [], []
        answers: Answers = []
        for feed in finished:
            if feed.moment is None:
                answers.append((feed, feed.answer()))
            else:
                assert feed.entry is not None
                changes.append(Change(feed.key, feed.entry.version, feed.moment))
                changed.append(feed)
        if not changes:
            return answers
        try:
            saved = self._store.save(changes)
        except StoreError as error:
            self._observer.store_failed(str(error))
            refusal = Refusal(503, "store_unavailable", f"{error}; try again with the same position.")
            for feed in changed:
                self._streams.forget(feed.key)  # whether it was stored is not known: the store will say
                answers.append((feed, refusal))
            return answers
        self._observer.store_wrote()
        for feed, done in zip(changed, saved, strict=True):
            if done:
                assert feed.entry is not None and feed.moment is not None
                feed.entry.take(feed.moment)
                answers.append((feed, feed.answer()))
                continue
            self._streams.forget(feed.key)
            feed.start_again()
            if feed.tries < TRIES:
                again.append(feed)
            else:
                answers.append((feed, Refusal(503, "contended", "other servers write to this stream; try again.")))
        return answers
