"""A store in one SQLite file, for one server process.

The file is in WAL mode and every commit is flushed, so that what was saved is there after a crash of the process
or of the machine. Many moments are saved by one statement: Python's lock is let go once, not once for each.
"""

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from unrolled.errors import InputError
from unrolled.store.contract import Change, Key, Moment, Stored, StoreError, Summary
from unrolled.store.open import MOST_HISTORY

__all__ = ["SqliteStore"]

LAYOUT = 1
PRAGMAS = (
    "page_size = 2048",  # a state of 128 units is 1 KB: smaller pages are written less in vain
    "locking_mode = EXCLUSIVE",  # two processes would each trust their own memory
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 2000",  # small, for everybody waits while it is done
)
SCHEMA = f"""
BEGIN;
CREATE TABLE IF NOT EXISTS streams (
    n INTEGER PRIMARY KEY, tenant TEXT NOT NULL, id TEXT NOT NULL, model TEXT NOT NULL, weights TEXT NOT NULL,
    version INTEGER NOT NULL, ended INTEGER NOT NULL DEFAULT 0, UNIQUE (tenant, id));
CREATE TABLE IF NOT EXISTS moments (
    slot INTEGER PRIMARY KEY, version INTEGER NOT NULL, seconds REAL NOT NULL, moment BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS settings (seconds REAL NOT NULL, history INTEGER NOT NULL);
PRAGMA user_version = {LAYOUT};
COMMIT;
"""
# A moment's slot is SLOTS * n + version % history: the newest takes the place of the oldest.
SLOTS = MOST_HISTORY
OF_STREAM = f"slot BETWEEN {SLOTS} * n AND {SLOTS} * n + {SLOTS - 1}"
NAMED = "tenant = ? AND id = ?"
# Rows of JSON: tenant, id, version of the newest, slot of what follows, its version, place and size of its bytes.
FOLLOWING = """
FROM json_each(:rows) AS row
CROSS JOIN streams ON tenant = row.value ->> 0 AND streams.id = row.value ->> 1
WHERE version = row.value ->> 2 AND NOT ended
"""
ADVANCE = """
UPDATE streams SET version = row.value ->> 4 FROM json_each(:rows) AS row
WHERE tenant = row.value ->> 0 AND streams.id = row.value ->> 1
"""
SAVE = f"""
INSERT OR REPLACE INTO moments
SELECT {SLOTS} * n + (row.value ->> 3), row.value ->> 4, :seconds,
       substr(:content, (row.value ->> 5) + 1, row.value ->> 6)
FROM json_each(:rows) AS row CROSS JOIN streams ON tenant = row.value ->> 0 AND streams.id = row.value ->> 1
"""


class SqliteStore:
    """See `Store`. Raises `InputError` for a file that is no such store, or that another process has open."""

    shared = False

    def __init__(self, path: Path, history: int) -> None:
        self._history = history
        try:
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
            for setting in PRAGMAS:
                self._db.execute(f"PRAGMA {setting}")
            (layout,) = self._db.execute("PRAGMA user_version").fetchone()
            if layout not in (0, LAYOUT):
                raise InputError(f"{path} is a store of layout {layout}; this program reads {LAYOUT}")
            self._db.executescript(SCHEMA)
            self._db.execute(
                "INSERT INTO settings SELECT 0, ? WHERE NOT EXISTS (SELECT * FROM settings)", (history,)
            )
            self._now, kept = self._db.execute("SELECT seconds, history FROM settings").fetchone()
            counts = self._db.execute("SELECT tenant, count(*) FROM streams GROUP BY tenant").fetchall()
        except sqlite3.Error as error:
            raise InputError(f"{path} cannot be used as a store: {error}") from error
        if kept != history:
            raise InputError(f"{path} was made to keep {kept} moments of a stream, but history is {history}")
        self._counts = Counter(dict(counts))

    def create(self, key: Key, model: str, weights: str, moment: Moment) -> bool:
        """Keep a new stream; false, and nothing is done, if there is one of this name."""
        with self._transaction():
            added = self._db.execute(
                "INSERT INTO streams (tenant, id, model, weights, version) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO NOTHING RETURNING n",
                (*key, model, weights, moment.version),
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
            "SELECT model, weights, ended, streams.version, moment FROM streams LEFT JOIN moments ON "
            f"{OF_STREAM} AND moments.version = streams.version WHERE {NAMED}",
            key,
        )
        if row is None:
            return None
        model, weights, ended, version, content = row
        moment = None if ended or content is None else Moment.unpack(content)
        return Stored(model, weights, version, bool(ended), moment)

    def version(self, key: Key) -> int | None:
        """The version of a stream as it is now, None if it is not there or has ended."""
        row = self._one(f"SELECT version FROM streams WHERE {NAMED} AND NOT ended", key)
        return None if row is None else int(row[0])

    def moments(self, key: Key) -> list[Moment]:
        """The latest moments of a stream that are whole, newest first."""
        with _using():
            rows = self._db.execute(
                f"SELECT moment FROM streams JOIN moments ON {OF_STREAM} WHERE {NAMED} "
                "ORDER BY moments.version DESC",
                key,
            ).fetchall()
        return [moment for (content,) in rows if (moment := Moment.unpack(content)) is not None]

    def save(self, changes: Sequence[Change]) -> list[bool]:
        """Keep moments, all at once; false for those that do not follow the newest version."""
        rows, contents, place = [], [], 0
        for key, after, moment, _ in changes:
            content = moment.pack()
            rows.append((*key, after, self._slot(moment.version), moment.version, place, len(content)))
            contents.append(content)
            place += len(content)
        values: dict[str, Any] = {"content": b"".join(contents), "seconds": self._now}
        with self._transaction():
            done = self._following(rows)
            values["rows"] = json.dumps([row for row, follows in zip(rows, done, strict=True) if follows])
            for change, follows in zip(changes, done, strict=True):
                if follows and change.undo is not None:
                    self._forget(change.key, change.undo)
            self._db.execute(SAVE, values)
            self._db.execute(ADVANCE, values)
        return done

    def _following(self, rows: Sequence[tuple[Any, ...]]) -> list[bool]:
        """Whether the stream of each row is still at the version that it follows."""
        values = {"rows": json.dumps(rows)}
        (count,) = self._db.execute(f"SELECT count(*) {FOLLOWING}", values).fetchone()
        if count == len(rows):
            return [True] * len(rows)
        known = {row[0] for row in self._db.execute(f"SELECT row.key {FOLLOWING}", values)}
        return [number in known for number in range(len(rows))]

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
            gone = self._db.execute(f"DELETE FROM streams WHERE {NAMED}", key).rowcount == 1
        self._counts[key.tenant] -= gone
        return gone

    def list(self, tenant: str, after: str, limit: int) -> list[Summary]:
        """A tenant's streams in the order of their names, from the first one beyond `after`."""
        with _using():
            rows = self._db.execute(
                f"SELECT id, model, ended, (SELECT moment FROM moments WHERE {OF_STREAM} ORDER BY version DESC "
                "LIMIT 1) FROM streams WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?",
                (tenant, after, limit),
            ).fetchall()
        newest = [Moment.unpack(content) if content else None for *_, content in rows]
        return [
            Summary(name, model, moment.position if moment else 0, bool(ended))
            for (name, model, ended, _), moment in zip(rows, newest, strict=True)
        ]

    def count(self, tenant: str | None = None) -> int:
        """How many streams a tenant has, or all together; those that ended count until they are deleted."""
        return self._counts.total() if tenant is None else self._counts[tenant]

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
        return ended > 0

    def close(self) -> None:
        """Write what is left, and let go."""
        self._db.close()

    def _slot(self, version: int) -> int:
        return version % self._history

    def _one(self, statement: str, key: Key) -> Any:
        with _using():
            return self._db.execute(statement, key).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _using():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")


@contextmanager
def _using() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise StoreError(f"the store cannot be used: {error}") from error
