"""Commands of whoever serves streams: `serve` and `token`; and `kernels`, which of them serve the ops here."""

from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import unrolled
from unrolled import _engine, settings
from unrolled.commands.frame import Json, app, console, file_name, print_json, with_settings
from unrolled.errors import InputError
from unrolled.server import access
from unrolled.server.settings import ServeSettings


@app.command(epilog="Example: unrolled serve model.safetensors --port 8000")
@with_settings(ServeSettings)
def serve(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL",
            parser=file_name,
            help="Files written by `unrolled train`; each is served under the name of its file.",
        ),
    ],
    **given: Any,
) -> None:
    """Serve streams of models over HTTP and WebSocket, with states that outlast the process."""
    chosen = settings.known([ServeSettings], given)
    (options,) = settings.fill([ServeSettings], chosen, "command line")
    try:
        from unrolled.server.run import serve as run_server
    except ModuleNotFoundError as error:
        raise InputError(f"serving needs {error.name}: pip install 'unrolled[serve]'") from error
    loaded: dict[str, Any] = {}
    for path in models:
        name = path.stem
        if name in loaded:
            raise InputError(f"{path}: there is another model of this name, expected different file names")
        loaded[name] = unrolled.load(path)
    run_server(loaded, options)


@app.command(epilog="Example: unrolled token alice --tokens tokens.txt")
def token(
    tenant: Annotated[str, typer.Argument(metavar="TENANT", help="Whose streams the token opens.")],
    tokens: Annotated[
        Path, typer.Option(metavar="FILE", parser=file_name, help="The file that `unrolled serve` reads.")
    ],
) -> None:
    """Make a token for `unrolled serve --tokens`: it is printed once, and the file keeps its hash."""
    print(access.add_token(tokens, tenant))


@app.command(epilog="Example: unrolled kernels --json")
def kernels(as_json: Json = False) -> None:
    """Show which kernel serves each op on this machine, with the instruction set."""
    if find_spec("torch") is None:
        rows = [{"op": "streams", "device": "cpu", "dtype": "float32", "kernel": "engine", "isa": _engine.isa()}]
    else:
        from unrolled.ops import dispatch

        rows = [asdict(row) for row in dispatch.kernels()]
    if as_json:
        print_json(
            {
                "isa": _engine.isa(),
                "available": _engine.isas(),
                "multiplies_bfloat16": _engine.multiplies_bfloat16(),
                "kernels": rows,
            }
        )
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    console.print(
        "Products in bfloat16, where autocast or a layer of bfloat16 asks for them: "
        + ("in the engine." if _engine.multiplies_bfloat16() else "the engine's are in float32 here.")
    )
    console.print(
        f"Instruction sets here: {', '.join(_engine.isas())}; UNROLLED_ISA chooses another than the first."
    )
