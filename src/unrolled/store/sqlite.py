"""A store in one SQLite file, for one server process.

The file is in WAL mode and every commit is flushed, so that what was saved is there after a crash of the
process or of the machine.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from unrolled.errors import InputError
from unrolled.store.contract import Change, Key, Moment, Stored, StoreError, Summary
from unrolled.store.open import MOST_HISTORY

__all__ = ["SqliteStore"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS streams (
    n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, model TEXT NOT NULL, weights TEXT NOT NULL,
    version INTEGER NOT NULL, position INTEGER NOT NULL, touched REAL NOT NULL, ended INTEGER NOT NULL DEFAULT 0,
    UNIQUE (tenant, id));
CREATE INDEX IF NOT EXISTS by_age ON streams (touched) WHERE NOT ended;
CREATE TABLE IF NOT EXISTS moments (slot INTEGER PRIMARY KEY, moment BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS settings (seconds REAL NOT NULL, history INTEGER NOT NULL);
"""
# A moment's slot is MOST_HISTORY * n + version % history: the newest takes the place of the oldest.
LAYOUT = 1


class SqliteStore:
    """See `Store`. Raises `InputError` for a file that is no such store, or that another process has open."""

    shared = False

    def __init__(self, path: Path, history: int) -> None:
        self._history = history
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
            # Nobody else may have it open: two processes would each trust their own memory.
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = FULL"):
                self._db.execute(f"PRAGMA {setting}")
            (layout,) = self._db.execute("PRAGMA user_version").fetchone()
            self._db.execute("BEGIN EXCLUSIVE")
            if layout not in (0, LAYOUT):
                raise InputError(f"{path} is a store of layout {layout}; this program reads {LAYOUT}")
            self._db.execute("COMMIT")
            self._db.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {LAYOUT}; COMMIT")
            self._db.execute(
                "INSERT INTO settings SELECT 0, ? WHERE NOT EXISTS (SELECT * FROM settings)", (history,)
            )
            self._now, kept = self._db.execute("SELECT seconds, history FROM settings").fetchone()
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be used as a store: {error}") from error
        if kept != history:
            raise InputError(f"{path} was made to keep {kept} moments of a stream, but history is {history}")

    def create(self, key: Key, model: str, weights: str, moment: Moment) -> bool:
        """Keep a new stream; false, and nothing is done, if there is one of this name."""
        with self._transaction():
            added = self._db.execute(
                "INSERT INTO streams (tenant, id, model, weights, version, position, touched) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING n",
                (*key, model, weights, moment.version, moment.position, self._now),
            ).fetchone()
            if added:
                self._put(added[0], moment)
        return bool(added)

    def load(self, key: Key) -> Stored | None:
        """A stream as it is now, None if it is not there."""
        with self._reading():
            row = self._db.execute(
                "SELECT n, model, weights, version, ended FROM streams WHERE tenant = ? AND id = ?", key
            ).fetchone()
            if row is None:
                return None
            n, model, weights, version, ended = row
            found = self._db.execute(
                "SELECT moment FROM moments WHERE slot = ?", (self._slot(n, version),)
            ).fetchone()
        moment = Moment.unpack(found[0]) if found is not None else None
        return Stored(
            model, weights, version, bool(ended), moment if moment and moment.version == version else None
        )

    def version(self, key: Key) -> int | None:
        """The version of a stream as it is now, None if it is not there or has ended."""
        with self._reading():
            row = self._db.execute(
                "SELECT version FROM streams WHERE tenant = ? AND id = ? AND NOT ended", key
            ).fetchone()
        return None if row is None else int(row[0])

    def moments(self, key: Key) -> list[Moment]:
        """The latest moments of a stream that are whole, newest first."""
        with self._reading():
            rows = self._db.execute(
                f"SELECT moment FROM moments JOIN streams ON slot BETWEEN n * {MOST_HISTORY} "
                f"AND n * {MOST_HISTORY} + {MOST_HISTORY - 1} WHERE tenant = ? AND id = ?",
                key,
            ).fetchall()
        found = [moment for (content,) in rows if (moment := Moment.unpack(content)) is not None]
        return sorted(found, key=lambda moment: -moment.version)

    def save(self, changes: Sequence[Change]) -> list[bool]:
        """Keep moments, all at once; false for those that do not follow the newest version."""
        done = []
        with self._transaction():
            for key, after, moment, undo in changes:
                row = self._db.execute(
                    "UPDATE streams SET version = ?, position = ?, touched = ? "
                    "WHERE tenant = ? AND id = ? AND version = ? AND NOT ended RETURNING n",
                    (moment.version, moment.position, self._now, *key, after),
                ).fetchone()
                done.append(row is not None)
                if row is None:
                    continue
                if undo is not None:
                    undone = [(self._slot(row[0], version),) for version in range(undo + 1, after + 1)]
                    self._db.executemany("DELETE FROM moments WHERE slot = ?", undone[-self._history :])
                self._put(row[0], moment)
        return done

    def delete(self, key: Key) -> bool:
        """Forget a stream; false if there is none."""
        with self._transaction():
            row = self._db.execute("DELETE FROM streams WHERE tenant = ? AND id = ? RETURNING n", key).fetchone()
            if row is not None:
                self._forget(row[0])
        return row is not None

    def list(self, tenant: str, after: str, limit: int) -> list[Summary]:
        """A tenant's streams in the order of their names, from the first one beyond `after`."""
        with self._reading():
            rows = self._db.execute(
                "SELECT id, model, position, ended FROM streams WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",
                (tenant, after, limit),
            ).fetchall()
        return [Summary(name, model, position, bool(ended)) for name, model, position, ended in rows]

    def count(self, tenant: str | None = None) -> int:
        """How many streams a tenant has, or all together; those that ended count until they are deleted."""
        with self._reading():
            where, values = ("", ()) if tenant is None else (" WHERE tenant = ?", (tenant,))
            (count,) = self._db.execute(f"SELECT count(*) FROM streams{where}", values).fetchone()
        return int(count)

    def sweep(self, elapsed: float, lifetime: float) -> None:
        """Let `elapsed` seconds pass, and end streams that were not written for `lifetime` seconds (0: never)."""
        now = self._now + elapsed
        with self._transaction():
            self._db.execute("UPDATE settings SET seconds = ?", (now,))
            if lifetime:
                ended = self._db.execute(
                    "UPDATE streams SET ended = 1 WHERE NOT ended AND touched < ? RETURNING n", (now - lifetime,)
                ).fetchall()
                for (n,) in ended:
                    self._forget(n)
        self._now = now

    def close(self) -> None:
        """Write what is left, and let go."""
        self._db.close()

    def _slot(self, n: int, version: int) -> int:
        return MOST_HISTORY * n + version % self._history

    def _put(self, n: int, moment: Moment) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO moments VALUES (?, ?)", (self._slot(n, moment.version), moment.pack())
        )

    def _forget(self, n: int) -> None:
        first = MOST_HISTORY * n
        self._db.execute("DELETE FROM moments WHERE slot BETWEEN ? AND ?", (first, first + MOST_HISTORY - 1))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._reading():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(f"the store cannot be used: {error}") from error
