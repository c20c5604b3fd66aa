"""The pool of large arrays: what is freed is used again, and no more is held than was in use at one time."""

import os
import resource
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from unrolled import _engine, nn
from unrolled.ops import dispatch

PAGE = 2 << 20  # bytes, a block's grain
pytestmark = pytest.mark.usefixtures("one_thread", "empty_pool")


@pytest.fixture(autouse=True)
def empty_pool() -> Iterator[None]:
    """Nothing free before and after."""
    _engine.release_memory()
    yield
    _engine.release_memory()


def memory(*shape: int) -> Tensor:
    return from_dlpack(_engine.memory(shape))


def test_memory_has_the_shape_that_was_asked_for() -> None:
    x = memory(3, 5, 7)
    assert x.shape == (3, 5, 7) and x.is_contiguous() and x.dtype == torch.float32
    assert x.data_ptr() % PAGE == 0
    assert memory(4, 0).shape == (4, 0)


def test_what_is_freed_is_used_again() -> None:
    x = memory(PAGE)
    address, held = x.data_ptr(), _engine.held_memory()
    del x
    assert _engine.held_memory() == held
    y = memory(PAGE - 100)
    assert y.data_ptr() == address and _engine.held_memory() == held


def test_a_block_more_than_twice_as_large_is_not_taken() -> None:
    x = memory(3 * PAGE // 4)
    before = _engine.held_memory()
    del x
    y = memory(10)
    assert _engine.held_memory() == before - 2 * PAGE and y.shape == (10,)


def test_released_memory_is_held_no_more() -> None:
    before = _engine.held_memory()
    kept, freed = memory(PAGE), memory(PAGE)
    del freed
    nn.release_memory()
    assert _engine.held_memory() == before + kept.nbytes
    assert kept.zero_().eq(0).all()


@given(st.lists(st.one_of(st.integers(0, 9), st.integers(-20, -1)), max_size=60))
def test_no_more_is_held_than_was_in_use_at_once_and_nobody_shares(moves: list[int]) -> None:
    """A move from 0 on frees one of the arrays in use; one below takes so many grains."""
    _engine.release_memory()
    others, most, used = _engine.held_memory(), 0, list[Tensor]()
    for number, move in enumerate(moves):
        if move >= 0:
            if used:
                used.pop(move % len(used))
            continue
        x = memory(-move * PAGE // 4)
        x[0] = x[-1] = number
        used.append(x)
        most = max(most, sum(2 * one.nbytes for one in used))  # a block is at most twice what was asked for
        assert _engine.held_memory() - others <= most
    marks = [float(x[0]) for x in used]
    assert len(set(marks)) == len(marks) and all(float(x[-1]) == mark for x, mark in zip(used, marks, strict=True))


def test_a_capsule_that_nobody_claims_gives_its_memory_back() -> None:
    before = _engine.held_memory()
    for _ in range(5):
        _engine.memory((PAGE,))
    assert _engine.held_memory() == before + 4 * PAGE


def pages_taken(layer: torch.nn.Module, x: Tensor, grad: Tensor) -> int:
    """Pages that the system had to find in a pass forward and back."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    output, _ = layer(x)
    torch.autograd.backward(output, grad)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_training_step_uses_the_pages_of_the_one_before(kind: str) -> None:
    layer, x, grad = getattr(nn, kind)(1, 64), torch.randn(400, 100, 1), torch.ones(400, 100, 64)
    gates = 4 * 64 * x.numel() * 4  # bytes: more than the C library ever keeps in one block
    pages_taken(layer, x, grad)
    pages_taken(layer, x, grad)
    assert pages_taken(layer, x, grad) < gates // resource.getpagesize() // 4


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_of_what_is_recomputed_only_the_output_and_its_gradient_have_all_steps(kind: str) -> None:
    layer, x = getattr(nn, kind)(64, 64, recompute=20), torch.randn(400, 100, 64).requires_grad_()
    pages_taken(layer, x, torch.ones(400, 100, 64))
    assert 2 * x.nbytes <= _engine.held_memory() < 3 * x.nbytes


def test_the_pools_numbers_are_float32_and_others_lie_elsewhere() -> None:
    large = torch.empty(PAGE, dtype=torch.float64)
    assert dispatch.pooled(large) is large


def test_a_forked_child_takes_memory_too() -> None:
    x = memory(PAGE)
    child = os.fork()
    if child == 0:
        os._exit(0 if bool(memory(PAGE).zero_().eq(0).all()) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert x.nbytes == 4 * PAGE


def test_numpy_reads_it_too() -> None:
    x = memory(4, 5)
    x.fill_(3)
    assert np.array_equal(x.numpy(), np.full((4, 5), 3, np.float32))
