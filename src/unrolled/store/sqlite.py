"""A store in one SQLite file, for one server process.

The file is in WAL mode and every commit is flushed, so that what was saved is there after a crash of the process
or of the machine. Many moments are saved by one statement: Python's lock is let go once, not once for each. What
was committed goes from the log into the file in a thread of its own, so that nobody waits for that.
"""

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

from unrolled import locks
from unrolled.errors import InputError
from unrolled.store.checkpoints import Checkpoints
from unrolled.store.contract import MOST_HISTORY, Change, Key, Moment, Stored, StoreError, Summary, check_history

__all__ = ["SqliteStore"]

LAYOUT = 2
PRAGMAS = (
    "page_size = 2048",  # a state of 128 units is 1 KB: smaller pages are written less in vain
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 0",  # see `Checkpoints`
)
SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS streams (
    n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, model TEXT NOT NULL, weights TEXT NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0, UNIQUE (tenant, id));
CREATE TABLE IF NOT EXISTS moments (
    slot INTEGER PRIMARY KEY, version INTEGER NOT NULL, seconds REAL NOT NULL, moment BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS settings (seconds REAL NOT NULL, history INTEGER NOT NULL);
PRAGMA user_version = {LAYOUT};
COMMIT;
"""
# A moment's slot is SLOTS * n + version % history: the newest takes the place of the oldest.
SLOTS = MOST_HISTORY
OF_STREAM = f"slot BETWEEN {SLOTS} * n AND {SLOTS} * n + {SLOTS - 1}"
NEWEST = f"SELECT max(version) FROM moments WHERE {OF_STREAM}"
NAMED = "tenant = ? AND id = ?"
# Rows of JSON: slot, version, place and size of the moment's bytes.
SAVE = """
INSERT OR REPLACE INTO moments
SELECT row.value ->> 0, row.value ->> 1, :seconds, substr(:content, (row.value ->> 2) + 1, row.value ->> 3)
FROM json_each(:rows) AS row
"""
MOST_PLACES = 32_768


class SqliteStore:
    """See `Store`. Raises `InputError` for a file that is no such store, or that another process has open."""

    shared = False

    def __init__(self, path: Path, history: int) -> None:
        self._history = history
        self._places: dict[Key, tuple[int, int]] = {}
        """Of the streams that were used lately: their number n, and the version of their newest moment."""
        with ExitStack() as opened:
            self._file = _locked(path)
            opened.callback(os.close, self._file)
            try:
                self._db = opened.enter_context(closing(_connected(path)))
                self._db.execute(
                    "INSERT INTO settings SELECT 0, ? WHERE NOT EXISTS (SELECT * FROM settings)", (history,)
                )
                self._now, kept = self._db.execute("SELECT seconds, history FROM settings").fetchone()
                counts = self._db.execute("SELECT tenant, count(*) FROM streams GROUP BY tenant").fetchall()
                (self._ended,) = self._db.execute("SELECT count(*) FROM streams WHERE ended").fetchone()
            except sqlite3.Error as error:
                raise InputError(f"{path} cannot be used as a store: {error}") from error
            check_history(path, kept, history)
            self._counts = Counter(dict(counts))
            self._checkpoints = Checkpoints(path)
            opened.pop_all()  # until `close`

    def create(self, key: Key, model: str, weights: str, moment: Moment) -> bool:
        """Keep a new stream; false, and nothing is done, if there is one of this name."""
        with self._transaction():
            added = self._db.execute(
                "INSERT INTO streams (tenant, id, model, weights) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING RETURNING n",
                (*key, model, weights),
            ).fetchone()
            if added:
                slot = SLOTS * added[0] + self._slot(moment.version)
                row = (slot, moment.version, self._now, moment.pack())
                self._db.execute("INSERT OR REPLACE INTO moments VALUES (?, ?, ?, ?)", row)
        self._counts[key.tenant] += bool(added)
        return bool(added)

    def load(self, key: Key) -> Stored | None:
        """A stream as it is now, None if it is not there."""
        row = self._one(
            "SELECT model, weights, ended, moments.version, moment FROM streams LEFT JOIN moments ON "
            f"{OF_STREAM} AND moments.version = ({NEWEST}) WHERE {NAMED}",
            key,
        )
        if row is None:
            return None
        model, weights, ended, version, content = row
        moment = None if content is None else Moment.unpack(content)
        return Stored(model, weights, 0 if version is None else version, bool(ended), moment)

    def version(self, key: Key) -> int | None:
        """The version of a stream as it is now, None if it is not there or has ended."""
        place = self._place(key)
        return None if place is None else place[1]

    def moments(self, key: Key) -> list[Moment]:
        """The latest moments of a stream that are whole, newest first."""
        with self._using():
            rows = self._db.execute(
                f"SELECT moment FROM streams JOIN moments ON {OF_STREAM} WHERE {NAMED} "
                "ORDER BY moments.version DESC",
                key,
            ).fetchall()
        return [moment for (content,) in rows if (moment := Moment.unpack(content)) is not None]

    def save(self, changes: Sequence[Change]) -> list[bool]:
        """Keep moments, all at once; false for those that do not follow the newest version."""
        places = [self._place(change.key) for change in changes]
        rows: list[tuple[int, int, int, int]] = []
        contents, saved, begin = [], {}, 0
        with self._using():
            self._checkpoints.bound(self._db)
        with self._transaction():
            for (key, after, moment, undo), place in zip(changes, places, strict=True):
                if place is None or place[1] != after:
                    continue
                if undo is not None:
                    self._forget(key, undo)
                content = moment.pack()
                rows.append((SLOTS * place[0] + self._slot(moment.version), moment.version, begin, len(content)))
                contents.append(content)
                begin += len(content)
                saved[key] = (place[0], moment.version)
            values = {"content": b"".join(contents), "seconds": self._now, "rows": json.dumps(rows)}
            self._db.execute(SAVE, values)
        self._places |= saved
        self._checkpoints.saved(len(rows))
        return [change.key in saved for change in changes]

    def _place(self, key: Key) -> tuple[int, int] | None:
        """The number and the version of a stream, None if it is not there or has ended."""
        if (found := self._places.get(key)) is None:
            row = self._one(f"SELECT n, ({NEWEST}) FROM streams WHERE {NAMED} AND NOT ended", key)
            if row is None:
                return None
            self._places[key] = found = row
            while len(self._places) > MOST_PLACES:  # what a batch let go is back after it
                del self._places[next(iter(self._places))]
        return found

    def _forget(self, key: Key, since: int) -> None:
        """The moments of a stream after version `since`."""
        self._db.execute(
            f"DELETE FROM moments WHERE slot IN (SELECT slot FROM streams JOIN moments ON {OF_STREAM} "
            f"WHERE {NAMED} AND moments.version > ?)",
            (*key, since),
        )

    def delete(self, key: Key) -> bool:
        """Forget a stream; false if there is none."""
        with self._transaction():
            self._forget(key, -1)
            gone = self._db.execute(f"DELETE FROM streams WHERE {NAMED} RETURNING ended", key).fetchone()
        self._places.pop(key, None)
        if gone:
            self._counts[key.tenant] -= 1
            self._ended -= gone[0]
        return bool(gone)

    def list(self, tenant: str, after: str, limit: int) -> list[Summary]:
        """A tenant's streams in the order of their names, from the first one beyond `after`."""
        with self._using():
            rows = self._db.execute(
                f"SELECT id, model, ended, (SELECT moment FROM moments WHERE {OF_STREAM} ORDER BY version DESC "
                "LIMIT 1) FROM streams WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",
                (tenant, after, limit),
            ).fetchall()
        newest = [Moment.unpack(content) if content else None for *_, content in rows]
        return [
            Summary(name, model, moment.position if moment else None, bool(ended))
            for (name, model, ended, _), moment in zip(rows, newest, strict=True)
        ]

    def count(self, tenant: str | None = None) -> int:
        """How many streams a tenant has, those that ended too; or all together that have not ended."""
        return self._counts.total() - self._ended if tenant is None else self._counts[tenant]

    def sweep(self, elapsed: float, lifetime: float) -> bool:
        """Let `elapsed` seconds pass, and end streams that were not written for `lifetime` seconds (0: never)."""
        now, ended = self._now + elapsed, 0
        with self._transaction():
            self._db.execute("UPDATE settings SET seconds = ?", (now,))
            if lifetime:
                idle = f"NOT EXISTS (SELECT * FROM moments WHERE {OF_STREAM} AND seconds >= ?)"
                ended = self._db.execute(
                    f"UPDATE streams SET ended = 1 WHERE NOT ended AND {idle}", (now - lifetime,)
                ).rowcount
                of_ended = f"SELECT slot FROM streams JOIN moments ON {OF_STREAM} WHERE ended"
                self._db.execute(f"DELETE FROM moments WHERE slot IN ({of_ended})")
        self._now = now
        self._ended += ended
        if ended:
            self._places.clear()
        return ended > 0

    def close(self) -> None:
        """Write what is left, and let go."""
        self._checkpoints.close()
        self._db.close()
        os.close(self._file)

    def _slot(self, version: int) -> int:
        return version % self._history

    def _one(self, statement: str, key: Key) -> Any:
        with self._using():
            return self._db.execute(statement, key).fetchone()

    @contextmanager
    def _using(self) -> Iterator[None]:
        if not os.fstat(self._file).st_nlink:  # SQLite would write on, and all of it be gone with this process
            raise StoreError("the store cannot be used: its file was removed")
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be used: {error}") from error

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._using():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._places.clear()  # whether it was done is for the file to say
                raise
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
    for setting in PRAGMAS:
        db.execute(f"PRAGMA {setting}")
    (layout,) = db.execute("PRAGMA user_version").fetchone()
    if layout not in (0, LAYOUT):
        raise InputError(f"{path} is a store of layout {layout}; this program reads {LAYOUT}")
    db.executescript(SCHEMA)
    return db


def _locked(path: Path) -> int:
    """Hold the file for this process alone, for two would each trust their own memory.

    SQLite's own lock for that (`locking_mode`) would shut out the thread that moves the log into the file.
    """
    try:
        with ExitStack() as opened:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            opened.callback(os.close, file)
            locks.hold(file, f"{path} cannot be used as a store: another process has it open")
            opened.pop_all()
    except OSError as error:
        raise InputError(f"{path} cannot be used as a store: {error.strerror}") from error
    return file
