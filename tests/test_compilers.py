"""The engine's sources in Clang, which is what compiles them where GCC does not, as on macOS."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "csrc"
# As CMakeLists.txt compiles them: no multiply-add is fused that does not say so, and no OpenMP.
OPTIONS = ["-std=c++20", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
GENERIC = ["-DUNROLLED_ISA=generic"]
VECTORS = {
    "x86_64": ["-DUNROLLED_ISA=avx512", "-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mfma"],
    "aarch64": ["-DUNROLLED_ISA=neon", "-DUNROLLED_NEON"],
}


@pytest.mark.skipif(not shutil.which("clang++"), reason="no Clang")
@pytest.mark.parametrize("isa", ["generic", "vectors"])
def test_clang_compiles_the_engine_without_a_warning(isa: str) -> None:
    options = OPTIONS + (GENERIC if isa == "generic" else VECTORS.get(platform.machine(), GENERIC))
    sources = sorted(path for path in SOURCES.glob("*.cpp") if not path.name.startswith("bind"))
    run = subprocess.run(["clang++", "-fsyntax-only", *options, *sources], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
