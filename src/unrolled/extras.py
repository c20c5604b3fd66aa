"""Libraries that only an extra of the package brings."""

from collections.abc import Iterator
from contextlib import contextmanager

from unrolled.errors import InputError

__all__ = ["extra"]


@contextmanager
def extra(name: str, need: str) -> Iterator[None]:
    """Import such a library within: where it is missing, `InputError` says the `need` and what to install."""
    try:
        yield
    except ImportError as error:
        raise InputError(f"{need}: pip install 'unrolled[{name}]'") from error
