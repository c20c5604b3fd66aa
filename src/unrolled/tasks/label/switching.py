"""Which events a course of logits means, where saying another than at the step before may cost something.

So one uncertain step makes no event. As it comes, and of a whole sequence.
"""

import numpy as np
from numpy.typing import NDArray

from unrolled.floats import Floats
from unrolled.softmax import log_softmax

__all__ = ["SwitchFilter", "viterbi"]

Classes = NDArray[np.int64]


class SwitchFilter:
    """The class in which the likeliest course of classes up to now ends, where a change costs `penalty` nats.

    The forward half of Viterbi's algorithm: it never looks ahead. Without a penalty, the likeliest class of each
    step.
    """

    def __init__(self, classes: int, penalty: float, scores: NDArray[np.float64] | None = None) -> None:
        self._penalty = penalty
        self.scores = np.zeros(classes) if scores is None else scores

    def feed(self, logits: Floats) -> Classes:
        """The class at each of the next steps, from their logits [T, classes]."""
        found = np.empty(len(logits), np.int64)
        for t, likelihood in enumerate(log_softmax(logits)):
            stay_or_come = np.maximum(self.scores, self.scores.max() - self._penalty)
            self.scores = likelihood + stay_or_come
            self.scores -= self.scores.max()
            found[t] = int(self.scores.argmax())
        return found


def viterbi(logits: Floats, penalty: float) -> Classes:
    """The likeliest course of classes [T] as a whole, where a change costs `penalty` nats (Viterbi 1967)."""
    likelihoods = log_softmax(logits)
    steps, classes = likelihoods.shape
    came_from = np.empty((steps, classes), np.int64)
    scores, stay = np.zeros(classes), np.arange(classes)
    for t, likelihood in enumerate(likelihoods):
        best = int(scores.argmax())
        switched = scores[best] - penalty > scores
        came_from[t] = np.where(switched, best, stay)
        scores = likelihood + np.where(switched, scores[best] - penalty, scores)
    found = np.empty(steps, np.int64)
    now = int(scores.argmax())
    for t in range(steps - 1, -1, -1):
        found[t] = now
        now = int(came_from[t, now])
    return found
