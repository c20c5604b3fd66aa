"""What several test files share: the instruction sets in turn, one thread, a small text model."""

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # tests share the machine: more threads only where they ask for them
    os.environ["OMP_NUM_THREADS"] = "1"
# Commands that tests run are not told what a build server or a shell says of its terminal, nor that they run in
# the background, where a shell lets nobody hear of Ctrl-C.
if told := os.environ.keys() & {"COLUMNS", "FORCE_COLOR", "NO_COLOR", "PY_COLORS", "GITHUB_ACTIONS"}:
    for name in told:
        del os.environ[name]
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch
from hypothesis import settings

from programs import Command, Done
from small import text_file
from unrolled import _engine, cli, modelfile

# The same examples at every run, so that a failure seen once can be seen again.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
torch.manual_seed(0)  # what modules draw as they are imported


def pytest_runtest_setup() -> None:
    """The same numbers drawn by torch in every test, whatever ran before it."""
    torch.manual_seed(0)


@pytest.fixture(params=_engine.isas())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each instruction set of this machine in turn."""
    before = _engine.isa()
    _engine.use_isa(request.param)
    yield request.param
    _engine.use_isa(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread, unless the test asks for more, and then the count as it was."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Run `unrolled` with these arguments in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")

    def call(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["unrolled", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.run()
        captured = capsys.readouterr()
        return Done(int(end.value.code or 0), captured.out, captured.err)

    return call


@pytest.fixture
def model_path(tmp_path: Path) -> Path:
    """The file of a small text model."""
    path = tmp_path / "model.safetensors"
    modelfile.write(path, text_file())
    return path
