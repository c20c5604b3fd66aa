"""Programs that run in a Python of their own."""

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["python"]

# Python 3.12 and later warn of any fork beside threads; the engine's own may go on in the parent.
FORKS_ARE_MEANT = "ignore:This process:DeprecationWarning"


def python(program: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """What became of a program, which finds the tests' modules, in this environment and what is added to it."""
    return subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ
        | {"PYTHONPATH": str(Path(__file__).parent), "PYTHONWARNINGS": FORKS_ARE_MEANT}
        | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
