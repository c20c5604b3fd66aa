"""Data that was named relatively is found from any folder, and where it and the model have moved together."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unrolled
from unrolled import cli, modelfile
from unrolled.errors import InputError
from unrolled.loop import train
from unrolled.modelfile import ModelFile
from unrolled.recipe import TrainOptions
from unrolled.tasks import TASKS, Task
from unrolled.tasks.speech import audio
from unrolled.whereabouts import found, kept, named

TINY: dict[str, dict[str, Any]] = {
    "text": {"hidden": 3, "embedding": 2, "batch": 2, "chunk": 5},
    "label": {"hidden": 3, "sequence": "who"},
    "forecast": {"hidden": 3, "sequence": "who", "ignore": "label", "window": 5},
    "speech": {"hidden": 3, "layers": 1, "mels": 6},
    "translate": {"hidden": 3, "embedding": 2, "level": "word"},
    "caption": {"hidden": 3, "embedding": 2},
}


def texts(name: str) -> str:
    """The name of a text that is written into the folder that one is in."""
    Path(f"{name}.txt").write_text("a faded cafe had a deaf bee\n" * 9)
    return f"{name}.txt"


def numbers(name: str) -> str:
    rows = "".join(f"{row},{'up' if row % 2 else 'down'},{row // 4}\n" for row in range(20))
    Path(f"{name}.csv").write_text(f"x,label,who\n{rows}")
    return f"{name}.csv"


def sounds(name: str) -> str:
    rng = np.random.default_rng(0)
    for number in range(3):
        audio.write(Path(f"{name}{number}.wav"), rng.uniform(-0.1, 0.1, 4000).astype(np.float32), 8000)
    rows = "".join(f"{name}{number}.wav\t12\n" for number in range(3))
    Path(f"{name}.tsv").write_text(f"file\ttext\n{rows}")
    return f"{name}.tsv"


def pairs(name: str) -> str:
    Path(f"{name}.tsv").write_text("rot\tred\nblau\tblue\n" * 5)
    return f"{name}.tsv"


def pictures(name: str) -> str:
    folder = Path(name)
    folder.mkdir()
    for number in range(3):
        Image.fromarray(np.full((8, 8), 80 * number, np.uint8)).save(folder / f"{number}.png")
    rows = "".join(f"{number}.png,a shade of grey\n" for number in range(3))
    (folder / "captions.txt").write_text(f"image,caption\n{rows}")
    return name


WRITERS: dict[str, Callable[[str], str]] = {
    "text": texts,
    "label": numbers,
    "forecast": numbers,
    "speech": sounds,
    "translate": pairs,
    "caption": pictures,
}


def made(task: str, data: str, held_out: str | None) -> Task:
    """A small task of this data."""
    kind = TASKS[task]
    return kind(kind.Options(held_out=held_out, **TINY[task]), [data])


def modelled(task: str, data: str, held_out: str | None) -> None:
    """Write a model of this data, of random weights, into the folder that one is in."""
    one = made(task, data, held_out)
    tensors = {name: value.numpy() for name, value in one.build().state_dict().items()}
    modelfile.write(Path("model"), one.describe(tensors, {"seed": 0}))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("apart", [False, True], ids=["part", "apart"])
@pytest.mark.parametrize("task", WRITERS)
def test_what_was_held_out_is_found_from_any_folder_and_where_all_has_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, apart: bool
) -> None:
    before, after, elsewhere = tmp_path / "before", tmp_path / "after", tmp_path / "elsewhere"
    for folder in (before, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(before)
    modelled(task, WRITERS[task]("train"), WRITERS[task]("valid") if apart else None)
    figures = unrolled.load("model").evaluate().figures
    monkeypatch.chdir(elsewhere)
    assert unrolled.load(before / "model").evaluate().figures == figures
    before.rename(after)
    assert unrolled.load(after / "model").evaluate().figures == figures
    alone = (after / "model").rename(tmp_path / "model")
    looked = f"{before} or in {tmp_path} or in {elsewhere}"
    with pytest.raises(InputError, match=f"of the model's training, is not in {looked}; go to"):
        unrolled.load(alone).evaluate()
    monkeypatch.chdir(after)
    assert unrolled.load(alone).evaluate().figures == figures


def interrupted_run(task: str, data: str, held_out: str | None) -> None:
    """A run in the folder that one is in, stopped after its first step."""
    run = train(made(task, data, held_out), TrainOptions(steps=2), Path("model"), paths=[data])
    next(run)
    run.close()


def resume(monkeypatch: pytest.MonkeyPatch, task: str, *arguments: str) -> None:
    """The command that goes on with a run."""
    monkeypatch.setattr(sys, "argv", ["unrolled", "train", task, "--resume", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.run()
    assert not end.value.code


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("again", [False, True], ids=["known", "named"])
@pytest.mark.parametrize("task", WRITERS)
def test_an_interrupted_run_goes_on_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, again: bool
) -> None:
    before, elsewhere = tmp_path / "before", tmp_path / "elsewhere"
    for folder in (before, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(before)
    data, valid = (WRITERS[task](name) for name in ("train", "valid"))
    interrupted_run(task, data, valid)
    monkeypatch.chdir(elsewhere)
    files = [f"../before/{data}", "--held-out", f"../before/{valid}"] if again else []
    resume(monkeypatch, task, *files, "--out", "../before/model")
    training = modelfile.read(before / "model").training
    assert (training["names"], training["held_out"], training["folder"]) == ([data], valid, str(before))


def test_a_comma_names_two_files_unless_a_file_has_it(tmp_path: Path) -> None:
    assert named("a.de,a.en") == ["a.de", "a.en"]
    assert named("a.tsv") == ["a.tsv"]
    folder = tmp_path / "new, better"
    folder.mkdir()
    for name in ("a,b.tsv", "a.de", "a.en", "x,1.de", "x,1.en"):
        (folder / name).write_text("")
    both = [str(folder / name) for name in ("a.de", "a.en")]
    assert named(",".join(both)) == both
    for names in (["a,b.tsv"], ["a.de", "a.en"], ["x,1.de", "x,1.en"]):
        assert named(",".join(names), str(folder)) == names


COMMAS = {"one": ["my,valid.tsv"], "two": ["x,1.de", "x,1.en"]}


def pairs_apart(names: list[str]) -> str:
    """Write a TSV of pairs, or two aligned files, into the folder that one is in; they are named with a comma."""
    sides = ["rot\nblau\n", "red\nblue\n"] if len(names) == 2 else ["rot\tred\nblau\tblue\n"]
    for name, side in zip(names, sides, strict=True):
        Path(name).write_text(side)
    return ",".join(names)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("names", COMMAS.values(), ids=COMMAS)
def test_commas_in_the_names_of_what_is_held_out_are_read_where_the_files_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    monkeypatch.chdir(before)
    modelled("translate", pairs("train"), pairs_apart(names))
    figures = unrolled.load("model").evaluate().figures
    monkeypatch.chdir(tmp_path)
    assert unrolled.load(before / "model").evaluate().figures == figures
    before.rename(after)
    assert unrolled.load(after / "model").evaluate().figures == figures


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("names", COMMAS.values(), ids=COMMAS)
def test_what_was_held_out_is_named_again_with_commas_in_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    before, elsewhere = tmp_path / "before", tmp_path / "elsewhere"
    for folder in (before, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(before)
    data, valid = pairs("train"), pairs_apart(names)
    interrupted_run("translate", data, valid)
    monkeypatch.chdir(elsewhere)
    again = ",".join(f"../before/{name}" for name in names)
    resume(monkeypatch, "translate", "--held-out", again, "--out", "../before/model")
    assert modelfile.read(before / "model").training["held_out"] == valid


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("task", ["label", "caption"])
def test_what_to_try_next_can_be_read_in_the_folder_where_a_run_was_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], task: str
) -> None:
    before, elsewhere = tmp_path / "the lab", tmp_path / "elsewhere"
    for folder in (before, elsewhere):
        folder.mkdir()
    monkeypatch.chdir(before)
    monkeypatch.setitem(TINY, "label", {"hidden": 3, "ignore": "who"})  # a file is a sequence, and may be tried
    interrupted_run(task, WRITERS[task]("train"), WRITERS[task]("valid"))
    monkeypatch.chdir(elsewhere)
    resume(monkeypatch, task, "--out", "../the lab/model")
    command = capsys.readouterr().out.partition("Try next:")[2].strip().splitlines()[0]
    _, run, model, example, *_ = shlex.split(command)
    assert (run, model) == ("run", str(before / "model"))
    loaded = unrolled.load(model)
    assert list(loaded.run([example], loaded.RunOptions()))
    monkeypatch.chdir(before)
    assert shlex.split(loaded.next_commands("model")[0])[3] == loaded.file.training["example"]  # as it was named


def model_of(training: dict[str, Any], path: str = "") -> ModelFile:
    return ModelFile("text", None, {}, training, {}, path)


def test_the_folder_of_the_training_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "a.txt").write_text("")
    monkeypatch.chdir(one)
    model = model_of(kept(["a.txt"]))
    assert found(model, ["a.txt"]) == ["a.txt"]
    monkeypatch.chdir(other)
    assert found(model, ["a.txt"]) == [str(one / "a.txt")]
    assert found(model_of({"names": ["a.txt"]}), ["a.txt"]) == ["a.txt"]  # as earlier versions wrote it


def test_data_beside_the_model_come_before_those_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        folder.mkdir()
        (folder / "a.txt").write_text("")
    monkeypatch.chdir(here)
    model = model_of({"names": ["a.txt"], "folder": str(tmp_path / "gone")}, str(beside / "m.safetensors"))
    assert found(model, ["a.txt"]) == [str(beside / "a.txt")]


def test_a_whole_path_is_looked_for_once(tmp_path: Path) -> None:
    path = str(tmp_path / "a.txt")
    with pytest.raises(InputError) as missing:
        found(model_of(kept([path])), [path])
    assert (
        str(missing.value) == f"{path}, of the model's training, is not there any more; name DATA to measure on."
    )
