"""What an interrupted run goes on with: the settings it had, and its files by the names that they had."""

from pathlib import Path
from typing import Any

import pytest
import torch

from unrolled import checkpoint
from unrolled.checkpoint import Checkpoint
from unrolled.errors import InputError
from unrolled.resume import check_same, interrupted
from unrolled.run_files import checkpoint_path


def stopped(out: Path, data: str, **settings: Any) -> None:
    """The checkpoint of a run on `data` and `valid.txt`, in the folder that one is in."""
    run = {"settings": {"held_out": "valid.txt", **settings}, "paths": [data], "folder": str(Path.cwd())}
    checkpoint.write(checkpoint_path(out), Checkpoint(run, {"weight": torch.zeros(1)}))


@pytest.mark.parametrize(
    ("data", "chosen"),
    [
        ([], {}),
        (["../text.txt"], {}),
        ([], {"held_out": "../valid.txt"}),
        (["../a link"], {"held_out": "../../{}/valid.txt"}),
    ],
)
def test_files_keep_their_names_however_they_are_named_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: list[str], chosen: dict[str, str]
) -> None:
    for name in ("text.txt", "valid.txt", "elsewhere/text.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "a link").symlink_to(tmp_path / "text.txt")
    monkeypatch.chdir(tmp_path)
    stopped(Path("cut"), "text.txt")
    monkeypatch.chdir("elsewhere")
    again = {name: value.format(tmp_path.name) for name, value in chosen.items()}
    found = interrupted(Path("../cut"), "text", again, [Path(name) for name in data])
    assert (found.data, found.settings["held_out"]) == ([Path("text.txt")], "valid.txt")
    assert found.folder == str(tmp_path)


@pytest.mark.parametrize("held_out", ["valid.txt", "{}/whole.txt"])
@pytest.mark.parametrize(
    ("data", "again"), [("text.txt", []), ("text.txt", ["after/text.txt"]), ("{}/whole.txt", [])]
)
def test_files_may_have_moved_with_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: str, again: list[str], held_out: str
) -> None:
    held_out = held_out.format(tmp_path)
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    for path in (before / "text.txt", before / "valid.txt", tmp_path / "whole.txt"):
        path.write_text("")
    monkeypatch.chdir(before)
    stopped(Path("cut"), data.format(tmp_path), held_out=held_out)
    before.rename(after)
    monkeypatch.chdir(tmp_path)
    found = interrupted(Path("after/cut"), "text", {}, [Path(name) for name in again])
    assert (found.data, found.settings["held_out"]) == ([Path(data.format(tmp_path))], held_out)
    assert found.folder == str(after)


def test_what_is_chosen_wins_over_what_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.txt", "other.txt", "valid.txt"):
        Path(name).write_text("")
    stopped(Path("cut"), "text.txt", minutes=3, hidden=8)
    found = interrupted(Path("cut"), "text", {"steps": 50}, [Path("other.txt")])
    assert (found.data, found.folder) == ([Path("other.txt")], "")
    assert found.settings == {"held_out": "valid.txt", "hidden": 8, "steps": 50}


def test_what_is_named_anew_need_not_be_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stopped(Path("cut"), "gone.txt", backbone_weights="weights")
    for name in ("weights", "elsewhere/other.txt", "elsewhere/new.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    monkeypatch.chdir("elsewhere")
    found = interrupted(Path("../cut"), "text", {"held_out": "new.txt"}, [Path("other.txt")])
    here = tmp_path / "elsewhere"
    assert (found.folder, found.data) == (str(tmp_path), [here / "other.txt"])
    assert found.settings == {"held_out": str(here / "new.txt"), "backbone_weights": "weights"}
    (tmp_path / "weights").unlink()
    with pytest.raises(InputError, match="weights"):
        interrupted(Path("../cut"), "text", {"held_out": "new.txt"}, [Path("other.txt")])


def test_the_run_of_another_task_is_refused_before_its_files_are_looked_for(tmp_path: Path) -> None:
    run = {"settings": {}, "paths": ["nowhere.txt"], "task": "text"}
    checkpoint.write(checkpoint_path(tmp_path / "cut"), Checkpoint(run, {"weight": torch.zeros(1)}))
    with pytest.raises(InputError, match="written by `unrolled train text`, but this is `unrolled train label`;"):
        interrupted(tmp_path / "cut", "label", {}, [])


def test_other_settings_are_refused_and_other_names_of_files_are_not() -> None:
    was = {"steps": 40, "held_out": "a.txt", "backbone_weights": "c", "data": "5" * 64, "held_out_data": "5" * 64}
    check_same(Path("cut"), was, {"steps": 40, "held_out": "b.txt", "backbone_weights": "d"})
    changed = r"^cut was written with data '5{12}', but this run has data '6{12}': other data, or a file "
    with pytest.raises(InputError, match=changed):
        check_same(Path("cut"), was, {"steps": 40, "data": "6" * 64})
    with pytest.raises(InputError, match=changed.replace("data '", "held_out_data '")):
        check_same(Path("cut"), was, {"held_out_data": "6" * 64})
    with pytest.raises(InputError, match=r"steps 40, but this run has steps 50; expected the same"):
        check_same(Path("cut"), was, {"steps": 50})
    with pytest.raises(InputError, match=r"'a\.txt', but this run has held_out None; expected the same, or that"):
        check_same(Path("cut"), was, {"held_out": None})
