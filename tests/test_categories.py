"""Columns of names: each name a number of its own, in tables, in streams and in what a program gives."""

import json
import random
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

import unrolled
from programs import Command, refused
from servers import serving
from unrolled.client import Client, ServerError
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.recipe import TrainOptions
from unrolled.tasks.label import LabelModel, LabelOptions, LabelTask

OPTIONS = ["--sequence", "who", "--category", "mode, place", "--hidden", "16", "--steps", "150", "--dropout", "0"]


def table(path: Path, sequences: int = 40, steps: int = 50) -> Path:
    """Rows whose event is on where the mode was "run" at some step before, and does not depend on x."""
    draw = random.Random(3)
    lines = ["who,x,mode,place,label"]
    for number in range(sequences):
        event = "off"
        for _ in range(steps):
            mode = draw.choice(["idle", "run", "1", "stop, wait"])
            event = {"run": "on", "idle": "off"}.get(mode, event)
            lines.append(f's{number},{draw.random():.3f},"{mode}",{draw.choice([7, 8])},{event}')
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    data = table(folder / "a.csv")
    run(
        "train",
        "label",
        data,
        *OPTIONS,
        "--input-dropout",
        "0",
        "--missing",
        "hold",
        "--out",
        folder / "m.safetensors",
    )
    return folder / "m.safetensors"


def run(*arguments: Any, given: bytes | None = None) -> str:
    command = [sys.executable, "-m", "unrolled", *map(str, arguments)]
    return subprocess.run(command, check=True, input=given, stdout=subprocess.PIPE).stdout.decode()


def test_names_are_what_a_model_learns_from(trained: Path) -> None:
    model: LabelModel = unrolled.load(trained)
    assert model.reads()["categories"] == {"mode": ["1", "idle", "run", "stop, wait"], "place": ["7", "8"]}
    assert model.file.architecture.inputs == 7
    assert model.file.encoding["mean"][1:] == [0.0] * 6 and model.file.encoding["deviation"][1:] == [1.0] * 6
    assert model.evaluate().figures["causal"]["accuracy"] > 95


def test_a_common_scale_is_of_numbers_alone(tmp_path: Path) -> None:
    options = LabelOptions(sequence="who", category="mode,place", scale="common")
    task = LabelTask(options, [table(tmp_path / "a.csv", sequences=4)])
    x = np.concatenate([one.inputs[:, 0] for one in task.data.train])
    assert task._encoding["deviation"] == pytest.approx([x.std(), *[1.0] * 6])


def test_names_in_a_table_in_a_live_stream_and_in_a_program_are_the_same(tmp_path: Path, trained: Path) -> None:
    model: LabelModel = unrolled.load(trained)
    data = table(tmp_path / "new.csv", sequences=1)
    (series,) = model.read([data], Refused(), labelled=False)
    cells = [line.replace('"stop, wait"', "stop; wait").split(",") for line in data.read_text().splitlines()[1:]]
    rows = [[float(x), mode.replace(";", ",").strip('"'), int(place)] for _, x, mode, place, _ in cells]
    expected = model.stream().feed(series.inputs)
    for given in (rows, np.array(rows, object)):
        np.testing.assert_array_equal(model.stream().feed(given), expected)
    live = [json.loads(line) for line in run("stream", trained, "--json", given=data.read_bytes()).splitlines()]
    assert [one["event"] for one in live] == model.label(series.inputs)
    bare = "\n".join(f'{x},"{mode}",{place}' for x, mode, place in rows) + "\n"
    assert run("stream", trained, given=bare.encode()).splitlines() == model.label(rows)


def test_names_in_a_program_may_be_read_from_both_sides(tmp_path: Path) -> None:
    options = LabelOptions(sequence="who", category="mode,place", bidirectional=True)
    task = LabelTask(options, [table(tmp_path / "a.csv", sequences=4)])
    tensors = {name: value.numpy() for name, value in task.build().state_dict().items()}
    model = LabelModel(task.describe(tensors, asdict(TrainOptions())))
    said = model.probabilities([[0.5, "run", "7"], [0.25, "stop, wait", 8]], offline=True)
    numbers = np.array([[0.5, 0, 0, 1, 0, 1, 0], [0.25, 0, 0, 0, 1, 0, 1]], np.float32)
    assert np.array_equal(said, model.probabilities(numbers, offline=True))


def test_a_server_reads_names_too(tmp_path: Path, trained: Path) -> None:
    rows = [[0.5, "run", "7"], [0.1, None, 8], [None, "stop, wait", "8"]]
    here = unrolled.load(trained).stream()
    with serving(trained, store=tmp_path / "streams.db") as server, Client(server.address) as client:
        there = client.create("m")
        np.testing.assert_array_equal(there.feed(rows), here.feed(rows))
        assert there.read(rows) == here.read(rows)
        with pytest.raises(ServerError, match=r"inputs\[0\], mode: 'walk' is not known"):
            there.feed([[0.5, "walk", "7"]])


def test_a_name_that_is_missing_is_held(trained: Path) -> None:
    stream, other = (unrolled.load(trained).stream() for _ in range(2))
    given = stream.feed([[0.5, "run", "7"], [0.5, float("nan"), ""], [None, "idle", None]])
    held = other.feed([[0.5, "run", "7"], [0.5, "run", "7"], [0.5, "idle", "7"]])
    np.testing.assert_array_equal(given, held)
    lines = run("stream", trained, "--json", given=b"0.5,run,7\n0.5,,\n,idle,7\n").splitlines()
    assert [json.loads(line)["position"] for line in lines] == [1, 2, 3]


def test_names_of_a_parquet_file_are_what_a_program_has_there(command: Command, tmp_path: Path) -> None:
    columns = {"open": [True, False] * 20, "mode": [1.0, 2.0, 3.0, 4.0] * 10, "label": ["yes", "no"] * 20}
    pyarrow.parquet.write_table(pyarrow.table(columns | {"who": [*range(4)] * 10}), tmp_path / "a.parquet")
    names = ["--sequence", "who", "--category", "open,mode", "--steps", "1", "--out", "m.safetensors"]
    command("train", "label", "a.parquet", *names)
    model: LabelModel = unrolled.load("m.safetensors")
    assert model.reads()["categories"] == {"open": ["false", "true"], "mode": ["1", "2", "3", "4"]}
    written = model.stream().feed([["true", "3"], ["false", "4"]])
    np.testing.assert_array_equal(model.stream().feed([[True, 3.0], [False, 4]]), written)


def test_a_row_of_names_alone_is_no_heading(trained: Path) -> None:
    whole = run("stream", trained, "--json", given=b"x,mode,place\n,run,\n0.5,idle,7\n")
    assert run("stream", trained, "--json", given=b",run,\n0.5,idle,7\n") == whole


def test_a_name_that_training_did_not_have_is_refused_with_its_place(tmp_path: Path, trained: Path) -> None:
    model: LabelModel = unrolled.load(trained)
    with pytest.raises(InputError, match=r"inputs\[1\], mode: 'walk' is not known, expected one of 1, idle, run"):
        model.stream().feed([[0.5, "run", "7"], [0.5, "walk", "7"]])
    for row in ([0.5, "run"], [0.5, "run", "7", 1]):
        with pytest.raises(InputError, match=rf"inputs\[0\] has {len(row)} cells, expected 3: x, mode, place"):
            model.stream().feed([row])
    for given in (None, 5, [0.5, 0.1]):
        with pytest.raises(InputError, match=r"inputs: expected rows of 3 cells: x, mode, place"):
            model.stream().feed(given)
    (tmp_path / "new.csv").write_text("who,x,mode,place\na,1,run,7\na,1,walk,7\n")
    with pytest.raises(
        InputError, match=r"new.csv, line 3, column 'mode': 'walk' is not known, expected one of 1"
    ):
        list(model.run([str(tmp_path / "new.csv")], model.RunOptions()))
    process = subprocess.run(
        [sys.executable, "-m", "unrolled", "stream", trained],
        input=b"0.5,run,7\n0.5,walk,7\n",
        capture_output=True,
    )
    assert process.returncode == 2 and process.stdout.count(b"\n") == 1
    assert b"line 2: inputs[0], mode: 'walk' is not known" in process.stderr


def test_a_table_that_is_left_out_is_counted_once(command: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("who,x,mode,place,label\n")
    data = ["train", "label", table(tmp_path / "a.csv", sequences=4), "bad.csv", "--skip-bad", "--steps", "1"]
    done = command(*data, "--sequence", "who", "--category", "mode,place", "--json", "--out", "m.safetensors")
    assert json.loads(done.out)["left_out"] == 1


def test_what_cannot_be_a_column_of_names_is_said(command: Command, tmp_path: Path) -> None:
    data, out = table(tmp_path / "a.csv", sequences=4), ["--out", "m.safetensors"]
    of_table = ["train", "label", data, "--sequence", "who", *out]
    ways = "; --ignore mode leaves out the column, --category mode takes it for names"
    refused(command(*of_table, "--ignore", "place"), "column 'mode'", ways)
    for other, use in (("who", "sequence"), ("label", "label"), ("place", "ignore")):
        expected = f"--category names {other!r}, as does --{use}; expected one of them to do so"
        refused(command(*of_table, "--ignore", "place", "--category", f"mode,{other}"), expected)
    expected = "a.csv has no column 'colour', expected it among who, x, mode, place, label"
    refused(command(*of_table, "--category", "mode,colour"), expected)
    data.write_text("who,x,mode,label\na,1,,up\na,2,run,down\nb,1,idle,up\n")
    expected = "a.csv, line 2, column 'mode': nothing, expected a name; training with --missing hold"
    refused(command(*of_table, "--category", "mode"), expected)
    data.write_text("who,x,mode,label\na,1,NA,up\na,2,run,down\nb,1,idle,up\n")
    refused(command(*of_table, "--category", "mode"), "a.csv, line 2, column 'mode': 'NA', expected a name")
    data.write_text("who,mode,label\n" + "".join(f"{row % 9},{row},a\n" for row in range(1001)))
    expected = "a.csv: column 'mode' has 1,001 different names, expected at most 1,000 for --category"
    refused(command(*of_table, "--category", "mode"), expected)
    np.savez(tmp_path / "a.npz", inputs=np.zeros((2, 3)), labels=np.array([0, 1]))
    expected = "a.npz has no columns with names, expected a table for --category"
    refused(command("train", "label", tmp_path / "a.npz", "--category", "mode", *out), expected)
