"""Beam search: with a beam wide enough it finds what trying every sequence finds."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from tolerances import TOLERANCES
from unrolled import beam
from unrolled.beam import Hypothesis
from unrolled.models.decoder import AttentionDecoder

pytestmark = pytest.mark.usefixtures("one_thread")

SYMBOLS, START, END, LONGEST = 4, 0, 3, 4
LENGTHS = torch.tensor([5, 2, 3])
MEMORY = torch.randn(5, 3, 6, generator=torch.Generator().manual_seed(1))


def decoder(seed: int, cell: str = "lstm") -> AttentionDecoder:
    torch.manual_seed(seed)
    made = AttentionDecoder(SYMBOLS, 5, 7, 6, cell)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.7)
    return made


@torch.no_grad()
def scored(
    network: AttentionDecoder, row: int, symbols: tuple[int, ...], penalty: float, coverage: float
) -> float:
    """The score of one sequence, by its definition."""
    length = int(LENGTHS[row])
    state = network.start(MEMORY[:length, row : row + 1], LENGTHS[row : row + 1])
    total, seen = 0.0, torch.zeros(length)
    for before, symbol in itertools.pairwise((START, *symbols, END)):
        logs, attention, state = network.step(torch.tensor([before]), state)
        total += logs[0, symbol].item()
        seen += attention[0]
    covered = sum(math.log(min(1.0, part)) for part in seen.tolist())
    return float(total / ((5 + len(symbols) + 1) / 6) ** penalty + coverage * covered)


def close(score: float) -> object:
    return pytest.approx(score, rel=TOLERANCES[torch.float32].rtol, abs=TOLERANCES[torch.float32].atol)


def found(network: AttentionDecoder, width: int, **options: float) -> list[list[Hypothesis]]:
    settings = {"start": START, "end": END, "beam": width, "longest": LONGEST}
    return beam.search(network, MEMORY, LENGTHS, **settings, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("penalty", "coverage"), [(0.0, 0.0), (1.0, 0.0), (0.6, 0.4), (2.0, 1.0)])
def test_the_best_of_all_sequences_is_found(seed: int, penalty: float, coverage: float) -> None:
    network = decoder(seed)
    every = [s for n in range(LONGEST + 1) for s in itertools.product(range(END), repeat=n)]
    for row, (best, *others) in enumerate(found(network, 200, length_penalty=penalty, coverage=coverage)):
        scores = {symbols: scored(network, row, symbols, penalty, coverage) for symbols in every}
        assert best.score == close(max(scores.values()))
        assert best.score == close(scores[tuple(best.symbols)])
        for other in others:
            assert other.score == close(scores[tuple(other.symbols)])
            assert other.score <= best.score


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_beam_of_one_takes_the_likeliest_symbol(cell: str) -> None:
    network = decoder(5, cell)
    for row, (only,) in enumerate(found(network, 1)):
        state = network.start(MEMORY[:, row : row + 1], LENGTHS[row : row + 1])
        symbols = [START]
        while symbols[-1] != END and len(symbols) <= LONGEST:
            logs, _, state = network.step(torch.tensor(symbols[-1:]), state)
            symbols.append(int(logs.argmax()))
        assert only.symbols == [symbol for symbol in symbols[1:] if symbol != END]


@pytest.mark.parametrize("width", [2, 3, 7])
def test_a_row_is_searched_as_if_alone(width: int) -> None:
    network = decoder(6)
    for row, together in enumerate(found(network, width, length_penalty=1.0, coverage=0.2)):
        length = int(LENGTHS[row])
        (alone,) = beam.search(
            network, MEMORY[:length, row : row + 1], LENGTHS[row : row + 1], start=START, end=END, beam=width,
            longest=LONGEST, length_penalty=1.0, coverage=0.2,
        )  # fmt: skip
        assert [one.symbols for one in together] == [one.symbols for one in alone]
        assert [one.score for one in together] == [close(one.score) for one in alone]
        assert 1 <= len(together) <= width
        for one in together:
            assert one.attention.shape == (len(one.symbols) + 1, length)
            torch.testing.assert_close(one.attention.sum(1), torch.ones(len(one.symbols) + 1))


class ByTheLast:
    """A decoder whose next symbol depends on the last one alone: `chances` [V, V] by that."""

    def __init__(self, chances: list[list[float]]) -> None:
        self._logs = torch.tensor(chances).log()

    def start(self, memory: Tensor, lengths: Tensor) -> "ByTheLast":
        return self

    def step(self, symbols: Tensor, state: "ByTheLast") -> tuple[Tensor, Tensor, "ByTheLast"]:
        return self._logs[symbols], torch.ones(len(symbols), 1), state

    def choose(self, hypotheses: Tensor, rows: Tensor | None) -> "ByTheLast":
        return self


def written(chances: list[list[float]], width: int, longest: int, penalty: float) -> list[list[int]]:
    """What is found, the best first; the last symbol is the end."""
    (hypotheses,) = beam.search(
        ByTheLast(chances), torch.zeros(1, 1, 1), torch.tensor([1]), start=0, end=len(chances) - 1, beam=width,
        longest=longest, length_penalty=penalty,
    )  # fmt: skip
    return [one.symbols for one in hypotheses]


def test_a_longer_sequence_that_may_still_be_better_is_waited_for() -> None:
    # log 0.48 / (7 / 6) is more than log 0.52, but log 0.48 / (6 / 6) would not be.
    assert written([[0.0, 0.48, 0.52], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], 2, 1, 1.0) == [[1], []]
    assert written([[0.0, 0.45, 0.55], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]], 2, 1, 1.0) == [[]]


def test_a_row_is_done_when_as_many_sequences_are_finished_as_the_beam_is_wide() -> None:
    chances = [[0.0, 0.48, 0.52], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]]
    assert written(chances, 1, 1, 1.0) == [[]]


def never_ending() -> AttentionDecoder:
    network = decoder(7)
    with torch.no_grad():
        network.bias[END] = -30.0
    return network


@pytest.mark.parametrize("longest", [0, 1, 6])
def test_no_sequence_is_longer_than_the_longest(longest: int) -> None:
    rows = beam.search(never_ending(), MEMORY, LENGTHS, start=START, end=END, beam=3, longest=longest)
    assert all(len(best.symbols) == longest for best, *_ in rows)


def test_coverage_prefers_what_looks_everywhere() -> None:
    def least_seen(hypotheses: list[Hypothesis]) -> Tensor:
        return hypotheses[0].attention.sum(0).clamp(max=1).log().sum()

    for seed in range(3):
        plain, covering = (found(decoder(seed), 200, coverage=weight) for weight in (0.0, 50.0))
        for a, b in zip(plain, covering, strict=True):
            assert least_seen(b) >= least_seen(a) - TOLERANCES[torch.float32].atol
