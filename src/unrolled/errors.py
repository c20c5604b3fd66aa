"""The one error that a person's input can cause, and the sentence it carries."""

__all__ = ["InputError"]


class InputError(ValueError):
    """Input that cannot be used; the message is one sentence for the person who gave it.

    It names the file, row or argument, what was found and what was expected. The command line prints the
    sentence and exits with status 2; a program may catch it as a `ValueError`.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence if sentence.endswith(".") else f"{sentence}.")
