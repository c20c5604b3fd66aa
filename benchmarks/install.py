"""What README.md says of an install without extras: its size, and what importing it costs beside NumPy.

    python -m benchmarks.install [WHEEL]

Makes an empty environment, installs the wheel (built here, if none is given) and what it needs from the package
index, runs a model there, and records sizes and times in `benchmarks/results/install.json`.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from benchmarks import machine
from benchmarks.record import record
from benchmarks.serve import write_model

TIMES = 15
NEEDED = ("numpy", "safetensors")
RUN = """
import sys, unrolled
print(unrolled.Stream(unrolled.load(sys.argv[1])).feed("abc").shape, "torch" in sys.modules)
"""
SIZES = """
import json
from importlib.metadata import distributions
def size(found):
    paths = [path.locate() for path in found.files]
    return sum(path.stat().st_size for path in paths if path.exists())
print(json.dumps({found.metadata["Name"]: size(found) for found in distributions()}))
"""


def _run(*command: object) -> str:
    return subprocess.run([*map(str, command)], check=True, text=True, stdout=subprocess.PIPE).stdout


def _milliseconds(python: Path, statements: str) -> float:
    """The median time that these imports take in a process of their own."""
    program = f"from time import perf_counter; t = perf_counter(); {statements}; print(perf_counter() - t)"
    times = [float(_run(python, "-c", program)) for _ in range(TIMES)]
    return 1000 * statistics.median(times)


def main() -> None:
    """Install, run, measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path, nargs="?", help="default: one that is built here")
    wheel = parser.parse_args().wheel
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if wheel is None:
            _run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ".")
            (wheel,) = folder.glob("*.whl")
        venv.create(folder / "empty", with_pip=True)
        python = folder / "empty/bin/python"
        _run(python, "-m", "pip", "install", "--quiet", wheel)
        write_model(folder / "m.safetensors")
        if (said := _run(python, "-c", RUN, folder / "m.safetensors")) != "(3, 96) False\n":
            raise RuntimeError(f"the model in the empty environment says {said}")
        sizes = json.loads(_run(python, "-c", SIZES))
        beside = {name: size for name, size in sizes.items() if name not in (*NEEDED, "pip", "setuptools")}
        numpy = _milliseconds(python, "import numpy")
        both = _milliseconds(python, "import numpy; from unrolled import Stream")
        size = wheel.stat().st_size
    measured = {
        "wheel_mb": round(size / 1e6, 2),
        "beside_numpy_and_safetensors_mb": {name: round(size / 1e6, 2) for name, size in beside.items()},
        "import_numpy_ms": round(numpy, 1),
        "import_unrolled_more_ms": round(both - numpy, 1),
    }
    record("install.json", {"machine": machine.describe(), **measured})
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
