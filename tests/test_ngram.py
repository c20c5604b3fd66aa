"""The n-gram baselines: a proper distribution, equal to the formula written out with dictionaries."""

from collections import Counter, defaultdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.tasks.text.ngram import NGram, ngram, unigram

Symbols = npt.NDArray[np.int64]


def random_text(seed: int, length: int, size: int) -> Symbols:
    """Symbols of very different frequency, each leaning on the one before, so that contexts repeat."""
    generator = np.random.default_rng(seed)
    table = generator.dirichlet(np.full(size, 0.2), size)
    text = [0]
    for _ in range(length - 1):
        text.append(int(generator.choice(size, p=table[text[-1]])))
    return np.array(text)


def after(model: NGram, context: Symbols) -> npt.NDArray[np.float64]:
    """P of each symbol after `context`."""
    streams = (np.append(context, symbol) for symbol in range(model.size))
    return np.array([model.probabilities(stream)[-1] for stream in streams])


class SlowKneserNey:
    """The formula of the module's docstring, an n-gram at a time."""

    def __init__(self, train: list[int], size: int, order: int) -> None:
        self.size = size
        self.counts: list[Counter[tuple[int, ...]]] = []
        for length in range(1, order + 1):
            if length == order:
                grams = [tuple(train[i : i + length]) for i in range(len(train) - length + 1)]
                self.counts.append(Counter(grams))
            else:
                before: defaultdict[tuple[int, ...], set[int]] = defaultdict(set)
                for i in range(len(train) - length + 1):
                    before[tuple(train[i : i + length])].add(train[i - 1] if i else -1)
                self.counts.append(Counter({gram: len(seen) for gram, seen in before.items()}))

    def discount(self, length: int, count: int) -> float:
        n = [0] + [sum(c == k for c in self.counts[length - 1].values()) for k in (1, 2, 3, 4)]
        if 0 in n[1:]:
            return 0.5
        k = min(count, 3)
        y = n[1] / (n[1] + 2 * n[2])
        return min(max(k - (k + 1) * y * n[k + 1] / n[k], 0.1), k)

    def probability(self, context: tuple[int, ...], symbol: int) -> float:
        length = len(context) + 1
        shorter = self.probability(context[1:], symbol) if context else 1 / self.size
        followers = {g[-1]: c for g, c in self.counts[length - 1].items() if g[:-1] == context}
        if not followers:
            return shorter
        total = sum(followers.values())
        saved = sum(self.discount(length, c) for c in followers.values())
        own = followers[symbol] - self.discount(length, followers[symbol]) if symbol in followers else 0.0
        return own / total + saved / total * shorter


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize(("seed", "length", "size"), [(0, 300, 4), (1, 60, 7), (2, 20, 3)])
def test_equals_the_formula_written_with_dictionaries(order: int, seed: int, length: int, size: int) -> None:
    text = random_text(seed, length + 30, size)
    train, held_out = text[:length], text[length:]
    slow = SlowKneserNey(train.tolist(), size, order)
    expected = [
        -np.log(slow.probability(tuple(text[i - order + 1 : i].tolist()), int(text[i])))
        for i in range(length, len(text))
    ]
    assert ngram(train, held_out, size, order) == pytest.approx(np.mean(expected), abs=1e-12)


def test_every_discount_is_used_by_the_comparison_above() -> None:
    text = random_text(0, 300, 4)
    slow = SlowKneserNey(text.tolist(), 4, 5)
    assert len({slow.discount(5, count) for count in (1, 2, 3)}) == 3


@pytest.mark.parametrize("order", [1, 2, 4])
def test_probabilities_of_all_next_symbols_sum_to_one(order: int) -> None:
    model = NGram(random_text(3, 500, 6), size=9, order=order)  # three symbols never occur
    generator = np.random.default_rng(4)
    for length in (0, 1, 2, 3, 8):
        probability = after(model, generator.integers(0, 9, length))
        assert probability.sum() == pytest.approx(1.0, abs=1e-12)
        assert (probability > 0).all()


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), max_size=6))
@settings(max_examples=60, deadline=None)
def test_any_short_text_gives_a_distribution(train: list[int], context: list[int]) -> None:
    probability = after(NGram(np.array(train), size=4, order=3), np.array(context, np.int64))
    assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    assert (probability > 0).all()


def test_a_unigram_by_hand() -> None:
    # a a a b of V = 3: too small for estimated discounts, so each count loses 0.5 and 1.0 of 4 goes to 1 / 3
    expected = {0: 2.5 / 4 + 0.25 / 3, 1: 0.5 / 4 + 0.25 / 3, 2: 0.25 / 3}
    for symbol, probability in expected.items():
        assert unigram(np.array([0, 0, 0, 1]), np.array([symbol]), 3) == pytest.approx(-np.log(probability))


def test_a_bigram_by_hand() -> None:
    # a b a b b: a follows the beginning and b, b follows a and b, so below P(a) = P(b) = 1.5 / 4 + 0.25 / 2
    # after b stand a and b once each: 0.5 / 2 of its own, 1 / 2 from below
    model = NGram(np.array([0, 1, 0, 1, 1]), size=2, order=2)
    assert after(model, np.array([1])) == pytest.approx([0.5, 0.5])
    # after a stands b twice: 1.5 / 2 of its own and 0.5 / 2 from below
    assert after(model, np.array([0])) == pytest.approx([0.125, 0.875])


def test_order_one_is_the_unigram() -> None:
    text = random_text(5, 400, 5)
    assert ngram(text[:300], text[300:], 5, order=1) == unigram(text[:300], text[300:], 5)


def test_a_periodic_text_costs_almost_nothing() -> None:
    text = np.tile([0, 1, 2, 3, 1], 4000)
    assert ngram(text[:18000], text[18000:], 4) < 0.001
    assert unigram(text[:18000], text[18000:], 4) > 1.3


def test_the_held_out_text_continues_the_training_text() -> None:
    text = np.tile([0, 1, 2, 3, 4, 5, 6, 7], 500)
    assert ngram(text[:2003], text[2003:2004], 8) < 0.01  # one symbol, known only from those before it


def test_longer_contexts_help_on_a_text_with_memory() -> None:
    text = random_text(6, 5000, 8)
    losses = [ngram(text[:4500], text[4500:], 8, order) for order in (1, 2)]
    assert losses[1] < losses[0] - 0.2


def test_a_symbol_outside_the_training_text_costs_a_finite_number_of_nats() -> None:
    text = random_text(7, 200, 3)
    assert 1.0 < ngram(text, np.array([3, 3, 3]), 4) < 30.0


def test_large_vocabularies_do_not_overflow() -> None:
    # with plain powers of V a 5-gram key would need 200 bits
    size = 2**40
    text = np.tile(np.array([0, size - 1, size // 2]), 300)
    assert ngram(text[:800], text[800:], size) < 0.1


def test_small_unsigned_ids_are_as_good_as_wide_ones() -> None:
    text = random_text(8, 2000, 256)
    narrow = text.astype(np.uint8)
    assert ngram(narrow[:1800], narrow[1800:], 256) == ngram(text[:1800], text[1800:], 256)


def test_training_texts_shorter_than_the_order_work() -> None:
    assert np.isfinite(ngram(np.array([0, 1]), np.array([0, 1, 1]), 2, order=5))
