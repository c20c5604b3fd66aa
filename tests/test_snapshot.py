"""A stream's state in a file: it comes back as it was, is equal to no other, and says what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save

from unrolled.errors import InputError
from unrolled.snapshot import Snapshot

H = np.arange(6, dtype=np.float32).reshape(2, 3)


def test_arrays_come_back_in_whatever_order_they_lay_in_memory(tmp_path: Path) -> None:
    snapshot = Snapshot("weights", 3, {"h": H.T, "c": H[:, ::2]})
    snapshot.write(tmp_path / "state")
    found = Snapshot.read(tmp_path / "state")
    assert found == snapshot and np.array_equal(found.arrays["h"], H.T)


@pytest.mark.parametrize(
    "other",
    [
        Snapshot("others", 3, {"h": H}),
        Snapshot("weights", 4, {"h": H}),
        Snapshot("weights", 3, {"c": H}),
        Snapshot("weights", 3, {"h": H + 1}),
        Snapshot("weights", 3, {"h": H.reshape(3, 2)}),
        Snapshot("weights", 3, {"h": H.view(np.int32)}),
        Snapshot("weights", 3, {"h": H, "c": H}),
        "weights",
    ],
)
def test_what_differs_in_anything_is_not_equal(other: object) -> None:
    assert Snapshot("weights", 3, {"h": H}) == Snapshot("weights", 3, {"h": H.copy()}) != other


@pytest.mark.parametrize(
    ("weights", "position"),
    [("weights", -1), ("weights", 1 << 53), ("weights", 1.5), ("weights", True), ("weights", "3"), (3, 3)],
)
def test_a_description_that_no_stream_has_is_refused(weights: Any, position: Any) -> None:
    content = Snapshot(weights, position, {"h": H}).to_bytes()
    with pytest.raises(InputError, match=r"^the state is damaged: its description does not hold\.$"):
        Snapshot.from_bytes(content)


@pytest.mark.parametrize("metadata", [None, {"other": "{}"}, {"unrolled": "3"}, {"unrolled": "{"}])
def test_tensors_of_anything_else_are_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    (tmp_path / "state").write_bytes(save({"h": H}, metadata))
    with pytest.raises(InputError, match=r"/state is damaged or not a stream's state\.$"):
        Snapshot.read(tmp_path / "state")


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(InputError, match=rf"^{path} cannot be read: {reason}; expected a stream's state\.$"):
            Snapshot.read(path)
