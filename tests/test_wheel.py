"""The wheel in an empty environment: NumPy, safetensors and itself run a model there, in a few megabytes."""

import json
import os
import subprocess
import sys
import venv
from importlib.metadata import distribution
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MOST_BYTES = 5_000_000  # of the wheel's files, beside NumPy and safetensors; byte code is Python's own
NEEDED = ("numpy", "safetensors")
RUN = """
import json, sys
from importlib.metadata import distribution, distributions
import unrolled

outputs = unrolled.Stream(unrolled.load(sys.argv[1])).feed("abc")
print(json.dumps({
    "outputs": outputs.tolist(),
    "installed": sorted(found.name for found in distributions()),
    "bytes": sum(path.locate().stat().st_size for path in distribution("unrolled").files),
}))
"""


def run(*command: object) -> str:
    return subprocess.run(
        [*map(str, command)], check=True, text=True, stdout=subprocess.PIPE, cwd=REPOSITORY
    ).stdout


def link(name: str, folder: Path) -> None:
    """Let `folder` have what is installed of a distribution here."""
    found = distribution(name)
    assert found.files is not None
    for top in {path.parts[0] for path in found.files if path.parts[0] != ".."}:
        os.symlink(str(found.locate_file(top)), folder / top)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """That of an environment in which the wheel, made of this tree, is all there is beside what it needs."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"
    run(*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, REPOSITORY)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "empty", with_pip=False)
    python = folder / "empty/bin/python"
    run(*pip, "--python", python, "install", "--no-deps", "--no-index", "--no-compile", wheel)
    (packages,) = (folder / "empty/lib").glob("python*/site-packages")
    for name in NEEDED:
        link(name, packages)
    return python


def test_a_model_runs_where_only_numpy_and_safetensors_are(python: Path, model_path: Path) -> None:
    import unrolled

    said = json.loads(run(python, "-c", RUN, model_path))
    assert said["installed"] == ["numpy", "safetensors", "unrolled"]
    assert said["outputs"] == unrolled.Stream(unrolled.load(model_path)).feed("abc").tolist()
    assert said["bytes"] < MOST_BYTES
