"""Numbers that are missing: refused, or held as they were before, in training, in files and in streams alike."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from programs import Command
from servers import serving
from small import label_file
from test_label import as_tensors, untrained
from tolerances import assert_close
from unrolled import Stream, modelfile
from unrolled.client import Client
from unrolled.errors import InputError
from unrolled.pool import StreamPool
from unrolled.sequences.numbers import held
from unrolled.tasks.label import LabelModel, LabelOptions, LabelTask

NAN = float("nan")
INPUTS = np.array([[NAN, 1, 2], [3, NAN, NAN], [NAN, NAN, 4], [5, 6, NAN]], np.float32)
# As they are read; at first it is the mean, which every model has its own of.
HELD = np.array([[0, 1, 2], [3, 1, 2], [3, 1, 4], [5, 6, 4]], np.float32)


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(0, 6), st.just(2)), elements=st.sampled_from([NAN, 1, 2, 3]))
)
def test_a_missing_number_is_the_last_that_was_there(numbers: Any) -> None:
    last = before = np.array([7, 8], np.float32)
    for row, found in zip(numbers, held(numbers, before), strict=True):
        last = np.where(np.isnan(row), last, row)
        assert np.array_equal(found, last)


def gaps_file(gaps: bool = True) -> Any:
    file = label_file("numbers")
    file.encoding["layout"]["missing"] = "hold" if gaps else "refuse"
    return file


def test_a_stream_holds_what_was_there_however_it_is_cut() -> None:
    file = gaps_file()
    filled = np.where(np.isnan(INPUTS[:1]), np.array(file.encoding["mean"], np.float32), INPUTS[:1])
    filled = np.concatenate([filled, HELD[1:]])
    expected = Stream(LabelModel(gaps_file(gaps=False))).feed(filled)
    model = LabelModel(file)
    assert np.array_equal(Stream(model).feed(INPUTS), expected)
    stream = Stream(model)
    assert np.array_equal(np.stack([stream.step(row) for row in INPUTS]), expected)
    resumed = Stream(model)
    resumed.feed(INPUTS[:2])
    fresh = Stream(model)
    fresh.restore(resumed.snapshot())
    assert np.array_equal(fresh.feed(INPUTS[2:]), expected[2:])


def test_streams_of_a_pool_hold_each_its_own() -> None:
    model = LabelModel(gaps_file())
    pool = StreamPool(model, 2)
    one, other = pool.open(), pool.open()
    first, second = pool.feed([one, other], [INPUTS, INPUTS[1:]])
    assert np.array_equal(first, Stream(model).feed(INPUTS))
    assert np.array_equal(second, Stream(model).feed(INPUTS[1:]))


def tables(folder: Path, header: str = "x,y,label") -> Path:
    """Sequences whose event is the sign of x, with cells of all kinds that say nothing."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(8):
        rows = [header]
        for x, y in rng.normal(size=(20, 2)):
            nothing = rng.choice(["", "NA", "nan"])
            rows.append(f"{nothing if rng.random() < 0.3 else x:.3},{y:.3f},{'up' if x > 0 else 'down'}")
        (folder / f"{number}.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_model_is_trained_on_what_it_will_read(tmp_path: Path) -> None:
    options = LabelOptions(missing="hold", hidden=9, batch=4, split=0.75)
    task = LabelTask(options, [tables(tmp_path / "tables")], seed=1)
    numbers = np.concatenate([one.inputs for one in task.data.train])
    assert np.isnan(numbers[:, 0]).any() and not np.isnan(numbers[:, 1]).any()
    assert np.allclose(task._encoding["mean"], np.nanmean(numbers.astype(np.float64), 0))
    network, model = untrained(task)
    batch = as_tensors(task._gather([task._encoded(one) for one in task.data.held_out]))
    del batch["targets"]
    with torch.no_grad():
        alone, causal = network.logits(**batch)
    for row, one in enumerate(task.data.held_out):
        found = model._labeller.logits(one.inputs)
        assert_close(torch.from_numpy(found["alone"]), alone[: len(one.inputs), row])
        assert_close(torch.from_numpy(found["causal"]), causal[: len(one.inputs), row])
        assert np.array_equal(Stream(model).feed(one.inputs), found["causal"])
    assert [one.name for one in model.held_out()] == [one.name for one in task.data.held_out]


def test_without_it_an_empty_cell_is_refused_and_the_way_out_is_told(tmp_path: Path) -> None:
    folder = tables(tmp_path / "tables")
    with pytest.raises(
        InputError, match=r"line \d+, column 'x': .*, expected a finite number; training with --missing hold"
    ):
        LabelTask(LabelOptions(), [folder])
    np.savez(tmp_path / "a.npz", inputs=INPUTS, labels=np.arange(4) % 2)
    with pytest.raises(
        InputError, match="step 0, feature 0: nan, expected a finite number; training with --missing hold"
    ):
        LabelTask(LabelOptions(), [tmp_path / "a.npz"])
    with pytest.raises(InputError, match="a number is missing: expected a model trained with --missing hold"):
        Stream(LabelModel(gaps_file(gaps=False))).feed([[None, 1, 2]])


def test_a_column_without_any_number_is_refused(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.csv").write_text("x,y,label,z\n,1,a,\n,2,b,\n")
    reason = "column 'x' has no number, expected at least one; --ignore x,z leaves out what has no numbers"
    with pytest.raises(InputError, match=reason):
        LabelTask(LabelOptions(missing="hold"), [tmp_path])


def test_lines_and_requests_may_leave_numbers_out(tmp_path: Path) -> None:
    path = tmp_path / "numbers.safetensors"
    modelfile.write(path, gaps_file())
    expected = Stream(LabelModel(gaps_file())).read(INPUTS)
    command = [sys.executable, "-m", "unrolled", "stream", str(path), "--skip-bad"]
    lines = "\n".join([",1,2", "3,NA,nan", "1,inf,2", ", ,4", "5,6,null"])
    found = subprocess.run(command, input=lines, capture_output=True, text=True)
    assert found.stdout.split() == expected and "line 3" in found.stderr and "infinite" in found.stderr
    rows = [[None if np.isnan(number) else float(number) for number in row] for row in INPUTS]
    with serving(path, store=tmp_path / "streams.db") as server, Client(server.address) as client:
        answer = httpx.post(
            f"{server.address}/streams/{client.create(name='a').id}/feed", json={"at": 0, "inputs": rows}
        )
        assert answer.json()["said"] == expected
        assert np.array_equal(client.create().feed(rows), Stream(LabelModel(gaps_file())).feed(rows))


def sparse(path: Path) -> list[tuple[int, int, str]]:
    """Write a table of sequences in which every fourth step has an event, and every number tells its own."""
    rng = np.random.default_rng(3)
    numbers = [(who, step, int(rng.integers(2))) for who in range(12) for step in range(30)]
    rows = [(who, up, ("down", "up")[up] if step % 4 == 2 else " ") for who, step, up in numbers]
    path.write_text("\n".join(["who,x,label", *(f"s{who},{up},{event}" for who, up, event in rows)]) + "\n")
    return rows


def test_a_step_whose_event_is_not_known_counts_neither_in_training_nor_in_a_score(
    command: Command, tmp_path: Path
) -> None:
    rows = sparse(Path("a.csv"))
    settings = ["--sequence", "who", "--hidden", "16", "--steps", "200", "--dropout", "0", "--input-dropout", "0"]
    done = command("train", "label", "a.csv", *settings, "--out", "m.safetensors")
    assert "11 sequences, 330 steps, 77 of them with an event" in done.out
    figures = json.loads(command("eval", "m.safetensors", "--json").out)
    assert figures["causal"]["accuracy"] == 100 and np.sum(figures["confusion"]) == 7
    told = command("run", "m.safetensors", "a.csv", "--every", "--plot", "a.svg").out.splitlines()
    events = [row.split(",")[1] for row in told if row[0].isdigit()]
    assert events == [("down", "up")[number] for _, number, _ in rows]


def test_pieces_and_stretched_sequences_have_a_step_with_an_event(tmp_path: Path) -> None:
    labels: list[Any] = [None] * 30
    labels[3], labels[20] = "a", "b"
    pairs = [("x,label", *(f"{step},{label or ''}" for step, label in enumerate(labels)))] * 2
    for name, rows in zip(("a.csv", "b.csv"), pairs, strict=True):
        (tmp_path / name).write_text("\n".join(rows) + "\n")
    options = LabelOptions(window=4, stretch=3.0)
    task = LabelTask(options, [tmp_path / "a.csv", tmp_path / "b.csv"])
    drawn = [task._piece(task.data.train[0], np.random.default_rng(draw))[1] for draw in range(200)]
    assert all((targets >= 0).any() for targets in drawn)
    assert {int(targets.max()) for targets in drawn} == {0, 1}
