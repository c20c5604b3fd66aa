"""Where the data sets of the benchmarks lie: README.md beside says what they are and where they come from."""

import os
import sys
from pathlib import Path

__all__ = ["at"]


def at(*parts: str) -> Path:
    """A file or folder in the folder that `UNROLLED_DATA` names; ends the program where it is not there."""
    path = Path(os.environ.get("UNROLLED_DATA", "../shared/data")).joinpath(*parts)
    if not path.exists():
        sys.exit(
            f"{path} is not there: UNROLLED_DATA names the folder of data sets, and benchmarks/README.md says "
            "what they are."
        )
    return path
