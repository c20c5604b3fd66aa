"""Runs that start from a model: they go on where it was, with what it knows, and refuse what it does not."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

import unrolled
from programs import Command, refused
from small import random
from test_label import MAKERS, SMALL
from test_whereabouts import TINY, WRITERS
from unrolled import checkpoint, modelfile
from unrolled.errors import InputError
from unrolled.loop import Diverged, Report, train
from unrolled.recipe import TrainOptions
from unrolled.run_files import checkpoint_path, log_path, previous_path
from unrolled.start import Start
from unrolled.tasks import TASKS, Task
from unrolled.tasks.label import LabelOptions, LabelTask
from unrolled.tasks.speech import audio

pytestmark = pytest.mark.usefixtures("one_thread")

STILL = 1e-9  # a learning rate that hardly moves a weight


def task_of(name: str, data: str, start: Start | None = None, /, **given: Any) -> Task:
    """A small task, with the settings that a model to start from has."""
    kind, chosen = TASKS[name], TINY[name] | given
    return kind(kind.Options(**(start.over(kind, chosen) if start else chosen)), [data], start=start)


def run(task: Task, out: str, resume: bool = False, **options: Any) -> list[Report]:
    """A whole run, in the folder that one is in."""
    given = {"steps": 4, "lr": 0.01, **options}
    return list(train(task, TrainOptions(**given), Path(out), resume))


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def model(name: str, out: str = "old") -> Start:
    """A model of a task, trained for a few steps on data that are written into the folder that one is in."""
    run(task_of(name, WRITERS[name]("first")), out)
    return Start.read(Path(out), name)


UNLIKE = {
    "text": ("faded", "dead"),
    "label": ("\n1", "\n91"),
    "forecast": ("\n1", "\n91"),
    "speech": ("12", "21"),
    "translate": ("blau\tblue", "grau\tgrey"),
    "caption": ("shade", "kind"),
}


def second(name: str) -> str:
    """The name of other data that are written into the folder that one is in."""
    data = WRITERS[name]("second")
    file = Path(data, "captions.txt") if name == "caption" else Path(data)
    file.write_text(file.read_text().replace(*UNLIKE[name]))
    return data


every_task = pytest.mark.parametrize("name", WRITERS)


@every_task
def test_a_run_goes_on_from_what_the_model_is_and_knows(here: Path, name: str) -> None:
    start = model(name)
    data = second(name)
    run(task_of(name, data, start), "new", lr=STILL)
    new, old = modelfile.read(Path("new")), start.model.file
    for tensor in old.tensors:
        if "running" not in tensor:  # of batches, which training sees
            np.testing.assert_allclose(new.tensors[tensor], old.tensors[tensor], rtol=1e-3, atol=1e-6)
    assert (new.architecture, new.encoding) == (old.architecture, old.encoding)
    assert (new.training["start"], new.training["start_sha256"]) == ("old", old.fingerprint())
    assert new.training["names"] == [data]
    assert unrolled.load("new").evaluate().figures


@every_task
def test_a_run_begins_where_the_model_was_and_ends_no_worse(here: Path, name: str) -> None:
    start = model(name)
    (data,), was = (start.model.file.training[one] for one in ("names", "held_out_loss"))
    first, *others = run(task_of(name, data, start), "new", lr=3.0)
    assert (first.step, first.loss, first.held_out) == (0, None, was)
    best = min(was, *(one.held_out for one in others if one.held_out is not None))
    assert others[-1].best == modelfile.read(Path("new")).training["held_out_loss"] == best
    if best == was:
        assert modelfile.read(Path("new")).fingerprint() == start.sha256


DECIDED: dict[str, dict[str, Any]] = {  # all that a model decides, each otherwise than by default
    "text": {"level": "word", "vocab_size": 5, "longest_gap": 9, "embedding": 2, "layers": 2},
    "label": {"label": "who", "sequence": "label", "ignore": "n", "category": "x", "missing": "hold"}
    | {"scale": "common", "ahead": 1, "fps": 5.0, "side": 9, "background": "none", "switch_penalty": 0.5}
    | {"embedding": 2, "spelling": 3, "layers": 2, "bidirectional": True, "members": 2, "longest_gap": 9},
    "forecast": {"target": "x", "ahead": 2, "sequence": "label", "ignore": "n", "category": "who"}
    | {"missing": "hold", "layers": 2, "longest_gap": 9},
    "speech": {"rate": 4000, "mels": 11, "stack": 4, "channels": 2, "layers": 1},
    "translate": {"level": "word", "vocab_size": 5, "shared_vocab": True, "longest": 7}
    | {"embedding": 2, "layers": 2},
    "caption": {"size": 9, "vocab_size": 3, "width": 2, "embedding": 2},
}
CHANGEABLE = {"label", "sequence", "ignore", "missing", "switch_penalty", "longest"}


@every_task
def test_nothing_that_makes_the_model_what_it_is_need_be_said_again(here: Path, name: str) -> None:
    kind, decided = TASKS[name], DECIDED[name] | {"cell": "gru", "hidden": 3}
    data, few = WRITERS[name]("first"), {"batch": 2, "chunk": 5} if name == "text" else {}
    if name in ("label", "forecast"):
        Path(data).write_text("".join(f"n,{line}\n" for line in Path(data).read_text().splitlines()))
    run(kind(kind.Options(**decided, **few), [data]), "old", steps=1)
    start = Start.read(Path("old"), name)
    assert start.over(kind, {}) == start.over(kind, decided) == decided
    run(kind(kind.Options(**start.over(kind, few)), [data], start=start), "new", steps=1)
    new, old = modelfile.read(Path("new")), start.model.file
    assert (new.architecture, new.encoding) == (old.architecture, old.encoding)
    for setting in decided:
        if setting in CHANGEABLE:
            assert start.over(kind, {setting: "other"}) == decided | {setting: "other"}
        else:
            has = f"{decided[setting]!r}; leave {setting} out, and it is the model's"
            with pytest.raises(
                InputError, match=f"^{setting} is 'other', but old, which the run starts from, has {has}"
            ):
                start.over(kind, {setting: "other"})


@pytest.mark.parametrize("stop", [1, 3])
@every_task
def test_a_run_that_started_from_a_model_goes_on_without_it(here: Path, name: str, stop: int) -> None:
    start = model(name)
    data = second(name)
    run(task_of(name, data, start), "whole")
    cut = train(task_of(name, data, start), TrainOptions(steps=4, lr=0.01), Path("cut"), paths=[data])
    for _ in range(stop):  # the first report is of no step
        next(cut)
    cut.close()
    Path("old").unlink()
    again = Start.of(checkpoint.read(checkpoint_path(Path("cut"))), Path("cut.checkpoint"))
    assert again and (again.name, again.sha256) == (start.name, start.sha256)
    run(task_of(name, data, again), "cut", resume=True)
    assert log_path(Path("cut")).read_bytes() == log_path(Path("whole")).read_bytes()
    whole, resumed = modelfile.read(Path("whole")), modelfile.read(Path("cut"))
    assert resumed.fingerprint() == whole.fingerprint()
    assert resumed.training["start"] == "old"


def test_a_setting_that_is_not_given_is_the_models(command: Command, here: Path) -> None:
    data = WRITERS["label"]("first")
    sizes = ["--hidden", "5", "--cell", "gru", "--sequence", "who", "--missing", "hold", "--bidirectional"]
    assert command("train", "label", data, *sizes, "--members", "2", "--steps", "2", "--out", "old").status == 0
    Path("second.csv").write_text(Path(data).read_text().replace("who", "number").replace("label", "state"))
    given = ["--label", "state", "--sequence", "number", "--steps", "2"]
    done = command("train", "label", "second.csv", *given, "--start", "old", "--out", "new")
    assert (done.status, done.err.splitlines()[0][:6]) == (0, "step 0")
    new, old = unrolled.load("new"), unrolled.load("old")
    assert new.file.architecture == old.file.architecture
    assert new.file.architecture.members == 2 and new.file.architecture.cell == "gru"
    assert new.layout == replace(old.layout, label="state", sequence="number")
    shown = json.loads(command("info", "new", "--json").out)["training"]
    assert (shown["start"], shown["start_sha256"]) == ("old", old.file.fingerprint())


def test_a_file_of_settings_must_have_the_models(command: Command, here: Path) -> None:
    model("text")
    WRITERS["text"]("second")
    train_again = ["train", "text", "second.txt", "--start", "old", "--out", "new", "--config", "toml"]
    Path("toml").write_text("hidden = 3\nbatch = 2\nchunk = 5\nsteps = 2\n")
    assert command(*train_again).status == 0
    Path("toml").write_text('cell = "gru"\n')
    refused(command(*train_again), "cell is 'gru', but old, which the run starts from, has 'lstm'; leave cell out")
    Path("toml").write_text("longest_gap = 9\n")
    refused(command(*train_again), "longest_gap is 9, but old, which the run starts from, was trained without;")


def test_a_setting_that_an_older_model_does_not_name_is_the_default(here: Path) -> None:
    file = model("label").model.file
    training = {name: value for name, value in file.training.items() if name not in ("missing", "hidden")}
    modelfile.write(Path("older"), replace(file, training=training))
    chosen = Start.read(Path("older"), "label").over(TASKS["label"], {})
    assert "missing" not in chosen and chosen["hidden"] == 3


def test_a_model_of_another_task_and_what_is_no_model_are_refused(command: Command, here: Path) -> None:
    model("label")
    WRITERS["text"]("second")
    arguments = ["train", "text", "second.txt", "--out", "new", "--start"]
    refused(command(*arguments, "old"), "old was trained for the task 'label', but this is `unrolled train text`;")
    refused(command(*arguments, "none"), "none does not exist; expected a model file")
    refused(command(*arguments, "second.txt"), "second.txt is damaged or not a model file")
    assert not Path("new").exists()


def test_what_a_model_does_not_know_is_refused_by_its_place(here: Path) -> None:
    def starts(name: str, data: str, **given: Any) -> None:
        task_of(name, data, Start.read(Path(f"old {name}"), name), **given)

    for name in ("text", "label", "speech"):
        model(name, f"old {name}")
    Path("x.txt").write_text("a bad cafe\nad fab zoo\n" * 9)
    with pytest.raises(
        InputError, match=r"^x\.txt, line 2, column 8: the character 'z' \(U\+007A\) is not one of"
    ):
        starts("text", "x.txt")
    rows = "".join(f"{row},{'up' if row else 'gone'},{row // 4}\n" for row in range(20))
    Path("event.csv").write_text(f"x,label,who\n{rows}")
    event = r"event\.csv, line 2, column 'label': the event 'gone' is not known, expected one of down, up"
    with pytest.raises(InputError, match=f"^{event}; --skip-bad leaves such examples out"):
        starts("label", "event.csv")
    Path("column.csv").write_text(f"y,label,who\n{rows}")
    with pytest.raises(InputError, match=r"column\.csv has no column 'x', expected it among y, label, who"):
        starts("label", "column.csv")
    np.savez("wide.npz", inputs=np.zeros((3, 2)), labels=np.array(["up", "down", "up"]))
    with pytest.raises(InputError, match=r"^wide\.npz has 2 numbers a step, but the model reads 1"):
        starts("label", "wide.npz")
    Path("a.conllu").write_text("1\tup\t_\tup\t_\t_\t_\t_\t_\t_\n")
    with pytest.raises(InputError, match=r"^a\.conllu, line 1 has words, but the model reads numbers"):
        starts("label", "a.conllu")
    table = Path(WRITERS["speech"]("second"))
    table.write_text(table.read_text().replace("12", "13"))
    letter = (
        r"^second\.tsv, line \d \(second\d\.wav\): .*the character '3' \(U\+0033\) is not one of the 2 characters"
    )
    with pytest.raises(InputError, match=letter):
        starts("speech", "second.tsv")


def test_examples_that_a_model_does_not_know_can_be_left_out(here: Path) -> None:
    start = model("label")
    rows = "".join(
        f"{row},{'gone' if row == 13 else 'up' if row % 2 else 'down'},{row // 4}\n" for row in range(20)
    )
    Path("event.csv").write_text(f"x,label,who\n{rows}")
    run(task_of("label", "event.csv", start, skip_bad=True), "new")
    new = unrolled.load("new")
    assert new.file.training["left_out"] == 1
    assert new.evaluate().figures["sequences"] == 1
    Path("event.csv").write_text("x,label,who\n1,gone,a\n2,gone,b\n3,gone,c\n")
    with pytest.raises(InputError, match=r"^event\.csv: nothing is left to train on, expected a sequence"):
        task_of("label", "event.csv", start, skip_bad=True)


def test_columns_keep_their_names_where_other_data_have_none(here: Path) -> None:
    start = model("label")
    files = ["0.npz", "1.npz", "2.npz"]
    for name in files:
        np.savez(name, inputs=np.zeros((3, 1)), labels=np.array(["up", "down", "up"]))
    run(LabelTask(LabelOptions(**start.over(LabelTask, {})), files, start=start), "new")
    assert unrolled.load("new").layout == start.model.layout


def test_a_model_can_be_trained_on_in_its_place_also_after_a_crash(
    command: Command, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("made").mkdir()
    start, old = model("text", "made/old"), here / "made" / "old"
    data = WRITERS["text"]("second")
    run(task_of("text", data, start), "whole", steps=12)
    cut = train(task_of("text", data, start), TrainOptions(steps=12, lr=0.01), Path("made/old"), paths=[data])
    for _ in range(8):
        next(cut)
    cut.close()
    assert modelfile.read(previous_path(old)).fingerprint() == start.sha256
    assert modelfile.read(old).fingerprint() != start.sha256
    settings = ["--batch", "2", "--chunk", "5", "--steps", "12", "--lr", "0.01"]
    (here / "link").symlink_to(old)
    monkeypatch.chdir("made")
    again = ["--start", "../link", "--out", "old", "--resume"]
    assert command("train", "text", f"../{data}", *settings, *again).status == 0
    assert log_path(old).read_bytes() == log_path(here / "whole").read_bytes()


def test_an_interrupted_run_goes_on_from_the_model_that_it_started_from_alone(
    command: Command, here: Path
) -> None:
    start = model("text")
    data = WRITERS["text"]("second")
    cut = train(task_of("text", data, start), TrainOptions(steps=3, lr=0.01), Path("cut"), paths=[data])
    next(cut)
    cut.close()
    again = ["train", "text", "--out", "cut", "--resume"]
    run(task_of("text", "first.txt"), "other", seed=1)
    other = modelfile.read(Path("other")).fingerprint()
    found = f"was written with start '{start.sha256[:12]}', but this run has start '{other[:12]}'"
    refused(command(*again, "--start", "other"), found)
    Path("old").rename("moved")
    assert command(*again, "--start", "moved").status == 0


def test_the_model_before_is_not_written_over_while_a_run_starts_from_it(command: Command, here: Path) -> None:
    model("text", "new.previous")
    data = WRITERS["text"]("second")
    done = command("train", "text", data, "--start", "new.previous", "--out", "new")
    refused(
        done, "new.previous is the model to start from, and the run would write over it; expected another --out"
    )


def test_the_model_before_is_not_written_over_by_a_program_either(here: Path) -> None:
    start = model("text", "new.previous")
    with pytest.raises(
        InputError, match=r"^new\.previous is the model to start from, and the run would write over"
    ):
        run(task_of("text", WRITERS["text"]("second"), start), "new")


def test_a_loss_is_judged_by_that_of_a_model_that_knows_nothing(here: Path) -> None:
    start = model("text")
    tensors = {name: np.zeros_like(one) for name, one in start.model.file.tensors.items()}
    tensors["head.bias"][start.model.vocabulary.encode(" ")] = 99.0
    modelfile.write(Path("sure"), replace(start.model.file, tensors=tensors))
    Path("a.txt").write_text(" " * 300)
    task = task_of("text", "a.txt", Start.read(Path("sure"), "text"))
    cut = train(task, TrainOptions(steps=2, lr=STILL), Path("cut"))
    assert next(cut).held_out == 0 and next(cut).loss == 0
    cut.close()
    saved = checkpoint.read(checkpoint_path(Path("cut")))
    assert saved.run["first_loss"] == pytest.approx(math.log(8), rel=0.3)
    checkpoint.write(checkpoint_path(Path("cut")), replace(saved, run=saved.run | {"first_loss": -1.0}))
    with pytest.raises(Diverged, match=r"the loss is 0 \(that of random weights was -1\)"):
        run(task, "cut", resume=True, steps=2, lr=STILL)


def test_a_run_that_made_nothing_better_says_so(command: Command, here: Path) -> None:
    start = model("text")
    Path("unlike.txt").write_text("c" * 300)
    given = ["--batch", "2", "--chunk", "5", "--steps", "9", "--lr", "1", "--held-out", "first.txt"]
    done = command("train", "text", "unlike.txt", *given, "--start", "old", "--out", "new")
    assert "The model is the one that the run began with, the best on what is held out: " in done.err
    assert modelfile.read(Path("new")).fingerprint() == start.sha256


@pytest.mark.parametrize("kind", ["words", "films"])
def test_what_stands_before_the_layers_is_the_models(here: Path, kind: str) -> None:
    folder = MAKERS[kind](here / kind)
    run(LabelTask(LabelOptions(**SMALL), [folder]), "old")
    start = Start.read(Path("old"), "label")
    other = MAKERS[kind](here / "other")
    if kind == "words":
        (other / "a.conllu").write_text(
            (folder / "a.conllu").read_text().replace("the", "no").replace("bing", "bang")
        )
    given = SMALL | {"held_out": str(folder)}
    run(
        LabelTask(LabelOptions(**start.over(LabelTask, given)), [other], start=start),
        "new",
        lr=STILL,
    )
    old, new = unrolled.load("old"), unrolled.load("new")
    assert new.file.encoding == old.file.encoding
    assert new.evaluate().figures == old.evaluate([folder]).figures


@pytest.mark.parametrize("text", ["char", "byte", "word", "bpe"])
@pytest.mark.parametrize("cell", ["rnn", "lstm-layer_norm-peephole-zoneout0.1", "lstm-weight_drop0.2-proj0.4"])
def test_a_text_model_of_any_level_and_cell_can_be_started_from(here: Path, text: str, cell: str) -> None:
    data = WRITERS["text"]("first")
    run(task_of("text", data, level=text, cell=cell, hidden=7), "old", precision="bfloat16")
    start = Start.read(Path("old"), "text")
    Path("second.txt").write_text("a cafe fed a bad bee\n" * 12)
    kind = TASKS["text"]
    task = kind(kind.Options(**start.over(kind, {"batch": 2, "chunk": 5})), ["second.txt"], start=start)
    first, *others = run(task, "new", precision="bfloat16")
    assert others[-1].best <= (first.held_out or 0)
    new = modelfile.read(Path("new"))
    assert (new.architecture, new.encoding) == (start.model.file.architecture, start.model.file.encoding)


def test_convolutions_with_their_averages_are_started_from(here: Path) -> None:
    data = WRITERS["speech"]("first")
    run(task_of("speech", data, channels=2, stack=4, mels=11), "old")
    start = Start.read(Path("old"), "speech")
    first, *_ = run(task_of("speech", data, start, channels=2, stack=4, mels=11), "new", lr=3.0)
    assert first.held_out == start.model.file.training["held_out_loss"]


class Eyes(torch.nn.Module):
    """In place of a network of timm's: what it sees is the picture, made smaller."""

    loaded: ClassVar[list[str | None]] = []

    def __init__(self, name: str, channels: int, weights: str | None = None) -> None:
        super().__init__()
        self.loaded.append(weights)
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))  # as of a normalisation over batches
        self.scale = torch.nn.Parameter(torch.rand(3, 1, 1) + (weights is not None), requires_grad=False)

    def sizes(self, side: int) -> tuple[dict[str, tuple[int, ...]], int, int]:
        return {"scale": (3, 1, 1), "seen": ()}, side // 4, 3

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(pictures, 4) * self.scale


def test_a_backbone_comes_from_the_model_and_not_from_its_file(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("backbone", "caption"):
        monkeypatch.setattr(f"unrolled.models.{module}.Backbone", Eyes)
    data = WRITERS["caption"]("first")
    given: dict[str, Any] = {"backbone": "eyes", "backbone_weights": "weights"}
    run(task_of("caption", data, **given), "old")
    start = Start.read(Path("old"), "caption")
    Eyes.loaded.clear()
    cut = train(task_of("caption", data, start, **given), TrainOptions(steps=2), Path("new"))
    next(cut)
    cut.close()
    again = Start.of(checkpoint.read(checkpoint_path(Path("new"))), Path("new.checkpoint"))
    run(task_of("caption", data, again, **given), "new", resume=True, steps=2, lr=TrainOptions().lr)
    assert set(Eyes.loaded) == {None}
    old, new = start.model.file, modelfile.read(Path("new"))
    np.testing.assert_array_equal(new.tensors["grid.scale"], old.tensors["grid.scale"])
    assert (new.training["backbone"], new.training["backbone_weights"]) == ("eyes", None)
    run(task_of("caption", data, Start.read(Path("new"), "caption")), "newer", steps=1)
    np.testing.assert_array_equal(modelfile.read(Path("newer")).tensors["grid.scale"], old.tensors["grid.scale"])
    with pytest.raises(
        InputError, match="backbone_weights is 'other', but old, which the run starts from, has 'we"
    ):
        start.over(TASKS["caption"], {"backbone_weights": "other"})


def test_pictures_and_sounds_of_other_sizes_are_read_as_the_model_reads_them(here: Path) -> None:
    grey, file = model("caption", "old caption"), model("speech").model.file
    encoding = file.encoding | {"bank": file.encoding["bank"] | {"tail": 4000}}  # as of another version
    modelfile.write(Path("old speech"), replace(file, encoding=encoding))
    slow = Start.read(Path("old speech"), "speech")
    for start, other in ((grey, {"size": 12}), (slow, {"rate": 16_000})):
        with pytest.raises(InputError, match="which the run starts from, has 8"):
            start.over(TASKS[start.model.file.task], other)
    folder = Path(WRITERS["caption"]("second"))
    for path in folder.glob("*.png"):
        Image.new("RGB", (12, 9), "red").save(path)
    table = Path(WRITERS["speech"]("second"))
    for path in here.glob("second*.wav"):
        audio.write(path, random(8000, scale=0.1), 16_000)
    run(task_of("caption", str(folder), grey), "new caption")
    run(task_of("speech", str(table), slow), "new speech")
    for start, name in ((grey, "new caption"), (slow, "new speech")):
        new = unrolled.load(name)
        assert (new.file.architecture, new.file.encoding) == (
            start.model.file.architecture,
            start.model.file.encoding,
        )
        assert new.evaluate().figures


def test_sounds_of_characters_that_a_model_does_not_know_can_be_left_out(here: Path) -> None:
    start = model("speech")
    table = Path(WRITERS["speech"]("second"))
    table.write_text(table.read_text().replace("second1.wav\t12", "second1.wav\t3"))
    run(task_of("speech", str(table), start, skip_bad=True), "new")
    new = unrolled.load("new")
    assert new.file.training["left_out"] == 1
    assert new.evaluate().figures["sounds"] == 1


def test_sentences_may_be_longer_than_those_of_the_model(here: Path) -> None:
    assert model("translate").over(TASKS["translate"], {"longest": 7})["longest"] == 7
