"""CTC decoding against the sum over all paths, and as a stream."""

import itertools
import math
from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.edits import edits, error_rates
from unrolled.tasks.speech.ctc import BeamSearch, Greedy, log_softmax

Prefix = tuple[int, ...]


def collapse(path: tuple[int, ...], blank: int) -> Prefix:
    return tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank)


def all_paths(logits: np.ndarray, weights: dict[Prefix, float] | None = None) -> dict[Prefix, float]:
    """The log probability of every string, from the sum over all paths."""
    steps, classes = logits.shape
    rows = [log_softmax(row) for row in logits]
    totals: dict[Prefix, float] = defaultdict(float)
    for path in itertools.product(range(classes), repeat=steps):
        totals[collapse(path, classes - 1)] += math.exp(sum(rows[t][s] for t, s in enumerate(path)))
    return {string: math.log(total) + (weights or {}).get(string, 0.0) for string, total in totals.items()}


def outputs(seed: int, steps: int = 5, classes: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (steps, classes)).astype(np.float32)


def decoded(search: Any, logits: np.ndarray) -> Prefix:
    return (*search.feed(logits), *search.open())


@pytest.mark.parametrize("seed", range(20))
def test_an_unbounded_beam_finds_the_most_probable_string_and_its_rivals(seed: int) -> None:
    logits = outputs(seed)
    search = BeamSearch(3, 10_000, margin=math.inf, floor=-math.inf)
    certain = tuple(search.feed(logits))
    expected = all_paths(logits)
    best = max(expected, key=lambda string: expected[string])
    assert certain + search.open() == best
    for prefix, score in search.scores().items():
        assert score == pytest.approx(expected[certain + prefix] - expected[best], abs=1e-9)
    assert len(search.scores()) == len(expected)


class Table:
    """A language model that likes symbol 1 after symbol 0 and dislikes everything else a little."""

    def first(self) -> int:
        return -1

    def after(self, state: int, symbol: int) -> int:
        return symbol

    def scores(self, state: int) -> list[float]:
        return [-1.0, 2.0 if state == 0 else -2.0, -0.5]


def weight(string: Prefix) -> float:
    table = Table()
    return sum(table.scores(state)[symbol] for state, symbol in zip((-1, *string), string, strict=False))


@pytest.mark.parametrize("seed", range(20))
def test_a_language_model_weighs_every_string(seed: int) -> None:
    logits = outputs(seed)
    search = BeamSearch(3, 10_000, Table(), margin=math.inf, floor=-math.inf)
    strings = all_paths(logits)
    expected = {string: score + weight(string) for string, score in strings.items()}
    assert decoded(search, logits) == max(expected, key=lambda string: expected[string])


@pytest.mark.parametrize("beam", [1, 2, 8])
@pytest.mark.parametrize("language", [None, Table()])
def test_any_cut_of_the_outputs_gives_the_same_symbols(beam: int, language: Table | None) -> None:
    logits = outputs(7, steps=200, classes=4)
    whole = decoded(BeamSearch(3, beam, language), logits)
    for size in (1, 3, 50):
        search = BeamSearch(3, beam, language)
        certain = [s for begin in range(0, 200, size) for s in search.feed(logits[begin : begin + size])]
        assert (*certain, *search.open()) == whole


def test_what_is_certain_is_never_taken_back() -> None:
    logits = outputs(3, steps=400)
    search, certain = BeamSearch(3, 8), []
    for row in logits:
        certain += search.feed(row[None])
    assert len(certain) > 50
    assert decoded(BeamSearch(3, 8), logits)[: len(certain)] == tuple(certain)


def test_undecided_symbols_do_not_pile_up() -> None:
    search = BeamSearch(2, 8, margin=math.inf, patience=math.inf)
    doubtful = np.tile(np.log([[0.499, 0.5, 0.001], [0.001, 0.001, 0.998]]), (600, 1)).astype(np.float32)
    certain = search.feed(doubtful)
    assert len(search.open()) <= 65
    assert len(certain) + len(search.open()) == 600


def test_a_symbol_is_certain_once_the_best_prefix_has_kept_it_for_long() -> None:
    doubtful = np.log([[0.499, 0.5, 0.001], [0.001, 0.001, 0.998]]).astype(np.float32)
    blanks = np.repeat(doubtful[1:], 40, axis=0)
    search = BeamSearch(2, 8, margin=math.inf, patience=10)
    assert search.feed(doubtful[:1]) == []
    assert [len(search.feed(blank[None])) for blank in blanks] == [0] * 9 + [1] + [0] * 30
    assert search.open() == ()


def test_a_beam_hears_what_the_best_path_does_not() -> None:
    logits = np.log(np.array([[0.4, 0.6], [0.4, 0.6]], np.float32))  # "a" has 0.64, the blank path 0.36
    assert Greedy(1).feed(logits) == []
    assert decoded(BeamSearch(1, 4), logits) == (0,)


@pytest.mark.parametrize(
    ("path", "expected"),
    [([3, 0, 0, 3, 0, 1, 1, 3], [0, 0, 1]), ([3, 3], []), ([2, 1, 2, 2], [2, 1, 2]), ([0, 0, 0], [0])],
)
def test_repeats_are_joined_and_blanks_removed(path: list[int], expected: list[int]) -> None:
    logits = 20 * np.eye(4, dtype=np.float32)[path]
    assert Greedy(3).feed(logits) == expected
    assert list(decoded(BeamSearch(3, 4), logits)) == expected
    search = Greedy(3)
    assert [s for row in logits for s in search.feed(row[None])] == expected


@pytest.mark.parametrize("search", [Greedy(3), BeamSearch(3, 4), BeamSearch(3, 4, Table())])
def test_a_fork_changes_nothing(search: Any) -> None:
    logits = outputs(5, steps=60)
    search = search.fork()
    whole = decoded(search.fork(), logits)
    certain = search.feed(logits[:31])
    other = search.fork()
    other.feed(outputs(6, steps=30))
    assert (*certain, *search.feed(logits[31:]), *search.open()) == whole


def test_log_softmax_is_that_of_the_definition() -> None:
    logits = outputs(1)[0]
    expected = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    assert log_softmax(logits) == pytest.approx(expected)
    assert log_softmax(np.array([1000, -1000], np.float32)) == pytest.approx([0, -2000])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [("", "", 0), ("abc", "", 3), ("", "ab", 2), ("kitten", "sitting", 3), ("12345", "1345", 1), ("ab", "ba", 2)],
)
def test_edits(one: str, other: str, expected: int) -> None:
    assert edits(one, other) == edits(other, one) == expected


@given(st.text("abc", max_size=5), st.text("abc", max_size=5))
def test_edits_are_those_of_the_definition(one: str, other: str) -> None:
    def distance(one: str, other: str) -> int:
        if not one or not other:
            return len(one) + len(other)
        exchanged = distance(one[1:], other[1:]) + (one[0] != other[0])
        return min(exchanged, distance(one[1:], other) + 1, distance(one, other[1:]) + 1)

    assert edits(one, other) == distance(one, other)


def test_error_rates_count_characters_words_and_texts() -> None:
    rates = error_rates(["one two", "six"], ["one too", "six"])
    assert rates == pytest.approx(
        {"character_error_rate": 1 / 10, "word_error_rate": 1 / 3, "text_error_rate": 1 / 2}
    )
