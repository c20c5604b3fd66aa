"""Measures of a labelling: the definitions of Lea et al., by hand and by a slow second way."""

from itertools import pairwise
from unittest.mock import Mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.tasks.label import segments as segments_module
from unrolled.tasks.label.segments import Segment, edit_score, matches, score, segments, step_weights

labellings = st.lists(st.integers(0, 3), min_size=1, max_size=30)


def steps(text: str) -> np.ndarray:
    return np.array([ord(letter) - ord("a") for letter in text])


def test_segments_are_runs_of_one_class() -> None:
    assert segments(steps("aabba")) == [Segment(0, 2, 0), Segment(2, 4, 1), Segment(4, 5, 0)]
    assert segments(steps("")) == []


@given(labellings)
def test_segments_cover_every_step_once(labels: list[int]) -> None:
    found = segments(np.array(labels))
    assert [one.label for one in found for _ in range(one.start, one.end)] == labels
    assert all(one.label != other.label for one, other in pairwise(found))


@given(labellings)
def test_steps_or_segments_weigh_alike(labels: list[int]) -> None:
    steps_alike, segments_alike = (step_weights(np.array(labels), balance) for balance in (0, 1))
    assert (steps_alike == 1).all() and len(steps_alike) == len(labels)
    for one in segments(np.array(labels)):
        assert segments_alike[one.start : one.end].sum() == pytest.approx(1)


@pytest.mark.parametrize(
    ("predicted", "true", "expected"),
    [("aabb", "abbb", 100), ("aaaa", "aabb", 50), ("abab", "aabb", 50), ("b", "a", 0), ("abcab", "abc", 60)],
)
def test_the_edit_score_compares_orders_and_not_lengths(predicted: str, true: str, expected: float) -> None:
    assert edit_score(steps(predicted), steps(true)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predicted", "true", "overlap", "expected"),
    [
        ("aabb", "aabb", 50, (2, 0, 0)),
        ("aaab", "aabb", 50, (2, 0, 0)),  # two thirds, and exactly a half
        ("aaab", "aabb", 51, (1, 1, 1)),
        ("aaaa", "aabb", 25, (1, 0, 1)),
        ("abaa", "aaaa", 25, (1, 2, 0)),  # a second segment that overlaps the same true one is wrong
        ("bbbb", "aaaa", 10, (0, 1, 1)),
    ],
)
def test_a_segment_is_right_once(predicted: str, true: str, overlap: int, expected: tuple[int, ...]) -> None:
    assert matches(steps(predicted), steps(true), overlap) == expected


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40), st.integers(1, 100))
def test_segments_are_right_that_are_so_among_all_pairs(pairs: list[tuple[int, int]], overlap: int) -> None:
    predicted, true = (np.array(part) for part in zip(*pairs, strict=True))
    said, truth, right = segments(predicted), segments(true), set()
    for one in said:
        ratios = []
        for other in truth:
            steps, others = set(range(one.start, one.end)), set(range(other.start, other.end))
            ratios.append(len(steps & others) / len(steps | others) * (one.label == other.label))
        if max(ratios) > 0 and 100 * max(ratios) >= overlap:
            right.add(int(np.argmax(ratios)))
    found = len(right)
    assert matches(predicted, true, overlap) == (found, len(said) - found, len(truth) - found)


def test_only_segments_that_meet_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = Mock(wraps=segments_module._overlap)
    monkeypatch.setattr(segments_module, "_overlap", compared)
    labels = np.arange(1000) % 2
    assert matches(labels, labels, 50) == (1000, 0, 0)
    assert compared.call_count == 1000


@given(labellings)
def test_the_truth_has_every_score_of_a_hundred(labels: list[int]) -> None:
    found = score([(np.array(labels), np.array(labels))], 4)
    assert set(found.figures().values()) == {100.0}


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_confusion_and_classes_count_steps(pairs: list[tuple[int, int]]) -> None:
    predicted, true = (np.array(part) for part in zip(*pairs, strict=True))
    found = score([(predicted, true)], 3)
    assert found.accuracy == pytest.approx(100 * np.mean(predicted == true))
    for label, one in enumerate(found.classes()):
        right = np.sum((predicted == label) & (true == label))
        assert one.steps == np.sum(true == label) == found.confusion[label].sum()
        assert one.recall == pytest.approx(100 * right / max(1, one.steps))
        assert one.precision == pytest.approx(100 * right / max(1, np.sum(predicted == label)))


def test_f1_is_over_the_segments_of_all_sequences_and_edit_a_mean() -> None:
    found = score([(steps("aabb"), steps("aabb")), (steps("aaaa"), steps("bbbb"))], 2)
    assert found.edit == pytest.approx(50)
    assert found.f1[10] == pytest.approx(100 * 2 * 2 / (2 * 2 + 1 + 1))
    assert found.row()[0] == "50.0"


def test_without_overlaps_there_is_only_the_accuracy() -> None:
    assert score([(steps("ab"), steps("aa"))], 2, overlaps=()).figures() == {"accuracy": 50.0}
