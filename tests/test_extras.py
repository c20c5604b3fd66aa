"""Libraries that may be missing: what is said of one, and that it names what there is to install."""

import re
from importlib import metadata
from pathlib import Path

import pytest

import unrolled
from unrolled.errors import InputError
from unrolled.extras import extra


def test_a_library_that_is_missing_is_said_with_the_extra_that_brings_it() -> None:
    said = r"^films need PyAV: pip install 'unrolled\[video\]'\.$"
    with pytest.raises(InputError, match=said), extra("video", "films need PyAV"):
        raise ModuleNotFoundError("No module named 'av'")


def test_the_extras_that_sentences_name_are_the_distributions() -> None:
    source = "".join(path.read_text(encoding="utf-8") for path in Path(unrolled.__file__).parent.rglob("*.py"))
    named = set(re.findall(r"extra\(\"(\w+)\"|'unrolled\[(\w+)\]'", source))
    assert {name for pair in named for name in pair if name} <= set(
        metadata.metadata("unrolled").get_all("Provides-Extra") or ()
    )
