"""The recurrence of an attention decoder: all steps at once are its steps one by one, gradients and all."""

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from unrolled.models.attention import Memory, Weights, attend, attended_sequence

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS, ROWS, PLACES, WIDTH, HIDDEN = 5, 3, 7, 4, 6
GATES = {"rnn": 1, "lstm": 4, "gru": 3}
every_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


class Given:
    """Random inputs of a recurrence, leaves of autograd."""

    def __init__(self, cell: str, dtype: torch.dtype = torch.float64) -> None:
        generator = torch.Generator().manual_seed(0)

        def leaf(*shape: int) -> Tensor:
            drawn = 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)
            return drawn.to(dtype).requires_grad_()

        gates = GATES[cell] * HIDDEN
        self.cell = cell
        self.x_gates = leaf(STEPS, ROWS, gates)
        self.states = tuple(leaf(ROWS, HIDDEN) for _ in range(2 if cell == "lstm" else 1))
        self.keys, self.values = leaf(ROWS, PLACES, HIDDEN), leaf(ROWS, PLACES, WIDTH)
        self.past = (torch.arange(PLACES) >= torch.tensor([[7], [2], [5]]))[:, None]
        bias_hn = leaf(HIDDEN) if cell == "gru" else None
        self.weights = Weights(leaf(gates, WIDTH), leaf(gates, HIDDEN), bias_hn, leaf(WIDTH, HIDDEN), leaf(WIDTH))
        self.kept = (torch.rand(ROWS, WIDTH, generator=generator) > 0.4).to(dtype) / 0.6

    @property
    def memory(self) -> Memory:
        return Memory(self.keys, self.values, self.past)

    @property
    def leaves(self) -> list[Tensor]:
        every = [self.x_gates, *self.states, self.keys, self.values, *self.weights]
        return [leaf for leaf in every if leaf is not None]

    def at_once(self, kept: Tensor | None) -> Tensor:
        return attended_sequence(self.cell, self.x_gates, self.states, self.memory, self.weights, kept)

    def one_by_one(self, kept: Tensor | None) -> Tensor:
        attended, states, every = self.x_gates.new_zeros(ROWS, WIDTH), self.states, []
        for x_gates in self.x_gates:
            attended, states, _, _ = attend(self.cell, x_gates, attended, states, self.memory, self.weights)
            attended = attended if kept is None else attended * kept
            every.append(attended)
        return torch.stack(every)


@every_cell
@pytest.mark.parametrize("dropped", [False, True])
def test_all_steps_at_once_are_the_steps_one_by_one(cell: str, dropped: bool) -> None:
    given = Given(cell)
    kept = given.kept if dropped else None
    wanted = torch.randn(STEPS, ROWS, WIDTH, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    at_once, one_by_one = given.at_once(kept), given.one_by_one(kept)
    assert torch.equal(at_once, one_by_one)
    found = torch.autograd.grad(at_once, given.leaves, wanted)
    expected = torch.autograd.grad(one_by_one, given.leaves, wanted)
    for gradient, right in zip(found, expected, strict=True):
        assert right.any()
        assert_close(gradient, right)


@every_cell
def test_the_gradient_of_a_single_step_is_right(cell: str) -> None:
    given = Given(cell)
    given.x_gates = given.x_gates[:1].detach().requires_grad_()
    found = torch.autograd.grad(given.at_once(None).sum(), given.leaves)
    expected = torch.autograd.grad(given.one_by_one(None).sum(), given.leaves, allow_unused=True)
    for gradient, right in zip(found, expected, strict=True):
        assert_close(gradient, torch.zeros_like(gradient) if right is None else right)


@every_cell
def test_weights_and_memory_in_bfloat16_give_nearly_the_same(cell: str) -> None:
    given, smaller = Given(cell, torch.float32), Given(cell, torch.float32)
    small = [None if part is None else part.detach().bfloat16().requires_grad_() for part in smaller.weights]
    attended, hidden, _, combine, _ = small
    assert attended is not None and hidden is not None and combine is not None
    smaller.weights = smaller.weights._replace(attended=attended, hidden=hidden, combine=combine)
    smaller.keys, smaller.values = (
        part.detach().bfloat16().requires_grad_() for part in (smaller.keys, smaller.values)
    )
    exact, near = given.at_once(None), smaller.at_once(None)
    first = smaller.x_gates[0], smaller.x_gates.new_zeros(ROWS, WIDTH), smaller.states
    attention = attend(cell, *first, smaller.memory, smaller.weights)[2]
    assert near.dtype == attention.dtype == torch.float32 and not torch.equal(exact, near)
    assert (exact - near).abs().mean() < 0.02
    for right, gradient in zip(
        torch.autograd.grad(exact.sum(), given.leaves),
        torch.autograd.grad(near.sum(), smaller.leaves),
        strict=True,
    ):
        assert (right - gradient).norm() < 0.1 * right.norm() + 0.05


def test_places_past_a_row_are_never_looked_at() -> None:
    given = Given("lstm")
    _, _, attention, _ = attend(
        "lstm", given.x_gates[0], given.x_gates.new_zeros(ROWS, WIDTH), given.states, given.memory, given.weights
    )
    assert not attention[given.past[:, 0]].any()
    assert_close(attention.sum(1), torch.ones(ROWS, dtype=torch.float64))
