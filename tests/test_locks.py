"""Files for one process at a time; an open file of its own is to a lock what another process is."""

import os
from pathlib import Path
from typing import Any

import pytest

from unrolled import locks
from unrolled.errors import InputError


def test_a_name_is_held_until_the_end_and_nothing_is_left(tmp_path: Path) -> None:
    for _ in range(2):
        with locks.holding(tmp_path / "a", "taken"):
            with pytest.raises(InputError, match=r"^taken"), locks.holding(tmp_path / "a", "taken"):
                pass
            with locks.holding(tmp_path / "b", "taken"):
                pass
    assert not list(tmp_path.iterdir())


def test_a_link_is_held_as_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with (
        locks.holding(tmp_path / "link", "taken"),
        pytest.raises(InputError, match=r"^taken"),
        locks.holding(tmp_path / "a", "taken"),
    ):
        pass


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_lock_that_its_holder_removes_as_it_is_opened_is_not_taken_for_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made_anew: bool
) -> None:
    lock, hold, late = tmp_path / ".a.lock", locks.hold, iter([True])

    def hold_late(*given: Any) -> None:
        if next(late, False):
            lock.unlink()
            if made_anew:
                lock.touch()
        hold(*given)

    monkeypatch.setattr(locks, "hold", hold_late)
    with (
        locks.holding(tmp_path / "a", "taken"),
        pytest.raises(InputError, match=r"^taken"),
        locks.holding(tmp_path / "a", "taken"),
    ):
        pass


def test_a_lock_is_removed_before_it_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who took it in between would hold a file that is removed next."""
    close, there = os.close, list[bool]()

    def closing(file: int) -> None:
        there.append((tmp_path / ".a.lock").exists())
        close(file)

    with monkeypatch.context() as patched, locks.holding(tmp_path / "a", "taken"):
        patched.setattr(os, "close", closing)
    assert there == [False]


def test_a_folder_is_for_one_alone(tmp_path: Path) -> None:
    file = os.open(tmp_path, os.O_RDONLY)
    with locks.alone_in(tmp_path), pytest.raises(InputError, match=r"^taken"):
        locks.hold(file, "taken")
    locks.hold(file, "taken")
    os.close(file)
