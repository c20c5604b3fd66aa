"""The ops as PyTorch sees them, and every engine kernel against the float64 reference."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from unrolled import _engine, dispatch, ops

ODD_SIZES = (1, 3, 17, 63, 130)
CELLS = ("rnn_tanh", "rnn_relu", "lstm", "gru")
GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "lstm_projected": 4, "gru": 3}

_lstm: Callable[..., tuple[Tensor, Tensor, Tensor]] = ops.lstm

Masks = tuple[Tensor | None, Tensor | None, bool]  # lengths, resets, reverse

reference_may_warn = pytest.mark.filterwarnings("ignore:.*the reference serves it")


@dataclass(frozen=True)
class Problem:
    """One call of a cell's op, the same numbers in any dtype."""

    cell: str
    steps: int
    rows: int
    units: int
    masks: str = ""  # any of "lengths", "resets", "reverse"
    features: int = 0  # D; 0: x is the input's share of the gates, and there is no weight_ih

    def inputs(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """What the op takes before lengths, by name and in order."""
        generator = torch.Generator().manual_seed(self.steps + 10 * self.rows + 1000 * self.units)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return (torch.randn(*shape, generator=generator) * scale).to(dtype).requires_grad_()

        steps, rows, units = self.steps, self.rows, self.units
        gates, scale = GATES[self.cell] * units, units**-0.5
        states = {"h0": normal(rows, units)}
        weights = {"weight_hh": normal(gates, units, scale=scale)}
        if self.cell == "gru":
            weights["bias_hn"] = normal(units)
        if self.cell == "lstm_projected":
            weights["weight_hh"], weights["weight_hr"] = normal(gates, 1), normal(1, units, scale=scale)
            states["h0"] = normal(rows, 1)
        if self.cell.startswith("lstm"):
            states["c0"] = normal(rows, units)
        if not self.features:
            return {"x": normal(steps, rows, gates), **weights, **states}
        weight_ih = normal(gates, self.features, scale=self.features**-0.5)
        of_input = {"x": normal(steps, rows, self.features), "weight_ih": weight_ih, "bias": normal(gates)}
        return {**of_input, **weights, **states}

    def run_masks(self) -> Masks:
        """Lengths (0 and T among them where there are rows enough), resets, reverse."""
        generator = torch.Generator().manual_seed(self.rows)
        lengths = torch.randint(0, self.steps + 1, (self.rows,), generator=generator)
        lengths[0], lengths[-1] = self.steps, 0 if self.rows > 1 else self.steps
        resets = torch.rand(self.steps, self.rows, generator=generator) < 0.3
        return (
            lengths if "lengths" in self.masks else None,
            resets if "resets" in self.masks else None,
            "reverse" in self.masks,
        )

    def states(self, inputs: dict[str, Tensor], masks: Masks | None = None) -> dict[str, Tensor]:
        """Run the op: every step's states by name."""
        masks = masks or self.run_masks()
        op: Callable[..., Any] = getattr(ops, self.cell.split("_")[0] if self.cell in CELLS else self.cell)
        if op is ops.rnn:
            return {"h": op(*arguments(inputs), *masks, relu=self.cell == "rnn_relu")}
        results = op(*arguments(inputs), *masks)
        return dict(zip(("h", "c") if self.cell.startswith("lstm") else ("h",), results, strict=False))

    def solve(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Every output and every gradient, by name."""
        inputs = self.inputs(dtype)
        states = self.states(inputs)
        generator = torch.Generator().manual_seed(0)
        # The weights' gradients sum over steps and rows: this scale leaves them of order one.
        scale = (self.steps * self.rows) ** -0.5
        grads = [torch.randn(state.shape, generator=generator).to(dtype) * scale for state in states.values()]
        gradients = torch.autograd.grad(list(states.values()), list(inputs.values()), grads)
        named = zip(inputs, gradients, strict=True)
        return {name: state.detach() for name, state in states.items()} | {f"grad_{n}": g for n, g in named}


def arguments(inputs: dict[str, Tensor]) -> list[Tensor | None]:
    """Inputs as an op takes them."""
    rest = [value for name, value in inputs.items() if name not in ("x", "weight_ih", "bias")]
    return [inputs["x"], inputs.get("weight_ih"), inputs.get("bias"), *rest]


@cache
def solution(problem: Problem) -> dict[str, Tensor]:
    return problem.solve(torch.float64)


def assert_solves(problem: Problem) -> None:
    expected = solution(problem)
    for name, value in problem.solve(torch.float32).items():
        assert value.dtype == torch.float32
        assert_close(value, expected[name], f"{name} of {problem}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", ODD_SIZES)
def test_the_engine_solves_every_odd_size(isa: str, cell: str, units: int) -> None:
    for rows in ODD_SIZES:
        steps = 1 + (units + rows) % 4
        features = ODD_SIZES[(units + rows) % 5]
        assert_solves(Problem(cell, steps, rows, units))
        assert_solves(Problem(cell, steps, rows, units, "lengths resets reverse", features))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "lengths", "lengths resets reverse"])
def test_the_engine_solves_what_takes_several_chunks(isa: str, cell: str, masks: str) -> None:
    for steps, rows, units in ((300, 1, 17), (200, 3, 130), (9, 130, 17)):
        assert_solves(Problem(cell, steps, rows, units, masks, 5))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["reverse", "lengths", "lengths resets", "lengths reverse", "resets reverse"])
def test_the_engine_honours_each_mask(isa: str, cell: str, masks: str) -> None:
    for steps in range(1, 8):
        assert_solves(Problem(cell, steps, 17, 17, masks))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "lengths", "resets", "lengths resets reverse"])
def test_the_engine_writes_all_of_its_outputs(isa: str, cell: str, masks: str) -> None:
    problem = Problem(cell, 5, 17, 63, masks, 9)
    op = cell.split("_")[0]
    relu = (cell == "rnn_relu",) if op == "rnn" else ()
    inputs = {name: value.detach() for name, value in problem.inputs(torch.float32).items()}
    steps = (*problem.run_masks(), *relu)
    hidden, gates = torch.empty(5, 17, 63), torch.empty(5, 17, 4 * 63)
    x, weight_ih, weight_hh, h0 = (inputs[name] for name in ("x", "weight_ih", "weight_hh", "h0"))

    def run(kernel: str, given: tuple[object, ...], *like: Tensor | None) -> list[Tensor]:
        soiled = [None if x is None else torch.full(x.shape, torch.nan) for x in like]
        clean = [None if x is None else torch.zeros(x.shape) for x in like]
        for outputs in (soiled, clean):
            getattr(_engine, f"{op}_{kernel}")(*given, *outputs)
        for index, (a, b) in enumerate(zip(soiled, clean, strict=True)):
            if a is not None and b is not None:
                assert torch.equal(a, b), f"output {index} of {op}_{kernel}"
        return [output for output in clean if output is not None]

    forward = (*arguments(inputs), *steps)
    grad_h = torch.randn(hidden.shape)
    gradients = (x, weight_ih, inputs["bias"], weight_hh)
    if op == "rnn":
        (h,) = run("forward", forward, hidden)
        run("backward", (grad_h, x, weight_ih, weight_hh, h0, *steps, h), *gradients, h0)
    elif op == "gru":
        h, kept = run("forward", forward, hidden, gates)
        assert torch.equal(run("forward", forward, hidden, None)[0], h)
        run("backward", (grad_h, x, weight_ih, weight_hh, h0, *steps, h, kept), *gradients, h0[0], h0)
    else:
        h, c, kept = run("forward", forward, hidden, hidden, gates)
        assert torch.equal(run("forward", forward, hidden, h0[None], None)[0], h)
        for grad_c in (None, torch.randn(c.shape)):
            given = (grad_h, grad_c, x, weight_ih, weight_hh, h0, h0, *steps, h, c, kept)
            run("backward", given, *gradients, h0, h0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", ["", "reverse"])
def test_nan_in_one_row_reaches_no_other(isa: str, cell: str, reverse: str) -> None:
    problem = Problem(cell, 5, 17, 63, reverse)
    inputs = problem.inputs(torch.float32)

    def solve() -> list[Tensor]:
        states = problem.states(inputs)
        rows = [x for name, x in inputs.items() if name in ("x", "h0", "c0")]
        return [*states.values(), *torch.autograd.grad(list(states.values()), rows, list(states.values()))]

    clean = solve()
    with torch.no_grad():
        inputs["x"][2, 4] = torch.nan
    for before, after in zip(clean, solve(), strict=True):
        others = [row for row in range(17) if row != 4]
        assert after.select(-2, 4).isnan().any()
        assert torch.equal(after[..., others, :], before[..., others, :])


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["lengths", "lengths reverse"])
def test_nothing_past_a_length_is_read(isa: str, cell: str, masks: str) -> None:
    problem = Problem(cell, 5, 17, 63, masks, 9)
    inputs = problem.inputs(torch.float32)
    lengths, _, _ = problem.run_masks()
    assert lengths is not None
    past = torch.arange(5)[:, None] >= lengths
    soiled = inputs | {"x": inputs["x"].detach().masked_fill(past[:, :, None], torch.nan).requires_grad_()}

    def solve(inputs: dict[str, Tensor]) -> list[Tensor]:
        states = list(problem.states(inputs).values())
        return [*states, *torch.autograd.grad(states, list(inputs.values()), states)]

    for index, (value, expected) in enumerate(zip(solve(soiled), solve(inputs), strict=True)):
        assert torch.equal(value, expected), index


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_pass_is_the_same_sequence_cut_anywhere(isa: str, cell: str, reverse: bool) -> None:
    steps = 7
    whole = Problem(cell, steps, 17, 63, "reverse" if reverse else "", 9)
    inputs = whole.inputs(torch.float32)
    expected = whole.states(inputs)
    for cut in range(1, steps):
        first, second = slice(0, cut), slice(cut, steps)
        pieces = [second, first] if reverse else [first, second]
        carried = inputs
        for piece in pieces:
            part = whole.states(carried | {"x": inputs["x"][piece]})
            for name, state in part.items():
                assert torch.equal(state, expected[name][piece]), f"{name} cut at {cut}"
                carried = carried | {f"{name}0": state[0 if reverse else -1]}


@pytest.mark.parametrize(
    ("cell", "masks"),
    [("lstm", ""), *product(("rnn_tanh", "lstm", "lstm_projected", "gru"), ("lengths resets reverse",))],
)
@reference_may_warn
def test_pytorch_finds_nothing_wrong_with_an_op(cell: str, masks: str) -> None:
    for features in (0, 5):
        problem = Problem(cell, 4, 3, 2, masks, features)
        given = (*arguments(problem.inputs(torch.float32)), *problem.run_masks())
        if cell.startswith("rnn"):
            torch.library.opcheck(torch.ops.unrolled.rnn.default, (*given, False))
        else:
            torch.library.opcheck(getattr(torch.ops.unrolled, cell).default, (*given, True))


@pytest.mark.parametrize("cell", CELLS)
def test_an_op_compiles_without_a_graph_break(cell: str) -> None:
    problem = Problem(cell, 4, 3, 5, "lengths resets", 7)
    masks = problem.run_masks()
    eager, traced = problem.inputs(torch.float32), problem.inputs(torch.float32)

    def states(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return problem.states(inputs, masks)

    compiled = torch.compile(states, fullgraph=True, backend="aot_eager")
    expected, actual = states(eager), compiled(traced)
    for name, state in actual.items():
        assert torch.equal(state, expected[name])
    expected_grads = torch.autograd.grad(expected["h"].sum(), list(eager.values()))
    for grad, wanted in zip(
        torch.autograd.grad(actual["h"].sum(), list(traced.values())), expected_grads, strict=True
    ):
        assert_close(grad, wanted)


def test_inputs_need_not_be_contiguous() -> None:
    problem = Problem("lstm", 4, 3, 5)
    inputs = {name: x.detach().mT.contiguous().mT for name, x in problem.inputs(torch.float32).items()}
    assert not inputs["weight_hh"].is_contiguous()
    assert_close(problem.states(inputs)["h"], solution(problem)["h"])


def test_an_unused_c_costs_no_gradient_of_zeros(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    def spy(grad_h: Tensor, grad_c: Tensor | None, *rest: Any) -> None:
        seen.append(grad_c)
        _engine.lstm_backward(grad_h, grad_c, *rest)

    monkeypatch.setitem(dispatch.ENGINE, "lstm_backward", spy)
    problem = Problem("lstm", 4, 3, 5)
    torch.autograd.backward(problem.states(problem.inputs(torch.float32))["h"].sum())
    torch.autograd.backward(problem.states(problem.inputs(torch.float32))["c"].sum())
    assert seen[0] is None
    assert isinstance(seen[1], Tensor)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_gates_cost_no_gradient_of_zeros(cell: str) -> None:
    problem = Problem(cell, 4, 3, 5, features=2)
    h = problem.states(problem.inputs(torch.float32))["h"]
    with torch.profiler.profile(record_shapes=True) as profile:
        torch.autograd.backward(h, torch.ones_like(h))
    cleared = [event.input_shapes[0] for event in profile.events() if event.name == "aten::zero_"]
    assert [4, 3, 20] not in cleared


def test_gates_take_no_gradient() -> None:
    x, weight_hh, h0, c0 = Problem("lstm", 4, 3, 5).inputs(torch.float32).values()
    h, c, gates = ops.lstm(x, None, None, weight_hh, h0, c0)
    assert h.requires_grad and c.requires_grad and not gates.requires_grad


def test_autocast_keeps_the_recurrence_in_float32() -> None:
    problem = Problem("lstm", 4, 3, 5)
    inputs = problem.inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        h = problem.states(inputs | {"x": inputs["x"].bfloat16()})["h"]
    assert h.dtype == torch.float32


@pytest.mark.parametrize("cell", CELLS)
def test_a_bad_length_is_refused_by_the_engine_too(cell: str) -> None:
    inputs = Problem(cell, 4, 3, 5).inputs(torch.float32)
    op: Callable[..., object] = getattr(ops, cell.split("_")[0])
    with pytest.raises(ValueError, match=r"lengths\[1\] is 9, expected 0 to 4"):
        op(*arguments(inputs), torch.tensor([1, 9, 1]))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_what_kept_nothing_has_no_way_back(cell: str) -> None:
    op: Callable[..., Any] = getattr(ops, cell)
    h = op(*arguments(Problem(cell, 4, 3, 5).inputs(torch.float32)), keep=False)[0]
    with pytest.raises(RuntimeError, match="keeps nothing for backward"):
        h.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("masks", ["", "lengths resets", "lengths reverse"])
def test_what_keeps_nothing_gives_the_same_h_and_the_last_c(isa: str, dtype: torch.dtype, masks: str) -> None:
    problem = Problem("lstm", 5, 17, 63, masks, 9)
    inputs, (lengths, resets, reverse) = problem.inputs(dtype), problem.run_masks()
    run = partial(_lstm, *arguments(inputs), lengths, resets, reverse)
    h, c, _ = run()
    last = torch.full((17,), 5) if lengths is None else lengths
    at = c[0] if reverse else c[last - 1, torch.arange(17)]
    lone_h, newest, gates = run(keep=False)
    assert torch.equal(lone_h, h) and not gates.numel()
    assert torch.equal(newest[0], torch.where((last > 0)[:, None], at, inputs["c0"]))


def test_kernels_names_the_instruction_set_in_use(isa: str) -> None:
    rows = {(row.op, row.device, row.dtype): row for row in dispatch.kernels()}
    assert rows["unrolled::lstm", "cpu", "float32"] == dispatch.KernelRow(
        "unrolled::lstm", "cpu", "float32", "engine", isa
    )
    assert rows["unrolled::gru_backward", "cpu", "float64"].kernel == "reference"
    assert rows["unrolled::lstm_projected", "cpu", "float32"].kernel == "reference"


@reference_may_warn
def test_kernels_follows_what_is_really_called(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []
    for table, name in ((dispatch.ENGINE, "engine"), (dispatch.REFERENCE, "reference")):
        for op, kernel in table.items():

            def spy(*args: object, kernel: Callable[..., None] = kernel, name: str = name) -> None:
                called.append(name)
                kernel(*args)

            monkeypatch.setitem(table, op, spy)
    monkeypatch.delitem(dispatch.ENGINE, "gru")
    for dtype, cell in product((torch.float32, torch.float64), ("lstm", "gru")):
        problem = Problem(cell, 2, 1, 3)
        problem.states(problem.inputs(dtype))
        name = str(dtype).removeprefix("torch.")
        (row,) = [r for r in dispatch.kernels() if (r.op, r.device, r.dtype) == (f"unrolled::{cell}", "cpu", name)]
        assert called[-1] == row.kernel


@pytest.mark.parametrize(
    ("cell", "dtype", "warns"),
    [
        ("lstm", torch.float32, None),
        ("lstm", torch.float64, None),
        ("lstm", torch.bfloat16, "unrolled::lstm in torch.bfloat16 on cpu has no compiled kernel"),
        ("lstm_projected", torch.float32, "unrolled::lstm_projected has no compiled kernel"),
    ],
)
def test_the_reference_steps_in_with_one_warning(cell: str, dtype: torch.dtype, warns: str | None) -> None:
    dispatch.warn_reference.cache_clear()
    problem = Problem(cell, 2, 1, 3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            problem.solve(dtype)
    assert len(caught) == (warns is not None)
    assert warns is None or str(caught[0].message).startswith(warns)
