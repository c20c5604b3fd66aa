"""What a machine has to multiply matrices with, and in which numbers it does so fastest."""

from functools import cache

import torch

__all__ = ["accelerator", "has_matrix_units", "quickest"]


def accelerator() -> str | None:
    """The kind of accelerator that is here ("cuda"), if any; a build of torch may be for one that is not."""
    found = torch.accelerator.current_accelerator(check_available=True)
    return found.type if found else None


@cache
def quickest(device: str) -> torch.dtype:
    """bfloat16 on a `device` ("cpu", "cuda") that multiplies it as such, else float32.

    A processor that does not takes up to forty times as long for it as for float32.
    """
    return torch.bfloat16 if device != "cpu" or _can("avx512_bf16") else torch.float32


@cache
def has_matrix_units() -> bool:
    """Whether torch multiplies bfloat16 with AMX, eight times as fast as vectors can."""
    return _can("amx_bf16")


def _can(what: str) -> bool:
    known: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()  # an older torch may have none
    return known.get(what, False)
