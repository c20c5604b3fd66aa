"""Layers stepped from outside: right in every format, the same bits in any company, no allocation."""

import copy
import hashlib
import math
import pickle
import shutil
import subprocess
from collections.abc import Callable
from functools import cache, partial
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.utils.prune import l1_unstructured

from programs import python
from small import random
from tolerances import assert_close, assert_same_bits
from unrolled import _engine, nn
from unrolled.errors import InputError
from unrolled.floats import Floats
from unrolled.ops import cells
from unrolled.stepper import WEIGHTS, State, Stepper, packed

pytestmark = pytest.mark.usefixtures("one_thread")

CELLS = ("lstm", "gru", "rnn_tanh", "rnn_relu")
GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
ODD_SIZES = (1, 3, 17, 63, 130)
every_cell = pytest.mark.parametrize("cell", CELLS)
every_format = pytest.mark.parametrize("weights", WEIGHTS)
# One fixture serves all examples of a property: it only says which instruction set runs.
few_examples = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])

Layer = dict[str, Floats]


@cache
def layers_of(cell: str, inputs: int, units: int, layers: int, bias: bool = True) -> list[Layer]:
    rows = GATES[cell] * units
    made: list[Layer] = []
    for number in range(layers):
        width = units if number else inputs
        scale = (width + units) ** -0.5
        matrices = [random(rows, size, seed=number, scale=scale) for size in (width, units)]
        layer = dict(zip(("weight_ih", "weight_hh"), matrices, strict=True))
        if bias:
            layer |= {name: random(rows, seed=number + 5 * n) for n, name in ((1, "bias_ih"), (2, "bias_hh"))}
        made.append(layer)
    return made


def stepper(
    cell: str,
    inputs: int,
    units: int,
    layers: int = 1,
    weights: str = "float32",
    batch: int = 1,
    bias: bool = True,
) -> Stepper:
    return Stepper(packed(cell, inputs, units, layers_of(cell, inputs, units, layers, bias), weights), batch)


def rounded(weight: Floats, weights: str) -> Tensor:
    """The weights [outputs, K] that a format stands for, in float64."""
    exact = torch.from_numpy(weight)
    if weights == "bfloat16":
        exact = exact.bfloat16()
    elif weights == "int8":
        most = np.abs(weight).max(axis=1, keepdims=True)
        exact = torch.from_numpy(np.rint(weight * (np.float32(127) / most)) * (most / np.float32(127)))
    return exact.double()


def rounded_inputs(x: Floats, weights: str) -> Tensor:
    """The rows [B, K] that are multiplied, in float64: for int8 weights they are rounded to 63 levels each way."""
    if weights != "int8":
        return torch.from_numpy(x).double()
    most = np.maximum(np.abs(x).max(axis=1, keepdims=True), np.float32(1e-30))
    whole = np.rint(x * (np.float32(63) / most))
    return torch.from_numpy(whole * (most / np.float32(63))).double()


def reference_step(cell: str, layer: Layer, weights: str, x: Floats, h: Floats, c: Floats | None) -> list[Tensor]:
    """h [B, H] and, for an LSTM, c after one step of one layer, by `unrolled.ops.cells` in float64."""
    H = h.shape[1]
    weight_ih, weight_hh = (rounded(layer[name], weights) for name in ("weight_ih", "weight_hh"))
    none = np.zeros(GATES[cell] * H)
    bias_ih, bias_hh = (torch.from_numpy(layer.get(name, none)).double() for name in ("bias_ih", "bias_hh"))
    gates, state = rounded_inputs(x, weights) @ weight_ih.T + bias_ih, rounded_inputs(h, weights)
    if c is not None:
        return list(cells.lstm_step(gates + bias_hh, weight_hh, state, torch.from_numpy(c).double())[:2])
    if cell != "gru":
        return [cells.rnn_step(gates + bias_hh, weight_hh, state, relu=cell == "rnn_relu")]
    gates[:, : 2 * H] += bias_hh[: 2 * H]
    mixed, parts = cells.gru_step(gates, weight_hh, bias_hh[2 * H :], state)
    return [mixed + parts[:, H : 2 * H] * (torch.from_numpy(h) - state)]  # what z keeps is not rounded


@every_cell
@every_format
@pytest.mark.parametrize("layers", [1, 3])
def test_a_step_computes_its_cell_with_the_weights_of_its_format(
    isa: str, cell: str, weights: str, layers: int
) -> None:
    for units, inputs, bias in product(ODD_SIZES, (1, 6, 33), (True, False)):
        one, what = stepper(cell, inputs, units, layers, weights, 2, bias), f"{units} units, {inputs} inputs"
        one.state = State(
            random(layers, 2, units), random(layers, 2, units, seed=1) if one.state.c is not None else None
        )
        for x in random(2, 2, inputs):
            before = one.state
            y, after = one.step(x, out=np.full((2, units), np.nan, np.float32)), one.state
            for number, layer in enumerate(layers_of(cell, inputs, units, layers, bias)):
                c = None if before.c is None else before.c[number]
                expected = reference_step(cell, layer, weights, x, before.h[number], c)
                assert_close(torch.from_numpy(after.h[number]), expected[0], f"h, {what}")
                if after.c is not None:
                    assert_close(torch.from_numpy(after.c[number]), expected[1], f"c, {what}")
                x = after.h[number]
            assert np.array_equal(y, after.h[-1])


@every_format
def test_narrow_linear_weights_multiply_as_what_they_stand_for(isa: str, weights: str) -> None:
    for rows, inputs, outputs in product((1, 9), (1, 17, 130), ODD_SIZES):
        x, weight, bias = random(rows, inputs), random(outputs, inputs, scale=inputs**-0.5), random(outputs)
        y = np.full((rows, outputs), np.nan, np.float32)
        _engine.Linear(weight, bias, weights).run(x, y)
        exact = rounded_inputs(x, weights) @ rounded(weight, weights).T
        assert_close(torch.from_numpy(y), exact + torch.from_numpy(bias), f"{rows} by {inputs} by {outputs}")


def test_int8_sums_of_very_many_products_are_right(isa: str) -> None:
    x, weight = np.ones((1, 300_000), np.float32), np.ones((3, 300_000), np.float32)
    y = np.full((1, 3), np.nan, np.float32)
    _engine.Linear(weight, np.zeros(3, np.float32), "int8").run(x, y)
    assert np.allclose(y, 300_000, rtol=1e-6)


def given_and_kept(stepped: Stepper, ys: list[Floats]) -> list[Floats]:
    """The outputs, and h and c after them."""
    return [one for one in (np.concatenate(ys), stepped.state.h, stepped.state.c) if one is not None]


@every_cell
@few_examples
@given(data=st.data())
def test_a_rows_bits_depend_on_no_batch_no_cut_and_no_thread(isa: str, cell: str, data: Any) -> None:
    weights, layers = data.draw(st.sampled_from(WEIGHTS)), data.draw(st.integers(1, 3))
    units, inputs = data.draw(st.sampled_from([1, 5, 16, 33, 64, 130, 300])), data.draw(st.integers(1, 20))
    steps, batch = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 12))
    xs = random(steps, batch, inputs, seed=data.draw(st.integers(0, 9)))
    made = partial(stepper, cell, inputs, units, layers, weights)
    torch.set_num_threads(1)
    whole = made(batch=batch)
    expected = given_and_kept(whole, [whole.run(xs)])
    order = data.draw(st.permutations(range(batch)))
    for begin, end in pairwise([0, *sorted(data.draw(st.sets(st.integers(1, batch)))), batch]):
        rows = order[begin:end]
        if rows:
            part, ys, t = made(batch=len(rows)), [], 0
            while t < steps:
                torch.set_num_threads(data.draw(st.sampled_from([1, 2])))
                cut = t + data.draw(st.integers(1, steps - t))
                x = np.ascontiguousarray(xs[t:cut, rows])
                ys.append(part.step(x[0])[None] if cut == t + 1 else part.run(x))
                t = cut
            assert_same_bits(given_and_kept(part, ys), [one[:, rows] for one in expected])


@every_cell
@every_format
def test_a_state_may_lie_in_records_of_something_larger(isa: str, cell: str, weights: str) -> None:
    one, xs, count = stepper(cell, 6, 33, 2, weights, batch=5), random(4, 5, 6), 2 if cell == "lstm" else 1
    one.state = State(random(2, 5, 33), random(2, 5, 33, seed=1) if cell == "lstm" else None)
    records = np.zeros(5, [("before", "<i4"), ("h", "<f4", (2, 33)), ("c", "<f4", (2, 33)), ("after", "<i4")])
    before, after = one.state, np.full((4, 5, 33), np.nan, np.float32)
    views = [records[name].swapaxes(0, 1) for name in ("h", "c")]
    for view, part in zip(views, (before.h, before.c), strict=True):
        view[:] = np.nan if part is None else part
    one.stack.run(xs[:3], after[:3], *views[:count], *[None] * (2 - count))
    _engine.Steps(one.stack, *views[:count], *[None] * (2 - count)).step(xs[3], after[3])
    assert_same_bits([after, *views[:count]], given_and_kept(one, [one.run(xs)]))
    assert not records["before"].any() and not records["after"].any()
    assert cell == "lstm" or np.isnan(records["c"]).all()


@pytest.mark.parametrize(
    ("h", "message"),
    [
        (np.zeros((1, 17, 2), np.float32).swapaxes(1, 2), "h: expected the units of a row next to each other"),
        (np.zeros(2, "i1,(1,17)f4")["f1"].swapaxes(0, 1), "h: expected float32, got an array that is not aligned"),
        (np.zeros((1, 2, 17)), "h: expected float32, got an array of format d"),
        (np.zeros((1, 3, 17), np.float32), r"h: expected shape \[1, 2, 17\], got \[1, 3, 17\]"),
        (np.broadcast_to(np.float32(0), (1, 2, 17)), "h: expected a writable float32 array"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(h: Any, message: str) -> None:
    stack, x, y = stepper("gru", 6, 17).stack, random(2, 6), np.empty((2, 17), np.float32)
    with pytest.raises((TypeError, ValueError), match=f"^{message}$"):
        stack.run(x[None], y[None], h, None)


def test_a_state_of_fewer_layers_than_its_stack_has_since_is_refused() -> None:
    stack, zeros = stepper("gru", 17, 17).stack, partial(np.zeros, dtype=np.float32)
    steps = _engine.Steps(stack, zeros((1, 2, 17)), None)
    stack.add_layer(zeros((51, 17)), zeros((51, 17)))
    with pytest.raises(ValueError, match=r"^the stack has other layers than"):
        steps.step(zeros((2, 17)), zeros((2, 17)))


@every_cell
@every_format
def test_two_threads_give_the_bits_of_one(isa: str, cell: str, weights: str) -> None:
    for batch in (1, 9):
        found = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            one = stepper(cell, 600, 600, 2, weights, batch)  # work enough for two even with int8
            xs = random(3, batch, 600)
            found.append(given_and_kept(one, [one.step(xs[0])[None], one.run(xs)]))
        assert_same_bits(found[1], found[0])


@every_format
@pytest.mark.parametrize(
    ("cell", "units", "layers"), [("lstm", 100, 1), ("rnn_tanh", 180, 1), ("gru", 70, 2), ("lstm", 150, 2)]
)
def test_a_small_layers_step_gives_the_same_bits_by_every_way_that_is_tried(
    cell: str, units: int, layers: int, weights: str
) -> None:
    xs = random(2_000, 1, units)  # more than a trial of all ways has
    expected = stepper(cell, units, units, layers, weights).run(xs)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        one = stepper(cell, units, units, layers, weights)
        assert_same_bits([np.stack([one.step(x) for x in xs])], [expected])


VECTOR_SETS = [name for name in _engine.isas() if name != "generic"]
# The same on x86-64 (AVX2, AVX-512) and on ARM (NEON).
RECORDED_BITS = (
    ("lstm", "float32", "545e9b1678e9a24c"),
    ("lstm", "bfloat16", "61826e78fd08281a"),
    ("lstm", "int8", "6526f4649e567d1d"),
    ("gru", "float32", "d983589a9d8a433e"),
    ("rnn_tanh", "float32", "534a38d2f6030255"),
)


@pytest.mark.skipif(len(VECTOR_SETS) < 2, reason="this machine has only one set of vector instructions")
@every_cell
@every_format
def test_all_vector_instruction_sets_agree_to_the_bit(cell: str, weights: str) -> None:
    before = _engine.isa()
    for units, inputs in product((1, 17, 64, 130), (1, 7, 64)):
        found = []
        for name in VECTOR_SETS:
            _engine.use_isa(name)
            one = stepper(cell, inputs, units, 2, weights, batch=5)
            xs = random(5, 5, inputs)
            found.append(given_and_kept(one, [one.step(xs[0])[None], one.run(xs)]))
        _engine.use_isa(before)
        for other in found[1:]:
            assert_same_bits(other, found[0])


def numbers_of(*shape: int, scale: float = 1.0) -> Floats:
    """Numbers between -scale and scale that are the same on every machine."""
    count = math.prod(shape)
    return ((np.arange(count) * 7919 % 2003 - 1001) / 1001 * scale).astype(np.float32).reshape(shape)


@pytest.mark.skipif(not VECTOR_SETS, reason="this machine has no set of vector instructions")
@pytest.mark.parametrize(("cell", "weights", "expected"), RECORDED_BITS)
def test_a_stream_may_move_between_processors_of_any_make(cell: str, weights: str, expected: str) -> None:
    rows = GATES[cell] * 70
    layer = {
        "weight_ih": numbers_of(rows, 33, scale=0.2),
        "weight_hh": numbers_of(rows, 70, scale=0.2),
        "bias_ih": numbers_of(rows),
        "bias_hh": numbers_of(rows),
    }
    one = Stepper(packed(cell, 33, 70, [layer], weights), batch=5)
    y = one.run(numbers_of(7, 5, 33))
    assert hashlib.sha256(y.tobytes()).hexdigest()[:16] == expected


@every_cell
@every_format
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_nan_in_one_row_never_reaches_another(isa: str, cell: str, weights: str, poison: float) -> None:
    xs = random(4, 7, 6)
    clean = stepper(cell, 6, 33, 2, weights, batch=7)
    expected = given_and_kept(clean, [clean.run(xs)])
    xs[1, 3, 2] = poison
    soiled = stepper(cell, 6, 33, 2, weights, batch=7)
    found = given_and_kept(soiled, [soiled.run(xs)])
    others = [row for row in range(7) if row != 3]
    assert_same_bits([one[:, others] for one in found], [one[:, others] for one in expected])


@every_cell
@every_format
def test_nan_stays_in_its_row_for_good(isa: str, cell: str, weights: str) -> None:
    xs = random(6, 3, 6)
    xs[2, 1, 4] = np.nan
    y = stepper(cell, 6, 17, 2, weights, batch=3).run(xs)
    assert not np.isnan(y[:2]).any()
    assert np.isnan(y[2:, 1]).all()


@every_format
def test_tiny_inputs_of_a_row_are_zero_and_not_nan(isa: str, weights: str) -> None:
    tiny, zero = (stepper("lstm", 6, 17, 1, weights).step(np.full((1, 6), x, np.float32)) for x in (1e-38, 0))
    assert np.array_equal(tiny, zero)


@every_format
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number_shows_in_its_output_and_no_other(
    isa: str, weights: str, poison: float
) -> None:
    y = np.empty((1, 3), np.float32)
    for place in range(5):
        weight = np.ones((3, 5), np.float32)
        weight[1, place] = poison
        _engine.Linear(weight, None, weights).run(np.ones((1, 5), np.float32), y)
        assert np.isfinite(y).tolist() == [[True, False, True]], f"weight {place}"


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_narrow_weights_take_less_memory(weights: str) -> None:
    bytes_of = {
        one: packed("lstm", 64, 64, layers_of("lstm", 64, 64, 1), one).bytes for one in ("float32", weights)
    }
    assert bytes_of[weights] < bytes_of["float32"] * {"bfloat16": 0.55, "int8": 0.3}[weights]


COUNTER = """
#include <stddef.h>
long allocations;
#define COUNTED __atomic_fetch_add(&allocations, 1, __ATOMIC_RELAXED)
void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t),
    *__libc_memalign(size_t, size_t);
void *malloc(size_t n) { COUNTED; return __libc_malloc(n); }
void *calloc(size_t n, size_t m) { COUNTED; return __libc_calloc(n, m); }
void *realloc(void *p, size_t n) { COUNTED; return __libc_realloc(p, n); }
void *aligned_alloc(size_t a, size_t n) { COUNTED; return __libc_memalign(a, n); }
"""

STEPS_COUNTED = """
import ctypes, itertools
import numpy as np
from unrolled.stepper import Stepper, packed

count = ctypes.c_long.in_dll(ctypes.CDLL(None), "allocations")

def counted(run, times):
    before = count.value
    for _ in itertools.repeat(None, times):
        run()
    return count.value - before

weight = np.zeros((4 * 600, 600), np.float32)
x, out = np.ones((1, 600), np.float32), np.empty((1, 600), np.float32)
for weights in ("float32", "bfloat16", "int8"):
    stepper = Stepper(packed("lstm", 600, 600, [{"weight_ih": weight, "weight_hh": weight}] * 2, weights))
    counted(lambda: stepper.step(x, out), 3)
    print(weights, counted(lambda: stepper.step(x, out), 30))
print("arrays", counted(lambda: np.empty(10**6), 5))  # what the counter shows where there is something to count
"""


@pytest.mark.skipif(not shutil.which("cc"), reason="counting allocations takes a C compiler")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_allocates_nothing(tmp_path: Path, threads: int) -> None:
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    found = python(STEPS_COUNTED, LD_PRELOAD=str(library), OMP_NUM_THREADS=str(threads))
    assert found.stderr == ""
    assert found.stdout == "float32 0\nbfloat16 0\nint8 0\narrays 5\n"


LAYERS: dict[str, Callable[..., nn.LSTM | nn.GRU | nn.RNN]] = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "rnn_tanh": nn.RNN,
    "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
}


@every_cell
@pytest.mark.parametrize("bias", [True, False])
def test_a_layers_stepper_goes_on_as_the_layer_does(cell: str, bias: bool) -> None:
    torch.manual_seed(0)
    layer = LAYERS[cell](6, 33, num_layers=2, bias=bias)
    xs = random(9, 3, 6)
    with torch.no_grad():
        expected, _ = layer(torch.from_numpy(xs))
    one = layer.stepper(batch=3)
    y = np.concatenate([one.run(xs[:4]), *(one.step(x)[None] for x in xs[4:])])
    assert_close(torch.from_numpy(y), expected)


def test_parameters_may_be_shared_or_made_of_others() -> None:
    layer = nn.LSTM(4, 4, num_layers=2, peephole=True, layer_norm=True)
    layer.weight_hh_l1 = layer.weight_hh_l0
    torch.nn.utils.parametrizations.weight_norm(layer, "weight_ih_l0")
    l1_unstructured(layer, "weight_ih_l1", 0.5)  # type: ignore[no-untyped-call]
    layer.register_parameter("mine_l0", torch.nn.Parameter(torch.zeros(1)))
    x = torch.randn(6, 1, 4, generator=torch.Generator().manual_seed(0))
    assert_close(torch.from_numpy(layer.stepper().run(x.numpy())), layer(x)[0].detach())


def test_a_stepper_keeps_the_weights_it_was_made_of() -> None:
    layer = nn.GRU(6, 33)
    one, x = layer.stepper(), random(1, 6)
    before = one.step(x)
    with torch.no_grad():
        layer.get_parameter("weight_ih_l0").zero_()
    one.reset()
    assert np.array_equal(one.step(x), before)


def test_a_state_is_taken_and_put_back() -> None:
    one, xs = stepper("lstm", 6, 17, 2), random(8, 1, 6)
    one.run(xs[:3])
    state = one.state
    first = one.run(xs[3:])
    one.state = state
    assert np.array_equal(one.run(xs[3:]), first)
    one.state = state  # what ran since has not changed it
    assert np.array_equal(one.run(xs[3:]), first)
    one.state = State(np.asfortranarray(state.h), np.asfortranarray(state.c))
    assert np.array_equal(one.run(xs[3:]), first)


def test_a_reset_forgets_everything() -> None:
    one, xs = stepper("lstm", 6, 17, 2), random(8, 1, 6)
    first = one.run(xs)
    one.reset()
    assert np.array_equal(one.run(xs), first)


def test_no_steps_give_nothing_and_change_nothing() -> None:
    one, xs = stepper("lstm", 6, 17), random(3, 1, 6)
    one.run(xs)
    before = one.state
    assert one.run(xs[:0]).shape == (0, 1, 17)
    assert np.array_equal(one.state.h, before.h)


def test_results_are_the_callers_to_keep() -> None:
    one, xs = stepper("gru", 6, 17), random(2, 1, 6)
    first = one.step(xs[0])
    kept = first.copy()
    one.step(xs[1])
    assert np.array_equal(first, kept)


def misaligned(dtype: Any, count: int) -> Any:
    """Zeros [1, count] that begin a byte behind where numbers of their size should."""
    return np.zeros(count * np.dtype(dtype).itemsize + 1, np.uint8)[1:].view(dtype)[None]


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((1, 6), np.float32), ValueError, r"out: expected shape \[1, 17\], got \[1, 6\]"),
        (np.zeros((1, 17)), TypeError, "out: expected float32, got an array of format d"),
        (misaligned(np.float32, 17), TypeError, "out: expected float32, got an array that is not aligned"),
        ([[0.0] * 17], TypeError, "out: expected a C-contiguous writable float32 array"),
    ],
)
def test_an_output_that_does_not_fit_is_refused(out: Any, error: type[Exception], message: str) -> None:
    one = stepper("lstm", 6, 17)
    with pytest.raises(error, match=f"^{message}$"):
        one.step(random(1, 6), out)
    assert not one.state.h.any()


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (np.zeros((1, 7), np.float32), ValueError, r"x: expected shape \[1, 6\], got \[1, 7\]"),
        (np.zeros(6, np.float32), ValueError, r"x: expected shape \[1, 6\], got \[6\]"),
        (np.zeros((2, 6), np.float32), ValueError, r"x: expected shape \[1, 6\], got \[2, 6\]"),
        (np.zeros((1, 6)), TypeError, "x: expected float32, got an array of format d"),
        (np.zeros((6, 1), np.float32).T[:, ::-1], TypeError, "x: expected a C-contiguous float32 array"),
        (misaligned(np.float32, 6), TypeError, "x: expected float32, got an array that is not aligned"),
        ([[0.0] * 6], TypeError, "x: expected an array of NumPy's, got a list"),
        (torch.zeros(1, 6), TypeError, "x: expected an array of NumPy's, got a Tensor"),
        (None, TypeError, "x: expected an array of NumPy's, got a NoneType"),
    ],
)
def test_a_step_that_does_not_fit_is_refused_and_consumes_nothing(
    x: Any, error: type[Exception], message: str
) -> None:
    one = stepper("lstm", 6, 17)
    before = one.step(random(1, 6)), one.state
    with pytest.raises(error, match=f"^{message}$"):
        one.step(x)
    assert np.array_equal(one.state.h, before[1].h)


@pytest.mark.parametrize(
    ("xs", "error", "message"),
    [
        (np.zeros((7, 3, 6), np.float32), ValueError, r"x: expected 2 rows at each step, got shape \[7, 3, 6\]"),
        (np.zeros(7, np.float32), ValueError, r"x: expected 2 rows at each step, got shape \[7\]"),
        (np.zeros((7, 2, 5), np.float32), ValueError, r"x: expected shape \[7, 2, 6\], got \[7, 2, 5\]"),
        ([[[0.0] * 6] * 2], TypeError, "x: expected an array of NumPy's, got a list"),
        (None, TypeError, "x: expected an array of NumPy's, got a NoneType"),
    ],
)
def test_a_sequence_that_does_not_fit_is_refused_and_consumes_nothing(
    xs: Any, error: type[Exception], message: str
) -> None:
    one = stepper("lstm", 6, 17, batch=2)
    with pytest.raises(error, match=f"^{message}$"):
        one.run(xs)
    assert not one.state.h.any()


def test_an_output_that_is_the_input_is_refused() -> None:
    one, memory = stepper("lstm", 17, 17), random(3, 17)
    for x, out in ((memory[:1], memory[:1]), (memory[1:2], memory.reshape(-1)[30:47].reshape(1, 17))):
        with pytest.raises(ValueError, match=r"^out: expected memory of its own, got that of x$"):
            one.step(x, out)
    assert not one.state.h.any()
    assert np.array_equal(one.step(memory[:1], memory[1:2]), one.state.h[-1])


def test_what_cannot_be_stepped_is_refused() -> None:
    with pytest.raises(InputError, match="bidirectional"):
        nn.LSTM(3, 5, bidirectional=True).stepper()
    with pytest.raises(InputError, match=r"stepper: weight_ih_l0 is torch.float64, expected torch.float32"):
        nn.GRU(3, 5).double().stepper()
    mixed = nn.GRU(3, 5)
    mixed.weight_hh_l0.data = mixed.weight_hh_l0.data.double()
    with pytest.raises(InputError, match=r"stepper: weight_hh_l0 is torch.float64, expected torch.float32"):
        mixed.stepper()
    with pytest.raises(InputError, match="batch is 0, expected at least 1"):
        nn.GRU(3, 5).stepper(batch=0)
    batches: list[Any] = [2.5, "2", None, True]
    for batch in batches:
        with pytest.raises(InputError, match=f"batch is {batch!r}, expected a whole number"):
            nn.GRU(3, 5).stepper(batch=batch)
    with pytest.raises(InputError, match="weights is 'int4', expected one of float32, bfloat16, int8"):
        nn.GRU(3, 5).stepper(weights="int4")


def test_a_state_of_another_shape_is_refused() -> None:
    one = stepper("lstm", 6, 17)
    states: list[Any] = [None, (np.zeros((1, 1, 17)), np.zeros((1, 1, 17)))]
    for state in states:
        with pytest.raises(InputError, match=f"state is a {type(state).__name__}, expected a State"):
            one.state = state
    with pytest.raises(InputError, match=r"state.h: expected shape \[1, 1, 17\], got \[1, 1, 5\]"):
        one.state = stepper("lstm", 6, 5).state
    with pytest.raises(InputError, match=r"state.c: expected shape \[1, 1, 17\], got None"):
        one.state = State(one.state.h, None)
    others: list[Any] = [np.full((1, 1, 17), part) for part in ("much", None, 1j)]
    for other in others:
        with pytest.raises(InputError, match=f"state.c: expected numbers, got {other.dtype}"):
            one.state = State(one.state.h, other)


def test_a_copy_of_a_stepper_goes_on_by_itself() -> None:
    layer = {"weight_ih": np.ones((12, 2), np.float32), "weight_hh": np.ones((12, 3), np.float32)}
    stepper, x = Stepper(packed("lstm", 2, 3, [layer])), np.ones((1, 2), np.float32)
    before = stepper.step(x)
    other = copy.copy(stepper)
    after = other.step(x)
    assert np.array_equal(stepper.state.h[0], before) and not np.array_equal(before, after)
    assert np.array_equal(copy.deepcopy(stepper).step(x), after)
    with pytest.raises(TypeError, match="a Stepper cannot be pickled"):
        pickle.dumps(stepper)
