"""Events named before they come."""

import json
import random
from pathlib import Path

from programs import Command, refused
from unrolled import load
from unrolled.examples import Refused


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
    with (tmp_path / "b.csv").open("w") as file:
        file.write("who,x,label\n" + "a,1,up\n" * 5 + "a,1,left\n")
    refused(
        command("eval", "m.safetensors", "b.csv"), "b.csv, line 7, column 'label': the event 'left' is not known"
    )
