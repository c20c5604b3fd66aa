"""The ops as PyTorch sees them, and every engine kernel against the float64 reference."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from programs import python
from tolerances import assert_close
from unrolled import _engine, nn, ops
from unrolled.errors import InputError
from unrolled.ops import dispatch

ODD_SIZES = (1, 3, 17, 63, 130)
PLAIN = ("rnn_tanh", "rnn_relu", "lstm", "gru")
# A variant is named by what it departs in from the cell that it begins with.
VARIANTS = (
    *("gru_zoneout", "lstm_peephole", "lstm_coupled", "lstm_coupled_peephole_dropout_zoneout"),
    *("lstm_projected", "lstm_projected_peephole_dropout_zoneout"),
    *("lstm_normalised", "lstm_normalised_coupled_projected_peephole_dropout_zoneout"),
)
CELLS = (*PLAIN, *VARIANTS)


def gates_of(cell: str) -> int:
    if cell.startswith("rnn"):
        return 1
    return 3 if cell.startswith("gru") or "coupled" in cell else 4


def op_of(cell: str) -> str:
    return cell.split("_")[0]


_lstm: Callable[..., tuple[Any, ...]] = ops.lstm

NORM = ops.LayerNorm._fields
LEARNED = ("weight_hr", "peephole", *NORM)
FACTORS = ("dropout", "zoneout_h", "zoneout_c")
Masks = tuple[Tensor | None, Tensor | None, bool, bool]  # lengths, resets, reverse, bfloat16

reference_may_warn = pytest.mark.filterwarnings("ignore:.*the reference serves it")


@dataclass(frozen=True)
class Problem:
    """One call of a cell's op, the same numbers in any dtype."""

    cell: str
    steps: int
    rows: int
    units: int
    masks: str = ""  # any of "lengths", "resets", "reverse", "bfloat16"
    features: int = 0  # D; 0: x is the input's share of the gates, and there is no weight_ih
    symbols: int = 0  # V, the rows of x; 0: every step has its own

    @property
    def width(self) -> int:
        """Of h: an odd number less than the units where they are projected."""
        return 1 + self.units // 3 * 2 if "projected" in self.cell else self.units

    def inputs(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """What the op takes before lengths, by name and in order."""
        generator = torch.Generator().manual_seed(self.steps + 10 * self.rows + 1000 * self.units)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            return (torch.randn(*shape, generator=generator) * scale).to(dtype).requires_grad_()

        steps, rows, units = self.steps, self.rows, self.units
        gates, scale = gates_of(self.cell) * units, units**-0.5
        states = {"h0": normal(rows, self.width)}
        weights = {"weight_hh": normal(gates, self.width, scale=scale)}
        if self.features or op_of(self.cell) == "gru":
            apart = torch.Generator().manual_seed(units)
            weights["bias_hh"] = (torch.randn(gates, generator=apart) * 0.1).to(dtype).requires_grad_()
        learned = {}
        if "projected" in self.cell:
            learned["weight_hr"] = normal(self.width, units, scale=scale)
        if "peephole" in self.cell:
            learned["peephole"] = normal(gates_of(self.cell) - 1, units, scale=scale)
        if "normalised" in self.cell:
            widths = {"gain_ih": gates, "gain_hh": gates, "gain_c": units, "bias_c": units}
            learned |= {
                name: normal(width) for name, width in widths.items() if self.features or name != "gain_ih"
            }
        if op_of(self.cell) == "lstm":
            states["c0"] = normal(rows, units)
        of_x = (self.symbols,) if self.symbols else (steps, rows)
        if not self.features:
            return {"x": normal(*of_x, gates), **weights, **states, **learned}
        weight_ih = normal(gates, self.features, scale=self.features**-0.5)
        of_input = {"x": normal(*of_x, self.features), "weight_ih": weight_ih, "bias_ih": normal(gates)}
        return {**of_input, **weights, **states, **learned}

    def factors(self, dtype: torch.dtype) -> dict[str, Tensor]:
        """Dropout and zoneout by name: each step and row its own where there are lengths, else all the same."""
        generator = torch.Generator().manual_seed(self.steps)
        each = (self.steps, self.rows) if "lengths" in self.masks else ()

        def uniform(width: int) -> Tensor:
            return torch.rand(*each, width, generator=generator).to(dtype)

        zoneout = {"zoneout_h": uniform(self.width)} if "zoneout" in self.cell else {}
        if zoneout and op_of(self.cell) == "lstm":
            zoneout["zoneout_c"] = uniform(self.units).round()
        return ({"dropout": 2 * uniform(self.units)} if "dropout" in self.cell else {}) | zoneout

    def read(self) -> Tensor | None:
        """The symbols of all steps; where a row has ended, what is no symbol."""
        if not self.symbols:
            return None
        generator = torch.Generator().manual_seed(self.units)
        read = torch.randint(self.symbols, (self.steps, self.rows), generator=generator)
        lengths = self.run_masks()[0]
        return read if lengths is None else read.masked_fill(torch.arange(self.steps)[:, None] >= lengths, -1)

    def run_masks(self) -> Masks:
        """Lengths (0 and T among them where there are rows enough), resets, reverse, bfloat16."""
        generator = torch.Generator().manual_seed(self.rows)
        lengths = torch.randint(0, self.steps + 1, (self.rows,), generator=generator)
        lengths[0], lengths[-1] = self.steps, 0 if self.rows > 1 else self.steps
        resets = torch.rand(self.steps, self.rows, generator=generator) < 0.3
        return (
            lengths if "lengths" in self.masks else None,
            resets if "resets" in self.masks else None,
            "reverse" in self.masks,
            "bfloat16" in self.masks,
        )

    def states(
        self, inputs: dict[str, Tensor], masks: Masks | None = None, factors: dict[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Run the op: every step's states by name."""
        masks = masks or self.run_masks()
        factors = self.factors(inputs["x"].dtype) if factors is None else factors
        op: Callable[..., Any] = getattr(ops, op_of(self.cell))
        taken = arguments(inputs, self.read())
        if op is ops.rnn:
            return dict(zip(("h", "h_n"), op(*taken, *masks, relu=self.cell == "rnn_relu"), strict=True))
        if op is ops.gru:
            h, _, h_n = op(*taken, *masks, **factors)
            return {"h": h, "h_n": h_n}
        variant, norm = ({name: inputs[name] for name in of if name in inputs} for of in (LEARNED[:2], NORM))
        given = {"variant": ops.Variant(**variant, **factors), "norm": ops.LayerNorm(**norm)}
        h, c, _, h_n, c_n = op(*taken, *masks, **given)
        return {"h": h, "c": c, "h_n": h_n, "c_n": c_n}

    def solve(self, dtype: torch.dtype, used: str = "h c h_n c_n") -> dict[str, Tensor]:
        """Every output and every gradient, by name; the loss uses these of the outputs."""
        inputs = self.inputs(dtype)
        states = {name: state for name, state in self.states(inputs).items() if name in used.split()}
        generator = torch.Generator().manual_seed(0)
        # The weights' gradients sum over steps and rows: this scale leaves them of order one.
        scale = (self.steps * self.rows) ** -0.5
        grads = [torch.randn(state.shape, generator=generator).to(dtype) * scale for state in states.values()]
        gradients = torch.autograd.grad(list(states.values()), list(inputs.values()), grads)
        named = zip(inputs, gradients, strict=True)
        return {name: state.detach() for name, state in states.items()} | {f"grad_{n}": g for n, g in named}


def arguments(inputs: dict[str, Tensor], symbols: Tensor | None = None) -> list[Tensor | None]:
    """Inputs as an op takes them."""
    products = [inputs.get(name) for name in ("weight_ih", "bias_ih", "weight_hh", "bias_hh")]
    states = [inputs[name] for name in ("h0", "c0") if name in inputs]
    return [inputs["x"], symbols, *products, *states]


def kernel_arguments(cell: str, inputs: dict[str, Tensor], symbols: Tensor | None = None) -> list[Tensor | None]:
    """Inputs as a kernel takes them."""
    given = arguments(inputs, symbols)
    return given if op_of(cell) != "lstm" else [*given[:6], *map(inputs.get, LEARNED), *given[6:]]


@cache
def solution(problem: Problem, used: str = "h c h_n c_n") -> dict[str, Tensor]:
    return problem.solve(torch.float64, used)


def assert_solves(problem: Problem, used: str = "h c h_n c_n") -> None:
    expected = solution(problem, used)
    for name, value in problem.solve(torch.float32, used).items():
        assert value.dtype == torch.float32
        assert_close(value, expected[name], f"{name} of {problem}")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("units", ODD_SIZES)
def test_the_engine_solves_every_odd_size(isa: str, cell: str, units: int) -> None:
    for rows in ODD_SIZES if cell in PLAIN else (3, 17):
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
@pytest.mark.parametrize("rows", [1, 5, 40])
@pytest.mark.parametrize("masks", ["", "lengths resets reverse"])
def test_the_engine_solves_a_single_step_on_two_threads(isa: str, cell: str, rows: int, masks: str) -> None:
    """Of so many units that threads divide them: each packs what it multiplies with, or reads it where it lies."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        for features in (0, 33, 63):
            assert_solves(Problem(cell, 1, rows, 200, masks, features))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "lengths resets reverse"])
def test_the_engine_solves_what_reads_symbols(isa: str, cell: str, masks: str) -> None:
    for steps, rows, units, symbols in ((5, 17, 63, 7), (200, 3, 17, 30), (9, 130, 130, 1), (3, 2, 17, 700)):
        for features in (0,) if "normalised" in cell else (0, 1, 9):
            assert_solves(Problem(cell, steps, rows, units, masks, features, symbols), "h c")


@pytest.mark.parametrize("cell", [cell for cell in CELLS if "normalised" not in cell])
def test_symbols_have_the_bits_of_their_rows(isa: str, cell: str) -> None:
    problem = Problem(cell, 40, 17, 63, "", 9, 7)
    inputs, read = problem.inputs(torch.float32), problem.read()
    assert read is not None
    whole = Problem(cell, 40, 17, 63, "", 9).states(inputs | {"x": inputs["x"][read]})
    for name, state in problem.states(inputs).items():
        assert torch.equal(state, whole[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_symbols_with_a_normalised_product_are_refused(dtype: torch.dtype) -> None:
    problem = Problem("lstm_normalised", 5, 3, 7, "", 4, 6)
    with pytest.raises(ValueError, match="symbols: expected only without gain_ih"):
        problem.states(problem.inputs(dtype))


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["reverse", "lengths", "lengths resets", "lengths reverse", "resets reverse"])
def test_the_engine_honours_each_mask(isa: str, cell: str, masks: str) -> None:
    for steps in range(1, 8) if cell in PLAIN else (1, 2, 5):
        assert_solves(Problem(cell, steps, 17, 17, masks))


@reference_may_warn
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "reverse", "lengths", "lengths resets reverse"])
@pytest.mark.parametrize("rows", [1, 17])
def test_no_initial_state_is_one_of_zeros(isa: str, dtype: torch.dtype, cell: str, masks: str, rows: int) -> None:
    problem = Problem(cell, 5, rows, 63, masks, 3)
    inputs = problem.inputs(dtype)
    learned = [name for name in inputs if name not in ("h0", "c0")]
    zeros = {name: torch.zeros_like(inputs[name]) for name in inputs if name in ("h0", "c0")}
    solved = []
    for initial in (zeros, dict.fromkeys(zeros)):
        given: Any = inputs | initial
        states = problem.states(given)
        gradients = torch.autograd.grad(
            list(states.values()), [inputs[name] for name in learned], [one.detach() for one in states.values()]
        )
        solved.append([*states.values(), *gradients])
    for index, (found, expected) in enumerate(zip(*solved, strict=True)):
        assert torch.equal(found, expected), index


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("used", ["h", "h_n", "h h_n", "c", "c_n", "h_n c_n"])
def test_a_loss_may_use_any_of_the_outputs(isa: str, cell: str, used: str) -> None:
    if "c" in used and op_of(cell) != "lstm":
        return
    for masks in ("", "reverse", "lengths", "lengths resets reverse"):
        assert_solves(Problem(cell, 5, 17, 17, masks, 3), used)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(
    "masks", ["", "lengths", "resets", "lengths resets reverse", "symbols", "bfloat16", "lengths resets bfloat16"]
)
def test_the_engine_writes_all_of_its_outputs(isa: str, cell: str, masks: str) -> None:
    if masks == "symbols" and "normalised" in cell:
        return
    problem = Problem(cell, 5, 17, 63, masks, 9, 7 if masks == "symbols" else 0)
    op = op_of(cell)
    relu = (cell == "rnn_relu",) if op == "rnn" else ()
    factors = problem.factors(torch.float32)
    inputs = {name: value.detach() for name, value in problem.inputs(torch.float32).items()}
    learned = [*map(inputs.get, LEARNED)]
    extras: dict[str, tuple[object, ...]] = {
        "rnn": relu,
        "gru": (factors.get("zoneout_h"),),
        "lstm": tuple(factors.get(name) for name in FACTORS),
    }
    steps = (*problem.run_masks(), *extras[op])
    width = 4 * 63 + (2 * (gates_of(cell) * 63 + 1) if "normalised" in cell else 0)
    hidden, c_of_steps, gates = (torch.empty(5, 17, one) for one in (problem.width, 63, width))
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

    symbols = problem.read()
    forward = (*kernel_arguments(cell, inputs, symbols), *steps)
    grad_h = torch.randn(hidden.shape)
    gradients = (x, weight_ih, inputs["bias_ih"], weight_hh)
    if op == "rnn":
        h, _ = run("forward", forward, hidden, h0[None])
        for of_h, of_h_n in ((grad_h, None), (None, h0[None])):
            given = (x, symbols, weight_ih, weight_hh, h0, *steps, h, of_h, of_h_n)
            run("backward", given, *gradients, h0)
    elif op == "gru":
        h, kept, h_n = run("forward", forward, hidden, gates, h0[None])
        assert all(map(torch.equal, run("forward", forward, hidden, None, h0[None]), (h, h_n)))
        for of_h, of_h_n in ((grad_h, None), (None, h_n)):
            given = (x, symbols, weight_ih, weight_hh, h0, *steps, h, kept, of_h, of_h_n)
            run("backward", given, *gradients, inputs["bias_hh"], h0)
    else:
        c0 = inputs["c0"]
        h, c, kept, h_n, c_n = run("forward", forward, hidden, c_of_steps, gates, h0[None], c0[None])
        lone = run("forward", forward, hidden, c0[None], None, h0[None], None)
        assert all(map(torch.equal, lone, (h, c_n, h_n)))
        for arrived in (
            (grad_h, None, None, None),
            (grad_h, torch.randn(c.shape), None, c_n),
            (None, None, h_n, None),
        ):
            given = (x, symbols, weight_ih, weight_hh, *learned, h0, c0, *steps, h, c, kept, *arrived)
            run("backward", given, *gradients, *learned, h0, c0)


@reference_may_warn
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "lengths resets reverse"])
@pytest.mark.parametrize("symbols", [0, 7])
def test_gradients_are_the_same_whichever_are_wanted(
    isa: str, dtype: torch.dtype, cell: str, masks: str, symbols: int
) -> None:
    if symbols and "normalised" in cell:
        return
    problem = Problem(cell, 5, 17, 63, masks, 9, symbols)
    inputs = problem.inputs(dtype)
    states = list(problem.states(inputs).values())
    every = dict(zip(inputs, torch.autograd.grad(states, list(inputs.values()), states), strict=True))
    of_states = [name for name in ("h0", "c0") if name in inputs]
    weights = ["weight_ih", "bias_ih", "weight_hh", "bias_hh"]
    for wanted in (
        ["x"],
        weights,
        ["weight_hh"],
        of_states,
        of_states[-1:],
        ["x", *weights],
        ["bias_ih", *of_states],
        ["bias_hh"],
    ):
        some = {name: value.detach().requires_grad_(name in wanted) for name, value in inputs.items()}
        states = list(problem.states(some).values())
        found = torch.autograd.grad(states, [some[name] for name in wanted], [state.detach() for state in states])
        for name, gradient in zip(wanted, found, strict=True):
            assert torch.equal(gradient, every[name]), name


@pytest.mark.parametrize("op", ["rnn", "lstm", "gru"])
def test_what_nobody_wants_is_not_made(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[tuple[object, ...]] = []
    kernel = dispatch.ENGINE[f"{op}_backward"]

    def spy(*arguments: Any) -> None:
        filled.append(arguments)
        kernel(*arguments)

    monkeypatch.setitem(dispatch.ENGINE, f"{op}_backward", spy)
    layer, x = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}[op](3, 5), torch.randn(4, 2, 3)
    layer(x)[0].sum().backward()
    of_weights = filled.pop()
    layer.requires_grad_(False)(x.requires_grad_())[0].sum().backward()
    of_input = filled.pop()
    states, products = (
        (2 if op == "lstm" else 1),
        slice(*{"rnn": (-5, -1), "lstm": (-12, -8), "gru": (-6, -2)}[op]),
    )
    for arguments in (of_weights, of_input):
        assert list(arguments[-states:]) == [None] * states
    assert [one is None for one in of_weights[products]] == [True, False, False, False]
    assert [one is None for one in of_input[products]] == [False, True, True, True]


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "reverse", "bfloat16"])
def test_nan_in_one_row_reaches_no_other(isa: str, cell: str, masks: str) -> None:
    problem = Problem(cell, 5, 17, 63, masks)
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
@pytest.mark.parametrize("masks", ["lengths", "lengths reverse", "lengths bfloat16"])
def test_nothing_past_a_length_is_read(isa: str, cell: str, masks: str) -> None:
    problem = Problem(cell, 5, 17, 63, masks, 9)
    inputs = problem.inputs(torch.float32)
    lengths = problem.run_masks()[0]
    assert lengths is not None
    past = torch.arange(5)[:, None] >= lengths
    soiled = inputs | {"x": inputs["x"].detach().masked_fill(past[:, :, None], torch.nan).requires_grad_()}

    def solve(inputs: dict[str, Tensor]) -> list[Tensor]:
        states = list(problem.states(inputs).values())
        return [*states, *torch.autograd.grad(states, list(inputs.values()), states)]

    for index, (value, expected) in enumerate(zip(solve(soiled), solve(inputs), strict=True)):
        assert torch.equal(value, expected), index


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("masks", ["", "reverse", "bfloat16"])
@pytest.mark.parametrize("rows", [1, 17])
def test_one_pass_is_the_same_sequence_cut_anywhere(isa: str, cell: str, masks: str, rows: int) -> None:
    steps, reverse = 7, masks == "reverse"
    whole = Problem(cell, steps, rows, 63, masks, 9)
    inputs = whole.inputs(torch.float32)
    expected = whole.states(inputs)
    for cut in range(1, steps):
        first, second = slice(0, cut), slice(cut, steps)
        pieces = [second, first] if reverse else [first, second]
        carried = inputs
        for piece in pieces:
            part = whole.states(carried | {"x": inputs["x"][piece]})
            for name in part.keys() & {"h", "c"}:
                assert torch.equal(part[name], expected[name][piece]), f"{name} cut at {cut}"
            carried = inputs | {name.replace("_n", "0"): part[name][0] for name in part.keys() & {"h_n", "c_n"}}
        for name in part.keys() & {"h_n", "c_n"}:
            assert torch.equal(part[name], expected[name]), f"{name} cut at {cut}"


@pytest.mark.parametrize(
    ("cell", "masks"),
    [
        ("lstm", ""),
        *product(
            (
                *("rnn_tanh", "lstm", "gru_zoneout", "lstm_projected_peephole_dropout_zoneout", "lstm_coupled"),
                "lstm_normalised",
            ),
            ("lengths resets reverse",),
        ),
    ],
)
def test_pytorch_finds_nothing_wrong_with_an_op(cell: str, masks: str) -> None:
    for features, symbols in ((0, 0), (5, 0), (0, 4), *(() if "normalised" in cell else ((5, 4),))):
        problem = Problem(cell, 4, 3, 2, masks, features, symbols)
        inputs, factors = problem.inputs(torch.float32), problem.factors(torch.float32)
        given = (*kernel_arguments(cell, inputs, problem.read()), *problem.run_masks())
        extras: dict[str, tuple[object, ...]] = {
            "rnn": (False,),
            "gru": (factors.get("zoneout_h"), True),
            "lstm": (*(factors.get(name) for name in FACTORS), True),
        }
        op = getattr(torch.ops.unrolled, op_of(cell)).default
        torch.library.opcheck(op, (*given, *extras[op_of(cell)]))


@pytest.mark.parametrize("cell", CELLS)
def test_an_op_compiles_without_a_graph_break(cell: str) -> None:
    torch.compiler.reset()  # torch compiles one function for eight sets of shapes at most
    problem = Problem(cell, 4, 3, 5, "lengths resets", 7)
    masks = problem.run_masks()
    eager, traced = problem.inputs(torch.float32), problem.inputs(torch.float32)
    factors = problem.factors(torch.float32)

    def states(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return problem.states(inputs, masks, factors)

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


def test_what_was_an_input_can_be_resized_afterwards() -> None:
    inputs = {name: x.detach() for name, x in Problem("lstm", 4, 3, 5).inputs(torch.float32).items()}
    Problem("lstm", 4, 3, 5).states(inputs)
    for x in inputs.values():
        x.untyped_storage().resize_(0)  # as torch's sharded training does


def test_the_first_call_does_not_import_the_compiler() -> None:
    program = """
import sys, torch
from unrolled import nn
nn.LSTM(2, 3)(torch.zeros(1, 1, 2))[0].sum().backward()
print(sorted({"torch._dynamo", "sympy"} & set(sys.modules)))
"""
    found = python(program)
    assert (found.stdout, found.stderr) == ("[]\n", "")


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "gru"])
def test_what_a_loss_does_not_use_costs_no_gradient_of_zeros(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op = f"{op_of(cell)}_backward"
    arrived: list[str] = []
    kernel = dispatch.ENGINE[op]
    names = [argument.name for argument in getattr(torch.ops.unrolled, op).default._schema.arguments]

    def spy(*given: Any) -> None:
        named = zip(names, given, strict=False)
        arrived.extend(name for name, one in named if name.startswith("grad_") and one is not None)
        kernel(*given)

    monkeypatch.setitem(dispatch.ENGINE, op, spy)
    problem = Problem(cell, 4, 3, 5)
    for name in ("h", "c", "h_n", "c_n") if cell == "lstm" else ("h", "h_n"):
        arrived.clear()
        torch.autograd.backward(problem.states(problem.inputs(torch.float32))[name].sum())
        assert arrived == [f"grad_{name}"]


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
    h, c, gates, *_ = _lstm(x, None, None, None, weight_hh, None, h0, c0)
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
    op: Callable[..., object] = getattr(ops, op_of(cell))
    with pytest.raises(InputError, match=r"lengths\[1\] is 9, expected 0 to 4"):
        op(*arguments(inputs), torch.tensor([1, 9, 1]))


def test_a_tensor_that_is_not_as_the_input_is_is_named() -> None:
    op: Callable[..., object] = ops.lstm
    inputs, lengths = Problem("lstm", 4, 3, 5).inputs(torch.float32), torch.tensor([1, 2, 1])
    with pytest.raises(InputError, match=r"^unrolled::lstm: c0 is torch\.float64 on cpu, expected torch\.float32"):
        op(*arguments(inputs | {"c0": inputs["c0"].double()}), lengths)
    with pytest.raises(InputError, match=r"^unrolled::lstm: its tensors are not what the engine takes\.$"):
        op(*arguments(inputs), lengths, torch.ones(4, 3, dtype=torch.int64))


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_an_input_of_no_numbers_is_refused(cell: str) -> None:
    inputs = Problem(cell, 4, 3, 5, features=2).inputs(torch.float32)
    inputs |= {"x": inputs["x"][..., :0], "weight_ih": inputs["weight_ih"][:, :0]}
    op: Callable[..., object] = getattr(ops, op_of(cell))
    with pytest.raises(ValueError, match="weight_ih has no column, expected at least one"):
        op(*arguments(inputs))


@pytest.mark.parametrize("cell", ["rnn_tanh", "lstm", "lstm_projected", "gru"])
def test_no_step_and_no_unit_are_refused(cell: str) -> None:
    inputs = Problem(cell, 4, 3, 5).inputs(torch.float32)
    op: Callable[..., object] = getattr(ops, op_of(cell))
    for keep in ({},) if cell == "rnn_tanh" else ({}, {"keep": False}):
        with pytest.raises(ValueError, match=r"expected at least one step and one unit, got 0 and \d"):
            op(*arguments(inputs | {"x": inputs["x"][:0]}), **keep)
    if cell == "gru":  # its bias says how many units there are
        return
    none = {name: value[..., :0] if name == "h0" else value for name, value in inputs.items()}
    none |= {"weight_hh": inputs["weight_hh"][:, :0]}
    with pytest.raises(ValueError, match="expected at least one step and one unit, got 4 and 0"):
        op(*arguments(none))


def test_symbols_of_which_no_step_is_taken_need_no_row() -> None:
    steps, rows, units = 200, 50, 3
    inputs = {
        name: x.detach().numpy() for name, x in Problem("rnn_tanh", 1, rows, units).inputs(torch.float32).items()
    }
    weight_ih, symbols = np.ones((units, 64), np.float32), np.zeros((steps, rows), np.int64)
    h, lengths = np.zeros((steps, rows, units), np.float32), np.zeros(rows, np.int64)
    x = np.zeros((0, 64), np.float32)
    gradients: list[Any] = [np.empty((0, 64), np.float32), np.empty_like(weight_ih)]
    gradients += [np.empty(units, np.float32), np.empty_like(inputs["weight_hh"]), np.empty_like(inputs["h0"])]
    given = (
        x,
        symbols,
        weight_ih,
        inputs["weight_hh"],
        inputs["h0"],
        lengths,
        None,
        False,
        False,
        False,
        h,
        h,
        None,
    )
    _engine.rnn_backward(*given, *gradients)
    assert not any(gradient.any() for gradient in gradients)


def test_a_way_back_that_goes_on_wants_the_states() -> None:
    weight, bias, states, gates = (np.ones(shape, np.float32) for shape in ((9, 3), 9, (2, 3), (4, 2, 12)))
    x, h = np.ones((4, 2, 9), np.float32), np.ones((4, 2, 3), np.float32)
    steps = (None, None, False, False, None)
    gradients = (None, None, None, np.zeros_like(weight), np.zeros_like(bias), None)
    with pytest.raises(ValueError, match="continued: expected only with the gradients of the initial states"):
        _engine.gru_backward(x, None, None, weight, states, *steps, h, gates, h, None, *gradients, True)


def test_a_way_back_that_goes_on_has_its_last_states_gradients_in_those_of_the_first() -> None:
    weight, states, gates = (np.ones(shape, np.float32) for shape in ((9, 3), (2, 3), (4, 2, 12)))
    x, h, h_n = np.ones((4, 2, 9), np.float32), np.ones((4, 2, 3), np.float32), np.ones((1, 2, 3), np.float32)
    given = (x, None, None, weight, states, None, None, False, False, None, h, gates, h, h_n)
    gradients = (None, None, None, None, None, np.zeros_like(states))
    _engine.gru_backward(*given, *gradients)
    with pytest.raises(ValueError, match="grad_h_n: expected only where nothing is continued"):
        _engine.gru_backward(*given, *gradients, True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("missing", ["h0", "c0"])
def test_one_of_two_initial_states_is_refused(missing: str, dtype: torch.dtype) -> None:
    problem = Problem("lstm", 4, 3, 5, features=2)
    given: Any = problem.inputs(dtype) | {missing: None}
    with pytest.raises(ValueError, match="c0: expected where h0 is given, and only there"):
        problem.states(given)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_what_kept_nothing_has_no_way_back(cell: str) -> None:
    op: Callable[..., Any] = getattr(ops, cell)
    h = op(*arguments(Problem(cell, 4, 3, 5).inputs(torch.float32)), keep=False)[0]
    with pytest.raises(RuntimeError, match="keeps nothing for backward"):
        h.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", ["lstm", "lstm_normalised"])
@pytest.mark.parametrize("masks", ["", "lengths resets", "lengths reverse"])
def test_what_keeps_nothing_gives_the_same_h_and_the_last_c(
    isa: str, dtype: torch.dtype, cell: str, masks: str
) -> None:
    problem = Problem(cell, 5, 17, 63, masks, 9)
    inputs, (lengths, resets, reverse, _) = problem.inputs(dtype), problem.run_masks()
    norm = ops.LayerNorm(*map(inputs.get, NORM))
    run = partial(_lstm, *arguments(inputs), lengths, resets, reverse, norm=norm)
    h, c, _, h_n, c_n = run()
    last = torch.full((17,), 5) if lengths is None else lengths
    at = c[0] if reverse else c[last - 1, torch.arange(17)]
    lone_h, newest, gates, lone_h_n, lone_c_n = run(keep=False)
    assert torch.equal(lone_h, h) and torch.equal(lone_h_n, h_n) and gates is None
    assert torch.equal(newest[0], torch.where((last > 0)[:, None], at, inputs["c0"]))
    assert torch.equal(newest, c_n) and torch.equal(lone_c_n, c_n)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", ["lstm", "lstm_normalised"])
@pytest.mark.parametrize("masks", ["", "lengths resets", "lengths reverse"])
def test_c_may_be_kept_after_each_of_several_parts(isa: str, dtype: torch.dtype, cell: str, masks: str) -> None:
    steps, every, rows = 11, 4, 17
    problem = Problem(cell, steps, rows, 63, masks, 9)
    inputs, (lengths, resets, reverse, _) = problem.inputs(dtype), problem.run_masks()
    norm = ops.LayerNorm(*map(inputs.get, NORM))
    h, c, *_ = _lstm(*arguments(inputs), lengths, resets, reverse, norm=norm)
    given = (*kernel_arguments(cell, inputs), lengths, resets, reverse, False, *[None] * len(FACTORS), False)
    found_h, found = torch.full_like(h, torch.nan), c.new_full((3, rows, 63), torch.nan)
    dispatch.SERVED["lstm"].fill(given, (found_h, found, None, None, None))
    assert torch.equal(found_h, h)
    for row, length in enumerate([steps] * rows if lengths is None else lengths.tolist()):
        taken = range(length)[:: -1 if reverse else 1]
        for part in range(3):
            before = [t for t in taken if (t // every >= part if reverse else t // every <= part)]
            expected = c[before[-1], row] if before else inputs["c0"][row]
            assert torch.equal(found[part, row], expected), f"row {row}, part {part}"


def test_parts_that_are_not_equal_are_refused() -> None:
    inputs = Problem("lstm", 10, 3, 5, features=2).inputs(torch.float32)
    given = (*kernel_arguments("lstm", inputs), None, None, False, False, *[None] * len(FACTORS), False)
    h, c = torch.empty(10, 3, 5), torch.empty(7, 3, 5)
    with pytest.raises(ValueError, match=r"c: expected shape \[5, 3, 5\], got \[7, 3, 5\]"):
        dispatch.SERVED["lstm"].fill(given, (h, c, None, None, None))


def test_kernels_names_the_instruction_set_in_use(isa: str) -> None:
    rows = {(row.op, row.device, row.dtype): row for row in dispatch.kernels()}
    assert rows["unrolled::lstm", "cpu", "float32"] == dispatch.KernelRow(
        "unrolled::lstm", "cpu", "float32", "engine", isa
    )
    assert rows["unrolled::gru_backward", "cpu", "float64"].kernel == "reference"


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
        ("lstm_projected", torch.float32, None),
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


@pytest.mark.parametrize("cell", [cell for cell in CELLS if cell != "rnn_relu"])
def test_where_no_row_takes_a_step_gradients_of_weights_are_zero(isa: str, cell: str) -> None:
    problem = Problem(cell, 5, 3, 17, features=9)
    inputs = problem.inputs(torch.float32)
    states = problem.states(inputs, (torch.zeros(3, dtype=torch.int64), None, False, False))
    poison = [torch.full((1 << 16,), torch.nan) for _ in range(8)]
    del poison  # what comes next is likely to lie there
    learned = [value for name, value in inputs.items() if name not in ("x", "h0", "c0")]
    for gradient in torch.autograd.grad(
        list(states.values()), learned, list(map(torch.ones_like, states.values()))
    ):
        assert not gradient.any()
