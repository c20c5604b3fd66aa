"""Programs that run in a Python of their own, and the program's own commands, which need none."""

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Command", "Done", "python", "refused"]

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


@dataclass
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str


Command = Callable[..., Done]


def refused(done: Done, *parts: str) -> None:
    """Exit status 2, nothing on standard output, and one sentence that says all of `parts`."""
    assert done.status == 2
    assert done.out == ""
    assert done.err.startswith("unrolled: ")
    assert done.err.count("\n") == 1
    for part in parts:
        assert part in done.err
