"""Products in bfloat16: what they are exactly, how near they come, who asks for them and who gets them."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from test_ops import CELLS, Problem, arguments, op_of, solution
from tolerances import assert_close, assert_near
from unrolled import _engine, nn, ops
from unrolled.ops import dispatch

pytestmark = pytest.mark.usefixtures("one_thread")

ODD_SIZES = (1, 3, 17, 63, 130)
every_cell = pytest.mark.parametrize("cell", CELLS)
every_kind = pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])


def rounded(x: Tensor) -> Tensor:
    return x.to(torch.bfloat16).to(x.dtype)


@pytest.fixture
def has_bfloat16() -> None:
    if not _engine.multiplies_bfloat16():
        pytest.skip("this machine does not multiply bfloat16")


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "lstm_coupled", "gru"])
@pytest.mark.parametrize("units", ODD_SIZES)
@pytest.mark.usefixtures("has_bfloat16")
def test_products_of_numbers_that_bfloat16_has_are_exact(cell: str, units: int) -> None:
    """One step: there all that products read can be given as bfloat16 has it, and nothing is lost."""
    for rows in ODD_SIZES:
        problem = Problem(cell, 1, rows, units, "bfloat16", ODD_SIZES[(units + rows) % 5])
        given = {name: rounded(value.detach()) for name, value in problem.inputs(torch.float32).items()}
        exact = problem.states({name: value.double() for name, value in given.items()})
        for name, state in problem.states(given).items():
            assert_close(state, exact[name], f"{name} of {problem}")


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "lstm_coupled"])
@pytest.mark.parametrize("units", ODD_SIZES)
@pytest.mark.usefixtures("has_bfloat16")
def test_the_way_back_multiplies_the_rounded_gradients_of_the_gates(cell: str, units: int) -> None:
    """Of one step, whose input is the gates' sums: its gradient is theirs."""
    for rows in ODD_SIZES:
        problem = Problem(cell, 1, rows, units, "bfloat16")
        given = {name: rounded(value.detach()) for name, value in problem.inputs(torch.float32).items()}
        inputs = {name: value.requires_grad_() for name, value in given.items()}
        torch.autograd.backward(problem.states(inputs)["h"].sum())
        found = {name: value.grad for name, value in inputs.items()}
        assert found["x"] is not None and found["h0"] is not None and found["weight_hh"] is not None
        at_gates = rounded(found["x"][0]).double()
        assert_close(found["h0"], at_gates @ given["weight_hh"].double(), f"h0 of {problem}")
        if rows > 1 and units >= 16:  # others are not sums, or are summed column by column, in float32
            assert_close(found["weight_hh"], at_gates.T @ given["h0"].double(), f"weight_hh of {problem}")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "rnn_relu"])  # whose slope jumps at 0
@pytest.mark.parametrize("masks", ["", "lengths", "lengths resets reverse"])
def test_results_are_near_those_of_exact_products(isa: str, cell: str, masks: str) -> None:
    for steps, rows, units, features in ((30, 5, 63, 17), (9, 130, 17, 0), (20, 3, 130, 33), (1, 40, 200, 130)):
        problem = Problem(cell, steps, rows, units, f"{masks} bfloat16", features)
        expected = solution(problem, "h c")
        for name, value in problem.solve(torch.float32, "h c").items():
            check = assert_near if _engine.multiplies_bfloat16() else assert_close
            check(value, expected[name], f"{name} of {problem}")


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "lstm_projected", "gru"])
def test_long_rows_are_narrowed_a_part_at_a_time(cell: str) -> None:
    """On the way back a row has all gates, here so many that the area for words holds fewer than all rows."""
    problem = Problem(cell, 2, 300, 2100 if cell == "rnn_tanh" else 600, "bfloat16", 17)
    expected = solution(problem)
    torch.set_num_threads(2)  # each has an area of its own
    for name, value in problem.solve(torch.float32).items():
        assert_near(value, expected[name], f"{name} of {problem}")


@every_cell
def test_the_threads_of_a_step_divide_it_as_one_would_make_it(cell: str) -> None:
    before = torch.get_num_threads()
    solved = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        solved.append([Problem(cell, 3, rows, 200, "bfloat16", 33).solve(torch.float32) for rows in (5, 40)])
    torch.set_num_threads(before)
    for alone, together in zip(*solved, strict=True):
        for name, value in alone.items():
            assert_close(together[name], value, name)


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_symbols_are_near_their_rows(cell: str) -> None:
    problem = Problem(cell, 40, 17, 63, "bfloat16", 9, 7)
    expected = solution(problem)
    for name, value in problem.solve(torch.float32).items():
        assert_near(value, expected[name], name)


@every_kind
def test_autocast_and_a_layer_of_bfloat16_ask_for_them(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    kernel = dispatch.ENGINE[kind.lower()]
    place = [argument.name for argument in getattr(torch.ops.unrolled, kind.lower()).default._schema.arguments]

    def spy(*given: Any) -> None:
        asked.append(given[place.index("bfloat16")])
        kernel(*given)

    monkeypatch.setitem(dispatch.ENGINE, kind.lower(), spy)
    layer, x = getattr(nn, kind)(5, 7), torch.randn(4, 3, 5)
    layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
    with torch.autocast("cpu", torch.float16):
        layer(x)
    for dtype in (torch.bfloat16, torch.float16):
        layer.to(dtype)(x.to(dtype))
    assert asked == [False, *2 * [_engine.multiplies_bfloat16(), False]]


@every_kind
def test_a_layer_is_no_further_off_than_torchs(kind: str) -> None:
    """Of its output and of all gradients, against float64; torch's carries its state in bfloat16 as well."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(40, 64, num_layers=2, bidirectional=True)
    ours = getattr(nn, kind)(40, 64, num_layers=2, bidirectional=True)
    ours.load_state_dict(theirs.state_dict())
    x, grad = torch.randn(30, 5, 40), torch.randn(30, 5, 128)

    def solve(layer: Any, x: Tensor, low: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            output = layer(x)[0]
        grads = torch.autograd.grad(output, list(layer.parameters()), grad.to(output.dtype))
        return [output.detach().double(), *(one.double() for one in grads)]

    low = [solve(layer, x, True) for layer in (ours, theirs)]
    exact = solve(theirs.double(), x.double(), False)
    for found, torchs, right in zip(*low, exact, strict=True):
        assert (found - right).norm() <= (torchs - right).norm()


@every_kind
def test_where_torch_has_matrix_units_it_multiplies_the_input(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = getattr(nn, kind)(5, 7), torch.randn(4, 3, 5)
    products = []
    for units in (False, True):
        monkeypatch.setattr("unrolled.nn.recurrent.MATRIX_UNITS", units)
        with torch.autocast("cpu", torch.bfloat16), torch.profiler.profile() as profile:
            output = layer(x)[0]
        products.append(any(event.name == "aten::linear" for event in profile.events()))
        assert_near(output, layer(x)[0])
    assert products == [not _engine.multiplies_bfloat16(), True]


@every_kind
def test_a_layer_compiles_under_autocast(kind: str) -> None:
    torch.compiler.reset()
    layer, x = getattr(nn, kind)(5, 7), torch.randn(4, 3, 5)
    compiled: Callable[..., Any] = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(compiled(x)[0], layer(x)[0])


narrow = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


@every_kind
@narrow
@pytest.mark.parametrize("asked", [False, True])
def test_a_layer_of_fewer_bits_is_near_and_warns_of_nothing(kind: str, dtype: torch.dtype, asked: bool) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(40, 64, num_layers=2, bidirectional=True, batch_first=True)
    x = torch.randn(5, 30, 40)
    exact, lengths = layer(x)[0], torch.tensor([30, 2, 7, 0, 30])
    dispatch.warn_reference.cache_clear()
    with warnings.catch_warnings(), torch.autocast("cpu", torch.bfloat16, enabled=asked):
        warnings.simplefilter("error")
        output, state = layer.to(dtype)(x.to(dtype))
        again, _ = layer(x.to(dtype), state)
        cut, *_ = layer(x.to(dtype), lengths=lengths)
        _, _, traces = layer(x.to(dtype), trace=True)
    torch.autograd.backward((output + again + cut).float().sum())
    parts = [part for trace in traces for part in trace if part is not None]
    finals = state if isinstance(state, tuple) else (state,)
    assert {part.dtype for part in (output, again, cut, *finals, *parts)} == {dtype}
    assert {parameter.grad.dtype for parameter in layer.parameters()} == {dtype}
    assert_near(output, exact)


def test_gates_that_are_nearly_1_are_not_rounded_to_it() -> None:
    """A gradient that crosses 1,000 steps is a product of as many forget gates."""

    def solve(dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        layer = nn.LSTM(8, 64, init="chrono", longest_gap=1000).bfloat16().to(dtype)
        x, states = torch.randn(1000, 4, 8), [torch.randn(1, 4, 64) for _ in range(2)]
        given = [one.bfloat16().to(dtype).requires_grad_() for one in (x, *states)]
        output = layer(given[0], tuple(given[1:]))[0][-1]
        return [output, *torch.autograd.grad(output.sum(), [given[2], *layer.parameters()])]

    for found, right in zip(solve(torch.bfloat16), solve(torch.float64), strict=True):
        assert_near(found, right)


@every_kind
@narrow
def test_a_layer_of_fewer_bits_can_be_stepped_and_swapped_in(kind: str, dtype: torch.dtype) -> None:
    model: Any = torch.nn.ModuleList([getattr(torch.nn, kind)(5, 7).to(dtype)])
    assert nn.accelerate(model).replaced == ("0",)
    x = torch.randn(4, 1, 5).to(dtype)
    with torch.no_grad():
        output = model[0](x)[0]
    stepped = model[0].stepper().run(x.float().numpy())
    assert_near(torch.from_numpy(stepped), output)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_what_is_computed_again_is_no_further_off(kind: str) -> None:
    """Every two steps: rounded at each, the state and the gradients' sums would be off by a tenth and more."""

    def solve(recompute: int | None, dtype: torch.dtype) -> list[Tensor]:
        torch.manual_seed(0)
        layer = getattr(nn, kind)(16, 32, recompute=recompute).bfloat16().to(dtype)
        x = torch.randn(500, 4, 16).bfloat16().to(dtype)
        output = layer(x)[0]
        return [output, *torch.autograd.grad(output.square().sum(), [*layer.parameters()])]

    for found, right in zip(solve(2, torch.bfloat16), solve(None, torch.float64), strict=True):
        assert found.dtype == torch.bfloat16
        assert_near(found, right)


def test_the_default_dtype_is_nothing_to_it() -> None:
    layer, x = nn.LSTM(4, 5).bfloat16(), torch.randn(3, 2, 4).bfloat16()
    expected = layer(x)[0]
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(layer(x)[0], expected)
    finally:
        torch.set_default_dtype(torch.float32)


@every_kind
@pytest.mark.filterwarnings("ignore:.*the reference serves it")
def test_within_vmap_autocast_gives_the_same_dtypes_and_a_float32_state(kind: str) -> None:
    layer, x = getattr(nn, kind)(5, 7), torch.randn(6, 4, 3, 5)
    exact = layer(x[0])[0]
    for given in (x, x.bfloat16()):
        with torch.autocast("cpu", torch.bfloat16):
            together, alone = torch.vmap(lambda one: layer(one)[0])(given), layer(given[0])[0]
        assert together.dtype == alone.dtype == torch.float32
        assert_near(together[0], exact)
        assert not torch.equal(rounded(together), together)


@pytest.mark.filterwarnings("ignore:.*the reference serves it")
def test_within_vmap_autocast_gives_an_op_float32_and_does_not_round_its_products() -> None:
    inputs = Problem("lstm", 4, 3, 17).inputs(torch.float32)
    given = [None if one is None else one.detach().bfloat16() for one in arguments(inputs)]
    op: Callable[..., Any] = ops.lstm
    expected = op(*(None if one is None else one.float() for one in given))[0]
    x, *rest = given
    assert x is not None
    with torch.autocast("cpu", torch.bfloat16):
        together = torch.vmap(lambda x: op(x, *rest)[0])(x[None])[0]
    assert together.dtype == torch.float32
    assert_close(together, expected)


def test_the_state_between_steps_is_float32() -> None:
    """The state that a step takes on has bits that bfloat16 has not."""
    inputs = Problem("lstm", 4, 3, 17).inputs(torch.float32)
    op: Callable[..., Any] = getattr(ops, op_of("lstm"))
    h, c, *_ = op(*arguments(inputs), None, None, False, True)
    for state in (h, c):
        assert state.dtype == torch.float32 and not torch.equal(rounded(state), state)
