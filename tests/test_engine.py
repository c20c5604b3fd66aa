"""The engine by itself: how exact its functions are, what it refuses, and bits that depend on no company."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise, product
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from programs import python
from small import random
from tolerances import assert_close, assert_same_bits
from unrolled import _engine

pytestmark = pytest.mark.usefixtures("one_thread")

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
ODD_SIZES = (1, 3, 17, 63, 130)

every_cell = pytest.mark.parametrize("cell", CELLS)
# One fixture serves all examples of a property: it only says which instruction set runs.
few_examples = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


# The greatest error in ulp that csrc/simd.h states.
ULPS = {"exp": 1.5, "sigmoid": 2.5, "tanh": 3.0}
SMALLEST = 2.0**-126
every_activation = pytest.mark.parametrize("name", ULPS)


@cache
def arguments() -> Floats:
    """Two million float32 from all over the 2^32: denormals, infinities and NaN in proportion."""
    bits = np.arange(0, 2**32, 2003, dtype=np.uint64).astype(np.uint32)
    # Most bit patterns are huge or tiny: as many again from where the functions are neither 0, 1 nor x.
    curved = np.arange(0, 2**23 * 17, 151, dtype=np.uint32) + np.float32(2**-10).view(np.uint32)
    special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 2**-126, -(2**-126), 1e-45, 3.4e38], np.float32)
    return np.concatenate([bits.view(np.float32), curved.view(np.float32), -curved.view(np.float32), special])


@cache
def exactly(name: str) -> Doubles:
    with np.errstate(over="ignore", invalid="ignore"):
        x = arguments().astype(np.float64)
        y: Doubles = np.tanh(x) if name == "tanh" else np.exp(x) if name == "exp" else 1 / (1 + np.exp(-x))
    return y


def activation(name: str, x: Floats) -> Floats:
    y = np.full_like(x, 7)
    _engine.activation(name, x, y)
    return y


@every_activation
def test_an_activation_keeps_its_stated_error(isa: str, name: str) -> None:
    y, exact = activation(name, arguments()), exactly(name)
    with np.errstate(over="ignore", invalid="ignore"):
        rounded = exact.astype(np.float32)
    checked = np.isfinite(rounded) & (np.abs(exact) >= SMALLEST)
    errors = np.abs(y[checked] - exact[checked]) / np.spacing(np.abs(rounded[checked])).astype(np.float64)
    worst = int(errors.argmax())
    assert errors[worst] <= ULPS[name], f"{errors[worst]} ulp at {arguments()[checked][worst]!r}"


@every_activation
def test_an_activation_of_nan_is_nan_and_of_nothing_else(isa: str, name: str) -> None:
    assert np.array_equal(np.isnan(activation(name, arguments())), np.isnan(arguments()))


@every_activation
def test_an_activation_flushes_what_is_below_the_normal_numbers(isa: str, name: str) -> None:
    small = np.abs(exactly(name)) < SMALLEST
    assert small.sum() > 1000
    assert not activation(name, arguments())[small].any()


def test_an_activation_reaches_its_limits(isa: str) -> None:
    ends = np.array([-np.inf, np.inf, -3e38, 3e38], np.float32)
    assert activation("exp", ends).tolist() == [0, np.inf, 0, np.inf]
    assert activation("sigmoid", ends).tolist() == [0, 1, 0, 1]
    assert activation("tanh", ends).tolist() == [-1, 1, -1, 1]


def test_exp_overflows_where_float32_does(isa: str) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        expected = np.isinf(exactly("exp").astype(np.float32))
    assert np.array_equal(np.isinf(activation("exp", arguments())), expected)


def test_tanh_is_odd_down_to_the_sign_of_zero(isa: str) -> None:
    x = arguments()[~np.isnan(arguments())]
    assert np.array_equal(activation("tanh", -x).view(np.uint32), (-activation("tanh", x)).view(np.uint32))


@pytest.mark.parametrize("count", range(35))
def test_an_activation_writes_so_many_values_and_no_more(isa: str, count: int) -> None:
    y = np.full(count + 1, 7, np.float32)
    _engine.activation("exp", np.zeros(count, np.float32), y[:count])
    assert y.tolist() == [1] * count + [7]


def test_the_caller_keeps_its_denormals(isa: str) -> None:
    activation("exp", np.ones(100, np.float32))
    network("lstm", 3, 17).run(np.ones((4, 2, 3), np.float32))
    assert np.float32(1e-39) / np.float32(2) > 0


class Result(NamedTuple):
    """What a run gives: y [T, B, H] and the state after it, h and c [L, B, H]."""

    y: Floats
    h: Floats
    c: Floats | None

    def row(self, b: int) -> "Result":
        return self.rows(slice(b, b + 1))

    def rows(self, chosen: Any) -> "Result":
        return Result(self.y[:, chosen], self.h[:, chosen], None if self.c is None else self.c[:, chosen])


class StackOf:
    """A stack with random weights, packed for the instruction set in use, and the torch layer it stands for."""

    def __init__(self, cell: str, inputs: int, units: int, layers: int, bias: bool) -> None:
        self.cell, self.inputs, self.units, self.layers, self.bias = cell, inputs, units, layers, bias
        kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(cell, torch.nn.RNN)
        options: dict[str, Any] = {"nonlinearity": cell[4:]} if cell.startswith("rnn") else {}
        torch.manual_seed(units)
        self.reference = kind(inputs, units, layers, bias=bias, **options).double()
        self._packed: dict[str, _engine.Stack] = {}

    @property
    def stack(self) -> _engine.Stack:
        isa = _engine.isa()
        if isa not in self._packed:
            self._packed[isa] = _engine.Stack(self.cell, self.inputs, self.units)
            weights = [parameter.detach().float() for parameter in self.reference._flat_weights]
            a_layer = 4 if self.bias else 2
            for first in range(0, len(weights), a_layer):
                biases = () if self.bias else (None, None)
                self._packed[isa].add_layer(*weights[first : first + a_layer], *biases)
        return self._packed[isa]

    def zero(self, rows: int) -> Result:
        shape = (self.layers, rows, self.units)
        c = np.zeros(shape, np.float32) if self.cell == "lstm" else None
        return Result(np.empty((0, rows, self.units), np.float32), np.zeros(shape, np.float32), c)

    def run(self, x: Floats, before: Result | None = None) -> Result:
        """Run x [T, B, D] on from the state that `before` ended with."""
        before = before or self.zero(x.shape[1])
        y = np.full((*x.shape[:2], self.units), np.nan, np.float32)
        h, c = before.h.copy(), None if before.c is None else before.c.copy()
        self.stack.run(np.ascontiguousarray(x), y, h, c)
        return Result(y, h, c)

    def run_reference(self, x: Floats, before: Result) -> Result:
        h = torch.from_numpy(before.h).double()
        state = h if before.c is None else (h, torch.from_numpy(before.c).double())
        with torch.no_grad():
            y, after = self.reference(torch.from_numpy(x).double(), state)
        h, c = after if isinstance(after, tuple) else (after, None)
        return Result(y.numpy(), h.numpy(), None if c is None else c.numpy())


@cache
def network(cell: str, inputs: int, units: int, layers: int = 1, bias: bool = True) -> StackOf:
    return StackOf(cell, inputs, units, layers, bias)


def assert_matches(actual: Floats, expected: Any, what: str) -> None:
    assert_close(torch.from_numpy(actual), torch.from_numpy(expected), what)


def run_linear(x: Floats, weight: Floats, bias: Floats | None) -> Floats:
    y = np.full((len(x), len(weight)), np.nan, np.float32)
    _engine.Linear(weight, bias).run(x, y)
    return y


@pytest.mark.parametrize("outputs", ODD_SIZES)
def test_linear_is_the_matrix_product(isa: str, outputs: int) -> None:
    for rows, inputs in product(ODD_SIZES, ODD_SIZES):
        x, weight = random(rows, inputs), random(outputs, inputs, scale=inputs**-0.5)
        for bias in (None, random(outputs)):
            exact = x.astype(np.float64) @ weight.T + (0 if bias is None else bias)
            assert_matches(run_linear(x, weight, bias), exact, f"{rows} rows, {inputs} inputs")


@cache
def problem(cell: str, units: int, rows: int, layers: int, bias: bool) -> tuple[Floats, Result, Result]:
    """An input, a state to begin with, and what the reference makes of them."""
    stack, x = network(cell, 6, units, layers, bias), random(7, rows, 6)
    zero, h = stack.zero(rows), random(layers, rows, units, seed=1)
    before = Result(zero.y, h, None if zero.c is None else random(layers, rows, units, seed=2))
    return x, before, stack.run_reference(x, before)


@every_cell
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_a_stack_is_torchs_stack(isa: str, cell: str, layers: int) -> None:
    for units, rows, bias in product(ODD_SIZES, (1, 9), (True, False)):
        x, before, expected = problem(cell, units, rows, layers, bias)
        actual = network(cell, 6, units, layers, bias).run(x, before)
        assert_matches(actual.y, expected.y, f"y, {units} units")
        assert_matches(actual.h, expected.h, f"h, {units} units")
        if actual.c is not None:
            assert_matches(actual.c, expected.c, f"c, {units} units")


@every_cell
def test_a_sequence_longer_than_the_stacks_own_chunks_is_torchs_too(isa: str, cell: str) -> None:
    stack = network(cell, 3, 130, 2)
    rows = 1 + (1 << 18) // (30 * GATES[cell] * 130)  # about 30 steps a chunk
    x = random(100, rows, 3)
    actual, expected = stack.run(x), stack.run_reference(x, stack.zero(rows))
    assert_matches(actual.y, expected.y, "y")


@every_cell
def test_no_steps_change_no_state(isa: str, cell: str) -> None:
    stack = network(cell, 3, 17, 2)
    before = stack.run(random(4, 2, 3))
    after = stack.run(np.empty((0, 2, 3), np.float32), before)
    assert np.array_equal(after.h, before.h)


VECTOR_SETS = [name for name in _engine.isas() if name != "generic"]
several_vector_sets = pytest.mark.skipif(
    len(VECTOR_SETS) < 2, reason="this machine has only one set of vector instructions"
)


def on_each_vector_set(compute: Callable[[], Any]) -> list[Any]:
    before = _engine.isa()
    results = []
    for name in VECTOR_SETS:
        _engine.use_isa(name)
        results.append(compute())
    _engine.use_isa(before)
    return results


@several_vector_sets
@every_activation
def test_vector_instruction_sets_agree_to_the_bit_on_activations(name: str) -> None:
    number = ~np.isnan(arguments())
    first, *others = on_each_vector_set(lambda: activation(name, arguments())[number].view(np.uint32))
    for other in others:
        assert np.array_equal(other, first)


@several_vector_sets
def test_vector_instruction_sets_agree_to_the_bit_on_linear() -> None:
    for rows, inputs, outputs in product((1, 17, 63), (1, 17, 130), (1, 17, 130)):
        x, weight, bias = random(rows, inputs), random(outputs, inputs), random(outputs)
        first, *others = on_each_vector_set(partial(run_linear, x, weight, bias))
        for other in others:
            assert np.array_equal(other.view(np.uint32), first.view(np.uint32))


@several_vector_sets
@every_cell
def test_vector_instruction_sets_agree_to_the_bit_on_a_stack(cell: str) -> None:
    for units in ODD_SIZES:
        first, *others = on_each_vector_set(partial(network(cell, 5, units, 2).run, random(9, 7, 5)))
        for other in others:
            assert_same_bits(other, first)


@st.composite
def partings(draw: st.DrawFn) -> tuple[int, list[list[int]], list[int], list[int]]:
    """Steps, the rows parted into batches, the places where the steps are cut, and thread counts to take turns."""
    steps, count = draw(st.integers(1, 8)), draw(st.integers(1, 24))
    order = draw(st.permutations(range(count)))
    row_cuts = draw(st.sets(st.integers(1, count - 1), max_size=5)) if count > 1 else set()
    batches = [order[a:b] for a, b in pairwise([0, *sorted(row_cuts), count])]
    step_cuts = draw(st.sets(st.integers(1, steps - 1))) if steps > 1 else set()
    threads = draw(st.lists(st.sampled_from([1, 2]), min_size=2, max_size=5))
    return steps, batches, [0, *sorted(step_cuts), steps], threads


@every_cell
@few_examples
@given(
    partings(), st.sampled_from([1, 5, 16, 33, 64, 130]), st.integers(1, 3), st.integers(1, 20), st.integers(0, 9)
)
def test_a_rows_bits_depend_on_no_batch_no_cut_and_no_thread(
    isa: str,
    cell: str,
    parting: tuple[int, list[list[int]], list[int], list[int]],
    units: int,
    layers: int,
    inputs: int,
    seed: int,
) -> None:
    steps, batches, cuts, threads = parting
    stack = network(cell, inputs, units, layers)
    x = random(steps, sum(map(len, batches)), inputs, seed=seed)
    torch.set_num_threads(1)
    whole = stack.run(x)
    turn = 0
    for rows in batches:
        part, outputs = stack.zero(len(rows)), []
        for begin, end in pairwise(cuts):
            torch.set_num_threads(threads[turn % len(threads)])
            turn += 1
            part = stack.run(x[begin:end, rows], part)
            outputs.append(part.y)
        assert_same_bits(Result(np.concatenate(outputs), part.h, part.c), whole.rows(rows))


@every_cell
@pytest.mark.parametrize("units", [130, 300])  # by rows and, with few of them, by units
def test_two_threads_give_the_bits_of_one(isa: str, cell: str, units: int) -> None:
    stack = network(cell, 20, units, 2)
    for rows in (1, 3, 40):
        x = random(3, rows, 20)
        torch.set_num_threads(1)
        alone = stack.run(x)
        torch.set_num_threads(2)
        assert_same_bits(stack.run(x), alone)


@few_examples
@given(st.integers(1, 80), st.integers(1, 140), st.integers(1, 140), st.sampled_from([1, 2]), st.randoms())
def test_a_row_of_linear_has_the_same_bits_in_any_batch(
    isa: str, rows: int, inputs: int, outputs: int, threads: int, chance: Any
) -> None:
    x, weight, bias = random(rows, inputs), random(outputs, inputs), random(outputs)
    torch.set_num_threads(1)
    whole = run_linear(x, weight, bias)
    torch.set_num_threads(threads)
    chosen = chance.sample(range(rows), chance.randint(1, rows))
    assert np.array_equal(run_linear(x[chosen], weight, bias).view(np.uint32), whole[chosen].view(np.uint32))


def test_torchs_thread_count_is_the_engines() -> None:
    stack = network("lstm", 300, 300).stack
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        assert stack.threads == count


@every_cell
@few_examples
@given(st.integers(2, 24), st.sampled_from([5, 17, 64]), st.data())
def test_nan_in_one_row_never_reaches_another(isa: str, cell: str, rows: int, units: int, data: Any) -> None:
    steps, bad = 4, data.draw(st.integers(0, rows - 1))
    stack = network(cell, 6, units, 2)
    x = random(steps, rows, 6)
    clean = stack.run(x)
    x[data.draw(st.integers(0, steps - 1)), bad, data.draw(st.integers(0, 5))] = data.draw(
        st.sampled_from([np.nan, np.inf, -np.inf])
    )
    soiled = stack.run(x)
    others = [row for row in range(rows) if row != bad]
    assert_same_bits(soiled.rows(others), clean.rows(others))


@every_cell
def test_nan_stays_in_its_row_for_good(isa: str, cell: str) -> None:
    stack = network(cell, 6, 17, 2)
    x = random(6, 3, 6)
    x[2, 1] = np.nan
    result = stack.run(x)
    assert not np.isnan(result.y[:2]).any()
    assert np.isnan(result.y[2:, 1]).all()


def test_nan_stays_in_its_row_of_linear(isa: str) -> None:
    x, weight = random(20, 33), random(70, 33)
    clean = run_linear(x, weight, None)
    x[7, 30] = np.nan
    soiled = run_linear(x, weight, None)
    assert np.isnan(soiled[7]).all()
    others = np.arange(20) != 7
    assert np.array_equal(soiled[others], clean[others])


def test_python_threads_share_a_stack(isa: str) -> None:
    stacks = [network(cell, 8, 64, 2) for cell in CELLS]
    work = [(stack, random(30, rows, 8)) for stack, rows in product(stacks, (1, 4, 13))]
    alone = [stack.run(x) for stack, x in work]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda pair: pair[0].run(pair[1]), work * 5)
        for number, result in enumerate(together):
            assert_same_bits(result, alone[number % len(work)])


STEPS, ROWS, UNITS = 4, 3, 5
SEQUENCE, STATE = (STEPS, ROWS, UNITS), (ROWS, UNITS)
MASKS: dict[str, Any] = {"lengths": (ROWS,), "resets": (STEPS, ROWS), "reverse": False, "bfloat16": False}


FEATURES = 2


def of_input(gates: int) -> dict[str, Any]:
    return {
        "x": (STEPS, ROWS, FEATURES),
        "symbols": None,
        "weight_ih": (gates * UNITS, FEATURES),
        "weight_hh": (gates * UNITS, UNITS),
    }


def biases(gates: int) -> dict[str, Any]:
    return {"bias_ih": (gates * UNITS,), "bias_hh": (gates * UNITS,)}


def gradients(gates: int) -> dict[str, Any]:
    weights = {"grad_weight_ih": (gates * UNITS, FEATURES), "grad_weight_hh": (gates * UNITS, UNITS)}
    return {"grad_x": (STEPS, ROWS, FEATURES), "grad_bias_ih": (gates * UNITS,), "grad_h0": STATE} | weights


GATES_4 = {"gates": (STEPS, ROWS, 4 * UNITS)}
ZONEOUT_H, LAST = {"zoneout_h": SEQUENCE}, (1, *STATE)
ARRIVED = {"grad_h": SEQUENCE, "grad_h_n": LAST}
NORM = {"gain_ih": (4 * UNITS,), "gain_hh": (4 * UNITS,), "gain_c": (UNITS,), "bias_c": (UNITS,)}
KEPT = {"gates": (STEPS, ROWS, 4 * UNITS + 2 * (4 * UNITS + 1))}
VARIANT = {
    **NORM,
    "weight_hr": None,
    "peephole": (3, UNITS),
    "dropout": SEQUENCE,
    **ZONEOUT_H,
    "zoneout_c": SEQUENCE,
}
# Each function's arguments by name: the shape of an array, or a value. The first array says T, B and H.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "lstm_forward": {"h": SEQUENCE, "h0": STATE, "c0": STATE, "h_n": LAST, "c_n": LAST}
    | {**of_input(4), **biases(4), **MASKS, "c": SEQUENCE, **KEPT, **VARIANT},
    "lstm_backward": {
        "h": SEQUENCE,
        "c": SEQUENCE,
        **ARRIVED,
        "grad_c": SEQUENCE,
        "grad_c_n": LAST,
        "h0": STATE,
        "c0": STATE,
    }
    | {**of_input(4), **MASKS, **KEPT, **VARIANT, **gradients(4), "grad_c0": STATE}
    | {"grad_weight_hr": None, "grad_peephole": (3, UNITS), **{f"grad_{name}": of for name, of in NORM.items()}},
    "gru_forward": {"h": SEQUENCE, "h0": STATE, "h_n": LAST}
    | {**of_input(3), **biases(3), **MASKS, **GATES_4, **ZONEOUT_H},
    "gru_backward": {"h": SEQUENCE, "h0": STATE, **ARRIVED, **ZONEOUT_H}
    | {**of_input(3), **MASKS, **GATES_4, **gradients(3), "grad_bias_hh": (3 * UNITS,)},
    "rnn_forward": {"h": SEQUENCE, "h0": STATE, "h_n": LAST} | of_input(1) | biases(1) | MASKS | {"relu": False},
    "rnn_backward": {"h": SEQUENCE, "h0": STATE, **ARRIVED}
    | {**of_input(1), **MASKS, "relu": False, **gradients(1)},
}
DTYPES = {"lengths": np.int64, "resets": np.bool_}


def call(function: str, **changed: Any) -> None:
    arrays = {
        name: np.zeros(shape, DTYPES.get(name, np.float32)) if isinstance(shape, tuple) else shape
        for name, shape in ARGUMENTS[function].items()
    }
    getattr(_engine, function)(**(arrays | changed))


@pytest.mark.parametrize("function", ARGUMENTS)
def test_a_wrong_shape_is_refused_by_name(function: str) -> None:
    call(function)
    _, *others = [(name, shape) for name, shape in ARGUMENTS[function].items() if isinstance(shape, tuple)]
    for name, shape in others:
        for axis in range(1 if name == "weight_ih" else len(shape)):  # its other one says D
            wrong = list(shape)
            wrong[axis] += 1
            array: NDArray[Any] = np.zeros(wrong, DTYPES.get(name, np.float32))
            with pytest.raises(ValueError) as refused:
                call(function, **{name: array})
            assert str(refused.value) == f"{name}: expected shape {list(shape)}, got {wrong}"


@pytest.mark.parametrize("function", ARGUMENTS)
def test_a_symbol_that_is_no_row_of_x_is_refused_unless_its_step_is_not_taken(function: str) -> None:
    norm = {name: None for name in ARGUMENTS[function] if "gain_" in name or "bias_c" in name}
    given: dict[str, Any] = {"symbols": np.zeros((STEPS, ROWS), np.int64), **norm}
    given |= {name: np.zeros((6, FEATURES), np.float32) for name in ("x", "grad_x") if name in ARGUMENTS[function]}
    if norm:
        given["gates"] = np.zeros((STEPS, ROWS, 4 * UNITS), np.float32)
        with pytest.raises(ValueError, match="symbols: expected only without gain_ih"):
            kept = {name: np.zeros(shape, np.float32) for name, shape in (KEPT | NORM).items()}
            grads = {f"grad_{name}": kept[name] for name in NORM if f"grad_{name}" in ARGUMENTS[function]}
            call(function, **(given | kept | grads))
    whole = {"lengths": np.full(ROWS, STEPS)}
    call(function, **(given | whole))
    for bad in (-1, 6):
        given["symbols"][2, 1] = bad
        with pytest.raises(IndexError, match=rf"^symbols\[2, 1\] is {bad}, expected 0 to 5$"):
            call(function, **(given | whole))
        call(function, **(given | {"lengths": np.full(ROWS, 2)}))
    with pytest.raises(ValueError, match=rf"^symbols: expected shape \[{STEPS}, {ROWS}\], got \[1, {ROWS}\]"):
        call(function, **(given | {"symbols": given["symbols"][:1]}))


def test_a_projection_that_does_not_fit_is_refused() -> None:
    weight = np.zeros((UNITS + 1, UNITS), np.float32)
    with pytest.raises(ValueError, match=rf"^weight_hr: expected shape \[{UNITS}, {UNITS}\], got \[{UNITS + 1}, "):
        call("lstm_forward", weight_hr=weight)
    with pytest.raises(ValueError, match="grad_weight_hr: expected where weight_hr is given"):
        call("lstm_backward", weight_hr=weight[1:])


def test_a_stack_takes_a_projection_where_it_has_a_proj_size_and_only_there() -> None:
    zeros = partial(np.zeros, dtype=np.float32)
    with pytest.raises(ValueError, match="proj_size: only an LSTM has a projection, expected 0"):
        _engine.Stack("gru", 3, 4, proj_size=2)
    narrow, plain = _engine.Stack("lstm", 3, 4, proj_size=2), _engine.Stack("lstm", 3, 4)
    with pytest.raises(ValueError, match="weight_hr: expected where the stack has a proj_size, and only there"):
        narrow.add_layer(zeros((16, 3)), zeros((16, 2)), None, None)
    with pytest.raises(ValueError, match="weight_hr: expected where"):
        plain.add_layer(zeros((16, 3)), zeros((16, 4)), None, None, weight_hr=zeros((4, 4)))
    with pytest.raises(ValueError, match=r"weight_hr: expected shape \[2, 4\], got \[2, 5\]"):
        narrow.add_layer(zeros((16, 3)), zeros((16, 2)), None, None, weight_hr=zeros((2, 5)))


@pytest.mark.parametrize(("function", "gates"), [("lstm_forward", 4), ("gru_forward", 3)])
def test_gates_that_are_not_a_whole_number_of_units_are_refused(function: str, gates: int) -> None:
    x = np.zeros((STEPS, ROWS, gates * UNITS + 1), np.float32)
    with pytest.raises(ValueError, match="x: expected shape"):
        of_lstm = {"gain_ih": None, "bias_hh": None} if function.startswith("lstm") else {}
        call(function, x=x, weight_ih=None, bias_ih=None, **of_lstm)


@pytest.mark.parametrize("function", ["lstm_forward", "gru_forward", "rnn_forward"])
def test_a_bias_without_weights_is_refused(function: str) -> None:
    gates = ARGUMENTS[function]["bias_ih"][0]
    with pytest.raises(ValueError, match="bias_ih: expected only together with weight_ih"):
        call(function, x=np.zeros((STEPS, ROWS, gates), np.float32), weight_ih=None)


@pytest.mark.parametrize("function", ["lstm_forward", "rnn_forward"])
@pytest.mark.parametrize("name", ["bias_ih", "bias_hh"])
def test_one_of_two_biases_is_refused(function: str, name: str) -> None:
    with pytest.raises(ValueError, match="bias_hh: expected where bias_ih is given, and only there"):
        call(function, **{name: None})


@pytest.mark.parametrize("function", ARGUMENTS)
@pytest.mark.parametrize("wrong", [-1, STEPS + 1])
def test_a_length_that_does_not_fit_is_refused(function: str, wrong: int) -> None:
    with pytest.raises(ValueError, match=rf"lengths\[1\] is {wrong}, expected 0 to {STEPS}"):
        call(function, lengths=np.array([0, wrong, 1]))


@pytest.mark.parametrize("function", ARGUMENTS)
def test_a_wrong_dtype_is_never_converted(function: str) -> None:
    for name, shape in ARGUMENTS[function].items():
        if isinstance(shape, tuple):
            array: NDArray[Any] = np.zeros(shape, np.int32 if name in DTYPES else np.float64)
            with pytest.raises(TypeError, match=name):
                call(function, **{name: array})


@pytest.mark.parametrize("function", ARGUMENTS)
def test_what_is_not_contiguous_is_refused(function: str) -> None:
    name, shape = next(iter(ARGUMENTS[function].items()))
    with pytest.raises(TypeError, match=name):
        call(function, **{name: np.zeros(shape[::-1], np.float32).T})


def test_a_read_only_output_is_refused() -> None:
    y = np.zeros(3, np.float32)
    y.flags.writeable = False
    with pytest.raises(TypeError):
        _engine.activation("exp", np.zeros(3, np.float32), y)


def zeros(*shape: int) -> Floats:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: _engine.activation("exp", zeros(3), zeros(4)), r"y: expected shape \[3\], got \[4\]"),
        (lambda: _engine.activation("relu", zeros(3), zeros(3)), "expected exp, tanh or sigmoid"),
        (lambda: _engine.Linear(zeros(3, 2), zeros(2)), r"bias: expected shape \[3\], got \[2\]"),
        (lambda: _engine.Linear(zeros(3, 2), None).run(zeros(4, 3), zeros(4, 3)), r"x: expected shape \[4, 2\]"),
        (lambda: _engine.Linear(zeros(3, 2), None).run(zeros(4, 2), zeros(4, 2)), r"y: expected shape \[4, 3\]"),
        (
            lambda: _engine.Stack("lstn", 2, 3),
            "cell 'lstn': expected lstm, lstm_coupled, gru, rnn_tanh or rnn_relu",
        ),
        (lambda: _engine.use_isa("sse9"), "'sse9' is not one this machine runs: .*generic"),
    ],
)
def test_a_call_that_does_not_fit_is_refused(wrong: Callable[[], None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong()


@pytest.mark.parametrize("name", ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])
def test_a_layer_that_does_not_fit_its_stack_is_refused_by_name(name: str) -> None:
    for layers in (0, 1):
        stack = network("gru", 2, 5, 1).stack if layers else _engine.Stack("gru", 2, 5)
        shapes = {
            "weight_ih": (15, 5 if layers else 2),
            "weight_hh": (15, 5),
            "bias_ih": (15,),
            "bias_hh": (15,),
        }
        with pytest.raises(ValueError, match=rf"^{name}: expected shape"):
            stack.add_layer(
                **{key: zeros(*shape) for key, shape in shapes.items()} | {name: zeros(*[9] * len(shapes[name]))}
            )


@pytest.mark.parametrize("name", ["x", "y", "h", "c"])
def test_a_run_that_does_not_fit_its_stack_is_refused_by_name(name: str) -> None:
    stack = network("lstm", 2, 5, 3).stack
    shapes = {"x": (7, 4, 2), "y": (7, 4, 5), "h": (3, 4, 5), "c": (3, 4, 5)}
    with pytest.raises(ValueError, match=rf"^{name}: expected shape"):
        stack.run(**{key: zeros(*shape) for key, shape in shapes.items()} | {name: zeros(7, 4, 9)})


def test_an_lstm_without_its_cell_state_is_refused() -> None:
    with pytest.raises(ValueError, match="c: an LSTM needs its cell state"):
        network("lstm", 2, 5).stack.run(zeros(7, 4, 2), zeros(7, 4, 5), zeros(1, 4, 5), None)


@pytest.mark.parametrize("name", _engine.isas())
def test_the_environment_names_the_instruction_set(name: str) -> None:
    assert python("from unrolled import _engine; print(_engine.isa())", UNROLLED_ISA=name).stdout == f"{name}\n"


def test_without_a_name_the_best_instruction_set_runs() -> None:
    result = python("from unrolled import _engine; print(_engine.isa())", UNROLLED_ISA="")
    assert result.stdout == f"{_engine.isas()[0]}\n"


def test_an_unknown_instruction_set_in_the_environment_is_refused() -> None:
    result = python("import unrolled._engine", UNROLLED_ISA="sse9")
    assert result.returncode == 1
    known = ", ".join(_engine.isas())
    assert f"instruction set 'sse9' is not one this machine runs: {known}" in result.stderr


def test_kernels_run_in_a_forked_child() -> None:
    # The parent's worker threads do not exist in the child: a kernel that waits for them never returns.
    result = python(
        """
import os, signal
import numpy as np
from unrolled import _engine

linear = _engine.Linear(np.ones((512, 512), np.float32), None)

def run():
    y = np.empty((64, 512), np.float32)
    linear.run(np.ones((64, 512), np.float32), y)
    return y

assert (run() == 512).all()
workers = len(os.listdir("/proc/self/task")) - 1
assert workers > 0, "the parent has workers"
child = os.fork()
if not child:
    signal.alarm(20)
    os._exit(0 if (run() == 512).all() else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
""",
        OMP_NUM_THREADS="2",
    )
    assert (result.stdout, result.stderr) == ("0\n", "")
