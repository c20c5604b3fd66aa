"""`python -m unrolled` and the `unrolled` command."""

import os
import sys


def main() -> None:
    """Run the command line, or say what it lacks."""
    # OpenMP's threads spin briefly before they sleep, instead of for milliseconds: beside any other busy program
    # long spinning makes training several times slower (docs/training.md). Read when OpenMP is loaded.
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if sys.argv[1:2] == ["serve"]:
        # A batch of small streams is over before a second thread is awake, and that core has requests to read.
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        from unrolled.cli import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"unrolled: the command line needs {error.name}: pip install 'unrolled[cli]'")
    except ImportError as error:  # the engine refuses an instruction set that UNROLLED_ISA names
        print(f"unrolled: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
