"""A text model of characters that weighs what a speech model hears, as it searches (shallow fusion)."""

from typing import Any

import numpy as np

from unrolled.errors import InputError
from unrolled.floats import Floats
from unrolled.softmax import log_softmax
from unrolled.stream import Stream
from unrolled.tasks.text.model import TextModel
from unrolled.vocabulary import Vocabulary

__all__ = ["CharacterModel"]


class CharacterModel:
    """A text model over characters, as `unrolled.tasks.speech.ctc` asks for a language model (shallow fusion).

    A symbol's score is `weight` times its log probability, plus `bonus` for each symbol, which makes up for
    strings becoming less probable as they grow. Raises `InputError` for a text model that is not of characters,
    or that lacks one of `vocabulary`.
    """

    def __init__(self, model: TextModel, vocabulary: Vocabulary, weight: float, bonus: float) -> None:
        if model.vocabulary.level != "char":
            raise InputError(f"the language model is of level {model.vocabulary.level!r}, expected 'char'")
        self._model, self._weight, self._bonus = model, weight, bonus
        symbols = [vocabulary.decode([number]) for number in range(vocabulary.size)]
        try:
            self._ids = np.concatenate([model.vocabulary.encode(symbol) for symbol in symbols])
        except InputError as error:
            raise InputError(
                f"the language model does not know all that the speech model says: {error}"
            ) from error

    def first(self) -> tuple[Stream, list[float]]:
        """The state at the beginning of a line."""
        stream = self._model.stream()
        return stream, self._scores(stream.feed(self._model.encode_prompt(""))[-1])

    def after(self, state: Any, symbol: int) -> tuple[Stream, list[float]]:
        """The state after one more symbol."""
        stream = state[0].fork()
        return stream, self._scores(stream.step(int(self._ids[symbol])))

    def scores(self, state: Any) -> list[float]:
        """What each symbol adds to a log probability when it comes next."""
        scores: list[float] = state[1]
        return scores

    def _scores(self, logits: Floats) -> list[float]:
        log_probabilities = log_softmax(logits)[self._ids].tolist()
        return [self._weight * value + self._bonus for value in log_probabilities]
