"""What this machine can do at most: its rate of matrix products, of moving memory, and of reading it."""

import ctypes
import mmap
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import torch

from benchmarks.kernels.row import Limit

__all__ = ["copy", "peak", "read", "sgemm"]


def sgemm(size: int = 1024) -> Limit:
    """The best that torch's BLAS does: a square product in float32, whose operands fit the last cache."""
    a, b, out = (torch.rand(size, size) for _ in range(3))
    return Limit("sgemm", "FLOP/s", lambda: torch.mm(a, b, out=out), 2.0 * size**3)


def copy(megabytes: int = 128) -> Limit:
    """Memory copied from one place to another, both far larger than any cache: bytes read and bytes written."""
    source, target = torch.zeros(megabytes << 18), torch.zeros(megabytes << 18)
    return Limit("copy", "B/s", lambda: target.copy_(source), 2.0 * (megabytes << 20))


def read(count: int, threads: int) -> Limit:
    """So many bytes read again and again, each thread its own part: from the caches that they fit."""
    floats = count // 4 // 128 // threads * 128 * threads
    page = 2 << 20  # a huge one, as the engine's weights lie on
    own = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # memory that may be shared has small pages
    area = mmap.mmap(-1, (4 * floats // page + 2) * page, own)
    area.madvise(mmap.MADV_HUGEPAGE)
    source = np.frombuffer(area, np.float32)
    source[:] = 1  # pages that nobody wrote would all be the same one of zeros
    start = -source.ctypes.data % page + source.ctypes.data
    times = max(1, (16 << 20) // count)
    held = ctypes.c_void_p(start), ctypes.c_size_t(floats), ctypes.c_int(threads), ctypes.c_int(times)
    read_all = _compiled().read_all
    return Limit("read", "B/s", lambda: (read_all(*held), source)[0], 4.0 * floats * times)


def peak(count: int = 200_000) -> Limit:
    """Multiply-adds of numbers in registers, in as many threads as torch has."""
    held = ctypes.c_long(count), ctypes.c_int(torch.get_num_threads())
    multiply_all = _compiled().multiply_all
    return Limit("peak", "FLOP/s", lambda: multiply_all(*held), multiply_all(*held))


@cache
def _compiled() -> ctypes.CDLL:
    """`limits.c`, compiled for this machine."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "limits.so"
        options = ["-O3", "-march=native", "-ffast-math", "-fopenmp", "-shared", "-fPIC"]
        source = Path(__file__).with_name("limits.c")
        subprocess.run(["cc", *options, "-o", str(library), str(source)], check=True)
        compiled = ctypes.CDLL(str(library))
    compiled.read_all.restype = ctypes.c_float
    compiled.multiply_all.restype = ctypes.c_double
    return compiled
