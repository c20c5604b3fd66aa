"""What was committed to SQLite's log goes into its file, a bit at a time, beside the writer.

SQLite would do it within a commit, for which everybody waits. Here a thread with a connection of its own copies
what is in the log; what comes meanwhile is left for the next time. The log begins anew only when all of it was
copied, so once it is long the writer copies the little that is left itself.
"""

import sqlite3
import threading
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue

__all__ = ["Checkpoints"]

OFTEN = 1_000  # moments, each a page of the log
LONG = 32_768  # pages, of 2 KB


class Checkpoints:
    """Of the file at `path`; what cannot be copied just now stays in the log, and is tried again."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1)
        self._saved, self._log = 0, 0
        self._wanted: SimpleQueue[bool] = SimpleQueue()
        self._busy = False
        # A store that nobody closes keeps no process from its end: what was committed is safe in the log.
        self._thread = threading.Thread(target=self._work, name="checkpoints", daemon=True)
        self._thread.start()

    def saved(self, moments: int) -> None:
        """So many more were committed."""
        self._saved += moments
        if self._saved >= OFTEN and not self._busy:
            self._saved, self._busy = 0, True
            self._wanted.put(True)

    def bound(self, db: sqlite3.Connection) -> None:
        """Keep the log from growing: copy what is left of a long one, by the writer's connection."""
        if self._log >= LONG and not self._busy:
            self._log = 0
            _copy(db)

    def close(self) -> None:
        """Stop; the last connection that closes copies what is left."""
        self._wanted.put(False)
        self._thread.join()
        self._db.close()

    def _work(self) -> None:
        while self._wanted.get():
            with suppress(sqlite3.Error):  # the disk is full, say: nothing is lost, and who writes hears of it
                self._log = _copy(self._db)
            self._busy = False


def _copy(db: sqlite3.Connection) -> int:
    """Copy what there is; returns how long the log was."""
    return int(db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])
