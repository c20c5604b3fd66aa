"""Swap-in: torch's recurrent layers inside a model become others, the very objects, with all that they hold.

It knows nothing of the layers that come in but that they run on what the old ones hold; `unrolled.nn` says which.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.ao.nn.quantized.dynamic.modules import rnn as quantized

from unrolled.errors import InputError
from unrolled.ops.dispatch import served_by_engine, wide

__all__ = ["Swap", "swap"]

Kinds = Mapping[type[torch.nn.RNNBase], type[Any]]  # what becomes what


@dataclass(frozen=True)
class Swap:
    """What became of a model's recurrent layers, by their names in the model ("" is the model itself).

    `replaced` are those that run on the engine now; `left` are the others, each with the reason why.
    """

    replaced: tuple[str, ...]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{name or 'the model'}: replaced" for name in self.replaced]
        lines += [f"{name or 'the model'}: left, {reason}" for name, reason in self.left.items()]
        return "\n".join(lines) or "no recurrent layers"


def swap(model: torch.nn.Module, kinds: Kinds) -> Swap:
    """Turn each layer inside model that is exactly of a type in `kinds` into the type that stands there.

    The object stays and only its class changes, so that whoever holds it (other modules, hooks, an optimiser by
    its parameters) holds the new layer. Raises `InputError` if model is not a Module.
    """
    if not isinstance(model, torch.nn.Module):
        raise InputError(f"model is a {type(model).__name__}, expected a torch.nn.Module")
    replaced, left = [], {}
    for name, layer in model.named_modules():
        reason = _reason_to_leave(layer, kinds)
        if reason is not None:
            left[name] = reason
        elif isinstance(layer, torch.nn.RNNBase) and type(layer) in kinds:
            _become(layer, kinds[type(layer)])
            replaced.append(name)
    return Swap(tuple(replaced), left)


def _reason_to_leave(layer: torch.nn.Module, kinds: Kinds) -> str | None:
    """Why a recurrent layer stays; None for one to be replaced, for one of ours and for what is not recurrent."""
    kind = type(layer).__name__
    if isinstance(layer, torch.jit.ScriptModule):
        recurrent = layer.original_name in {kind.__name__ for kind in kinds}
        return "compiled by TorchScript, which cannot hold one of these" if recurrent else None
    if isinstance(layer, quantized.RNNBase):
        return f"{kind} is quantized; its weights are no parameters"
    if isinstance(layer, torch.nn.RNNCellBase | quantized.RNNCellBase):
        return f"{kind} is a single step; the loop over steps is the model's own"
    if not isinstance(layer, torch.nn.RNNBase) or isinstance(layer, tuple(kinds.values())):
        return None
    if torch.nn.utils.parametrize.is_parametrized(layer):
        return "parametrized; accelerate the model first"
    if type(layer) not in kinds:
        return f"{kind} is a subclass and may compute something else"
    op = layer.mode.split("_")[0].lower()
    for weight in layer.parameters():
        if not served_by_engine(op, weight.is_cpu, wide(weight).dtype):
            return f"{weight.dtype} on {weight.device.type}, which no compiled kernel serves"
    return None


def _become(layer: torch.nn.RNNBase, kind: type[Any]) -> None:
    """Make layer one of kind; attributes that only a kind's own constructor sets get their defaults."""
    defaults = vars(kind(layer.input_size, layer.hidden_size, device="meta"))
    vars(layer).update({name: value for name, value in defaults.items() if name not in vars(layer)})
    layer.__class__ = kind
