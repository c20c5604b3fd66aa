"""What a recurrent layer is called with: states, lengths, resets and symbols that fit, or one sentence why not.

T steps, B rows, D input features.
"""

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unrolled.errors import InputError
from unrolled.ops.library import under_autocast

__all__ = [
    "Input",
    "agree",
    "check_dims",
    "check_states",
    "checked_masks",
    "checked_symbols",
    "is_dense",
    "laid_out",
    "unknown_symbol",
]

INTEGERS = (
    *(torch.int64, torch.int32, torch.int16, torch.int8),
    *(torch.uint64, torch.uint32, torch.uint16, torch.uint8),
)
CAST = (torch.float32, torch.bfloat16, torch.float16)  # what autocast makes one
STATES = ("h_0", "c_0")
Input = TypeVar("Input", Tensor, PackedSequence)


def agree(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether x goes together with what is of this dtype: it is, too, or autocast sees to it."""
    return x.dtype == dtype or (x.dtype in CAST and dtype in CAST and under_autocast(x))


def check_dims(states: tuple[Tensor, ...] | None, dims: int) -> None:
    """Raise `RuntimeError`, as torch's layers do, for states of other than `dims` dimensions.

    Raise `TypeError` for what is no dense Tensor.
    """
    for name, state in zip(STATES, states or (), strict=False):
        if not isinstance(state, Tensor):
            raise TypeError(f"hx: {name} must be a Tensor, got {type(state).__name__}")
        if not is_dense(state):
            raise TypeError(f"hx: {name} must be a dense Tensor, got {laid_out(state)}")
        if state.dim() != dims:
            kind = "batched 3-D" if dims == 3 else "unbatched 2-D"
            raise RuntimeError(f"For {kind} input, hx should also be {dims}-D but got a {state.dim()}-D tensor")


def check_states(states: tuple[Tensor, ...], shapes: list[tuple[int, int, int]], x: Tensor) -> None:
    """Raise `RuntimeError` for states of other shapes, or not as the input x is; autocast lets dtypes differ."""
    for name, state, shape in zip(STATES, states, shapes, strict=False):
        if state.shape != shape:
            raise RuntimeError(f"Expected {name} of size {shape}, got {tuple(state.shape)}")
        if state.device != x.device:
            raise RuntimeError(f"Expected {name} on {x.device} as input is, got {state.device}")
        if not agree(state, x.dtype):
            raise RuntimeError(f"Expected {name} of dtype {x.dtype} as input is, got {state.dtype}")


def checked_masks(
    lengths: Tensor | None,
    resets: Tensor | None,
    lengths_shape: tuple[int, ...],
    resets_shape: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor | None, Tensor | None]:
    """The two on the input's device, with lengths as int64."""
    for name, mask in (("lengths", lengths), ("resets", resets)):
        if isinstance(mask, Tensor) and mask.device.type == "meta" != device.type:
            raise InputError(f"{name} must hold numbers, as the input on {device} does, got a tensor on meta")
    if lengths is not None:
        whole = isinstance(lengths, Tensor) and lengths.dtype in INTEGERS and is_dense(lengths)
        if not whole or lengths.shape != lengths_shape:
            raise InputError(f"lengths must be integers of shape {lengths_shape}, got {_described(lengths)}")
        lengths = lengths.to(device, torch.int64)
    if resets is not None:
        boolean = isinstance(resets, Tensor) and resets.dtype == torch.bool and is_dense(resets)
        if not boolean or resets.shape != resets_shape:
            raise InputError(f"resets must be bool of shape {resets_shape}, got {_described(resets)}")
        resets = resets.to(device)
    return lengths, resets


def checked_symbols(input: Input, embedding: Tensor, width: int) -> Input:
    """Symbols as int64, with a last dimension of 1 as if they were features; `width` is the embedding's D."""
    packed = isinstance(input, PackedSequence)
    data = input.data if packed else input
    if not isinstance(data, Tensor) or data.dtype not in INTEGERS:
        raise InputError(f"with an embedding the input must be integers, got {_described(data)}")
    if data.dim() not in ((1,) if packed else (1, 2)):
        expected = "one dimension when packed" if packed else "one dimension or two"
        raise InputError(f"with an embedding the input must have {expected}, got {_described(data)}")
    if not isinstance(embedding, Tensor) or not is_dense(embedding) or embedding.dim() != 2:
        raise InputError(f"embedding must be a tensor [V,D], got {_described(embedding)}")
    if embedding.shape[1] != width:
        raise InputError(f"embedding must be a tensor [V,{width}], got {_described(embedding)}")
    if not embedding.shape[0] and data.numel():
        raise InputError(f"embedding must have a row for each symbol, got {_described(embedding)}")
    data = data.to(torch.int64)[..., None]
    return input._replace(data=data) if isinstance(input, PackedSequence) else data


def unknown_symbol(symbols: Tensor, count: int) -> str:
    """Of symbols [T,B] the first that is not one of so many, as the engine says it."""
    step, row = torch.nonzero((symbols < 0) | (symbols >= count))[0].tolist()
    return f"symbols[{step}, {row}] is {int(symbols[step, row])}, expected 0 to {count - 1}"


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}, which is no Tensor"
    if not is_dense(value):
        return laid_out(value)
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"


def is_dense(x: Tensor) -> bool:
    """Whether a tensor's numbers are all there, in rows of one length."""
    return x.layout == torch.strided and not x.is_nested


def laid_out(x: Tensor) -> str:
    """What a tensor is that is not dense."""
    return "a nested one" if x.is_nested else f"layout {x.layout}"
