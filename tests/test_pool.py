"""Many streams stepped together: each the same bits as alone, whatever the others do."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from small import KINDS, SOUND, inputs_for, model_of
from small import poisoned as broken
from unrolled import InputError, Stream, StreamPool

pytestmark = pytest.mark.usefixtures("one_thread")

CALLS = st.lists(st.dictionaries(st.integers(0, 5), st.integers(0, 4), min_size=1), min_size=1, max_size=8)


@pytest.mark.parametrize("kind", list(KINDS))
@settings(max_examples=12)
@given(CALLS)
def test_any_interleaving_gives_each_stream_the_bits_it_has_alone(kind: str, calls: list[dict[int, int]]) -> None:
    """A call is the number of inputs of each stream that takes part in it."""
    model = model_of(kind)
    pool, unit = StreamPool(model, 6), 53 if kind in SOUND else 1
    inputs = [inputs_for(kind, 32, seed) for seed in range(6)]
    streams, alone = [pool.open() for _ in range(6)], [Stream(model) for _ in range(6)]
    for call in calls:
        begins = {one: alone[one].position for one in call}
        given_now = {one: inputs[one][begins[one] : begins[one] + unit * count] for one, count in call.items()}
        outputs = pool.feed([streams[one] for one in call], list(given_now.values()))
        for one, found in zip(call, outputs, strict=True):
            assert np.array_equal(found, alone[one].feed(given_now[one]))
    for one in range(6):
        assert pool.snapshot(streams[one]).to_bytes() == alone[one].snapshot().to_bytes()
        assert pool.position(streams[one]) == alone[one].position


@pytest.mark.parametrize("kind", ["text", "numbers", "words"])
def test_a_step_of_thousands_is_a_step_of_each(kind: str) -> None:
    model = model_of(kind)
    pool = StreamPool(model, 1500)
    streams = np.array([pool.open() for _ in range(1500)])
    inputs: Any = inputs_for(kind, 1500)
    pool.step(streams, inputs)
    turned = np.random.default_rng(0).permutation(1500)
    outputs = pool.step(streams[turned], [inputs[one] for one in turned])
    for place in range(0, 1500, 97):
        one = Stream(model)
        one.step(inputs[turned[place]])
        assert np.array_equal(outputs[place], one.step(inputs[turned[place]]))


@pytest.mark.parametrize("kind", ["numbers", "speech"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_and_nothing_consumed(kind: str, wrong: float) -> None:
    stream, inputs = Stream(model_of(kind)), inputs_for(kind, 20)
    inputs.flat[7] = wrong
    with pytest.raises(InputError, match=rf"\[.*\] is {wrong:g}, expected a finite number"):
        stream.feed(inputs)
    assert stream.position == 0


@pytest.mark.parametrize("kind", ["numbers", "members", "speech"])
def test_what_is_not_a_number_in_one_stream_never_shows_in_another(kind: str) -> None:
    model = model_of(kind)
    pool, inputs = StreamPool(model, 3), inputs_for(kind, 20)
    alone = Stream(model)
    streams = [pool.open(), pool.open(broken(alone.snapshot())), pool.open()]
    for _ in range(3):
        clean, poisoned, after = pool.feed(streams, [inputs, inputs, inputs])
        expected = alone.feed(inputs)
        assert np.array_equal(clean, expected)
        assert np.array_equal(after, expected)
        assert np.isnan(poisoned[-1]).all()


def test_a_stream_that_is_opened_where_another_ended_starts_from_nothing() -> None:
    model = model_of("text")
    pool = StreamPool(model, 1)
    first = pool.open()
    pool.feed([first], [[1, 2, 3]])
    pool.close(first)
    second = pool.open()
    assert pool.position(second) == 0
    assert np.array_equal(pool.step([second], [4])[0], Stream(model).step(4))


def test_a_stream_may_leave_a_pool_and_come_back() -> None:
    model = model_of("text")
    pool, stream = StreamPool(model, 2), Stream(model)
    first = pool.open()
    pool.feed([first], [[1, 2, 3]])
    stream.restore(pool.snapshot(first))
    back = pool.open(stream.snapshot())
    assert np.array_equal(pool.step([first, back], [5, 5]), np.repeat(stream.step(5)[None], 2, 0))


def test_no_streams_at_all_are_fed_nothing() -> None:
    pool = StreamPool(model_of("text"), 2)
    assert pool.feed([], []) == []
    assert pool.step([], []).shape == (0, 10)


def test_what_a_pool_cannot_do_is_said() -> None:
    pool = StreamPool(model_of("text"), 2)
    one, two = pool.open(), pool.open()
    with pytest.raises(InputError, match="all 2 streams of the pool are open"):
        pool.open()
    with pytest.raises(InputError, match="a stream is named twice"):
        pool.step([one, one], [1, 2])
    with pytest.raises(InputError, match="got 1 input for 2 streams"):
        pool.step([one, two], [1])
    with pytest.raises(InputError, match="got 1 sequence for 2 streams"):
        pool.feed([one, two], [[1]])
    for unusable in ([1.9], [True], one, [[one, two]]):
        with pytest.raises(InputError, match="streams: expected a list of whole numbers"):
            pool.step(unusable, [1])
    pool.close(two)
    for wrong in (two, -1, 7):
        with pytest.raises(InputError, match=f"stream {wrong} is not open"):
            pool.step([wrong], [1])
        with pytest.raises(InputError, match=f"stream {wrong} is not open"):
            pool.close(wrong)
    capacities: list[Any] = [0, 2.5, "2"]
    for capacity in capacities:
        with pytest.raises(InputError, match=f"capacity is {capacity!r}, expected a whole number, 1 or more"):
            StreamPool(model_of("text"), capacity)
    with pytest.raises(InputError, match="goes to feed"):
        StreamPool(model_of("speech"), 1).step([0], [0.5])
