"""What a measurement ran on."""

import os
import platform
from pathlib import Path
from typing import Any

from unrolled import _engine

__all__ = ["describe", "processor_seconds", "stolen_share"]


def describe() -> dict[str, Any]:
    """The processor, how many of its cores are ours, and the instruction set of the engine."""
    names = [line.split(":")[1].strip() for line in cpuinfo() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "isa": _engine.isa(),
        "python": platform.python_version(),
    }


def processor_seconds() -> tuple[float, float]:
    """Processor time since the machine started: all of it, and what its host took away (0 where none says)."""
    path = Path("/proc/stat")
    if not path.exists():
        return 0.0, 0.0
    ticks = [int(field) for field in path.read_text().split("\n")[0].split()[1:9]]
    return sum(ticks) / 100, ticks[7] / 100


def stolen_share(before: tuple[float, float]) -> float:
    """The part of the processor time, 0 to 1, that the host took since `processor_seconds` gave `before`."""
    total, stolen = (now - then for now, then in zip(processor_seconds(), before, strict=True))
    return round(stolen / max(1e-9, total), 3)


def cpuinfo() -> list[str]:
    """The kernel's lines about the processors; none where there is no such file."""
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []
