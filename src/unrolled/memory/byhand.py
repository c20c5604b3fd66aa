"""A standard RNN whose weights are set by hand: in theory it can remember for as long as it likes.

"A human could carefully pick parameters": every finite automaton is a network of threshold units (Minsky 1967),
and tanh of something large is a threshold. A unit (state, symbol) is on, at 1, when the automaton was in that
state before the step and reads that symbol; which unit is on tells the state after it. Others are at -1.
"""

from itertools import product

import torch

from unrolled.memory.drawn import SequenceNetwork
from unrolled.memory.problems import DISTRACTORS, PROBLEMS, Drawn

__all__ = ["order"]

STEEP = 20.0  # tanh(10) is 1 to seven digits
CLASSES = 50.0


def order(symbols: int) -> SequenceNetwork:
    """A network that solves temporal order of 2 or 3 symbols at every gap.

    The automaton has read none, X, Y, XX ... so far; other symbols leave it as it is.
    """
    problem = PROBLEMS[f"order-{symbols}"]
    assert isinstance(problem, Drawn)
    words = ["".join(word) for length in range(symbols + 1) for word in product("XY", repeat=length)]
    units = [(word, read) for word in words for read in "XY-"]
    leads_to = [word if read == "-" else word + read for word, read in units]
    network = SequenceNetwork(problem, "rnn", len(units) + 1)
    begun = len(units)  # a unit that is 0 before the first step, as all are, and 1 after it
    (layer,) = network.recurrent
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        weight_ih, weight_hh, bias = (
            layer.get_parameter(name) for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0")
        )
        bias[begun] = STEEP
        for unit, (word, read) in enumerate(units):
            before = [other for other, after in enumerate(leads_to) if after == word]
            # 1 if one of them was on and 0 if none was, 1 if the symbol is read: on if both.
            weight_hh[unit, before] = STEEP / 2
            bias[unit] = STEEP * (len(before) / 2 - 1.5)
            columns = {"X": [0], "Y": [1], "-": list(range(2, 2 + DISTRACTORS))}[read]
            weight_ih[unit, columns] = STEEP
            # Before the first step no unit is on or off: the automaton has read nothing.
            at_first = (1 if word == "" else 0) - len(before) / 2
            weight_hh[unit, begun] = -STEEP * at_first
            bias[unit] += STEEP * at_first
        for unit, word in enumerate(leads_to):
            if len(word) == symbols:
                number = int(word.replace("X", "0").replace("Y", "1"), 2)
                network.head.weight[number, unit] = CLASSES
    return network
