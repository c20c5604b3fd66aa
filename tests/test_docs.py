"""What the pages say stays true: links lead somewhere, quoted code is in its file, examples run as shown."""

import doctest
import re
import runpy
import string
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from small import random, text_file
from unrolled import modelfile
from unrolled.vocabulary import CharVocabulary

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BENCHMARKS = ROOT / "benchmarks" / "README.md"
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", BENCHMARKS]
DRAW = ROOT / "docs" / "pictures" / "draw.py"

FENCED = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
BENCHMARK = re.compile(r"python -m (benchmarks\.\w+)")
SOURCE = re.compile(r"(?:#|//) ((?:src|csrc|tests|benchmarks|docs)/\S+|\w+\.\w+)")
TARGET = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def lines_of(text: str) -> list[str]:
    """Its lines without indentation; blank ones do not count."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def missing_lines(quotation: list[str], source: list[str]) -> list[str] | None:
    """The first run of quoted lines that `source` does not hold; runs stand in order, parted by lines `...`."""
    start = 0
    for part in "\n".join(quotation).split("\n...\n"):
        run = part.split("\n")
        found = (place for place in range(start, len(source)) if source[place : place + len(run)] == run)
        place = next(found, None)
        if place is None:
            return run
        start = place + len(run)
    return None


def quotations(page: Path) -> list[tuple[str, list[str]]]:
    """The fenced blocks whose first line names a file: that file, and the lines quoted from it."""
    found = []
    for _, content in FENCED.findall(page.read_text(encoding="utf-8")):
        first, *quoted = lines_of(content) or [""]
        if name := SOURCE.fullmatch(first):
            found.append((name[1], quoted))
    return found


def anchors(page: Path) -> set[str]:
    """What links can name after a # in a page: its headings, as GitHub spells them."""
    headings = HEADING.findall(FENCED.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", LINKING, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_to_files_and_headings(page: Path) -> None:
    prose = FENCED.sub("", page.read_text(encoding="utf-8"))
    parted = [target.partition("#") for target in TARGET.findall(prose) if "://" not in target]
    links = [(page.parent / name if name else page, anchor) for name, _, anchor in parted]
    assert not [file for file, _ in links if not file.exists()]
    assert not [(file.name, anchor) for file, anchor in links if anchor and anchor not in anchors(file)]


def test_the_design_names_every_file() -> None:
    words = set(re.findall(r"\w+", (ROOT / "docs" / "design.md").read_text(encoding="utf-8").lower()))
    files = [*(ROOT / "src").rglob("*.py"), *(ROOT / "src").rglob("*.js"), *(ROOT / "csrc").glob("*.[ch]*")]
    named = {path.stem for path in files if not path.stem.startswith(("__", "bind_"))}  # bind*.cpp
    assert not named - words


@pages
def test_quoted_lines_are_in_the_file_that_is_named(page: Path) -> None:
    for name, quoted in quotations(page):
        missing = missing_lines(quoted, lines_of((ROOT / name).read_text(encoding="utf-8")))
        assert missing is None, f"{name} does not have {missing}"


def test_the_mathematics_quotes_the_equations_and_the_engine() -> None:
    quoted = {name for name, _ in quotations(ROOT / "docs" / "lstm.md")}
    assert {"src/unrolled/ops/cells.py", "csrc/cells.h"} <= quoted


def test_a_quotation_must_be_whole_lines_in_their_order() -> None:
    source = ["a = 1", "b = 2", "c = 3", "a = 1"]
    assert missing_lines(["a = 1", "b = 2", "...", "c = 3"], source) is None
    assert missing_lines(["a = 1", "c = 3"], source) == ["a = 1", "c = 3"]
    assert missing_lines(["c = 3", "...", "b = 2"], source) == ["b = 2"]
    assert missing_lines(["a ="], source) == ["a ="]


def python_of(page: Path) -> list[str]:
    """The page's blocks of Python, which a reader takes one after the other."""
    blocks = FENCED.findall(page.read_text(encoding="utf-8"))
    return [content for language, content in blocks if language == "python"]


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_examples_print_what_they_say(page: Path) -> None:
    runner = doctest.DocTestRunner()
    examples = doctest.DocTestParser().get_doctest("\n".join(python_of(page)), {}, page.name, str(page), 0)
    runner.run(examples)
    assert runner.summarize(verbose=False).failed == 0


def test_the_python_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    characters = "".join(sorted(string.printable))
    modelfile.write(tmp_path / "demo-text.safetensors", text_file(vocabulary=CharVocabulary(characters)))
    monkeypatch.chdir(tmp_path)
    blocks = [block for block in python_of(ROOT / "README.md") if "demo-label" not in block]
    assert len(blocks) > 4
    data = {"inputs": random(8, 10, 2), "labels": np.tile([0, 1], (8, 5))}
    exec("\n".join(blocks).replace("minutes=3", "steps=2"), {"x": random(1, 64), **data})


@pytest.mark.parametrize("module", sorted({*BENCHMARK.findall(BENCHMARKS.read_text(encoding="utf-8"))}))
def test_a_benchmark_says_with_help_what_it_does_and_measures_nothing(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(ROOT)
    monkeypatch.delitem(sys.modules, module, raising=False)  # another may have imported it
    monkeypatch.setattr(sys, "argv", [module, "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__")
    assert ended.value.code == 0
    assert f"python -m {module}" in capsys.readouterr().out


def test_the_pictures_are_what_the_script_draws(tmp_path: Path) -> None:
    subprocess.run([sys.executable, DRAW, tmp_path], check=True)
    drawn = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert drawn == {path.name: path.read_text(encoding="utf-8") for path in DRAW.parent.glob("*.svg")}
