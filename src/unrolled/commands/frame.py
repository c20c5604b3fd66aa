"""What all commands share: the program they belong to, options made of settings, how figures are printed."""

import inspect
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from rich.console import Console
from rich.table import Column, Table
from typer.core import TyperCommand, TyperGroup

from unrolled import _engine, settings
from unrolled.errors import InputError
from unrolled.results import Evaluation

__all__ = [
    "Data",
    "Json",
    "ModelPath",
    "OutputError",
    "app",
    "console",
    "fail",
    "file_name",
    "needs_torch",
    "print_json",
    "print_tables",
    "with_readable_help",
    "with_settings",
]


class _Group(TyperGroup):
    """The commands as they were made, but those that have commands of their own before the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        return sorted(super().list_commands(ctx), key=lambda name: not isinstance(self.commands[name], TyperGroup))

    def get_params(self, ctx: Any) -> list[Any]:
        return _switches_without_type(super().get_params(ctx))


class _Command(TyperCommand):
    def get_params(self, ctx: Any) -> list[Any]:
        return _switches_without_type(super().get_params(ctx))


def _switches_without_type(parameters: list[Any]) -> list[Any]:
    """What takes no value says none in its help: Typer would say <bool>."""
    for one in parameters:
        if getattr(one, "is_flag", False):
            one.metavar = ""
    return parameters


app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Recurrent networks that remember: train one on your own sequences, run it, measure it.\n\n"
    "Begin with: [bold]unrolled train text --minutes 1 --out model.safetensors[/bold]",
    epilog="Exit status: 0 done, 1 the run failed, 2 the input cannot be used or a file not written, "
    "130 stopped by Ctrl-C, 143 by SIGTERM, 129 by closing its terminal.",
)

console = Console(highlight=False, soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]


def file_name(given: str) -> Path:
    """A path of the command line; an empty one, as of a variable that a script forgot, would be the folder."""
    if not given:
        raise typer.BadParameter("it is empty, expected the name of a file.")
    return Path(given)


ModelPath = Annotated[
    Path, typer.Argument(metavar="MODEL", parser=file_name, help="A file written by `unrolled train`.")
]
Data = Annotated[
    list[str] | None, typer.Argument(metavar="DATA", help="Files or folders, of the kind that the task reads.")
]


class OutputError(Exception):
    """Standard output does not take what is printed."""

    def __init__(self, error: OSError | UnicodeEncodeError) -> None:
        if isinstance(error, UnicodeEncodeError):
            unknown = error.object[error.start]
            reason = f"{error.encoding} has no {unknown!r}; PYTHONIOENCODING=utf-8 makes it UTF-8"
        else:
            reason = str(error.strerror)
        super().__init__(f"standard output: {reason}.")
        self.broken_pipe = isinstance(error, BrokenPipeError)


def fail(message: str, status: int) -> NoReturn:
    """End with a sentence on standard error."""
    print(f"unrolled: {message}", file=sys.stderr)
    sys.exit(status)


def _print_version(wanted: bool) -> None:
    """Print the version, and the instruction set that the engine uses here, and end."""
    if wanted:
        print(f"unrolled {metadata.version('unrolled')} ({_engine.isa()})")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """What stands before a command."""


def with_settings(
    *kinds: type[Any], defaults: Mapping[str, Any] = MappingProxyType({}), panels: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of these dataclasses; those given arrive as keyword arguments.

    `defaults` stand in the help in place of the fields' own; `panels` has each option's heading, in the order in
    which the help has them.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in parameters}
        found = {f.name: (f, get_type_hints(kind)[f.name]) for kind in reversed(kinds) for f in fields(kind)}
        names = panels or dict.fromkeys(f.name for kind in kinds for f in fields(kind))
        for name in (name for name in names if name not in taken):
            field, hint = found[name]
            takers = [one for one in kinds if name in {f.name for f in fields(one)}]
            option = typer.Option(
                help=settings.help_text(name, takers, defaults),
                metavar="NAMES" if field.metadata["several"] else None,
                show_default=False,
                rich_help_panel=panels[name] if panels else None,
            )
            given: Any = list[str] if field.metadata["several"] else hint
            annotation: Any = Annotated[given | None, option]
            parameters.append(
                inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
            )
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


def with_readable_help(commands: typer.Typer) -> None:
    """Let the terminal break the lines of all commands' helps, not the source; see also `_Command`."""
    commands.info.cls = _Group
    for group in commands.registered_groups:
        if group.typer_instance is not None:
            with_readable_help(group.typer_instance)
    for command in commands.registered_commands:
        command.cls = _Command
        text = inspect.cleandoc(command.help or (command.callback and command.callback.__doc__) or "")
        command.help = "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def needs_torch() -> None:
    """Raise `InputError` where what trains networks, and looks into them, is not installed."""
    if find_spec("torch") is None or find_spec("accelerate") is None:
        raise InputError("this needs torch and accelerate: pip install 'unrolled[train]'.")


def print_tables(evaluation: Evaluation) -> None:
    """For a person."""
    for shown in evaluation.tables:
        columns = [Column(name, overflow="fold") for name in shown.columns]  # a name that is long is not cut
        table = Table(*columns)
        if shown.dense:
            table = Table(*columns, box=None, padding=(0, 1, 0, 0))
        for row in shown.rows:
            table.add_row(*row)
        console.print(table)


def print_json(figures: dict[str, Any]) -> None:
    """For a program."""
    print(json.dumps(figures, ensure_ascii=False))
