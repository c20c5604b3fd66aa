"""Sequences of numbers from arrays: NumPy and MATLAB files.

NumPy and SciPy read the files; this file says what is wrong with one, and where.
"""

import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.extras import extra
from unrolled.floats import Floats
from unrolled.sequences.names import HELD

__all__ = ["read", "read_targets"]

TARGETS = "targets"
Events = Sequence[str | None]
Answer = TypeVar("Answer")


def read(
    path: Path, labelled: bool, refused: Refused, gaps: bool = False
) -> Iterator[tuple[str, Floats, Events | None]]:
    """The name, the numbers [T, D] and the events of each sequence of an array file.

    NAME.npz has arrays `inputs` [T, D] and `labels` [T]; NAME.npy has inputs, and NAME.labels.npy their labels; a
    .mat file has cells `S` of [T, D] and `Y` of [T], an entry a sequence. Labels are texts or whole numbers. The
    inputs of many sequences of one length may be [N, T, D]; their labels are [N, T] or, where each has one event
    that is to be said at its end, [N]. With `gaps`, a number may be NaN.
    """
    return _read(path, "labels", labelled, _events, refused, gaps)


def read_targets(path: Path, refused: Refused, gaps: bool = False) -> Iterator[tuple[str, Floats, Floats | None]]:
    """The same with numbers [T, K] in place of events, in `targets` or NAME.targets.npy, where that is there.

    One for each sequence of many, [N] or [N, K], is due at its end. A target that is NaN is not known.
    """
    return _read(path, TARGETS, False, _targets, refused, gaps)


def _read(
    path: Path,
    what: str,
    needed: bool,
    answer: Callable[[str, NDArray[Any], int], Answer],
    refused: Refused,
    gaps: bool,
) -> Iterator[tuple[str, Floats, Answer | None]]:
    found = _MAKERS[path.suffix.lower()](path, what, needed, refused)
    for name, inputs, answers in _one_by_one(found, what, refused):
        try:
            yield (
                name,
                _checked(name, inputs, gaps),
                None if answers is None else answer(name, answers, len(inputs)),
            )
        except InputError as wrong:
            refused(str(wrong))


def _one_by_one(
    found: Iterable[tuple[str, Any, Any]], what: str, refused: Refused
) -> Iterator[tuple[str, Any, Any]]:
    """Many sequences in one array become one at a time."""
    for name, inputs, answers in found:
        if inputs.ndim != 3:
            yield name, inputs, answers
        elif answers is not None and (not answers.ndim or len(answers) != len(inputs)):
            count = len(answers) if answers.ndim else "one"
            refused(f"{name} has {len(inputs)} sequences and {what} for {count}, expected as many")
        else:
            for number, one in enumerate(inputs):
                own = None if answers is None else np.asarray(answers[number])
                if own is not None and own.ndim == 1 and len(own) != len(one) and what == TARGETS:
                    own = own[None]  # of the end
                yield f"{name}, sequence {number + 1}", one, own


def _load(path: Path, refused: Refused) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        refused(f"{path} is not a NumPy file that can be read: {str(error).rstrip('.')}")
        return None


def _npz(path: Path, what: str, needed: bool, refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    loaded = _load(path, refused)
    if loaded is None:
        return
    with loaded:
        for name in ("inputs", what) if needed else ("inputs",):
            if name not in loaded:
                refused(f"{path} has no array {name!r}, expected it among {', '.join(loaded) or 'none'}")
                return
        try:
            yield str(path), loaded["inputs"], loaded.get(what)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            refused(f"{path} is not a NumPy file that can be read: {str(error).rstrip('.')}")


def _npy(path: Path, what: str, needed: bool, refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    beside = path.with_suffix(f".{what}.npy")
    if needed and not beside.exists():
        refused(f"{path} has no {what}: expected them in {beside}")
        return
    inputs = _load(path, refused)
    answers = _load(beside, refused) if beside.exists() else None
    if inputs is not None and (answers is not None or not beside.exists()):
        yield str(path), inputs, answers


def _mat(path: Path, what: str, needed: bool, refused: Refused) -> Iterator[tuple[str, Any, Any]]:
    with extra("data", "reading MATLAB files needs SciPy"):
        from scipy.io import loadmat
        from scipy.io.matlab import MatReadError
    try:
        found = loadmat(path)
    except (OSError, ValueError, TypeError, NotImplementedError, MatReadError) as error:
        refused(f"{path} is not a MATLAB file that can be read: {str(error).rstrip('.')}")
        return
    for name in ("S", "Y") if needed else ("S",):
        if name not in found or found[name].dtype != object:
            refused(f"{path} has no cell array {name!r}, expected one entry a sequence")
            return
    inputs, answers = found["S"].ravel(), found["Y"].ravel() if "Y" in found else None
    if answers is not None and len(answers) != len(inputs):
        refused(f"{path} has {len(inputs)} sequences in 'S' and {len(answers)} in 'Y', expected as many")
        return
    for number, one in enumerate(inputs):
        own = None if answers is None else answers[number]
        if own is not None and 1 in own.shape:  # of one row or column, as MATLAB has vectors
            own = own.ravel()
        yield f"{path}, sequence {number + 1}", one, own


_MAKERS = {".npz": _npz, ".npy": _npy, ".mat": _mat}


def _checked(name: str, inputs: NDArray[Any], gaps: bool) -> Floats:
    if inputs.ndim != 2 or inputs.dtype.kind not in "fiub" or not inputs.shape[1]:
        raise InputError(
            f"{name}: inputs are {inputs.dtype} {list(inputs.shape)}, expected numbers [steps, features]"
        )
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused with the rest
        numbers = inputs.astype(np.float32)
    wrong = ~np.isfinite(numbers) & ~(np.isnan(numbers) & gaps)
    if wrong.any():
        step, feature = np.argwhere(wrong)[0]
        found = inputs[step, feature]
        hint = HELD if np.isnan(found) else ""
        raise InputError(f"{name}, step {step}, feature {feature}: {found}, expected a finite number{hint}")
    return numbers


@lru_cache
def _at_the_end(event: str | None, steps: int) -> Events:
    """The same object for all sequences alike, of which there may be many."""
    return (None,) * (steps - 1) + (event,)


def _events(name: str, labels: NDArray[Any], steps: int) -> Events:
    """The event of each step, none where a text is empty; one for all the steps is that of the last."""
    if labels.ndim == 0:
        return _at_the_end(_events(name, labels[None], 1)[0], steps)
    if labels.shape != (steps,):
        raise InputError(f"{name}: labels are {list(labels.shape)}, expected one for each of the {steps} steps")
    if labels.dtype.kind == "f" and np.array_equal(labels, np.round(labels)):
        labels = labels.astype(np.int64)
    if labels.dtype.kind not in "iubU":
        raise InputError(f"{name}: labels are {labels.dtype}, expected texts or whole numbers")
    return [str(label) or None for label in labels]


def _targets(name: str, targets: NDArray[Any], steps: int) -> Floats:
    """The numbers [T, K] to be said at each step, NaN where none is known; one for all the steps at the last."""
    if targets.dtype.kind not in "fiub":
        raise InputError(f"{name}: targets are {targets.dtype}, expected numbers")
    with np.errstate(over="ignore"):
        numbers = targets.astype(np.float32)
    if numbers.ndim == 1 and len(numbers) == steps:
        numbers = numbers[:, None]
    if numbers.ndim == 0 or (numbers.ndim == 2 and len(numbers) == 1):
        numbers, end = np.full((steps, numbers.size), np.nan, np.float32), numbers
        numbers[-1] = end
    if numbers.ndim != 2 or len(numbers) != steps or not numbers.shape[1]:
        raise InputError(f"{name}: targets are {list(targets.shape)}, expected one for each of the {steps} steps")
    if np.isinf(numbers).any():
        step, place = np.argwhere(np.isinf(numbers))[0]
        raise InputError(f"{name}, step {step}: target {place} is infinite, expected a finite number")
    return numbers
