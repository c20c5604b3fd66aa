"""The command line, as a person uses it: what it prints, what it refuses, and its exit status."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import numpy as np
import pytest
import torch

import unrolled
from programs import Command, Done, refused
from small import inputs_for, label_file
from unrolled import cli, modelfile
from unrolled.__main__ import main
from unrolled.commands.frame import print_tables
from unrolled.loop import train
from unrolled.recipe import TrainOptions
from unrolled.results import Evaluation, Table
from unrolled.run_files import checkpoint_path, log_path
from unrolled.tasks import TASKS
from unrolled.tasks.text import TextOptions, TextTask, corpus

WORDS = "the clouds are in the sky\nand i speak fluent french\n"
SMALL = ["--hidden", "8", "--embedding", "4", "--batch", "4", "--chunk", "8", "--steps", "20"]


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(WORDS * 40)
    return path


@pytest.fixture
def model(tmp_path: Path, text: Path) -> Path:
    """A little model of the text."""
    path = tmp_path / "model.safetensors"
    options = TextOptions(hidden=8, embedding=4, batch=4, chunk=8)
    list(train(TextTask(options, [text]), TrainOptions(steps=20), path))
    return path


@pytest.mark.parametrize("name", [[], ["train", "text"], ["sample"], ["eval"], ["info"], ["kernels"]])
def test_help_has_an_example(command: Command, name: list[str]) -> None:
    done = command(*name, "--help")
    assert done.status == 0
    assert "Example: unrolled" in done.out or "Begin with: unrolled" in done.out


def test_help_begins_with_what_one_begins_with(command: Command) -> None:
    shown = command("--help").out
    assert shown.index("Train a model for a task.") < shown.index("Let a text model write")


@pytest.mark.parametrize("task", TASKS)
def test_settings_of_a_training_stand_under_headings_each_once(command: Command, task: str) -> None:
    shown = command("train", task, "--help").out
    found = re.findall(r"─ (\w+) ─|^│ +--([\w-]+) ", shown, re.MULTILINE)
    headings = [heading for heading, _ in found if heading]
    assert headings == ["Arguments", "Options", "Data", "Model", "Regularisation", "Training"]
    for name, heading in {
        "held-out": "Data",
        "cell": "Model",
        "dropout": "Regularisation",
        "batch": "Training",
    }.items():
        (place,) = (number for number, (_, option) in enumerate(found) if option == name)
        assert [one for one, _ in found[:place] if one][-1] == heading


def test_train_prints_the_loss_beside_the_baselines_and_what_to_try_next(command: Command, text: Path) -> None:
    done = command("train", "text", text, "--out", "m.safetensors", *SMALL)
    assert done.status == 0
    offered = [f"unrolled {name} m.safetensors" for name in ("sample", "eval", "serve")]
    for part in ("unigram", "5-gram", "this lstm", *offered):
        assert part in done.out
    assert "held out" in done.err
    assert done.err.endswith("\nMeasuring on what was held out.\n")


def test_what_to_try_next_can_be_tried_on_a_model_whose_name_begins_with_a_dash(
    command: Command, text: Path
) -> None:
    done = command("train", "text", text, "--out", "-m", *SMALL)
    offered = [
        shlex.split(line, comments=True) for line in done.out.splitlines() if line.startswith("  unrolled ")
    ]
    *tried, (_, served, model) = offered  # which would not end by itself
    assert (served, model) == ("serve", "./-m")
    assert tried and all(command(*one[1:]).status == 0 for one in tried)


def test_training_says_which_step_was_kept_where_it_was_not_the_last(
    command: Command, text: Path, tmp_path: Path
) -> None:
    text.write_text("#" + WORDS * 40)
    (tmp_path / "rare.txt").write_text("#" * 60)
    done = command("train", "text", text, "--held-out", "rare.txt", "--out", "m.safetensors", *SMALL)
    training = unrolled.load(tmp_path / "m.safetensors").file.training
    said = f"The model is that of step {training['steps_done']}, the best on what is held out: "
    assert said + f"{training['held_out_loss']:.4f}." in " ".join(done.err.split())


def test_train_prints_figures_as_json_that_eval_agrees_with(command: Command, text: Path) -> None:
    done = command("train", "text", text, "--out", "m.safetensors", "--json", *SMALL)
    figures = json.loads(done.out)
    assert figures["baselines_nats"]["5-gram"] < figures["baselines_nats"]["unigram"]
    again = json.loads(command("eval", "m.safetensors", "--json").out)
    assert again["state_carried"] == figures["held_out"]


def test_a_text_named_to_be_held_out_is_what_eval_measures_on(
    command: Command, text: Path, tmp_path: Path
) -> None:
    (tmp_path / "valid.txt").write_text(WORDS * 3)
    done = command("train", "text", text, "--held-out", "valid.txt", "--out", "m.safetensors", "--json", *SMALL)
    figures = json.loads(done.out)
    assert figures["held_out"]["count"] == len(WORDS * 3) - 1
    again = json.loads(command("eval", "m.safetensors", "--json").out)
    assert again["state_carried"] == figures["held_out"]
    assert again == json.loads(command("eval", "m.safetensors", "valid.txt", "--json").out)


def test_where_bfloat16_is_slow_a_run_says_that_it_is_in_float32(
    command: Command, text: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []
    for dtype in (torch.float32, torch.bfloat16):
        monkeypatch.setattr("unrolled.loop.quickest", lambda device, dtype=dtype: dtype)
        out = f"{dtype}.safetensors"
        done = command("train", "text", text, "--precision", "bfloat16", "--out", out, *SMALL)
        said.append("this processor multiplies float32 faster, and so does this run" in " ".join(done.err.split()))
    assert said == [True, False]


def test_what_is_trained_on_is_not_held_out(command: Command, text: Path, tmp_path: Path) -> None:
    for name in (str(text), os.path.join(tmp_path, ".", text.name)):
        done = command("train", "text", text, "--held-out", name, "--out", "m.safetensors", *SMALL)
        refused(done, "which is DATA, too; expected what is not trained on")


def test_what_is_in_a_folder_that_is_trained_on_is_not_held_out(
    command: Command, text: Path, tmp_path: Path
) -> None:
    folder, rest = tmp_path / "data", ["--out", "m.safetensors", *SMALL]
    (folder / "valid").mkdir(parents=True)
    (folder / "a.txt").write_text(WORDS * 40)
    for name in ("b.md", "valid/b.txt"):
        (folder / name).write_text(WORDS * 3)
    (tmp_path / "linked.txt").symlink_to(folder / "a.txt")
    for data, held_out in (("data", "data/a.txt"), ("data", "linked.txt"), ("data/a.txt", "data")):
        done = command("train", "text", data, text, "--held-out", held_out, *rest)
        refused(done, f"--held-out is '{held_out if held_out != 'data' else 'data/a.txt'}', which is DATA, too;")
    for not_read in ("data/b.md", "data/valid"):
        assert command("train", "text", "data", "--held-out", not_read, *rest).status == 0


def test_a_file_is_data_once_unless_other_data_are_held_out(command: Command, text: Path, tmp_path: Path) -> None:
    for again in (text, tmp_path):
        done = command("train", "text", text, again, "--out", "m", *SMALL)
        refused(done, "DATA has", "text.txt' twice", "expected each file once, or --held-out")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.txt").write_text(WORDS * 20)
    assert command("train", "text", text, text, "--held-out", "other", "--out", "m", *SMALL).status == 0
    (tmp_path / "other" / "a.txt").write_text("".join(f"word {n}\n" for n in range(40)))
    both = ["other/a.txt"] * 2
    options = ["--steps", "2", "--hidden", "4", "--embedding", "4", "--batch", "4"]
    assert command("train", "translate", *both, "--out", "copy", *options).status == 0


@pytest.mark.parametrize(
    ("task", "name", "content"),
    [
        ("label", "a.csv", "x,label\n1,up\n2,down\n"),
        ("speech", "a.tsv", "file\ttext\na.wav\tone\n"),
        ("caption", "captions.txt", "image,caption\na.png,grey\n"),
    ],
)
def test_a_folder_and_its_file_are_not_held_out_from_each_other(
    command: Command, tmp_path: Path, task: str, name: str, content: str
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text(content)
    (tmp_path / "other").symlink_to(tmp_path / "data")
    held_out = "other" if task == "caption" else f"data/{name}"
    done = command("train", task, "data", "--held-out", held_out, "--out", "m")
    refused(done, "which is DATA, too; expected what is not trained on")


@pytest.mark.parametrize("level", ["byte", "word", "bpe"])
@pytest.mark.parametrize("cell", ["rnn", "gru"])
def test_every_level_and_cell_trains_evaluates_and_samples(
    command: Command, text: Path, level: str, cell: str
) -> None:
    options = ["--level", level, "--cell", cell, "--layers", "2", "--dropout", "0.1", "--vocab-size", "300"]
    if level == "byte":
        options = options[:-2]
    assert command("train", "text", text, "--out", "m.safetensors", *options, *SMALL).status == 0
    assert json.loads(command("eval", "m.safetensors", "--json").out)["state_carried"]["count"] > 50
    done = command("sample", "m.safetensors", "--prompt", "the clouds", "--length", "10")
    assert done.out.startswith("the clouds")
    assert json.loads(command("info", "m.safetensors", "--json").out)["training"]["level"] == level


def test_the_command_line_wins_over_the_config(command: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("hidden = 16\nlayers = 2\nembedding = 4\nbatch = 4\nchunk = 8\nsteps = 3\n")
    done = command(
        "train", "text", text, "--out", "m.safetensors", "--config", "c.toml", "--hidden", "8", "--json"
    )
    assert done.status == 0
    architecture = modelfile.read(tmp_path / "m.safetensors").architecture
    assert (architecture.hidden, architecture.layers) == (8, 2)


def test_an_unknown_key_in_the_config_names_the_nearest(command: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("hiden = 16\n")
    done = command("train", "text", text, "--out", "m.safetensors", "--config", "c.toml")
    refused(done, "c.toml", "'hiden'", "'hidden'")


def test_sample_is_the_same_for_a_seed_and_equals_the_library(command: Command, model: Path) -> None:
    done = command("sample", model, "--prompt", "the ", "--length", "30", "--seed", "7")
    expected = "".join(unrolled.load(model).sample("the ", 30, seed=7))
    assert done.out == f"the {expected}\n"


def test_eval_of_a_file_shows_both_ways_of_scoring(command: Command, model: Path, text: Path) -> None:
    done = command("eval", model, text)
    assert "state carried" in done.out
    assert "windows of 64" in done.out
    assert f"{len(WORDS) * 40 - 1:,}" in done.out


def test_kernels_names_the_engine_and_its_instruction_set(command: Command) -> None:
    figures = json.loads(command("kernels", "--json").out)
    served = {(row["op"], row["dtype"]): row for row in figures["kernels"] if row["device"] == "cpu"}
    assert served["unrolled::lstm", "float32"]["kernel"] == "engine"
    assert served["unrolled::lstm", "float32"]["isa"] == figures["isa"]
    assert served["unrolled::lstm", "float64"]["kernel"] == "reference"


def test_bad_texts_are_refused_in_one_sentence(command: Command, tmp_path: Path) -> None:
    def train_on(path: Path, *options: str) -> Done:
        return command("train", "text", path, "--out", "m.safetensors", *options)

    (tmp_path / "empty").write_text("")
    (tmp_path / "short").write_text("too short")
    (tmp_path / "latin").write_bytes(b"caf\xe9 " * 1000)
    refused(train_on(tmp_path / "missing"), "missing", "not")
    refused(train_on(tmp_path / "empty"), "empty")
    refused(train_on(tmp_path / "short"), "short", "8 symbols", "at least 1,701")
    refused(train_on(tmp_path / "latin"), "latin", "offset 3")
    refused(train_on(tmp_path), str(tmp_path))
    assert not (tmp_path / "m.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--cell", "lsmt"], ["'lsmt'", "did you mean 'lstm'"]),
        (["--level", "chars"], ["'chars'", "char, byte, word, bpe"]),
        (["--split", "1.5"], ["split", "1.5", "less than 1"]),
        (
            ["--split", "0.8", "--held-out", "v.txt"],
            ["command line: split is 0.8 and held_out is 'v.txt', expected one of the two."],
        ),
        (["--hidden", "0"], ["hidden", "at least 1"]),
        (["--layers", "1001"], ["layers", "1001", "less than 1001"]),
        (["--lr", "0"], ["lr", "more than 0"]),
        (["--minutes", "-1"], ["minutes", "more than 0"]),
        (["--dropout", "1"], ["dropout", "less than 1"]),
        (["--config", "missing.toml"], ["missing.toml"]),
        (["--resume"], ["no interrupted run"]),
        (["--out", "missing/folder/m.safetensors"], ["missing/folder"]),
    ],
)
def test_bad_options_are_refused_in_one_sentence(
    command: Command, text: Path, options: list[str], parts: list[str]
) -> None:
    refused(
        command("train", "text", text, "--out", "m.safetensors", "--batch", "4", "--chunk", "8", *options), *parts
    )


def test_bad_models_prompts_and_numbers_are_refused_in_one_sentence(
    command: Command, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut").write_bytes(model.read_bytes()[:1000])
    refused(command("sample", tmp_path / "missing"), "missing", "does not exist")
    refused(command("info", tmp_path / "cut"), "cut", "damaged")
    refused(command("sample", model, "--prompt", "the §"), "§", "line 1, column 5")
    refused(command("sample", model, "--temperature", "-1"), "temperature", "-1")
    refused(command("sample", model, "--top-p", "0"), "top_p", "0")
    (tmp_path / "other.txt").write_text("the clouds\nare §")
    refused(command("eval", model, tmp_path / "other.txt"), "other.txt, line 2, column 5", "§")


def test_eval_without_a_file_is_refused_when_the_text_has_changed(
    command: Command, model: Path, text: Path
) -> None:
    text.write_text(text.read_text() + "sky")
    refused(command("eval", model), "not the text that the model was trained on")


def test_an_unknown_command_or_option_exits_with_2(command: Command, model: Path) -> None:
    assert command("trian").status == 2
    assert command("info", model, "--jsn").status == 2


def test_a_prompt_on_standard_input_is_read_as_that_of_a_file(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--length", "10", "--prompt"]
    expected = command("sample", model, *options, "the clouds").out
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("\ufeffthe clouds".encode())))
    assert command("sample", model, *options, "-").out == expected
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"the \xff")))
    refused(command("sample", model, *options, "-"), "standard input: byte 0xFF at offset 4 of it is not UTF-8")


@pytest.mark.parametrize("words", [("stream",), ("run", "-"), ("sample", "--prompt", "-")])
def test_standard_input_that_is_closed_is_told(
    command: Command, model: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    refused(command(words[0], model, *words[1:]), "standard input is closed, expected something to read")


def test_run_names_the_file_of_a_character_that_a_model_does_not_know(
    command: Command, model: Path, tmp_path: Path
) -> None:
    (tmp_path / "crlf.txt").write_bytes(b"the clouds\r\n")
    refused(
        command("run", model, "crlf.txt"), "crlf.txt, line 1, column 11: the character '\\r' (U+000D) is not one"
    )
    refused(command("run", model, "the\r"), "the text, line 1, column 4: the character '\\r' (U+000D) is not one")


def test_ctrl_c_while_the_program_is_loaded_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loading:
        def __getattr__(self, name: str) -> None:
            raise KeyboardInterrupt

    monkeypatch.setitem(sys.modules, "unrolled.cli", Loading())
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 130


def test_ctrl_c_before_a_command_runs_is_no_traceback(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "app", interrupted)
    assert command("--help") == Done(130, "", "")


def test_a_network_that_memory_does_not_hold_exits_with_1(command: Command, text: Path, tmp_path: Path) -> None:
    done = command("train", "text", text, "--out", "m", *SMALL, "--hidden", 10**12)
    assert (done.status, done.err.count("\n"), list(tmp_path.iterdir())) == (1, 1, [text])
    assert done.err.startswith("unrolled: there is not enough memory for this run")


def test_divergence_exits_with_1(command: Command, text: Path) -> None:
    done = command("train", "text", text, "--out", "m.safetensors", *SMALL, "--lr", "1e30")
    assert done.status == 1
    assert "diverged at step" in done.err.splitlines()[-1]


def test_ctrl_c_saves_and_resume_ends_as_if_nothing_had_happened(text: Path, tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "unrolled", "train", "text", str(text), *SMALL, "--steps", "200"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    subprocess.run([*arguments, "--out", whole], check=True, capture_output=True, env=environment)
    run = subprocess.Popen([*arguments, "--out", cut], stderr=subprocess.PIPE, text=True, env=environment)
    assert run.stderr
    run.stderr.readline()  # the first held-out line: training is under way
    run.send_signal(signal.SIGINT)
    assert "the same command with --resume goes on from it" in " ".join(run.stderr.read().split())
    assert run.wait() == 130
    assert checkpoint_path(cut).exists()
    again = [*arguments[:5], "--out", str(cut), "--resume"]  # the settings and the text are known
    subprocess.run(again, check=True, capture_output=True, env=environment)
    assert log_path(cut).read_bytes() == log_path(whole).read_bytes()


def interrupted_run(out: Path, data: Path, **options: str | int) -> None:
    """A run on the text `data`, stopped after its first step."""
    task = TextTask(TextOptions(hidden=8, embedding=4, batch=4, chunk=8, **options), [data])  # type: ignore[arg-type]
    run = train(task, TrainOptions(steps=20), out, paths=[data])
    next(run)
    run.close()


def test_an_interrupted_run_goes_on_from_any_folder(
    command: Command, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "valid.txt").write_text(WORDS * 3)
    (tmp_path / "a link").symlink_to(text)
    interrupted_run(tmp_path / "cut", Path(text.name), held_out="valid.txt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = ["../a link", "--held-out", f"../../{tmp_path.name}/valid.txt"]
    done = command("train", "text", *again, "--resume", "--out", "../cut")
    assert done.status == 0 and f"The model is {tmp_path / 'cut'}." in done.out
    assert Path.cwd() == elsewhere
    training = modelfile.read(tmp_path / "cut").training
    assert (training["names"], training["held_out"]) == (["text.txt"], "valid.txt")
    assert training["folder"] == str(tmp_path)


def test_data_of_an_interrupted_run_may_have_moved(command: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(WORDS * 3)
    interrupted_run(tmp_path / "cut", Path(text.name), held_out="valid.txt")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("text.txt", "valid.txt"):
        (tmp_path / name).rename(elsewhere / name)
    refused(
        command("train", "text", "--resume", "--out", "cut"),
        f"text.txt, of the interrupted run, is not in {tmp_path}; go to the folder that has it, or name it "
        "again, where it is now.",
    )
    again = ["train", "text", "elsewhere/text.txt", "--resume", "--out", "cut", "--held-out"]
    refused(
        command(*again[:-1]), f"valid.txt, of the interrupted run, is not in {tmp_path}; go to the folder that"
    )
    (tmp_path / "other.txt").write_text(WORDS * 4)
    hashes = [corpus.fingerprint([path], "char")[:12] for path in ("elsewhere/valid.txt", "other.txt")]
    refused(
        command(*again, "other.txt"),
        f"cut.checkpoint was written with held_out_data '{hashes[0]}', but this run has held_out_data "
        f"'{hashes[1]}': other data, or a file that has changed since; expected the same, or that the file is "
        "removed to start anew.",
    )
    assert command(*again, "elsewhere/valid.txt").status == 0


def test_an_interrupted_run_may_move_with_its_data(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "valid.txt").write_text(WORDS * 3)
    (before / "text.txt").write_text(WORDS * 40)
    monkeypatch.chdir(before)
    interrupted_run(Path("cut"), Path("text.txt"), held_out="valid.txt")
    before.rename(after)
    monkeypatch.chdir(tmp_path)
    assert command("train", "text", "--resume", "--out", "after/cut").status == 0
    training = modelfile.read(after / "cut").training
    assert (training["names"], training["held_out"]) == (["text.txt"], "valid.txt")
    assert training["folder"] == str(after)


def test_a_model_that_was_there_is_kept(command: Command, model: Path, text: Path, tmp_path: Path) -> None:
    before = model.read_bytes()
    done = command("train", "text", text, *SMALL, "--seed", 1, "--out", model)
    previous = tmp_path / "model.safetensors.previous"
    assert "model.safetensors is there already" in " ".join(done.err.split())
    assert previous.read_bytes() == before and model.read_bytes() != before


def test_of_a_run_that_is_refused_nothing_else_is_said(command: Command, model: Path, text: Path) -> None:
    interrupted_run(model, text)
    again = command("train", "text", text, *SMALL, "--out", model)
    refused(again, "model.safetensors.checkpoint holds an interrupted run (step 1); resume it, or remove the file")


def test_the_name_of_a_model_is_printed_as_a_shell_takes_it(command: Command, text: Path) -> None:
    assert "unrolled eval 'a model'" in command("train", "text", text, *SMALL, "--out", "a model").out


def test_a_folder_is_no_place_for_a_model(command: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    refused(command("train", "text", text, *SMALL, "--out", "folder"), "folder is a folder, expected the name of")
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "text.txt"}


def test_examples_that_were_left_out_are_counted(command: Command, tmp_path: Path) -> None:
    for name, last in (("a", "1,x"), ("b", "2,y"), ("c", "3,x"), ("d", ",y")):
        (tmp_path / f"{name}.csv").write_text(f"number,label\n1,x\n2,y\n{last}\n")
    arguments = ["--steps", "2", "--hidden", "4", "--out", "m", "--skip-bad"]
    done = command("train", "label", *sorted(tmp_path.glob("*.csv")), *arguments)
    assert "Left out: 1 of the examples, which could not be used." in done.out
    refused(
        command("run", "m", tmp_path / "d.csv"),
        "d.csv, line 4, column 'number': nothing, expected a finite number;",
    )
    refused(
        command("train", "label", tmp_path / "a.csv", *arguments, "--ignore", "time"),
        "a.csv: no sequence that can be used",
        "a.csv has no column 'time', expected it among number, label",
    )


def test_an_experiment_that_cannot_begin_promises_no_results(command: Command) -> None:
    refused(command("gap", "adding", "--quick", "--plot", "a.gif"), "a.gif is of an unknown kind of picture")
    refused(command("gap", "adding", "--quick", "--cells", "ant"), "'ant' is not a cell")


def test_lists_that_are_given_twice_add_up(command: Command, tmp_path: Path) -> None:
    rows = [f"{n},{n % 7},{n % 5},{n % 2},{'xy'[n % 2]},{n // 5}" for n in range(20)]
    (tmp_path / "a.csv").write_text("\n".join(["when,a,b,c,label,who", *rows]))
    sizes = ["--sequence", "who", "--steps", "2", "--hidden", "3", "--hidden", "4", "--out", "m"]
    assert command("train", "label", "a.csv", *sizes, "--ignore", "when,a", "--ignore", "b").status == 0
    model = unrolled.load("m")
    assert (model.layout.ignore, model.layout.features) == (("when", "a", "b"), ("c",))
    assert model.file.architecture.hidden == 4
    refused(
        command("gap", "adding", "--out", "g", "--gaps", "50", "--gaps", "x"),
        "gaps are '50,x', expected whole numbers",
    )
    refused(command("gap", "adding", "--out", "g", "--cells", "ant", "--cells", "bee"), "'ant' is not a cell")
    (tmp_path / "s").write_text("eins\n" * 9)
    translated = command("train", "translate", "s", "s", "--held-out", "t", "--held-out", "s", "--out", "n")
    refused(translated, "--held-out is 's', which is DATA, too")


def test_pairs_that_were_left_out_are_counted(command: Command, tmp_path: Path) -> None:
    lines = [f"eins {number}\tone {number}" for number in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join([*lines, "no tab"]))
    sizes = ["--steps", "2", "--hidden", "4", "--embedding", "4"]
    done = command("train", "translate", "pairs.tsv", *sizes, "--out", "m", "--skip-bad")
    assert "Left out: 1 of the examples, which could not be used." in done.out


def test_choices_are_in_the_help(command: Command) -> None:
    shown = " ".join(command("train", "text", "--help").out.replace("│", " ").split())
    assert "What a symbol is. One of char, byte, word, bpe. default char" in shown
    shown = " ".join(command("run", "--help").out.replace("│", " ").split())
    assert "takes the best at every step. default 8, 5, 4" in shown


def test_no_name_in_a_table_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    cells = [f"lstm-layer_norm-zoneout0.1-proj0.{number}" for number in range(4)]
    print_tables(Evaluation({}, [Table(["gap", *cells], [["20", *cells]])]))
    assert "…" not in capsys.readouterr().out


def test_a_reader_that_has_had_enough_is_no_error(model: Path) -> None:
    program = f"{sys.executable} -m unrolled sample {model} --length 200000 | head -c 10"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) == 10


def test_a_picture_is_drawn_also_where_the_reader_has_had_enough(tmp_path: Path) -> None:
    modelfile.write(tmp_path / "model", label_file("numbers"))
    np.save(tmp_path / "long.npy", inputs_for("numbers", 20000))  # more rows than a pipe holds
    run = f"{sys.executable} -m unrolled run model long.npy --every --plot all.svg"
    program = f"{run} | head -n 1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "# long.npy\n", "")
    assert "svg" in (tmp_path / "all.svg").read_text()


def test_what_run_draws_does_not_take_the_place_of_what_it_reads(command: Command, tmp_path: Path) -> None:
    modelfile.write(tmp_path / "model", label_file("films"))
    for name, option in (("film.mp4", "--video"), ("picture.png", "--attention"), ("picture.png", "--plot")):
        (tmp_path / name).write_bytes(b"mine")
        done = command("run", "model", name, option, tmp_path / name)
        refused(done, f"{option} ", f"{name} is the INPUT itself, expected another file to write")
        assert (tmp_path / name).read_bytes() == b"mine"


def test_a_bad_value_is_blamed_on_where_it_stands(command: Command, text: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("hidden = 16\n")
    refused(command("train", "text", text, "--out", "m", "--config", "c.toml", "--lr", "-1"), "command line: lr")
    refused(command("train", "text", text, "--out", "m", "--lr", "inf"), "lr is inf, expected a finite number")
    refused(command("train", "text", text, "--out", "."), "--out", "name of a file")
    refused(command("train", "text", text, "--out", "m", "--seed", str(2**63)), "seed", "less than")


def test_an_unknown_instruction_set_is_refused(model: Path) -> None:
    arguments = [sys.executable, "-m", "unrolled", "info", str(model)]
    done = subprocess.run(arguments, env=os.environ | {"UNROLLED_ISA": "sse9"}, capture_output=True, text=True)
    refused(Done(done.returncode, done.stdout, done.stderr), "'sse9' is not one this machine runs")


def test_run_lets_a_text_model_write_on_from_each_input(command: Command, model: Path) -> None:
    options = ["--length", "9", "--temperature", "0"]
    first, second = (json.loads(command("run", model, word, *options, "--json").out) for word in ("the", "sky"))
    assert first["prompt"] == "the" and len(first["text"]) == 9
    done = command("run", model, "the", "sky", *options)
    assert done.out == f"the{first['text']}\nsky{second['text']}\n"


def test_run_reads_files_and_standard_input(
    command: Command, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--length", "9", "--temperature", "0"]
    expected = command("run", model, "the clouds", *options).out
    (tmp_path / "prompt.txt").write_bytes("\ufeffthe clouds".encode())
    assert command("run", model, "prompt.txt", *options).out == expected
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(b"the clouds")))
    assert command("run", model, "-", *options).out == expected
    refused(command("run", model, "promt.txt"), "promt.txt: there is no such file")


def test_an_option_of_another_value_than_run_takes_is_refused(command: Command, model: Path) -> None:
    refused(
        command("run", model, "the", "--temperature", "-1"), "a text model", "temperature is -1.0", "at least 0"
    )


def test_info_shows_the_data_and_the_weights_sum_whole(command: Command, text: Path) -> None:
    long = text.rename(text.parent / f"{'a' * 90}.txt")
    command("train", "text", long, "--minutes", "0.01", "--out", "m.safetensors", *SMALL[:-2])
    found = json.loads(command("info", "m.safetensors", "--json").out)
    shown = command("info", "m.safetensors").out
    whole = "".join(shown.replace("│", " ").split())
    assert found["weights_sha256"] in whole and str(long) in whole
    assert "training minutes" in shown and "training steps " not in shown  # the minutes chose how many


def test_info_of_a_label_model_says_what_it_reads_and_which_events_it_names(
    command: Command, tmp_path: Path
) -> None:
    rows = [f"{who},{step},1,{label}" for who in range(4) for step, label in enumerate(("up", "down"))]
    (tmp_path / "a.csv").write_text("\n".join(['who,x,"y, m",event', *rows]))
    options = ["--sequence", "who", "--label", "event", "--steps", "2", "--hidden", "4", "--out", "m"]
    trained = command("train", "label", "a.csv", *options)
    assert "trained on" in trained.out and "held out" in trained.out and "columns" in trained.out
    reads = json.loads(command("info", "m", "--json").out)["reads"]
    assert reads == {
        "columns": ["x", "y, m"],
        "label": "event",
        "sequence": "who",
        "events": ["down", "up"],
        "missing": "refuse",
    }
    lines = [" ".join(line.replace("│", " ").split()) for line in command("info", "m").out.splitlines()]
    assert {'reads columns x, "y, m"', "reads label event", "reads sequence who", "reads events down, up"} <= set(
        lines
    )
    idle = (
        "training fps",
        "training side",
        "training background",
        "training word_dropout",
        "architecture spelling",
    )
    assert not any(line.startswith(idle) for line in lines) and "training scale each" in lines
    assert "training missing refuse" in lines and not any(line.endswith("None") for line in lines)
    refused(command("eval", "m", ""), "DATA is empty, expected the name of a file or a folder")
    refused(command("run", "m", ""), "the INPUT is empty, expected a file's name")


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["info", ""], "MODEL"),
        (["serve", ""], "MODEL"),
        (["stream", "m", "--state", ""], "--state"),
        (["train", "text", "--out", ""], "--out"),
        (["remember", "m", "--plot", ""], "--plot"),
    ],
)
def test_an_empty_name_of_a_file_is_not_taken_for_the_folder(
    command: Command, arguments: list[str], name: str
) -> None:
    done = command(*arguments)
    assert (done.status, done.out) == (2, "")
    assert f"Invalid value for '{name}': it is empty, expected the name of a file." in done.err


def test_a_full_disk_for_temporary_files_is_said(text: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unrolled", "train", "text", str(text), *SMALL, "--out", str(tmp_path / "m")]
    limited = ["bash", "-c", 'ulimit -f 1; exec "$@"', "bash", *command]  # the text has two kilobytes
    done = subprocess.run(limited, capture_output=True, text=True)
    said = "unrolled: a temporary file could not be written: File too large; TMPDIR may name another folder.\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
    assert list(tmp_path.iterdir()) == [text]
