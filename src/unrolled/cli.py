"""The commands, thin: each reads its arguments, calls one part of the library and prints what came.

Exit status: 0 done, 1 the run failed, 2 the input cannot be used, 130 stopped by Ctrl-C (training saves first).
"""

import inspect
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, NoReturn, get_type_hints

import typer
from rich.console import Console
from rich.table import Table

import unrolled
from unrolled import _engine, corpus, settings
from unrolled.errors import InputError
from unrolled.recipe import TrainOptions
from unrolled.tasks.text import Score, TextModel, TextOptions, TextTask, held_out_symbols

__all__ = ["run"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Recurrent networks that remember: train one on your own text, let it write, measure it.\n\n"
    "Begin with: [bold]unrolled train text --minutes 1 --out model.safetensors[/bold]",
    epilog="Exit status: 0 done, 1 the run failed, 2 the input cannot be used, 130 stopped by Ctrl-C.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train a model for a task.")
app.add_typer(train_app, name="train")

console = Console(highlight=False, soft_wrap=True)
Json = Annotated[bool, typer.Option("--json", help="Print the figures as one JSON object.")]
ModelPath = Annotated[Path, typer.Argument(metavar="MODEL", help="A file written by `unrolled train`.")]
Files = Annotated[
    list[Path] | None, typer.Argument(metavar="[FILE]...", help="Texts in UTF-8, read one after the other.")
]


def run() -> None:
    """Run the command line; what goes wrong becomes a sentence on standard error and an exit status."""
    try:
        app(prog_name="unrolled")
    except InputError as error:
        _fail(str(error), 2)


def _fail(message: str, status: int) -> NoReturn:
    print(f"unrolled: {message}", file=sys.stderr)
    sys.exit(status)


def with_settings(*kinds: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for every field of these dataclasses; those given arrive as keyword arguments."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command)
        parameters = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        for kind in kinds:
            hints = get_type_hints(kind)
            for field in fields(kind):
                option = typer.Option(help=settings.help_text(field.name, kind), show_default=False)
                annotation: Any = Annotated[hints[field.name] | None, option]
                parameters.append(
                    inspect.Parameter(
                        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
                    )
                )
        command.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in parameters} | {"return": None}
        return command

    return decorate


@train_app.command("text", epilog="Example: unrolled train text book.txt --minutes 10 --out book.safetensors")
@with_settings(TextOptions, TrainOptions)
def train_text(
    out: Annotated[Path, typer.Option(metavar="MODEL", help="Where the best model goes.")],
    files: Files = None,
    config: Annotated[
        Path | None,
        typer.Option(metavar="TOML", help="A file with the same settings; the command line wins."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was writing MODEL.")] = False,
    as_json: Json = False,
    **given: Any,
) -> None:
    """Train a language model on texts (without FILE: on the language reference that Python carries).

    The model that does best on the held-out part is written to MODEL. Ctrl-C keeps a checkpoint beside it,
    MODEL.checkpoint, from which --resume goes on: with --steps to the same losses, bit for bit.
    """
    if find_spec("torch") is None or find_spec("accelerate") is None:
        raise InputError("training needs torch and accelerate: pip install 'unrolled[train]'.")
    from unrolled.progress import train_with_progress
    from unrolled.train import Diverged

    if not out.name:
        raise InputError(f"--out is {str(out)!r}, expected the name of a file.")
    kinds = [TextOptions, TrainOptions]
    chosen = {name: value for name, value in given.items() if value is not None}
    settings.fill(kinds, chosen, "command line")
    if config:
        in_file = settings.read_toml(config)
        settings.fill(kinds, in_file, str(config))
        chosen = in_file | chosen
    text_options, train_options = settings.fill(kinds, chosen)
    task = TextTask(text_options, files or [], train_options.seed)
    try:
        finished = train_with_progress(task, train_options, out, resume, Console(stderr=True, highlight=False))
    except Diverged as error:
        _fail(f"{error}.", 1)
    if not finished:
        sys.exit(130)
    _report_text(out, task, as_json)


def _report_text(out: Path, task: TextTask, as_json: bool) -> None:
    from unrolled import ngram

    model = unrolled.load(out)
    held_out, size = task.corpus.held_out, task.corpus.vocabulary.size
    score = model.score_symbols(held_out)
    train = task.corpus.train[-ngram_symbols:]
    baselines = {
        "unigram": ngram.unigram(train, held_out, size),
        "5-gram": ngram.ngram(train, held_out, size),
    }
    if as_json:
        _print_json({"model": str(out), "held_out": _figures(score), "baselines_nats": baselines})
        return
    table = Table("held-out loss", "nats a symbol", "bits", "perplexity")
    for name, nats in [*baselines.items(), (f"this {task.options.cell}", score.nats)]:
        table.add_row(name, *_row(Score(nats, score.count)))
    console.print(table)
    console.print("What it writes:\n", style="bold")
    _write(model, "", 400, 0.8, 1.0, 0)
    console.print(f"\n\nThe model is {out}. Try next:", style="bold")
    console.print(f"  unrolled sample {out} --length 1000\n  unrolled eval {out}")


ngram_symbols = 5_000_000  # the baselines count in memory: of a longer text, its last part


def _figures(score: Score) -> dict[str, float]:
    return {**asdict(score), "bits": score.bits, "perplexity": score.perplexity}


def _row(score: Score) -> tuple[str, str, str]:
    return f"{score.nats:.4f}", f"{score.bits:.4f}", f"{score.perplexity:.2f}"


def _print_json(figures: dict[str, Any]) -> None:
    print(json.dumps(figures, ensure_ascii=False))


def _write(model: TextModel, prompt: str, length: int, temperature: float, top_p: float, seed: int) -> None:
    for text in model.sample(prompt, length, temperature=temperature, top_p=top_p, seed=seed):
        sys.stdout.write(text)
        sys.stdout.flush()


@app.command(epilog="Example: unrolled sample model.safetensors --prompt 'The ' --length 200 --seed 1")
def sample(
    model: ModelPath,
    prompt: Annotated[str, typer.Option(help="The text to go on from; '-' reads it from standard input.")] = "",
    length: Annotated[int, typer.Option(help="Symbols to write.")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 likelier, above 1 wilder; 0 always the likeliest.")
    ] = 0.8,
    top_p: Annotated[float, typer.Option(help="Choose among the likeliest symbols of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.")] = 0,
) -> None:
    """Let a text model write, one step a symbol, printed as it is written."""
    if prompt == "-":
        prompt = sys.stdin.read()
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly when the reader has had enough, as cat does
    loaded = unrolled.load(model)
    text = loaded.sample(prompt, length, temperature=temperature, top_p=top_p, seed=seed)
    sys.stdout.write(prompt)
    for piece in text:
        sys.stdout.write(piece)
        sys.stdout.flush()
    sys.stdout.write("\n")


@app.command("eval", epilog="Example: unrolled eval model.safetensors other.txt --json")
def evaluate(model: ModelPath, files: Files = None, as_json: Json = False) -> None:
    """Measure how well a model foresees a text (without FILE: the held-out part of its own).

    Once with the state carried through the whole text, and once in windows of 64 symbols, each from the zero
    state, to set beside models with a fixed context.
    """
    loaded = unrolled.load(model)
    symbols = corpus.encode_files(files, loaded.vocabulary) if files else held_out_symbols(loaded)
    scores = {
        "state carried": loaded.score_symbols(symbols),
        "windows of 64": loaded.score_symbols(symbols, 64),
    }
    if as_json:
        _print_json({name.replace(" ", "_"): _figures(score) for name, score in scores.items()})
        return
    table = Table("", "nats a symbol", "bits", "perplexity", "symbols")
    for name, score in scores.items():
        table.add_row(name, *_row(score), f"{score.count:,}")
    console.print(table)


@app.command(epilog="Example: unrolled info model.safetensors")
def info(model: ModelPath, as_json: Json = False) -> None:
    """Show what a model file holds and how it was trained."""
    file = unrolled.load(model).file
    figures = {
        "task": file.task,
        "parameters": file.architecture.parameters,
        "weights_sha256": file.fingerprint(),
        "architecture": asdict(file.architecture),
        "training": file.training,
    }
    if as_json:
        _print_json(figures)
        return
    table = Table("", "", show_header=False)
    for name, value in figures.items():
        for key, entry in value.items() if isinstance(value, dict) else [("", value)]:
            table.add_row(f"{name} {key}".strip(), ", ".join(entry) if isinstance(entry, list) else str(entry))
    console.print(table)


@app.command(epilog="Example: unrolled kernels --json")
def kernels(as_json: Json = False) -> None:
    """Show which kernel serves each op on this machine, with the instruction set."""
    if find_spec("torch") is None:
        rows = [{"op": "streams", "device": "cpu", "dtype": "float32", "kernel": "engine", "isa": _engine.isa()}]
    else:
        from unrolled import ops

        rows = [asdict(row) for row in ops.kernels()]
    if as_json:
        _print_json({"isa": _engine.isa(), "available": _engine.isas(), "kernels": rows})
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    console.print(table)
    console.print(
        f"Instruction sets here: {', '.join(_engine.isas())}; UNROLLED_ISA chooses another than the first."
    )
