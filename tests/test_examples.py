"""Sets of examples: nothing is lost, nothing comes twice, and the same seed gives the same order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import InputError
from unrolled.examples import Batches, Refused, divide, pad


@given(st.integers(2, 300), st.floats(0.01, 0.99), st.integers(0, 5))
def test_every_example_is_trained_on_or_held_out(count: int, split: float, seed: int) -> None:
    train, held_out = divide(count, split, seed)
    assert sorted([*train, *held_out]) == list(range(count))
    assert len(train) == min(max(round(split * count), 1), count - 1)


def test_another_seed_holds_out_others() -> None:
    assert not np.array_equal(divide(100, 0.9, 0)[1], divide(100, 0.9, 1)[1])


@pytest.mark.parametrize(("count", "found"), [(0, "are no examples"), (1, "is one example")])
def test_too_few_examples_are_refused(count: int, found: str) -> None:
    with pytest.raises(InputError, match=f"there {found}, expected at least two, .*; --held-out names others"):
        divide(count, 0.9, 0)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=200), st.integers(1, 7), st.integers(0, 3))
def test_each_example_comes_once_a_pass(lengths: list[int], batch: int, seed: int) -> None:
    batches = Batches(lengths, batch, seed)
    for epoch in range(2):
        steps = range(epoch * batches.a_pass, (epoch + 1) * batches.a_pass)
        drawn = [batches.of(step) for step in steps]
        assert sorted(np.concatenate(drawn)) == list(range(len(lengths)))
        assert all(len(one) <= batch for one in drawn)
        for one in drawn:
            assert list(np.array(lengths)[one]) == sorted(np.array(lengths)[one], reverse=True)


def test_a_step_gives_the_same_batch_in_whatever_order_it_is_asked_for() -> None:
    lengths = np.random.default_rng(0).integers(1, 90, 1000)
    forth, back = Batches(lengths, 8, 3), Batches(lengths, 8, 3)
    there = [forth.of(step) for step in range(300)]
    again = [back.of(step) for step in reversed(range(300))][::-1]
    assert all(np.array_equal(a, b) for a, b in zip(there, again, strict=True))
    assert not np.array_equal(there[0], Batches(lengths, 8, 4).of(0))


def test_a_batch_has_examples_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 3200)
    batches = Batches(lengths, 16, 0)
    spread = np.mean([np.ptp(lengths[batches.of(step)]) for step in range(batches.a_pass)])
    assert spread < 100, "of 1000 in random batches some 880"


def test_padding_keeps_every_number() -> None:
    sequences = [np.arange(n * 2, dtype=np.float32).reshape(n, 2) for n in (3, 1, 4)]
    padded, lengths = pad(sequences, -1)
    assert padded.shape == (4, 3, 2)
    assert list(lengths) == [3, 1, 4]
    for row, sequence in enumerate(sequences):
        assert np.array_equal(padded[: len(sequence), row], sequence)
        assert (padded[len(sequence) :, row] == -1).all()


def test_a_bad_example_is_an_error_or_counted() -> None:
    with pytest.raises(InputError, match=r"a\.csv, row 3: empty; --skip-bad leaves such examples out"):
        Refused(False)("a.csv, row 3: empty.")
    refused = Refused(True)
    refused("a.csv, row 3: empty.")
    assert refused.reasons == ["a.csv, row 3: empty."]


def test_every_pass_has_an_order_of_its_own() -> None:
    batches = Batches(np.full(40, 7), 4, 0)
    first, second = ([batches.of(n * batches.a_pass + step) for step in range(batches.a_pass)] for n in range(2))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
