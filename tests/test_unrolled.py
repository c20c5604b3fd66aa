"""The package itself: what a program or a person at a prompt finds in it."""

from importlib import metadata

import pytest

import unrolled


def test_what_is_imported_later_is_listed() -> None:
    assert {*unrolled.__all__, "__version__"} <= set(dir(unrolled))
    assert all(hasattr(unrolled, name) for name in dir(unrolled))
    assert not hasattr(unrolled, "nothing_of_the_kind")


def test_the_version_is_that_of_the_distribution() -> None:
    assert unrolled.__version__ == metadata.version("unrolled")


def test_an_empty_path_is_not_taken_for_the_folder() -> None:
    with pytest.raises(unrolled.InputError, match="the path of the model is empty, expected the name of a"):
        unrolled.load("")
