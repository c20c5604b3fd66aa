"""What a stream of a label model tells: the event of each step, from the logits of events."""

from collections.abc import Sequence

import numpy as np

from unrolled.causal import Field
from unrolled.floats import Floats
from unrolled.tasks.label.switching import SwitchFilter

__all__ = ["Events"]


class Events:
    """The event of each step, by all steps up to it."""

    def __init__(self, classes: Sequence[str], penalty: float) -> None:
        self._classes, self._penalty = classes, penalty
        self.fields: Sequence[Field] = [("scores", "<f8", (len(classes),))] if penalty else []

    def read(self, outputs: Floats, state: np.void) -> list[str]:
        """The name of the event at each step [T], from logits [T, classes]."""
        if not self._penalty:
            return [self._classes[one] for one in outputs.argmax(-1)]
        switch = SwitchFilter(len(self._classes), self._penalty, state["scores"])
        found = switch.feed(outputs)
        state["scores"] = switch.scores
        return [self._classes[one] for one in found]
