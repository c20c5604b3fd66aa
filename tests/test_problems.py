"""The problems of the growing gap against their definitions: what is right, what gives it away, what chance is."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled.errors import InputError
from unrolled.memory import sentences
from unrolled.memory.problems import ALPHABET, COPIED, DISTRACTORS, LONGEST, PROBLEMS, Drawn

gaps = st.integers(10, 80)
seeds = st.integers(0, 1000)


def drawn(name: str) -> Drawn:
    problem = PROBLEMS[name]
    assert isinstance(problem, Drawn)
    return problem


@given(gap=st.integers(2, 80), seed=seeds)
def test_adding_asks_for_the_sum_of_one_marked_number_of_each_half(gap: int, seed: int) -> None:
    examples = drawn("adding").draw(gap, 7, np.random.default_rng(seed))
    values, marks = examples.inputs[..., 0], examples.inputs[..., 1]
    assert examples.inputs.shape == (gap, 7, 2)
    assert ((values >= 0) & (values < 1)).all() and set(np.unique(marks)) <= {0.0, 1.0}
    assert (marks[: gap // 2].sum(0) == 1).all() and (marks[gap // 2 :].sum(0) == 1).all()
    assert examples.targets[0] == pytest.approx((values * marks).sum(0), abs=1e-6)


def test_chance_at_adding_is_the_variance_of_the_sum() -> None:
    targets = drawn("adding").draw(10, 100_000, np.random.default_rng(0)).targets
    assert targets.var() == pytest.approx(PROBLEMS["adding"].chance(10), rel=0.02)


@given(gap=st.integers(1, 80), seed=seeds)
def test_copy_asks_for_the_symbols_after_the_signal_and_for_blanks_before(gap: int, seed: int) -> None:
    examples = drawn("copy").draw(gap, 5, np.random.default_rng(seed))
    steps = examples.inputs.argmax(-1)
    assert (examples.inputs.sum(-1) == 1).all() and steps.shape == examples.targets.shape == (gap + 20, 5)
    assert (steps[:COPIED] < ALPHABET).all() and (steps[COPIED:] >= ALPHABET).all()
    signals = np.argwhere((steps == ALPHABET + 1).T)[:, 1]
    assert (signals == gap + COPIED - 1).all() and len(signals) == 5
    assert (examples.targets[-COPIED:] == steps[:COPIED]).all()
    assert (examples.targets[:-COPIED] == ALPHABET).all()


def test_chance_at_copy_is_knowing_the_blanks_and_guessing_the_symbols() -> None:
    targets = drawn("copy").draw(30, 20_000, np.random.default_rng(0)).targets
    frequency = np.bincount(targets[-COPIED:].ravel(), minlength=ALPHABET) / targets[-COPIED:].size
    assert frequency == pytest.approx(np.full(ALPHABET, 1 / ALPHABET), abs=0.01)
    nats = -np.log(1 / ALPHABET) * COPIED / len(targets)
    assert PROBLEMS["copy"].chance(30) == pytest.approx(nats)


@pytest.mark.parametrize(("name", "tenths"), [("order-2", (1, 5)), ("order-3", (1, 3, 6))])
@given(gap=gaps, seed=seeds)
def test_order_asks_which_symbols_came_in_turn(name: str, tenths: tuple[int, ...], gap: int, seed: int) -> None:
    examples = drawn(name).draw(gap, 9, np.random.default_rng(seed))
    steps = examples.inputs.argmax(-1)
    for row in range(9):
        places = np.flatnonzero(steps[:, row] < 2)
        assert len(places) == len(tenths)
        for place, tenth in zip(places, tenths, strict=True):
            assert tenth * gap // 10 <= place < (tenth + 1) * gap // 10
        said = "".join(str(steps[place, row]) for place in places)
        assert examples.targets[0, row] == int(said, 2)


@pytest.mark.parametrize("name", ["order-2", "order-3"])
def test_symbols_that_say_nothing_are_drawn_alike(name: str) -> None:
    inputs = drawn(name).draw(20, 20_000, np.random.default_rng(0)).inputs[..., 2:]
    assert inputs.mean((0, 1)) / inputs.mean() == pytest.approx(np.ones(DISTRACTORS), abs=0.02)


@pytest.mark.parametrize("name", ["order-2", "order-3"])
def test_chance_at_order_is_one_class_of_equally_many(name: str) -> None:
    problem = drawn(name)
    classes = problem.draw(20, 40_000, np.random.default_rng(0)).targets[0]
    share = np.bincount(classes, minlength=problem.outputs) / classes.size
    assert share.max() == pytest.approx(1 - problem.chance(20), abs=0.01)


@pytest.mark.parametrize("name", [name for name, problem in PROBLEMS.items() if isinstance(problem, Drawn)])
@settings(max_examples=20)
@given(seed=seeds)
def test_what_comes_after_the_gap_does_not_tell_the_answer(name: str, seed: int) -> None:
    """The last steps before the answer are the same in distribution for every answer: here, in their mean."""
    problem, gap = drawn(name), 40
    examples = problem.draw(gap, 4000, np.random.default_rng(seed))
    last = examples.inputs[-5:] if name != "copy" else examples.inputs[-COPIED - 5 :]
    answers = examples.targets[-1] if name != "adding" else examples.targets[-1] > 1
    if name == "adding":
        last = last[:, last[..., 1].sum(0) == 0]
        answers = answers[examples.inputs[-5:, :, 1].sum(0) == 0]
    means = [last[:, answers == one].mean(axis=1) for one in np.unique(answers)[:2]]
    assert np.abs(means[0] - means[1]).max() < 0.12


@given(gap=st.integers(sentences.SHORTEST, 300), seed=seeds)
def test_a_passage_has_exactly_the_gap_between_country_and_language(gap: int, seed: int) -> None:
    words, language = sentences.passage(gap, np.random.default_rng(seed))
    country = words[4]
    assert sentences.LANGUAGES[country] == language
    assert words[:4] == ["I", "grew", "up", "in"] and words[-2:] == ["speak", "fluent"]
    assert len(words) - 5 == gap
    assert words.count("I") == 2


def test_countries_and_languages_between_say_nothing_of_the_last_word() -> None:
    rng = np.random.default_rng(0)
    own, others = 0, 0
    for _ in range(2_000):
        words, language = sentences.passage(100, rng)
        named = [word for word in words[5:] if word in sentences.LANGUAGES]
        named += [word for word in words[5:] if word in sentences.LANGUAGES.values()]
        of_own = [word for word in named if language in (word, sentences.LANGUAGES.get(word))]
        own, others = own + len(of_own), others + len(named)
    assert others > 10_000
    assert own / others == pytest.approx(sentences.chance(), rel=0.15)


def test_a_corpus_has_passages_of_all_gaps_and_is_the_same_for_a_seed() -> None:
    text = sentences.corpus(50, 60_000, np.random.default_rng(0))
    assert text == sentences.corpus(50, 60_000, np.random.default_rng(0))
    lines = text.splitlines()
    lengths = {len(line.replace(".", " .").split()) - 7 for line in lines}
    assert lengths == set(range(4, 51))
    assert sum(len(line.replace(".", " .").split()) + 1 for line in lines) >= 60_000


def test_short_gaps_are_drawn_more_often_than_long_ones() -> None:
    lines = sentences.corpus(50, 60_000, np.random.default_rng(0)).splitlines()
    short = [len(line.replace(".", " .").split()) - 7 <= 10 for line in lines]
    shares = np.arange(4, 51) ** -0.75
    assert np.mean(short) == pytest.approx(shares[:7].sum() / shares.sum(), abs=4 * 0.5 / len(short) ** 0.5)


def test_in_a_text_no_space_stands_before_a_full_stop() -> None:
    assert sentences.written(["I", "grew", "up", ".", "yes", "."]) == "I grew up. yes."


@pytest.mark.parametrize("name", ["adding", "copy", "order-2", "order-3"])
def test_every_symbol_comes_and_every_step_of_adding_may_be_marked(name: str) -> None:
    problem = PROBLEMS[name]
    assert isinstance(problem, Drawn)
    inputs = problem.draw(10, 1000, np.random.default_rng(0)).inputs
    assert inputs.any((0, 1)).all()
    if name == "adding":
        assert inputs[:, :, 1].any(1).all()


def test_countries_are_drawn_alike() -> None:
    rng = np.random.default_rng(0)
    said = [sentences.passage(4, rng)[1] for _ in range(12_000)]
    share = max(said.count(language) for language in set(said)) / len(said)
    assert share == pytest.approx(sentences.chance(), rel=0.15)


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("gap", [0, -3, 10_000_000])
def test_a_gap_that_cannot_be_is_refused(name: str, gap: int) -> None:
    with pytest.raises(InputError, match=f"{name}: the gap is {gap}, expected"):
        PROBLEMS[name].check(gap)


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_gap_may_be_the_shortest_and_the_longest(name: str) -> None:
    for gap in (PROBLEMS[name].shortest, LONGEST):
        PROBLEMS[name].check(gap)
