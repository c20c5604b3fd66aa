"""A page of text in which every symbol is shaded by its influence on a later one, and any may be chosen."""

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unrolled.atomic import replacing
from unrolled.errors import InputError
from unrolled.memory import reach
from unrolled.memory.trained import subject
from unrolled.tasks.text import TextModel

__all__ = ["check", "write"]

SHOWN = 400  # symbols of a passage


def check(model: Any, path: Path) -> None:
    """Raise `InputError` for a model that reads no text, and for a page that is not .html or has no folder."""
    if not isinstance(model, TextModel):
        raise InputError(f"--page shows text, but the model is one of the task {model.file.task!r}.")
    if path.suffix != ".html":
        raise InputError(f"{path}: expected a name ending in .html.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} for the page.")


def write(path: Path, model: TextModel, paths: Sequence[str | Path] = (), seed: int = 0) -> None:
    """Write a passage of the data as a page; pointing at a symbol shades those before it by their influence on it.

    Influence is the size of the gradient of the log probability of that symbol by each vector before it.
    """
    looked_at = subject(model, paths)
    passages = looked_at.passages(seed)
    row = int(passages.lengths.argmax())
    shown = min(SHOWN, int(passages.lengths[row]) - 1)
    first = int(passages.lengths[row]) - 1 - shown
    symbols = [
        *passages.contents[row][first : first + shown].tolist(),
        int(passages.targets[first + shown - 1, row]),
    ]
    influences = [_rounded(reach.influence(looked_at, passages, row, first + end, end)) for end in range(shown)]
    spans = "".join(f"<i>{html.escape(piece)}</i>" for piece in model.vocabulary.texts(symbols))
    document = PAGE.replace("SPANS", spans).replace("INFLUENCES", json.dumps(influences))
    with replacing(path) as temporary:
        temporary.write_text(document, encoding="utf-8")


def _rounded(sizes: Any) -> list[float]:
    """Of the largest, to two digits."""
    largest = max(float(sizes.max()), 1e-30)
    return [round(float(one), 2) for one in np.asarray(sizes) / largest]


PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>What the model has in mind</title>
<style>
body { font: 16px/1.7 ui-monospace, monospace; max-width: 60em; margin: 3em auto; padding: 0 1em; color: #222 }
p { font-family: system-ui, sans-serif; color: #555 }
#text { white-space: pre-wrap } i { font-style: normal; border-radius: 2px; cursor: pointer }
i.chosen { outline: 2px solid #c0392b }
</style>
<p>Point at a symbol: those before it are shaded by how much they had to do with its being foreseen.</p>
<div id="text">SPANS</div>
<script>
const influences = INFLUENCES;
const spans = [...document.querySelectorAll("#text i")];
function show(chosen) {
  const sizes = influences[chosen - 1];
  spans.forEach((span, number) => {
    const size = number < chosen ? sizes[number] : 0;
    span.style.background = size ? `rgba(46, 111, 149, ${Math.sqrt(size)})` : "";
    span.className = number === chosen ? "chosen" : "";
  });
}
spans.forEach((span, number) => span.addEventListener("mouseenter", () => number && show(number)));
show(spans.length - 1);
</script>
</html>
"""
