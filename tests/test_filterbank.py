"""The filter bank: the features that its definition says, and the same bits for every way of cutting a sound."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import InputError
from unrolled.tasks.speech.filterbank import FLOOR, Bank, FilterBank, features, mel_filters

BANK = Bank.usual(8000, mels=20, stack=3)
RNG = np.random.default_rng(0)
SOUND = RNG.normal(0, 0.1, 9000).astype(np.float32)
MEAN, DEVIATION = RNG.normal(-8, 1, 20).astype(np.float32), RNG.uniform(1, 2, 20).astype(np.float32)


def whole(samples: np.ndarray, bank: Bank = BANK) -> np.ndarray:
    stream = FilterBank(bank, MEAN, DEVIATION)
    return np.concatenate([stream.feed(samples), stream.finish()])


@given(st.integers(0, 100_000), st.integers(1, 9), st.integers(1, 3000))
def test_the_silence_after_a_stream_is_that_after_what_is_kept_of_it(heard: int, stack: int, tail: int) -> None:
    bank = replace(BANK, stack=stack, tail=tail)
    assert bank.padding(heard) == bank.padding(heard - bank.steps(heard) * bank.advance)


def test_usual_windows_are_25_ms_every_10() -> None:
    assert (BANK.window, BANK.hop, BANK.stack, BANK.tail) == (200, 80, 3, 2400)
    assert (BANK.span, BANK.advance, BANK.lead) == (360, 240, 0)
    assert BANK.advance / BANK.rate == 0.03


def test_a_frame_is_the_logarithm_of_its_filtered_power_spectrum() -> None:
    frames = features(SOUND, BANK)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    window *= 2 / window.sum()
    for number in (0, 1, 50):
        part = SOUND[80 * number :][:200].astype(np.float64)
        power = np.abs(np.fft.rfft(part * window, 256)) ** 2
        expected = np.log(mel_filters(BANK).astype(np.float64) @ power + FLOOR)
        assert frames[number] == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_a_sine_is_loudest_in_the_filter_of_its_frequency() -> None:
    for wanted in (5, 10, 15):
        filters = mel_filters(BANK)
        hertz = filters[wanted].argmax() * 8000 / 256
        sine = np.sin(2 * np.pi * hertz * np.arange(4000) / 8000).astype(np.float32)
        assert (features(sine, BANK)[:40].argmax(axis=1) == wanted).all()


def test_every_filter_hears_something() -> None:
    for bank in (BANK, Bank.usual(8000, 80, 1), Bank.usual(16_000, 40, 3), Bank.usual(1000, 40, 1)):
        assert (mel_filters(bank).sum(axis=1) > 0).all()
        assert mel_filters(bank).min() >= 0


def test_a_warp_moves_the_filters_up() -> None:
    centres = [mel_filters(BANK, warp).argmax(axis=1)[:15] for warp in (0.9, 1.0, 1.1)]
    assert (centres[0] <= centres[1]).all() and (centres[1] <= centres[2]).all()
    assert centres[0].sum() < centres[1].sum() < centres[2].sum()


@given(st.lists(st.integers(0, len(SOUND)), max_size=12), st.sampled_from([1, 2, 3, 5]))
def test_any_cut_of_a_sound_gives_the_same_bits(cuts: list[int], stack: int) -> None:
    bank = replace(BANK, stack=stack)
    stream = FilterBank(bank, MEAN, DEVIATION)
    pieces = [stream.feed(piece) for piece in np.split(SOUND, sorted(cuts))]
    cut = np.concatenate([*pieces, stream.finish()])
    assert np.array_equal(cut.view(np.int32), whole(SOUND, bank).view(np.int32))


@pytest.mark.parametrize("size", [1, 7, 80, 240, 241, 1000])
def test_chunks_of_one_size_give_the_same_bits(size: int) -> None:
    sound = SOUND[:1500]
    stream = FilterBank(BANK, MEAN, DEVIATION)
    pieces = [stream.feed(sound[begin : begin + size]) for begin in range(0, len(sound), size)]
    cut = np.concatenate([*pieces, stream.finish()])
    assert np.array_equal(cut.view(np.int32), whole(sound).view(np.int32))


def test_a_long_sound_is_transformed_in_blocks_of_the_same_bits() -> None:
    long = np.tile(SOUND, 12)
    stream = FilterBank(BANK, MEAN, DEVIATION)
    pieces = [stream.feed(piece) for piece in np.split(long, 37)] if len(long) % 37 == 0 else []
    pieces = pieces or [stream.feed(piece) for piece in np.array_split(long, 37)]
    cut = np.concatenate([*pieces, stream.finish()])
    assert np.array_equal(cut.view(np.int32), whole(long).view(np.int32))


def test_training_features_are_the_streams_before_normalisation() -> None:
    normalised = (features(SOUND, BANK) - MEAN) * (np.float32(1) / DEVIATION)
    assert np.array_equal(normalised.reshape(-1, 60), whole(SOUND))


@given(st.integers(1, 3000), st.integers(1, 6), st.integers(0, 500))
def test_silence_fills_up_the_last_step(samples: int, stack: int, tail: int) -> None:
    bank = replace(BANK, stack=stack, tail=tail)
    padded = samples + bank.padding(samples)
    assert bank.padding(samples) >= tail
    assert bank.steps(padded) * bank.advance + bank.span - bank.advance == padded
    fewer = padded - bank.advance
    assert fewer < max(samples + tail, bank.span)


def test_a_fork_goes_on_alone() -> None:
    stream = FilterBank(BANK, MEAN, DEVIATION)
    first = stream.feed(SOUND[:1001])
    stream.fork().finish()
    rest = np.concatenate([stream.feed(SOUND[1001:]), stream.finish()])
    assert np.array_equal(np.concatenate([first, rest]), whole(SOUND))


def test_silence_is_finite() -> None:
    assert np.isfinite(whole(np.zeros(5000, np.float32))).all()


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (None, "must have rate, window, hop, mels, stack, tail"),
        ({"rate": 8000}, "must have rate, window"),
        ({"rate": 8000, "window": 200, "hop": 0, "mels": 20, "stack": 3, "tail": 1, "context": 0}, "hop is 0"),
        (
            {"rate": 8000.0, "window": 200, "hop": 80, "mels": 20, "stack": 3, "tail": 1, "context": 0},
            "rate is 8000.0",
        ),
    ],
)
def test_a_damaged_description_is_refused(document: object, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        Bank.from_json(document)
