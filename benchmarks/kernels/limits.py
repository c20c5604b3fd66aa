"""What this machine can do at most: its rate of matrix products, of moving memory, and of reading it.

`python -m benchmarks.kernels.limits` prints how fast one core reads so many bytes again and again, from one place
at a time, and two copies of them in turn.
"""

import ctypes
import mmap
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path
from statistics import median

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


def read(count: int, threads: int, places: int = 4) -> Limit:
    """So many bytes read again and again, each thread its own part: from the caches that they fit.

    From four places at once, or from one.
    """
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
    run = _compiled().read_all if places == 4 else _compiled().read_on
    return Limit("read", "B/s", lambda: (run(*held), source)[0], 4.0 * floats * times)


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
    compiled.read_all.restype = compiled.read_on.restype = ctypes.c_float
    compiled.multiply_all.restype = ctypes.c_double
    return compiled


def main() -> None:
    """Print medians of five rounds; in each an amount is read for a tenth of a second, half of it to warm up."""
    amounts = [kilobytes << 10 for kilobytes in (64, 96, 128, 192, 256, 320, 384, 512, 640, 768, 1024)]
    limits = [read(amount, 1, places=1) for amount in amounts]
    found: list[list[float]] = [[] for _ in limits]
    for _ in range(5):
        for limit, rates in zip(limits, found, strict=True):
            for half in range(2):
                began, runs = time.perf_counter(), 0
                while (taken := time.perf_counter() - began) < 0.05:
                    limit.run()
                    runs += 1
                if half:
                    rates.append(runs * limit.work / taken)
    rate = {amount: median(rates) / 1e9 for amount, rates in zip(amounts, found, strict=True)}
    for amount in amounts:
        twin = f", two copies {rate[2 * amount]:.0f}" if 2 * amount in rate else ""
        print(f"{amount >> 10:5} KB: {rate[amount]:4.0f} GB/s{twin}")


if __name__ == "__main__":
    main()
