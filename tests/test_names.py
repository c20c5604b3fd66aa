"""Names of columns and events: what a sentence or a row says of them can be given back."""

from hypothesis import given
from hypothesis import strategies as st

from unrolled.sequences.names import cell, is_gap, listed, order, parted

names = st.lists(st.text(st.sampled_from('ab ,;"\n')).map(str.strip).filter(bool))


@given(names)
def test_names_that_are_listed_can_be_given_back(names: list[str]) -> None:
    for separator in (",", ", "):
        assert parted(separator.join(map(cell, names))) == tuple(names)


def test_of_many_names_the_first_are_listed() -> None:
    assert listed(["a", "b, c"], most=2) == 'a, "b, c"'
    assert listed([*"abc"], most=2) == "a, b and 1 more"


def test_whole_numbers_come_first_by_size() -> None:
    assert sorted(["b", "10", "1.5", "9", "a"], key=order) == ["9", "10", "1.5", "a", "b"]


def test_what_says_that_there_is_nothing_is_a_gap_however_it_is_written() -> None:
    for one in (None, float("nan"), "", " ", "NA", "n/a", "NaN", " Null "):
        assert is_gap(one)
    for other in (0.0, False, "0", "none", "-"):
        assert not is_gap(other)
