"""`python -m unrolled` and the `unrolled` command."""

import sys


def main() -> None:
    """Run the command line, or say what it lacks."""
    try:
        from unrolled.cli import run
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        sys.exit(f"unrolled: the command line needs {error.name}: pip install 'unrolled[cli]'")
    run()


if __name__ == "__main__":
    main()
