"""Layers in a process as programs make them: after a fork, in workers, from several threads, on one or two.

And commands in a process whose output has no place to go.
"""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from programs import python
from small import label_file
from unrolled import modelfile, nn

KINDS = ("RNN", "GRU", "LSTM")


def layer_of(kind: str) -> Any:
    torch.manual_seed(0)
    return getattr(nn, kind)(8, 96, num_layers=2)


def learned(layer: Any, rows: int) -> list[Tensor]:
    """Output and gradients of a step of training, with work enough for two threads."""
    y, _ = layer(torch.randn(30, rows, 8, generator=torch.Generator().manual_seed(rows)))
    return [y.detach(), *torch.autograd.grad(y.square().sum(), list(layer.parameters()))]


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """To the bit; by NumPy, because torch's own work on two threads never ends in a forked child."""
    return all(np.array_equal(x.numpy(), y.numpy()) for x, y in zip(a, b, strict=True))


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_has_the_same_bits_on_one_thread_and_on_two(kind: str) -> None:
    layer = layer_of(kind)
    for rows in (1, 3, 40):
        torch.set_num_threads(1)
        alone = learned(layer, rows)
        torch.set_num_threads(2)
        assert same(learned(layer, rows), alone)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("kind", KINDS)
def test_python_threads_share_a_layer(isa: str, kind: str) -> None:
    layer, counts = layer_of(kind), [1, 4, 13] * 5
    alone = {rows: learned(layer, rows) for rows in counts}
    with ThreadPoolExecutor(4) as pool:
        for rows, together in zip(counts, pool.map(partial(learned, layer), counts), strict=True):
            assert same(together, alone[rows])


FORK = """
import os, signal
import torch
from test_process import KINDS, layer_of, learned, same

torch.set_num_threads(2)
layers = [layer_of(kind) for kind in KINDS]
before = [learned(layer, 3) for layer in layers]
assert len(os.listdir("/proc/self/task")) > 1, "the parent has workers"
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if all(same(learned(layer, 3), expected) for layer, expected in zip(layers, before)) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_layers_train_in_a_forked_child() -> None:
    # The parent's worker threads do not exist in the child: a kernel that waits for them never returns.
    result = python(FORK, OMP_NUM_THREADS="2")
    assert (result.stdout, result.stderr) == ("0\n", "")


DAEMON = """
import threading, time
import numpy as np
from unrolled import nn

stepper, x, y = nn.LSTM(512, 512).stepper(), np.zeros((1, 512), np.float32), np.zeros((1, 512), np.float32)

def step():
    while True:
        stepper.step(x, out=y)

threading.Thread(target=step, daemon=True).start()
time.sleep(0.05)
"""


def test_a_process_ends_while_a_daemon_thread_steps() -> None:
    # The lock of the interpreter, which the thread wants back after each step, is gone then.
    result = python(DAEMON)
    assert (result.returncode, result.stderr) == (0, "")


class Encoded(Dataset[Tensor]):
    """Examples that a layer makes in the worker that loads them."""

    def __init__(self, kind: str) -> None:
        self.layer = layer_of(kind).requires_grad_(False)

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Tensor:
        x = torch.randn(30, 3, 8, generator=torch.Generator().manual_seed(index))
        y: Tensor = self.layer(x)[0]
        return y


@pytest.mark.parametrize("kind", KINDS)
def test_layers_run_in_a_data_loaders_workers(kind: str) -> None:
    examples = Encoded(kind)
    here = [
        examples[index] for index in range(len(examples))
    ]  # the engine's threads run before workers are forked
    loader = DataLoader(examples, batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60)
    assert same(list(loader), here)


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("command", ["run {} abc", "eval {} {text}", "info {} --json", "stream {}", "--help"])
def test_output_that_cannot_be_written_is_a_sentence(
    model_path: Path, tmp_path: Path, command: str, buffered: bool
) -> None:
    done = to("/dev/full", command, model_path, tmp_path, buffered)
    assert done == (1, "unrolled: standard output: No space left on device.\n")


@pytest.mark.parametrize("command", ["run {} abc", "eval {} {text}", "info {} --json"])
def test_a_reader_that_has_gone_away_is_told_nothing(model_path: Path, tmp_path: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    status, said = to(writing, command, model_path, tmp_path)
    assert status in (1, -signal.SIGPIPE) and said == ""


def test_a_sentence_about_the_input_is_said_although_there_is_no_output(tmp_path: Path) -> None:
    status, said = to("/dev/full", "info {}", tmp_path / "none", tmp_path)
    assert status == 2 and said.endswith(
        "none does not exist; expected a model file written by `unrolled train`.\n"
    )


def test_a_character_that_standard_output_has_not_is_a_sentence(tmp_path: Path) -> None:
    modelfile.write(tmp_path / "model", label_file("words"))
    arguments = [sys.executable, "-m", "unrolled", "run", str(tmp_path / "model"), "caf\xe9", "the \u732b"]
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(arguments, env=environment, capture_output=True)
    assert (done.returncode, done.stdout.count(b"caf\xe9/"), done.stdout.count(b"\n")) == (1, 1, 1)
    assert done.stderr.decode("latin-1") == (
        "unrolled: standard output: latin-1 has no '\\u732b'; PYTHONIOENCODING=utf-8 makes it UTF-8.\n"
    )


def test_closed_output_is_a_sentence(model_path: Path) -> None:
    program = f"exec {sys.executable} -m unrolled info {model_path} >&-"
    done = subprocess.run(["bash", "-c", program], stderr=subprocess.PIPE, text=True)
    said = "unrolled: standard output is closed, expected a place for what is printed.\n"
    assert (done.returncode, done.stderr) == (1, said)


@pytest.mark.parametrize("target", ["2>/dev/full", "2>&-"])
@pytest.mark.parametrize(("arguments", "status"), [("info none", 2), ("info --none", 2), ("kernels --json", 0)])
def test_what_cannot_be_said_changes_no_status_and_no_output(arguments: str, status: int, target: str) -> None:
    program = f"exec {sys.executable} -m unrolled {arguments}"
    done, said = (subprocess.run(["bash", "-c", f"{program} {to}"], capture_output=True) for to in (target, ""))
    assert (done.returncode, done.stdout, done.stderr) == (status, said.stdout, b"")


def test_the_version_is_said_with_the_instruction_set() -> None:
    arguments = [sys.executable, "-m", "unrolled", "--version"]
    environment = os.environ | {"UNROLLED_ISA": "generic"}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
    expected = f"unrolled {metadata.version('unrolled')} (generic)\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def to(target: str | int, command: str, model: Path, folder: Path, buffered: bool = True) -> tuple[int, str]:
    """Exit status and standard error of a command whose output goes to `target`."""
    (folder / "text.txt").write_text("abc abd\n" * 40)
    arguments = command.format(model, text=folder / "text.txt").split()
    environment = os.environ | {"PYTHONUNBUFFERED": "" if buffered else "1"}
    with open(target, "w") as output:
        done = subprocess.run(
            [sys.executable, "-m", "unrolled", *arguments],
            input="abc\n", stdout=output, stderr=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
    return done.returncode, done.stderr
