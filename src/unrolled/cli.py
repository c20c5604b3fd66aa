"""The command line: what goes wrong in a command becomes a sentence and an exit status.

Exit status: 0 done, 1 the run failed, 2 the input cannot be used, 130 stopped by Ctrl-C, 143 training
stopped by SIGTERM (training saves first).
"""

from unrolled.commands import app
from unrolled.commands.frame import fail
from unrolled.errors import InputError

__all__ = ["run"]


def run() -> None:
    """Run the command that the command line names."""
    try:
        app(prog_name="unrolled")
    except InputError as error:
        fail(str(error), 2)
