"""Variants of the recurrent layers as settings: the parameters they add and the masks they draw.

The equations are those of `unrolled.ops.cells.Variant`, where the papers stand. Masks come from torch's own
generator: a seed, or the random state of a checkpoint, gives the same ones again. This file knows no sequence and
no kernel.

T steps, B rows, H hidden units, P projected units.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import Parameter

from unrolled.errors import InputError

__all__ = ["LayerVariant", "add_layer_norm", "add_peepholes", "couple_gates"]


@dataclass(frozen=True)
class LayerVariant:
    """How a layer departs from the plain one; by default it does not.

    `recurrent_dropout`, `zoneout_h`, `zoneout_c` and `weight_drop` are probabilities, each at least 0 and less
    than 1. Raises `InputError` for others.
    """

    peephole: bool = False
    coupled: bool = False
    recurrent_dropout: float = 0.0
    zoneout_h: float = 0.0
    zoneout_c: float = 0.0
    weight_drop: float = 0.0
    layer_norm: bool = False

    def __post_init__(self) -> None:
        for name in ("recurrent_dropout", "zoneout_h", "zoneout_c", "weight_drop"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
                raise InputError(f"{name} is {value!r}, expected a probability from 0 to less than 1")

    @property
    def masks(self) -> bool:
        """Whether a state, or what it takes in, is masked at each step."""
        return bool(self.recurrent_dropout or self.zoneout_h or self.zoneout_c)

    def plain(self, training: bool) -> bool:
        """Whether a layer computes what torch's of its kind does, in training or outside of it."""
        as_run = self if training else replace(self, recurrent_dropout=0.0, weight_drop=0.0)
        return as_run == LayerVariant()

    def dropout(self, like: Tensor, shape: tuple[int, ...], training: bool) -> Tensor | None:
        """Factors of the candidate, `shape` [T,B,H], on the device and in the dtype of `like`."""
        if not training or not self.recurrent_dropout:
            return None
        kept = 1.0 - self.recurrent_dropout
        return like.new_empty(shape).bernoulli_(kept).div_(kept)

    def zoneout(self, name: str, like: Tensor, shape: tuple[int, ...], training: bool) -> Tensor | None:
        """The part of the state `name`, "h" or "c", that stays: drawn [T,B,H] in training, else expected, [H]."""
        probability: float = getattr(self, f"zoneout_{name}")
        if not probability:
            return None
        if training:
            return like.new_empty(shape).bernoulli_(probability)
        return like.new_full(shape[-1:], probability)


def couple_gates(layer: torch.nn.RNNBase) -> None:
    """Take the forget gate's rows out of an LSTM's weights and biases: i, g and o are left."""
    H = layer.hidden_size
    for name, parameter in list(layer.named_parameters()):
        if name.startswith(("weight_ih", "weight_hh", "bias")):
            setattr(layer, name, Parameter(torch.cat((parameter[:H], parameter[2 * H :]))))


def add_peepholes(layer: torch.nn.RNNBase, gates: int) -> None:
    """Give an LSTM of so many gates the parameters peephole_l0 … [gates - 1, H], drawn as its others are."""
    for name, parameter in list(layer.named_parameters()):
        if name.startswith("weight_hh"):
            bound = layer.hidden_size**-0.5
            peephole = parameter.new_empty(gates - 1, layer.hidden_size).uniform_(-bound, bound)
            layer.register_parameter(name.replace("weight_hh", "peephole"), Parameter(peephole))


def add_layer_norm(layer: torch.nn.RNNBase, gates: int) -> None:
    """Give an LSTM of so many gates the parameters gain_ih_l0, gain_hh_l0 [gates*H], gain_c_l0 and bias_c_l0 [H] …

    Gains begin at 1, biases at 0: see `unrolled.ops.cells.LayerNorm`.
    """
    H = layer.hidden_size
    for name, parameter in list(layer.named_parameters()):
        if name.startswith("weight_hh"):
            suffix = name.removeprefix("weight_hh")
            for gain, width in (("gain_ih", gates * H), ("gain_hh", gates * H), ("gain_c", H)):
                layer.register_parameter(f"{gain}{suffix}", Parameter(parameter.new_ones(width)))
            layer.register_parameter(f"bias_c{suffix}", Parameter(parameter.new_zeros(H)))
