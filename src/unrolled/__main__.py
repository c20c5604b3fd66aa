"""`python -m unrolled` and the `unrolled` command."""

import os
import sys


def main() -> None:
    """Run the command line, or say what it lacks."""
    # OpenMP's threads wait asleep instead of spinning. Spinning gains nothing here, and when anything else runs
    # on the machine it makes training several times slower (docs/training.md). Read when OpenMP is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    try:
        from unrolled.cli import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"unrolled: the command line needs {error.name}: pip install 'unrolled[cli]'")
    run()


if __name__ == "__main__":
    main()
