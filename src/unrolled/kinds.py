"""Cells by name: a plain one, and what it departs in; what tensors a layer of it has. Needs no torch.

A name is rnn, gru or lstm, and variants with hyphens between: `lstm-peephole-zoneout0.1`. A variant is an argument
of the layer in `unrolled.nn`, where the papers stand; one that is a probability has it behind its name, and `proj`
the part of the hidden units that a projection of h leaves (`proj_size` of the layer).
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from unrolled.errors import InputError, meant

__all__ = ["HELP", "PLAIN", "Kind", "named", "unmet"]

PLAIN = ("rnn", "gru", "lstm")
GATES = {"rnn": 1, "gru": 3, "lstm": 4}
SWITCHES = {"rnn": (), "gru": (), "lstm": ("peephole", "coupled", "layer_norm")}
PARTS = {
    "rnn": ("weight_drop",),
    "gru": ("zoneout", "weight_drop"),
    "lstm": ("recurrent_dropout", "zoneout", "weight_drop", "proj"),
}
HELP = "The recurrent cell: rnn, gru or lstm, or a variant such as lstm-peephole or lstm-layer_norm-proj0.5."


@dataclass(frozen=True)
class Kind:
    """A plain cell, `base`, and its variants by name."""

    base: str
    variants: dict[str, Any]

    @property
    def gates(self) -> int:
        """G: the rows of its weights for a hidden unit."""
        return GATES[self.base] - ("coupled" in self.variants)

    def width(self, hidden: int) -> int:
        """P: how many numbers h has, of so many hidden units.

        Raises `InputError` where there is only one to be projected.
        """
        if "proj" not in self.variants:
            return hidden
        if hidden < 2:
            raise InputError(f"hidden is {hidden}, expected at least 2 for a projection")
        return max(1, int(hidden * self.variants["proj"]))

    def state_widths(self, hidden: int) -> tuple[int, ...]:
        """The widths of what it carries: h, and an LSTM's c."""
        return (self.width(hidden), hidden) if self.base == "lstm" else (hidden,)

    def arguments(self, hidden: int) -> dict[str, Any]:
        """What makes a layer of `unrolled.nn` with so many hidden units one of this kind."""
        others = {name: value for name, value in self.variants.items() if name != "proj"}
        return {**others, "proj_size": self.width(hidden)} if "proj" in self.variants else others

    def parameters(self, inputs: int, hidden: int) -> int:
        """How many numbers a layer of it learns."""
        return sum(math.prod(shape) for _, shape in self.tensors(inputs, hidden))

    @property
    def engine(self) -> str:
        """Its name in the engine: see `unrolled.stepper.packed`."""
        if self.base == "rnn":
            return "rnn_tanh"
        return "lstm_coupled" if "coupled" in self.variants else self.base

    @property
    def zoneout(self) -> float:
        """The part of h and c that stays as it was at a step, by expectation."""
        return float(self.variants.get("zoneout", 0.0))

    def tensors(self, inputs: int, hidden: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        """The name (without layer and direction) and shape of each tensor of a layer."""
        rows = self.gates * hidden
        yield "weight_ih", (rows, inputs)
        yield "weight_hh", (rows, self.width(hidden))
        yield "bias_ih", (rows,)
        yield "bias_hh", (rows,)
        if "peephole" in self.variants:
            yield "peephole", (self.gates - 1, hidden)
        if "proj" in self.variants:
            yield "weight_hr", (self.width(hidden), hidden)
        if "layer_norm" in self.variants:
            yield "gain_ih", (rows,)
            yield "gain_hh", (rows,)
            yield "gain_c", (hidden,)
            yield "bias_c", (hidden,)


def named(name: str) -> Kind:
    """The cell of this name; raises `InputError` for one that is none."""
    if expected := unmet(name):
        raise InputError(f"cell is {name!r}, expected {expected}")
    base, *parts = name.split("-")
    return Kind(base, dict(_variant(base, part) for part in parts))


def unmet(name: str) -> str:
    """What is expected of a name that is no cell's, else an empty text."""
    base, *parts = name.split("-")
    if base not in PLAIN:
        return f"one of {', '.join(PLAIN)}, or a variant of one{meant(base, PLAIN)}"
    known = (*SWITCHES[base], *(f"{one}P" for one in PARTS[base]))
    for part in parts:
        if not _variant(base, part)[0]:
            return f"{base} with variants of {', '.join(known)} (P: a part of 1, as 0.1){meant(part, known)}"
    if len({_variant(base, part)[0] for part in parts}) < len(parts):
        return "each variant once"
    return ""


def _variant(base: str, part: str) -> tuple[str, Any]:
    """A variant's name and value; no name for what is none."""
    if part in SWITCHES[base]:
        return part, True
    found = re.fullmatch(r"([a-z_]+)(0\.\d{1,9})", part)
    if found and found[1] in PARTS[base]:
        return found[1], float(found[2])
    return "", None
