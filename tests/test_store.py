"""Stores: the newest moment wins, an old process does not, what is damaged is seen."""

import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers import redis_server
from unrolled import InputError
from unrolled.store import Change, Key, Moment, Store, Stored, StoreError, checkpoints, open_store, sqlite

ONE, TWO = Key("alice", "one"), Key("alice", "two")
NOTHING = bytes(16)
HISTORY = 4

Opener = Callable[..., Store]


def moment(version: int, position: int | None = None) -> Moment:
    position = version if position is None else position
    return Moment(version, position, max(0, position - 1), NOTHING, f"state {version}".encode())


@pytest.fixture(scope="module")
def redis_address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server (apt-get install redis-server); .ci/run installs it")
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.address


@pytest.fixture(params=["sqlite", "redis"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store again and again; one at a time for SQLite."""
    if request.param == "sqlite":
        yield lambda history=HISTORY: open_store(f"sqlite:///{tmp_path / 'streams.db'}", history)
        return
    import redis

    address = request.getfixturevalue("redis_address")
    redis.Redis.from_url(address).flushdb()
    yield lambda history=HISTORY: open_store(address, history)


@pytest.fixture
def store(opener: Opener) -> Iterator[Store]:
    store = opener()
    yield store
    store.close()


def test_a_stream_is_found_as_it_was_kept(opener: Opener) -> None:
    store = opener()
    assert store.create(ONE, "text", "abc", moment(0))
    assert not store.create(ONE, "other", "abc", moment(0)) and store.count("alice") == 1
    assert store.save([Change(ONE, 0, moment(1))]) == [True]
    store.close()
    store = opener()
    found = store.load(ONE)
    assert found == Stored("text", "abc", 1, False, moment(1))
    assert store.version(ONE) == 1 and store.count("alice") == 1
    assert store.load(TWO) is None and store.version(TWO) is None
    store.close()


def test_what_does_not_follow_the_newest_version_is_refused_and_the_rest_is_kept(store: Store) -> None:
    for key in (ONE, TWO):
        store.create(key, "text", "abc", moment(0))
    store.save([Change(ONE, 0, moment(1)), Change(TWO, 0, moment(1))])
    assert store.save([Change(ONE, 0, moment(1, 9)), Change(TWO, 1, moment(2))]) == [False, True]
    assert store.save([Change(ONE, 5, moment(6))]) == [False]
    assert [moment_.position for moment_ in store.moments(ONE)] == [1, 0]
    assert store.version(TWO) == 2
    assert store.save([Change(Key("alice", "none"), 0, moment(1))]) == [False]


def test_the_latest_moments_are_kept_newest_first(store: Store) -> None:
    store.create(ONE, "text", "abc", moment(0))
    for version in range(10):
        store.save([Change(ONE, version, moment(version + 1))])
    assert [one.version for one in store.moments(ONE)] == [10, 9, 8, 7]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), max_size=12))
def test_moments_that_were_taken_back_do_not_return(opener: Opener, backs: list[int]) -> None:
    store = opener()
    store.delete(ONE)
    store.create(ONE, "text", "abc", moment(0))
    kept = [0]
    for version, back in enumerate(backs):
        back = min(back, len(kept) - 1)
        undo = kept[-1 - back] if back else None
        kept = kept[: len(kept) - back]
        assert store.save([Change(ONE, version, moment(version + 1), undo)]) == [True]
        kept.append(version + 1)
        assert [one.version for one in store.moments(ONE)] == [
            one for one in reversed(kept) if one > version + 1 - HISTORY
        ]
    store.close()


def test_tenants_have_streams_of_their_own(store: Store) -> None:
    other = Key("bob", "one")
    for number, key in enumerate((TWO, ONE, other)):
        assert store.create(key, f"model {number}", "abc", moment(0))
    assert [(one.id, one.model) for one in store.list("alice", "", 10)] == [("one", "model 1"), ("two", "model 0")]
    assert [one.id for one in store.list("alice", "", 1)] == ["one"]
    assert [one.id for one in store.list("alice", "one", 10)] == ["two"]
    assert [one.id for one in store.list("bob", "", 10)] == ["one"]
    assert (store.count("alice"), store.count("bob"), store.count("carol"), store.count()) == (2, 1, 0, 3)
    assert store.delete(ONE) and not store.delete(ONE)
    assert store.version(other) == 0
    assert (store.count("alice"), store.count()) == (1, 2)


def test_nothing_is_kept_of_a_stream_that_was_deleted(store: Store) -> None:
    store.create(ONE, "text", "abc", moment(0))
    assert store.save([Change(ONE, 0, moment(1))]) == [True]
    assert store.delete(ONE) and not store.delete(ONE)
    assert store.version(ONE) is None
    assert store.save([Change(ONE, 1, moment(2))]) == [False]
    assert store.create(ONE, "text", "abc", moment(0)) and store.moments(ONE) == [moment(0)]


def test_nothing_is_left_in_the_file_of_a_stream_that_was_deleted(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'streams.db'}", HISTORY)
    store.create(ONE, "text", "abc", moment(0))
    store.save([Change(ONE, 0, moment(1))])
    store.delete(ONE)
    store.close()
    with sqlite3.connect(tmp_path / "streams.db") as db:
        assert [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("streams", "moments")] == [[], []]
    db.close()


def test_nothing_is_left_in_redis_of_a_stream_that_was_deleted(redis_address: str) -> None:
    import redis

    server, store = redis.Redis.from_url(redis_address), open_store(redis_address, HISTORY)
    server.flushdb()
    store.create(ONE, "text", "abc", moment(0))
    store.delete(ONE)
    assert list(server.scan_iter()) == []
    store.close()


def test_a_stream_ends_after_its_life_time_of_serving_and_is_known_to_have_ended(opener: Opener) -> None:
    store = opener()
    for key in (ONE, TWO):
        store.create(key, "text", "abc", moment(0))
    assert not store.sweep(6, 0)
    store.save([Change(TWO, 0, moment(1))])
    store.close()
    store = opener()  # an outage, however long, ages nobody
    assert not store.sweep(0.01, 10)
    assert store.version(ONE) == 0
    assert store.sweep(6, 10)
    assert store.load(ONE) == Stored("text", "abc", 0, True, None)
    assert store.version(ONE) is None and store.version(TWO) == 1
    assert store.save([Change(ONE, 0, moment(1))]) == [False]
    assert [one.ended for one in store.list("alice", "", 10)] == [True, False]
    assert not store.sweep(0.01, 10), "it has ended already"
    assert (store.count("alice"), store.count()) == (2, 1)
    store.close()
    store = opener()
    assert (store.count("alice"), store.count()) == (2, 1)
    assert store.delete(ONE) and (store.count("alice"), store.count()) == (1, 1)
    store.close()


def test_a_stream_that_was_written_just_its_life_time_ago_has_not_ended(store: Store) -> None:
    store.create(ONE, "text", "abc", moment(0))
    assert not store.sweep(8, 8)
    assert store.sweep(0.5, 8)


def test_time_passes_once_however_many_servers_share_a_redis(redis_address: str) -> None:
    import redis

    redis.Redis.from_url(redis_address).flushdb()
    one, two = (open_store(redis_address, HISTORY) for _ in range(2))
    one.create(ONE, "text", "abc", moment(0))
    for _ in range(2):  # 12 seconds, which both see pass
        assert not one.sweep(6, 14)
        assert not two.sweep(6, 14)
    assert two.sweep(6, 14)
    assert one.version(ONE) is None
    for store in (one, two):
        store.close()


def test_a_stream_that_is_written_as_its_life_time_ends_goes_on(
    redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    redis.Redis.from_url(redis_address).flushdb()
    store: Any = open_store(redis_address, HISTORY)
    store.create(ONE, "text", "abc", moment(0))
    found = store._redis.zrangebyscore

    def found_and_written(*given: Any) -> Any:
        members = found(*given)
        store.save([Change(ONE, 0, moment(1))])
        return members

    monkeypatch.setattr(store._redis, "zrangebyscore", found_and_written)
    store.sweep(9, 8)
    assert store.version(ONE) == 1
    store.close()


def test_a_stream_that_is_deleted_as_it_is_listed_is_not_in_the_list(
    redis_address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import redis

    redis.Redis.from_url(redis_address).flushdb()
    store: Any = open_store(redis_address, HISTORY)
    for key in (ONE, TWO):
        store.create(key, "text", "abc", moment(0))
    found = store._redis.zrangebylex

    def found_and_deleted(*given: Any, **limits: Any) -> Any:
        names = found(*given, **limits)
        store.delete(ONE)
        return names

    monkeypatch.setattr(store._redis, "zrangebylex", found_and_deleted)
    assert [one.id for one in store.list("alice", "", 10)] == ["two"]
    store.close()


def test_a_redis_that_is_full_changes_nothing_and_its_error_names_no_stream(redis_address: str) -> None:
    import redis

    server, store = redis.Redis.from_url(redis_address), open_store(redis_address, HISTORY)
    server.flushdb()
    store.create(ONE, "text", "abc", moment(0))
    server.config_set("maxmemory", 1)
    try:
        with pytest.raises(StoreError, match="maxmemory") as refused:
            store.save([Change(ONE, 0, moment(1))])
    finally:
        server.config_set("maxmemory", 0)
    assert "alice" not in str(refused.value)
    assert store.version(ONE) == 0 and store.save([Change(ONE, 0, moment(1))]) == [True]
    store.close()


def test_a_damaged_moment_is_seen_and_older_ones_are_there(tmp_path: Path) -> None:
    path = tmp_path / "streams.db"
    store = open_store(f"sqlite:///{path}", HISTORY)
    store.create(ONE, "text", "abc", moment(0))
    store.save([Change(ONE, 0, moment(1))])
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE moments SET moment = zeroblob(length(moment)) WHERE version = 1")
    db.close()
    store = open_store(f"sqlite:///{path}", HISTORY)
    found = store.load(ONE)
    assert found is not None and found.moment is None and found.version == 1
    assert [one.version for one in store.moments(ONE)] == [0]
    store.close()


def test_a_part_of_a_moment_is_none() -> None:
    whole = moment(3).pack()
    assert Moment.unpack(whole) == moment(3)
    assert all(Moment.unpack(whole[:size]) is None for size in range(len(whole)))


@pytest.mark.parametrize("content", [b"", bytes(60), moment(0).pack()])
def test_in_redis_a_newest_moment_that_is_none_is_seen(redis_address: str, content: bytes) -> None:
    import redis

    server, store = redis.Redis.from_url(redis_address), open_store(redis_address, HISTORY)
    server.flushdb()
    store.create(ONE, "text", "abc", moment(0))
    store.save([Change(ONE, 0, moment(1))])
    server.hset("unrolled:stream:alice/one", "m1", content)
    assert store.load(ONE) == Stored("text", "abc", 1, False, None)
    assert {one.version for one in store.moments(ONE)} == {0}
    store.close()


def test_a_full_disk_is_an_error_that_changes_nothing(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'streams.db'}", HISTORY)
    store.create(ONE, "text", "abc", moment(0))
    (pages,) = store._db.execute("PRAGMA page_count").fetchone()  # type: ignore[attr-defined]
    store._db.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]
    large = Moment(1, 1, 0, NOTHING, bytes(1 << 20))
    with pytest.raises(StoreError, match="database or disk is full"):
        store.save([Change(ONE, 0, large)])
    assert store.version(ONE) == 0
    store._db.execute(f"PRAGMA max_page_count = {pages + 10_000}")  # type: ignore[attr-defined]
    assert store.save([Change(ONE, 0, large)]) == [True]
    store.close()


def test_a_store_whose_file_was_removed_keeps_nothing_more(tmp_path: Path) -> None:
    path = tmp_path / "streams.db"
    store = open_store(f"sqlite:///{path}", HISTORY)
    store.create(ONE, "text", "abc", moment(0))
    path.unlink()
    for use in (lambda: store.save([Change(ONE, 0, moment(1))]), lambda: store.version(TWO)):
        with pytest.raises(StoreError, match="its file was removed"):
            use()
    store.close()


def test_the_log_of_a_busy_store_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though each time when the thread copies it something is left, as of what comes meanwhile."""
    monkeypatch.setattr(checkpoints, "OFTEN", 10)
    monkeypatch.setattr(checkpoints, "LONG", 20)
    store = open_store(f"sqlite:///{tmp_path / 'streams.db'}", HISTORY)
    store.create(ONE, "text", "abc", moment(0))
    reader = sqlite3.connect(tmp_path / "streams.db", isolation_level=None)
    for version in range(300):
        if version % 10 == 9:
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM moments").fetchall()  # what is written from here on stays in the log
        store.save([Change(ONE, version, moment(version + 1))])
        while store._checkpoints._busy:  # type: ignore[attr-defined]
            os.sched_yield()
        if version % 10 == 9:
            reader.execute("ROLLBACK")
    assert (tmp_path / "streams.db-wal").stat().st_size < 60 * 2048  # of 300 pages that were written
    reader.close()
    store.close()


def test_what_a_store_remembers_of_streams_does_not_grow_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "MOST_PLACES", 4)
    store, keys = sqlite.SqliteStore(tmp_path / "streams.db", HISTORY), [Key("alice", str(n)) for n in range(40)]
    for key in keys:
        store.create(key, "text", "abc", moment(0))
    versions, rng = dict.fromkeys(keys, 0), random.Random(0)
    for _ in range(200):
        batch = rng.sample(keys, 6)  # some that are remembered, and let go for others
        assert all(store.save([Change(key, versions[key], moment(versions[key] + 1)) for key in batch]))
        versions |= {key: versions[key] + 1 for key in batch}
    assert len(store._places) <= 4 + 6
    store.close()


def test_a_store_that_nobody_closes_keeps_no_process_from_its_end(tmp_path: Path) -> None:
    address = f"sqlite:///{tmp_path / 'streams.db'}"
    program = f"from unrolled.store import open_store; store = open_store({address!r}, {HISTORY})"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    open_store(address, HISTORY).close()


def test_what_is_no_store_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but a text of some length" * 100)
    with sqlite3.connect(tmp_path / "later") as later:
        later.execute("PRAGMA user_version = 3")
    later.close()
    path = tmp_path / "streams.db"
    store = open_store(f"sqlite:///{path}", HISTORY)
    for address, history, sentence in (
        *(
            (address, 4, "expected sqlite:///PATH or redis://HOST:PORT/0")
            for address in ("file.db", "sqlite:///", "sqlite://host/file.db")
        ),
        (f"sqlite:///{tmp_path / 'text'}", 4, "cannot be used as a store"),
        (f"sqlite:///{tmp_path / 'later'}", 4, "is a store of layout 3; this program reads 2"),
        (f"sqlite:///{tmp_path}/no/where", 4, "cannot be used as a store"),
        (f"sqlite:///{path}", 4, "another process has it open"),
        ("redis://127.0.0.1:1/0", 4, "cannot be used"),
        ("redis://127.0.0.1:port/0", 4, "cannot be used"),
        ("rediss://127.0.0.1:1/0", 4, "cannot be used"),
        (f"unix://{tmp_path}/none", 4, "cannot be used"),
        (f"sqlite:///{path}", 1, "history is 1, expected 2 to 256"),
        (f"sqlite:///{path}", 257, "history is 257, expected 2 to 256"),
    ):
        with pytest.raises(InputError, match=sentence):
            open_store(address, history)
    store.close()


@pytest.mark.parametrize("password", ["secret", "se@cret", "se/cret"])
def test_the_password_of_a_redis_is_in_no_message(password: str) -> None:
    with pytest.raises(InputError, match=r"^store 'redis://127\.0\.0\.1:1/0' cannot be used: ") as refused:
        open_store(f"redis://me:{password}@127.0.0.1:1/0")
    assert not re.search("'se|cret", str(refused.value))


def test_a_redis_that_has_a_password_says_where_it_goes(redis_address: str) -> None:
    import redis

    with redis.Redis.from_url(redis_address) as there:
        there.config_set("requirepass", "secret")
        try:
            with pytest.raises(InputError, match=r"it has a password, expected redis://:PASSWORD@HOST:PORT/0"):
                open_store(redis_address)
        finally:
            there.config_set("requirepass", "")


def test_a_store_keeps_as_many_moments_as_it_was_made_to_keep(opener: Opener) -> None:
    opener().close()
    for other in (8, 2):
        said = rf"was made to keep {HISTORY} moments of a stream, but history is {other}"
        with pytest.raises(InputError, match=said):
            opener(other)
    opener().close()
