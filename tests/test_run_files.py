"""The files of a training run: which are the same, whatever they are called, and which are not there."""

import hashlib
from pathlib import Path

import pytest

from unrolled.errors import InputError
from unrolled.run_files import check_apart, check_once, check_out, digest


def test_files_that_are_not_there_are_not_the_same_file(tmp_path: Path) -> None:
    """Whoever reads them says that they are not there."""
    missing: list[str | Path] = [tmp_path / "a", tmp_path / "b", "no\0name"]
    check_out(tmp_path / "m", missing)
    check_apart(missing, missing)
    check_once([*missing, *missing])


def test_a_file_is_the_same_by_each_of_its_names(tmp_path: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    for path in (file, other):
        path.write_text("the same content")
    (tmp_path / "link").symlink_to("file")
    (tmp_path / "hard").hardlink_to(file)
    for name in ("file", "link", "hard", f"../{tmp_path.name}/file"):
        with pytest.raises(InputError, match=rf"^DATA has '{tmp_path}/{name}' twice"):
            check_once([file, other, tmp_path / name])
        with pytest.raises(InputError, match=rf"^--held-out is '{tmp_path}/{name}', which is DATA, too"):
            check_apart([other, file], [tmp_path / name])
    check_once([file, other])
    check_apart([file], [other])


def test_what_is_no_file_has_no_digest(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"content")
    assert digest(tmp_path / "file") == hashlib.sha256(b"content").hexdigest()
    assert digest(tmp_path) is digest(tmp_path / "none") is None
