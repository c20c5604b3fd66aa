"""Settings: named once, as fields of frozen dataclasses, and filled from several places.

A field made by `setting` says its default, its help and its range; from it come the command line's option, the
key of a TOML file, and the check of a value. This file knows no particular setting.
"""

import difflib
import math
import tomllib
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, fields
from pathlib import Path
from typing import Any

from unrolled.errors import InputError, meant
from unrolled.texts import decoded

__all__ = ["fill", "help_text", "known", "read_toml", "setting"]

FEW = 8  # settings that a sentence names


def setting(
    default: Any,
    help: str,
    *,
    at_least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    choices: tuple[str, ...] = (),
    unmet: Callable[[str], str] | None = None,
    several: bool = False,
    default_help: str | None = None,
    heading: str | None = None,
) -> Any:
    """A dataclass field with its help and the values it takes.

    `unmet` says what is expected of a text that is not one, and nothing of others. One that has `several` things,
    with commas between, may be given several times. `heading` is what it and those after it stand under in a help.
    """
    shown = "" if default is None or default is False else str(default)
    metadata = {"help": help, "default_help": default_help or shown, "several": several, "heading": heading}
    limits = {"at_least": at_least, "above": above, "below": below, "choices": choices, "unmet": unmet}
    return field(default=default, metadata=metadata | limits)


def help_text(
    name: str, kinds: Sequence[type[Any]], defaults: Mapping[str, Any] = types.MappingProxyType({})
) -> str:
    """The help of a setting that all `kinds` have, with its default, or theirs in order where they differ.

    `defaults` has those that stand in place of the fields' own.
    """
    of_each = [f.metadata for kind in kinds for f in fields(kind) if f.name == name]
    metadata, own = of_each[0], dict.fromkeys(one["default_help"] for one in of_each if one["default_help"])
    help, default = str(metadata["help"]), defaults.get(name, ", ".join(own))
    if metadata["choices"]:
        help = f"{help} One of {', '.join(metadata['choices'])}."
    return f"{help} [dim]default {default}[/dim]" if default else help


def read_toml(path: Path) -> dict[str, Any]:
    """The settings of a TOML file, with the names of the command line (`-` or `_` alike).

    Raises `InputError` for a file that cannot be read or is not TOML, and for a setting that is there twice.
    """
    try:
        content = tomllib.loads(decoded(path.read_bytes()).removeprefix("\ufeff"))
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, InputError) as error:
        raise InputError(f"{path} is not TOML: {error}") from error
    named = {name.replace("-", "_"): value for name, value in content.items()}
    for name in named:
        if name in content and name.replace("_", "-") in content and "_" in name:
            raise InputError(f"{path}: {name} is set twice, also as {name.replace('_', '-')}; expected once.")
    return named


def known(kinds: list[type[Any]], given: Mapping[str, Any]) -> dict[str, Any]:
    """Of `given`, the settings of these dataclasses that have a value; those given several times as one text."""
    names = {f.name for kind in kinds for f in fields(kind)}
    present = {name: value for name, value in given.items() if name in names and value is not None}
    return {name: ",".join(value) if isinstance(value, list) else value for name, value in present.items()}


def fill(kinds: list[type[Any]], given: Mapping[str, Any], source: str = "settings") -> list[Any]:
    """One instance of each dataclass in `kinds` from the settings `given`; defaults stand for what is absent.

    Raises `InputError` for an unknown name (naming one that is near, or all where they are few), a value of
    another type, or one out of range.
    """
    known = {f.name: (f, typing.get_type_hints(kind)[f.name]) for kind in kinds for f in fields(kind)}
    for name, value in given.items():
        if name not in known:
            raise InputError(f"{source}: unknown setting {name!r}{_instead(name, list(known))}.")
        limits, hint = known[name]
        if expected := _unmet(value, hint, limits.metadata):
            raise InputError(f"{source}: {name} is {value!r}, expected {expected}.")
    return [kind(**{f.name: given[f.name] for f in fields(kind) if f.name in given}) for kind in kinds]


def _instead(name: str, known: Sequence[str]) -> str:
    """What may have been meant by a name that is not known."""
    if near := difflib.get_close_matches(name, known, n=1):
        return f"; the nearest known one is {near[0]!r}"
    if 0 < len(known) <= FEW:
        return f", expected {'one of ' if len(known) > 1 else ''}{', '.join(known)}"
    return ""


def _unmet(value: Any, hint: Any, limits: Mapping[str, Any]) -> str:
    """What is expected of a value that does not meet it, else an empty text."""
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if type(value) not in kinds and not (float in kinds and type(value) is int):
        names = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
        return " or ".join(names[kind] for kind in kinds if kind is not type(None))
    if value is None:
        return ""
    if limits["choices"] and value not in limits["choices"]:
        return f"one of {', '.join(limits['choices'])}{meant(str(value), limits['choices'])}"
    if limits["unmet"] is not None and (expected := limits["unmet"](value)):
        return str(expected)
    if limits["at_least"] is not None and not value >= limits["at_least"]:
        return f"at least {limits['at_least']}"
    if limits["above"] is not None and not value > limits["above"]:
        return f"more than {limits['above']}"
    if limits["below"] is not None and not value < limits["below"]:
        return f"less than {limits['below']}"
    if type(value) is float and not math.isfinite(value):
        return "a finite number"
    return ""
