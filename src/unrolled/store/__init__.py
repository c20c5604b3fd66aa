"""Where the states of streams live between requests.

A store keeps, for each stream, its latest moments: the state after a request, the position, and which request
it was. Every write names the version that it follows, and is refused when that is no longer the newest: a
process that was paused, or has an old copy in memory, cannot overwrite what another wrote since (the version is
the fencing token). A store knows bytes; what a state means is not its business.
"""

from unrolled.store.contract import Change, Key, Moment, Store, Stored, StoreError, Summary, without_password
from unrolled.store.open import open_store

__all__ = [
    "Change",
    "Key",
    "Moment",
    "Store",
    "StoreError",
    "Stored",
    "Summary",
    "open_store",
    "without_password",
]
