"""What torch.utils.flop_counter counts of the sequence ops: their products, as it does of torch's own.

It knows the ops by their schemas alone. T steps, B rows.
"""

from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch.utils.flop_counter import register_flop_formula

from unrolled.ops.composite import Values

__all__ = ["count_operations"]


def count_operations() -> None:
    """Tell torch.utils.flop_counter, which knows ops of torch alone, how much work each op is."""
    for op in ("rnn", "gru", "lstm", "recomputed"):
        _register(op, _forward)
        _register(f"{op}_backward", _backward)


def _register(op: str, count: Callable[[Values], int]) -> None:
    packet: Any = getattr(torch.ops.unrolled, op)
    names = [argument.name for argument in packet.default._schema.arguments]

    def formula(*given: Any, **_: Any) -> int:
        """Of the shapes of what op is called with."""
        values = dict(zip(names, given, strict=True))
        return count(values | dict(zip(values.get("names", "").split(), values.get("inputs", ()), strict=True)))

    register_flop_formula(packet)(formula)


def _products(given: Values) -> tuple[int, int]:
    """The operations of the products with the input and with the state, as if all rows had all steps."""
    x, weight_ih = given["x"], given.get("weight_ih")
    T, B, _ = x if given.get("symbols") is None else (*given["symbols"], 1)
    of_input = 2 * prod(x[:-1]) * prod(weight_ih) if weight_ih else 0
    return of_input, 2 * T * B * (prod(given["weight_hh"]) + prod(given.get("weight_hr") or (0,)))


def _forward(given: Values) -> int:
    return sum(_products(given))


def _backward(given: Values) -> int:
    of_input, of_state = _products(given)
    to_x = of_input if given["want_x"] else 0
    to_weights = of_input + of_state if given["want_weights"] else 0
    again = of_input + of_state if "every" in given else 0  # recomputed
    return to_x + of_state + to_weights + again
