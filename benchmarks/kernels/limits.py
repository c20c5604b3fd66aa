"""What this machine can do at most: its rate of matrix products, and of moving memory."""

import torch

from benchmarks.kernels.row import Limit

__all__ = ["copy", "sgemm"]


def sgemm(size: int = 1024) -> Limit:
    """The best that torch's BLAS does: a square product in float32, whose operands fit the last cache."""
    a, b, out = (torch.rand(size, size) for _ in range(3))
    return Limit("sgemm", "FLOP/s", lambda: torch.mm(a, b, out=out), 2.0 * size**3)


def copy(megabytes: int = 128) -> Limit:
    """Memory copied from one place to another, both far larger than any cache: bytes read and bytes written."""
    source, target = torch.zeros(megabytes << 18), torch.zeros(megabytes << 18)
    return Limit("copy", "B/s", lambda: target.copy_(source), 2.0 * (megabytes << 20))
