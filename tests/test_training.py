"""`unrolled.train`: the same run as the command's, in a program."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import unrolled
from programs import Command, python
from unrolled import modelfile
from unrolled.loop import Diverged, Report
from unrolled.run_files import checkpoint_path
from unrolled.tasks.label import LabelTask

pytestmark = pytest.mark.usefixtures("one_thread")  # these models are too small for two

WORDS = "the clouds are in the sky\nand i speak fluent french\n"
SMALL: dict[str, Any] = {"hidden": 8, "embedding": 4, "batch": 4, "chunk": 8, "steps": 20}


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A text in the folder one is in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text(WORDS * 40)
    return Path("text.txt")


def weights(path: str | Path) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in modelfile.read(Path(path)).tensors.items()}


def test_it_gives_the_model_that_the_command_writes(command: Command, text: Path) -> None:
    reports: list[Report] = []
    model = unrolled.train("text", text, out="mine.safetensors", on_step=reports.append, **SMALL)
    options = [part for name, value in SMALL.items() for part in (f"--{name}", value)]
    assert command("train", "text", text, "--out", "theirs.safetensors", *options).status == 0
    assert weights("mine.safetensors") == weights("theirs.safetensors")
    assert [report.step for report in reports] == list(range(1, 21))
    measured = [report.held_out for report in reports if report.held_out is not None]
    assert min(measured) == model.file.training["held_out_loss"]
    assert model.score(WORDS).nats < np.log(model.vocabulary.size)


def test_settings_come_as_programs_have_them(text: Path, tmp_path: Path) -> None:
    """Numbers of NumPy, paths, lists of names; None is the default."""
    for name in ("train", "valid"):
        rows = "".join(f"{step % 7},{step % 3},{'abc'[step % 3]},{step}\n" for step in range(60))
        (tmp_path / f"{name}.csv").write_text("x,y,event,note\n" + rows)
    model = unrolled.train(
        "label",
        tmp_path / "train.csv",
        out=tmp_path / "label.safetensors",
        held_out=tmp_path / "valid.csv",
        label="event",
        ignore=["note", "x"],
        hidden=np.int64(8),
        lr=np.float64(0.01),
        steps=np.int32(2),
        batch=None,
    )
    assert model.file.encoding["layout"]["features"] == ["y"]
    told = {name: model.file.training[name] for name in ("lr", "hidden", "batch")}
    assert told == {"lr": 0.01, "hidden": 8, "batch": LabelTask.defaults["batch"]}


def test_arrays_of_numpy_are_saved_and_trained_on(text: Path) -> None:
    """What was read a step before, which the step alone does not say."""
    signs = np.random.default_rng(0).integers(0, 2, (20, 30))
    np.savez("arrays.npz", inputs=signs[:, :, None].astype(np.float32), labels=np.roll(signs, 1, axis=1))
    model = unrolled.train("label", "arrays.npz", out="arrays.safetensors", hidden=32, steps=300)
    figures = model.evaluate().figures
    assert figures["causal"]["accuracy"] > 95 - 100 / 30  # of a sequence's first step nothing is known
    assert figures["alone"]["accuracy"] < 75


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"task": "texts"}, "unrolled.train: task is 'texts', expected one of text, label, "),
        ({"hiden": 8}, "unrolled.train: unknown setting 'hiden'; the nearest known one is 'hidden'"),
        ({"hidden": "8"}, "unrolled.train: hidden is '8', expected a whole number"),
        ({"lr": np.float32(-1)}, "unrolled.train: lr is -1.0, expected more than 0"),
        ({"minutes": 1}, "unrolled.train: steps is 20 and minutes is 1, expected one of the two"),
        ({"data": ["text.txt", "text.txt"]}, "DATA has 'text.txt' twice"),
        ({"data": [""]}, "DATA is empty, expected the name of a file or a folder"),
        ({"data": ["none.txt"]}, "none.txt"),
        ({"out": "text.txt"}, "text.txt is DATA, and the run would write over it"),
        ({"out": ""}, "expected the name of a file"),
        ({"start": "none.safetensors"}, "none.safetensors"),
        ({"resume": True}, "m.safetensors.checkpoint"),
    ],
)
def test_what_cannot_be_used_is_refused(text: Path, given: dict[str, Any], sentence: str) -> None:
    call = {"task": "text", "data": [text], "out": "m.safetensors", **SMALL, **given}
    before = {path.name: path.read_bytes() for path in Path.cwd().iterdir()}
    with pytest.raises(unrolled.InputError) as error:
        unrolled.train(call.pop("task"), *call.pop("data"), **call)
    assert sentence in str(error.value)
    assert {path.name: path.read_bytes() for path in Path.cwd().iterdir()} == before


def test_a_run_that_is_ended_goes_on_from_any_folder(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def end(report: Report) -> None:
        if report.step == 12:
            raise Enough

    unrolled.train("text", text, out="whole.safetensors", **SMALL)
    with pytest.raises(Enough):
        unrolled.train("text", text, out="parted.safetensors", on_step=end, **SMALL)
    assert checkpoint_path(Path("parted.safetensors")).exists()
    with pytest.raises(unrolled.InputError, match="holds an interrupted run"):
        unrolled.train("text", text, out="parted.safetensors", **SMALL)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    steps: list[int] = []
    unrolled.train(
        "text", out="../parted.safetensors", resume=True, on_step=lambda report: steps.append(report.step)
    )
    assert steps == list(range(13, 21))
    assert Path.cwd() == tmp_path / "elsewhere"
    assert weights("../parted.safetensors") == weights("../whole.safetensors")


def test_a_run_may_start_from_a_model(text: Path) -> None:
    old = unrolled.train("text", text, out="old.safetensors", **SMALL)
    reports: list[Report] = []
    new = unrolled.train(
        "text", text, out="new.safetensors", start="old.safetensors", batch=4, steps=2, on_step=reports.append
    )
    assert reports[0].step == 0
    assert reports[0].held_out == pytest.approx(old.file.training["held_out_loss"])
    assert new.file.architecture == old.file.architecture
    assert new.file.training["start"] == "old.safetensors"


def test_training_that_breaks_down_says_so(text: Path) -> None:
    with pytest.raises(Diverged, match="training diverged at step"):
        unrolled.train("text", text, out="m.safetensors", **{**SMALL, "lr": 1e6, "clip": 1e9})


def test_without_torch_it_says_what_to_install() -> None:
    done = python(
        "import sys; sys.modules['torch'] = None; import unrolled; unrolled.train('text', out='m.safetensors')"
    )
    assert "unrolled.train needs torch and accelerate: pip install 'unrolled[train]'" in done.stderr
