"""From an address to a store."""

from pathlib import Path
from urllib.parse import urlsplit

from unrolled.errors import InputError
from unrolled.store.contract import MOST_HISTORY, Store

__all__ = ["HISTORY", "open_store"]

HISTORY = 8


def open_store(address: str, history: int = HISTORY) -> Store:
    """The store at `sqlite:///PATH` (an absolute path has four slashes) or `redis://HOST:PORT/0`.

    `history` is how many moments it keeps of each stream, 2 to 256. Raises `InputError` for another address, or
    where there is no store to be had.
    """
    if not 2 <= history <= MOST_HISTORY:
        raise InputError(f"history is {history}, expected 2 to {MOST_HISTORY}")
    parts = urlsplit(address)
    if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
        from unrolled.store.sqlite import SqliteStore

        return SqliteStore(Path(parts.path[1:]), history)
    if parts.scheme in ("redis", "rediss", "unix"):
        from unrolled.store.redis import RedisStore

        return RedisStore(address, history)
    raise InputError(f"store is {address!r}, expected sqlite:///PATH or redis://HOST:PORT/0")
