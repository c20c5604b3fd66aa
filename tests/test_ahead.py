"""Events named before they come."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from torch.testing import assert_close

from programs import Command, refused
from test_label import as_tensors, untrained
from unrolled import load
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.tasks.label import LabelOptions, LabelTask


def test_a_model_may_name_the_event_that_comes_some_steps_later(command: Command, tmp_path: Path) -> None:
    draw = random.Random(5)
    lines = ["who,x,label"]
    for who in range(30):
        xs = [draw.random() for _ in range(40)]
        lines += [
            f"s{who},{x:.4f},{'up' if step > 2 and xs[step - 3] > 0.5 else 'down'}" for step, x in enumerate(xs)
        ]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    plain = ["--sequence", "who", "--hidden", "16", "--steps", "200", "--dropout", "0", "--input-dropout", "0"]
    done = command("train", "label", "a.csv", *plain, "--ahead", "3", "--json", "--out", "m.safetensors")
    figures = json.loads(done.out)
    assert figures["alone"]["accuracy"] > 95  # for what comes three steps later is told by the step itself
    assert figures["reads"]["ahead"] == 3
    model = load("m.safetensors")
    assert model.evaluate().figures["alone"] == figures["alone"]
    (first, *_) = model.read(["a.csv"], Refused())
    events = [line.split(",")[2] for line in lines[1:41]]
    assert first.labels == [*events[3:], None, None, None]
    refused(command("train", "label", "a.csv", *plain, "--ahead", "40", "--out", "n.safetensors"),
            "a.csv: no step has an event 40 steps ahead, expected at least two")  # fmt: skip
    refused(command("train", "label", "a.csv", *plain, "--ahead", str(10**15), "--out", "n.safetensors"),
            "a.csv: no step has an event 1,000,000,000,000,000 steps ahead")  # fmt: skip
    (tmp_path / "unknown.csv").write_text("who,x\na,1\na,0\n")
    assert command("run", "m.safetensors", "unknown.csv").out.startswith("# unknown.csv, a\n")
    with (tmp_path / "b.csv").open("w") as file:
        file.write("who,x,label\n" + "a,1,up\n" * 5 + "a,1,left\n")
    refused(
        command("eval", "m.safetensors", "b.csv"), "b.csv, line 7, column 'label': the event 'left' is not known"
    )


def written(path: Path, lengths: dict[str, int]) -> Path:
    """Sequences of these lengths, with events by turns."""
    rows = [f"{who},{step},{'ab'[step % 2]}" for who, length in lengths.items() for step in range(length)]
    path.write_text("\n".join(["who,x,label", *rows]) + "\n")
    return path


def test_sequences_shorter_than_what_is_ahead_are_left_out(tmp_path: Path) -> None:
    short = {f"short{length}": length for length in range(1, 6)}
    data = written(tmp_path / "a.csv", short | {f"long{length}": length for length in range(6, 16)})
    found = LabelTask(LabelOptions(sequence="who", ahead=5, split=0.5), [data]).data
    assert sorted(len(one.inputs) for one in (*found.train, *found.held_out)) == [*range(6, 16)]
    options = LabelOptions(sequence="who", ahead=5, held_out=str(written(tmp_path / "b.csv", short)))
    with pytest.raises(InputError, match="nothing is left to hold out"):
        LabelTask(options, [data])


def test_every_piece_has_an_event(tmp_path: Path) -> None:
    data = written(tmp_path / "a.csv", {"one": 12, "other": 12})
    task = LabelTask(LabelOptions(sequence="who", ahead=8, window=3, batch=1), [data])
    first = {int((task.batch(step)["targets"] >= 0).sum()) for step in range(40)}
    assert first == {1, 2, 3}
    (tmp_path / "last").mkdir()
    np.savez(tmp_path / "last" / "a.npz", inputs=np.zeros((4, 12, 1)), labels=np.array([0, 1, 0, 1]))
    task = LabelTask(LabelOptions(window=3, batch=1), [tmp_path / "last"])
    assert all(int((task.batch(step)["targets"] >= 0).sum()) == 1 for step in range(40))


def test_steps_without_an_event_have_no_weight(tmp_path: Path) -> None:
    data = written(tmp_path / "a.csv", {"one": 12, "other": 12})
    task = LabelTask(LabelOptions(sequence="who", ahead=5, balance=0.5, batch=1), [data])
    network, _ = untrained(task)
    network.eval()
    batch = as_tensors(task.batch(0))
    part = {name: value if name == "lengths" else value[:7] for name, value in batch.items()}
    assert_close(network(**batch)[0], network(**{**part, "lengths": batch["lengths"] - 5})[0])
