"""The one error that a person's input can cause, and the sentence it carries."""

import difflib
from collections.abc import Sequence

__all__ = ["InputError", "counted", "meant"]


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence for the person who gave it.

    It names the file, row or argument, what was found and what was expected. The command line prints the
    sentence and exits with status 2; a program may catch it as a `ValueError`.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence if sentence.endswith(".") else f"{sentence}.")


def counted(count: int, what: str) -> str:
    """So many of what a word names that takes an s: `1 column`, `2,000 columns`."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def meant(name: str, known: Sequence[str]) -> str:
    """The end of a sentence that asks whether a `known` name was meant; nothing where none is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
