"""A store in Redis, for any number of server processes on any number of machines.

A stream is one hash: its model, its version and a field for each of its moments. Every write is a script, which
Redis runs as a whole, and which first compares the version: that is what keeps a paused process from
overwriting what another wrote. What survives a crash of Redis itself is for its own settings to say
(`appendonly yes`).
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.exceptions import ConnectionError as NoConnection
from redis.retry import Retry

from unrolled.errors import InputError
from unrolled.store.contract import (
    Change,
    Key,
    Moment,
    Stored,
    StoreError,
    Summary,
    check_history,
    without_password,
)

__all__ = ["RedisStore"]

SECONDS = 2.0  # to connect, and to answer
REST = 1.0  # seconds in which one who took that long is not asked again: others wait for it behind whoever asks
IN_PIPELINE = " of pipeline caused error: "  # before it stands a command, with the name of some stream
PREFIX = "unrolled"
CLOCK = f"{PREFIX}:clock"
KEPT = f"{PREFIX}:history"

# KEYS: stream, its tenant's names, all ages
# ARGV: id, model, weights, version, position, clock, slot, moment, member
CREATE = """
if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('HSET', KEYS[1], 'model', ARGV[2], 'weights', ARGV[3], 'version', ARGV[4], 'position', ARGV[5],
           'ended', '0', ARGV[7], ARGV[8])
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], ARGV[6], ARGV[9])
return 1
"""
# KEYS: stream, all ages; ARGV: after, version, position, clock, slot, moment, member, then slots to forget
SAVE = """
if redis.call('HGET', KEYS[1], 'version') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'ended') ~= '0' then return 0 end
for i = 8, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'position', ARGV[3], ARGV[5], ARGV[6])
redis.call('ZADD', KEYS[2], ARGV[4], ARGV[7])
return 1
"""
# KEYS: stream, all ages; ARGV: the clock before which it must have been used last, member, slots to forget
END = """
local age = redis.call('ZSCORE', KEYS[2], ARGV[2])
if not age or tonumber(age) >= tonumber(ARGV[1]) then return 0 end
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('HSET', KEYS[1], 'ended', '1')
for i = 3, #ARGV do redis.call('HDEL', KEYS[1], ARGV[i]) end
return 1
"""
# KEYS: clock; ARGV: what it showed when this process looked last, the seconds that passed since
TICK = """
local now = redis.call('GET', KEYS[1]) or ARGV[1]
if now ~= ARGV[1] then return {0, now} end
return {1, redis.call('INCRBYFLOAT', KEYS[1], ARGV[2])}
"""


class RedisStore:
    """See `Store`. Raises `InputError` for an address that is not Redis's, or where none answers."""

    shared = True

    def __init__(self, address: str, history: int) -> None:
        self._history = history
        self._resting = 0.0  # until when it is not asked
        place = without_password(address)
        again = Retry(NoBackoff(), 1, (NoConnection,))  # by a new connection: the old one's Redis was restarted
        try:
            self._redis: Any = redis.Redis.from_url(
                address, socket_timeout=SECONDS, socket_connect_timeout=SECONDS, retry=again
            )
            self._redis.ping()
            self._redis.set(CLOCK, 0, nx=True)
            self._redis.set(KEPT, history, nx=True)
            self._clock: Any = self._redis.get(CLOCK)
            kept: Any = self._redis.get(KEPT)
        except (RedisError, OSError) as error:
            unnamed = isinstance(error, AuthenticationError) and place == address
            reason = "it has a password, expected redis://:PASSWORD@HOST:PORT/0" if unnamed else error
            raise InputError(f"store {place!r} cannot be used: {reason}") from error
        except ValueError as error:  # which may have a part of the password
            reason = "expected redis://HOST:PORT/0, with / ? # in a password as %2F %3F %23"
            raise InputError(f"store {place!r} cannot be used: {reason}") from error
        check_history(place, int(kept), history)
        self._create, self._save, self._end, self._tick = (
            self._redis.register_script(code) for code in (CREATE, SAVE, END, TICK)
        )

    def create(self, key: Key, model: str, weights: str, moment: Moment) -> bool:
        """Keep a new stream; false, and nothing is done, if there is one of this name."""
        with self._reaching():
            keys = [_stream(key), _names(key.tenant), _AGES]
            values: list[Any] = [key.id, model, weights, moment.version, moment.position, self._clock]
            return bool(self._create(keys, [*values, self._slot(moment.version), moment.pack(), _member(key)]))

    def load(self, key: Key) -> Stored | None:
        """A stream as it is now, None if it is not there."""
        with self._reaching():
            fields = self._redis.hgetall(_stream(key))
        if not fields:
            return None
        version = int(fields[b"version"])
        found = fields.get(self._slot(version).encode())
        moment = Moment.unpack(found) if found is not None else None
        whole = moment if moment is not None and moment.version == version else None
        return Stored(
            fields[b"model"].decode(), fields[b"weights"].decode(), version, fields[b"ended"] == b"1", whole
        )

    def version(self, key: Key) -> int | None:
        """The version of a stream as it is now, None if it is not there or has ended."""
        with self._reaching():
            version, ended = self._redis.hmget(_stream(key), "version", "ended")
        return None if version is None or ended == b"1" else int(version)

    def moments(self, key: Key) -> list[Moment]:
        """The latest moments of a stream that are whole, newest first."""
        with self._reaching():
            packed = self._redis.hmget(_stream(key), [self._slot(n) for n in range(self._history)])
        whole = [moment for one in packed if one is not None and (moment := Moment.unpack(one)) is not None]
        return sorted(whole, key=lambda moment: -moment.version)

    def save(self, changes: Sequence[Change]) -> list[bool]:
        """Keep moments; false for those that do not follow the newest version."""
        with self._reaching():
            pipeline = self._redis.pipeline(transaction=False)
            for key, after, moment, undo in changes:
                undone = [] if undo is None else range(undo + 1, after + 1)[-self._history :]
                slot = self._slot(moment.version)
                values: list[Any] = [after, moment.version, moment.position, self._clock, slot]
                forgotten = [self._slot(version) for version in undone]
                self._save(
                    [_stream(key), _AGES], [*values, moment.pack(), _member(key), *forgotten], client=pipeline
                )
            return [bool(done) for done in pipeline.execute()]

    def delete(self, key: Key) -> bool:
        """Forget a stream; false if there is none."""
        with self._reaching():
            pipeline = self._redis.pipeline()
            pipeline.delete(_stream(key)).zrem(_names(key.tenant), key.id).zrem(_AGES, _member(key))
            return bool(pipeline.execute()[0])

    def list(self, tenant: str, after: str, limit: int) -> list[Summary]:
        """A tenant's streams in the order of their names, from the first one beyond `after`."""
        with self._reaching():
            names = self._redis.zrangebylex(_names(tenant), f"({after}", "+", start=0, num=limit)
            pipeline = self._redis.pipeline(transaction=False)
            for name in names:
                pipeline.hmget(_stream(Key(tenant, name.decode())), "model", "position", "ended")
            rows = zip(names, pipeline.execute() if names else [], strict=True)
        return [
            Summary(name.decode(), model.decode(), int(position), ended == b"1")
            for name, (model, position, ended) in rows
            if model is not None  # deleted meanwhile
        ]

    def count(self, tenant: str | None = None) -> int:
        """How many streams a tenant has, those that ended too; or all together that have not ended."""
        with self._reaching():
            return int(self._redis.zcard(_AGES if tenant is None else _names(tenant)))

    def sweep(self, elapsed: float, lifetime: float) -> bool:
        """Let `elapsed` seconds pass, and end streams that were not written for `lifetime` seconds (0: never).

        One process ticks for all: who finds that nobody did since it looked last. No clock but the servers' own,
        which does not jump, says what time passed.
        """
        with self._reaching():
            first, self._clock = self._tick([CLOCK], [self._clock, elapsed])
            if not lifetime or not first:
                return False
            before = float(self._clock) - lifetime
            slots = [self._slot(n) for n in range(self._history)]
            old = self._redis.zrangebyscore(_AGES, "-inf", f"({before}")
            for member in old:
                tenant, _, name = member.decode().partition("/")
                self._end([_stream(Key(tenant, name)), _AGES], [before, member, *slots])
            return bool(old)

    def close(self) -> None:
        """Let go."""
        self._redis.close()

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        begin = time.monotonic()
        if begin < self._resting:
            raise StoreError("the store did not answer a moment ago")
        try:
            yield
        except (RedisError, OSError) as error:
            now = time.monotonic()
            if now - begin > SECONDS / 2:
                self._resting = now + REST
            reason = str(error).rpartition(IN_PIPELINE)[2]
            raise StoreError(f"the store cannot be used: {reason}") from error

    def _slot(self, version: int) -> str:
        return f"m{version % self._history}"


_AGES = f"{PREFIX}:ages"


def _member(key: Key) -> str:
    return f"{key.tenant}/{key.id}"


def _stream(key: Key) -> str:
    return f"{PREFIX}:stream:{_member(key)}"


def _names(tenant: str) -> str:
    return f"{PREFIX}:names:{tenant}"
