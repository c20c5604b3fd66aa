"""`python -m unrolled` and the `unrolled` command."""

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast


class _Messages:
    """Standard error, which may be closed or take no more: what cannot be said there ends no run.

    Nor does it change an exit status, or go to standard output.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """As the stream's own, but for errors of the system."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """As the stream's own, but for errors of the system."""
        with suppress(OSError):
            self._stream.flush()


def main() -> None:
    """Run the command line, or say what it lacks."""
    stream: TextIO | None = sys.stderr
    sys.stderr = cast(TextIO, _Messages(stream or open(os.devnull, "w")))  # noqa: SIM115 (until the process ends)
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
