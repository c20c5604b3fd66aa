"""Threads that help with steps: whoever is there takes a part, and nobody's coming or going changes a bit."""

import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from programs import python
from unrolled import nn
from unrolled.stepper import Stepper

pytestmark = pytest.mark.usefixtures("one_thread")

UNITS = 260  # work enough for helpers at one row, in panels that no number of threads divides evenly


def stepper(kind: type[nn.LSTM | nn.GRU | nn.RNN], batch: int) -> Stepper:
    """Two layers, the same ones each time."""
    torch.manual_seed(0)
    return kind(30, UNITS, num_layers=2).stepper(batch=batch)


def inputs(steps: int, batch: int) -> np.ndarray:
    """The same ones each time: [steps, batch, 30]."""
    return np.random.default_rng(0).normal(size=(steps, batch, 30)).astype(np.float32)


def answers(one: Stepper) -> list[np.ndarray]:
    """Steps one by one, steps in one go, and the state after them."""
    xs = inputs(12, one.state.h.shape[1])
    return [*map(one.step, xs), one.run(xs), one.state.h]


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("batch", [1, 5, 40])
def test_any_number_of_threads_gives_the_bits_of_one(kind: type[nn.LSTM | nn.GRU | nn.RNN], batch: int) -> None:
    expected = answers(stepper(kind, batch))
    for threads in (2, 3, 7, 70):
        torch.set_num_threads(threads)
        for found, right in zip(answers(stepper(kind, batch)), expected, strict=True):
            assert_array_equal(found, right)


def test_python_threads_step_at_the_same_time() -> None:
    expected = answers(stepper(nn.LSTM, 1))
    torch.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(answers, [stepper(nn.LSTM, 1) for _ in range(40)]):
            for one, right in zip(found, expected, strict=True):
                assert_array_equal(one, right)


def test_steps_are_right_whether_helpers_sleep_or_not() -> None:
    expected, helped = answers(stepper(nn.LSTM, 1)), stepper(nn.LSTM, 1)
    long = inputs(2000, 1)
    torch.set_num_threads(2)
    for x, right in zip(inputs(12, 1), expected, strict=False):
        assert_array_equal(helped.step(x), right)
        torch.set_num_threads(1)
        stepper(nn.RNN, 1).run(long)  # longer than they wait
        torch.set_num_threads(2)


FORK = """
import os, signal
import torch
from test_crew import answers, nn, stepper

torch.set_num_threads(2)
before = answers(stepper(nn.LSTM, 1))
assert len(os.listdir("/proc/self/task")) > 1, "the parent has helpers"
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(not all((one == right).all() for one, right in zip(answers(stepper(nn.LSTM, 1)), before)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_forked_child_steps_without_the_helpers_that_it_does_not_have() -> None:
    result = python(FORK, OMP_NUM_THREADS="2")
    assert (result.stdout, result.stderr) == ("0\n", "")


def test_no_thread_reads_what_another_writes(tmp_path: Path) -> None:
    """The crew alone, with a sanitizer, and made to hesitate: in orders that the tests above see by chance."""
    here, program, compiler = Path(__file__).parent, tmp_path / "races", shutil.which("c++") or "c++"

    def compiled(*sources: Path) -> subprocess.CompletedProcess[str]:
        options = ["-std=c++20", "-O1", "-fsanitize=thread", "-pthread"]
        options += ["-DUNROLLED_HESITATES", "-DUNROLLED_ISA=generic", f"-I{here.parent / 'csrc'}"]
        return subprocess.run([compiler, *options, *sources, "-o", program], capture_output=True, text=True)

    (tmp_path / "empty.cpp").write_text("int main() {}")
    if not shutil.which(compiler) or compiled(tmp_path / "empty.cpp").returncode:
        pytest.skip("no C++ compiler with a sanitizer for threads")
    built = compiled(here / "crew_races.cpp", here.parent / "csrc" / "crew.cpp")
    assert not built.returncode, built.stderr
    ran = subprocess.run([program], capture_output=True, text=True)
    assert (ran.stdout, ran.stderr) == ("right\n", "")
