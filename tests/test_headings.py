"""Which first lines of a table of sentences are headings: names that do not translate each other."""

import pytest

from unrolled.tasks.translate.headings import is_heading


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("source", "target"),
        ("src", "tgt"),
        ("Source_Text", "target text"),
        ("de", "en"),
        ("DE", "en-GB"),
        ("pt_BR", "zh_Hans"),
        ("German", "English"),
        ("english sentence", "french sentence"),
        ('"de"', '"en"'),
        ("'Source'", '" target "'),
    ],
)
def test_names_of_columns_are_a_heading(source: str, target: str) -> None:
    assert is_heading(source, target) and is_heading(target, source)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Deutsch", "German"),
        ("Text", "text"),
        ("Englisch", "English"),
        ("ja", "yes"),
        ('"ja"', '"yes"'),
        ('"so"', '"So"'),
        ('""', '"en"'),
        ("so", "so"),
        ("no", "No"),
        ("Geh!", "Go!"),
        ("Quelle", "source"),
        ("Das Ziel", "the target"),
        ("ein englischer Satz", "an english sentence"),
    ],
)
def test_a_pair_of_words_is_none(source: str, target: str) -> None:
    assert not is_heading(source, target) and not is_heading(target, source)
