"""What a recurrent layer is called with: states, lengths, resets and symbols that fit, or one sentence why not.

T steps, B rows, D input features.
"""

from typing import TypeVar

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from unrolled.errors import InputError
from unrolled.library import under_autocast

__all__ = ["Input", "check_dims", "check_states", "checked_masks", "checked_symbols"]

INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
Input = TypeVar("Input", Tensor, PackedSequence)


def check_dims(states: tuple[Tensor, ...] | None, dims: int) -> None:
    """Raise `RuntimeError`, as torch's layers do, for states of other than `dims` dimensions."""
    for state in states or ():
        if state.dim() != dims:
            kind = "batched 3-D" if dims == 3 else "unbatched 2-D"
            raise RuntimeError(f"For {kind} input, hx should also be {dims}-D but got a {state.dim()}-D tensor")


def check_states(states: tuple[Tensor, ...], shapes: list[tuple[int, int, int]], x: Tensor) -> None:
    """Raise `RuntimeError` for states of other shapes, or not as the input x is; autocast lets dtypes differ."""
    for name, state, shape in zip(("h_0", "c_0"), states, shapes, strict=False):
        if state.shape != shape:
            raise RuntimeError(f"Expected {name} of size {shape}, got {tuple(state.shape)}")
        if state.device != x.device:
            raise RuntimeError(f"Expected {name} on {x.device} as input is, got {state.device}")
        if state.dtype != x.dtype and not under_autocast(x):
            raise RuntimeError(f"Expected {name} of dtype {x.dtype} as input is, got {state.dtype}")


def checked_masks(
    lengths: Tensor | None,
    resets: Tensor | None,
    lengths_shape: tuple[int, ...],
    resets_shape: tuple[int, ...],
    device: torch.device,
) -> tuple[Tensor | None, Tensor | None]:
    """The two on the input's device, with lengths as int64."""
    if lengths is not None:
        whole = isinstance(lengths, Tensor) and lengths.dtype in INTEGERS
        if not whole or lengths.shape != lengths_shape:
            raise InputError(f"lengths must be integers of shape {lengths_shape}, got {_described(lengths)}")
        lengths = lengths.to(device, torch.int64)
    if resets is not None:
        boolean = isinstance(resets, Tensor) and resets.dtype == torch.bool
        if not boolean or resets.shape != resets_shape:
            raise InputError(f"resets must be bool of shape {resets_shape}, got {_described(resets)}")
        resets = resets.to(device)
    return lengths, resets


def checked_symbols(input: Input, embedding: Tensor) -> Input:
    """Symbols as int64, with a last dimension of 1 as if they were features."""
    data = input.data if isinstance(input, PackedSequence) else input
    if not isinstance(data, Tensor) or data.dtype not in INTEGERS:
        raise InputError(f"with an embedding the input must be integers, got {_described(data)}")
    if not isinstance(embedding, Tensor) or embedding.dim() != 2:
        raise InputError(f"embedding must be a tensor [V,D], got {_described(embedding)}")
    data = data.to(torch.int64)[..., None]
    return input._replace(data=data) if isinstance(input, PackedSequence) else data


def _described(value: object) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
