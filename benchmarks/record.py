"""Where what was measured is recorded: a file of JSON for each measurement."""

import json
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "record"]

RESULTS = Path("benchmarks/results")


def record(name: str, result: dict[str, Any]) -> None:
    """Write a result as the file `name`, over the one before."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / name).write_text(json.dumps(result, indent=1) + "\n")
