"""The reference against torch's own cells and layers, finite differences, and its own words."""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from unrolled import ops
from unrolled.ops import cells, reference

T, B, H, P = 4, 3, 2, 1
CELLS = (
    *("rnn_tanh", "rnn_relu", "gru", "gru_zoneout", "lstm", "lstm_projected", "lstm_peephole", "lstm_coupled"),
    *("lstm_dropout", "lstm_zoneout", "lstm_peephole_dropout_zoneout_projected", "lstm_coupled_peephole_zoneout"),
)
TORCHS = ("rnn_tanh", "rnn_relu", "lstm", "lstm_projected", "gru")
LENGTHS = torch.tensor([T, 0, 2])
RESETS = torch.tensor([[0, 0, 1], [1, 0, 0], [1, 1, 1], [0, 0, 0]], dtype=torch.bool)
MASKS = [
    pytest.param(lengths, resets, reverse, id=f"{a}-{b}-{c}")
    for (a, lengths), (b, resets), (c, reverse) in product(
        (("whole", None), ("lengths", LENGTHS)),
        (("unbroken", None), ("resets", RESETS)),
        (("forward", False), ("reverse", True)),
    )
]

_rnn: Callable[..., tuple[Any, ...]] = ops.rnn
_lstm: Callable[..., tuple[Any, ...]] = ops.lstm
_gru: Callable[..., tuple[Any, ...]] = ops.gru


def given(cell: str, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """As an op takes them: x is the input's share of the gates, so there are no weight_ih and bias_ih."""
    x_gates, weight_hh, *rest = inputs
    bias_hh = rest.pop(0) if cell.startswith("gru") else None
    return x_gates, None, None, None, weight_hh, bias_hh, *rest


def gates_of(cell: str) -> int:
    """Rows of the weights."""
    if cell.startswith("rnn"):
        return H
    return 3 * H if cell.startswith("gru") or "coupled" in cell else 4 * H


def states_of(cell: str) -> int:
    return 2 if cell.startswith("lstm") else 1


def run(cell: str, inputs: Sequence[Tensor], *steps: Any, varied: bool = False) -> tuple[Tensor, ...]:
    """The sequence op of a cell, given its inputs, lengths, resets and reverse: every step's states.

    A variant's factors are the same at all steps and rows, or `varied`.
    """
    if cell.startswith("rnn"):
        return _rnn(*given(cell, inputs), *steps, relu=cell == "rnn_relu")[:1]
    if cell.startswith("gru"):
        return _gru(*given(cell, inputs), *steps, zoneout_h=factors(cell, inputs[0], varied).zoneout_h)[:1]
    x_gates, weight_hh, *weights, h0, c0 = inputs
    learned = {name: weights.pop(0) for name in ("weight_hr", "peephole") if name in weights_of(cell)}
    variant = factors(cell, x_gates, varied)._replace(**learned)
    return _lstm(*given(cell, (x_gates, weight_hh, h0, c0)), *steps, variant=variant)[:2]


def weights_of(cell: str) -> dict[str, tuple[int, ...]]:
    """The weights of a cell by name, with their shapes."""
    width = P if "projected" in cell else H
    shapes: dict[str, tuple[int, ...]] = {"weight_hh": (gates_of(cell), width)}
    if cell.startswith("gru"):
        shapes["bias_hh"] = (3 * H,)
    if "projected" in cell:
        shapes["weight_hr"] = (P, H)
    if "peephole" in cell:
        shapes["peephole"] = (gates_of(cell) // H - 1, H)
    return shapes


def factors(cell: str, like: Tensor, varied: bool) -> ops.Variant:
    """Random factors of dropout and zoneout for the cells that are named after them."""
    generator = torch.Generator().manual_seed(7)

    def uniform(width: int) -> Tensor:
        return torch.rand((T, B, width) if varied else (width,), generator=generator).to(like.dtype)

    dropout, zoneout_h, zoneout_c = uniform(H) * 2, uniform(P if "projected" in cell else H), uniform(H)
    zoneout = "zoneout" in cell
    return ops.Variant(
        dropout=dropout if "dropout" in cell else None,
        zoneout_h=zoneout_h if zoneout else None,
        zoneout_c=zoneout_c if zoneout else None,
    )


pytestmark = pytest.mark.filterwarnings("ignore:.*the reference serves it")


def inputs_of(cell: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x_gates, the weights, and last the initial states: what the cell's op takes before lengths."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    weights = [normal(*shape) for shape in weights_of(cell).values()]
    widths = (P if "projected" in cell else H, H)[: states_of(cell)]
    return [normal(T, B, gates_of(cell)), *weights, *(normal(B, width) for width in widths)]


def torch_layer(cell: str) -> torch.nn.RNNBase:
    torch.manual_seed(0)
    if cell.startswith("rnn"):
        return torch.nn.RNN(2, H, nonlinearity=cell.removeprefix("rnn_"), dtype=torch.float64)
    if cell == "gru":
        return torch.nn.GRU(2, H, dtype=torch.float64)
    return torch.nn.LSTM(2, H, proj_size=P if cell == "lstm_projected" else 0, dtype=torch.float64)


def test_rnn_step_is_torch_rnn_cell() -> None:
    x_gates, weight_hh, h = inputs_of("rnn_tanh")
    for nonlinearity in ("tanh", "relu"):
        cell = torch.nn.RNNCell(H, H, bias=False, nonlinearity=nonlinearity, dtype=torch.float64)
        cell.load_state_dict({"weight_ih": torch.eye(H), "weight_hh": weight_hh})
        assert_close(cells.rnn_step(x_gates[0], weight_hh, h, nonlinearity == "relu"), cell(x_gates[0], h))


def test_lstm_step_is_torch_lstm_cell() -> None:
    x_gates, weight_hh, h, c = inputs_of("lstm")
    cell = torch.nn.LSTMCell(4 * H, H, bias=False, dtype=torch.float64)
    cell.load_state_dict({"weight_ih": torch.eye(4 * H), "weight_hh": weight_hh})
    expected_h, expected_c = cell(x_gates[0], (h, c))
    new_h, new_c, gates = cells.lstm_step(x_gates[0], weight_hh, h, c)
    assert_close(new_h, expected_h)
    assert_close(new_c, expected_c)
    i, f, g, o = gates.chunk(4, dim=1)
    assert_close(new_c, f * c + i * g)
    assert_close(new_h, o * torch.tanh(new_c))


def test_gru_step_is_torch_gru_cell() -> None:
    x_gates, weight_hh, bias_hh, h = inputs_of("gru")
    bias_hn = bias_hh[2 * H :]
    cell = torch.nn.GRUCell(3 * H, H, dtype=torch.float64)
    bias_hh = torch.cat((torch.zeros(2 * H), bias_hn))  # x_gates has the others
    eye, zeros = torch.eye(3 * H), torch.zeros(3 * H)
    cell.load_state_dict({"weight_ih": eye, "weight_hh": weight_hh, "bias_ih": zeros, "bias_hh": bias_hh})
    new_h, gates = cells.gru_step(x_gates[0], weight_hh, bias_hn, h)
    assert_close(new_h, cell(x_gates[0], h))
    assert_close(gates[:, 3 * H :], h @ weight_hh[2 * H :].T + bias_hn)


@pytest.mark.parametrize("cell", TORCHS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_whole_sequence_is_torchs_layer(cell: str, reverse: bool) -> None:
    layer = torch_layer(cell)
    x = torch.randn(T, B, 2, dtype=torch.float64)
    weights: dict[str, Tensor] = dict(layer.named_parameters())
    x_gates = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
    inputs = [weights["weight_hh_l0"]]
    if cell == "gru":
        x_gates = x_gates + torch.cat((weights["bias_hh_l0"][: 2 * H], torch.zeros(H)))
        inputs += [weights["bias_hh_l0"]]
    else:
        x_gates = x_gates + weights["bias_hh_l0"]
    if cell == "lstm_projected":
        inputs += [weights["weight_hr_l0"]]
    initial = [torch.randn_like(state) for state in inputs_of(cell)[-states_of(cell) :]]
    hx = [state[None] for state in initial]
    expected, final = layer(x.flip(0) if reverse else x, hx[0] if len(hx) == 1 else tuple(hx))
    states = run(cell, [x_gates, *inputs, *initial], None, None, reverse)
    assert_close(states[0], expected.flip(0) if reverse else expected, "h")
    for state, wanted in zip(states, final if isinstance(final, tuple) else (final,), strict=True):
        assert_close(state[0 if reverse else -1], wanted[0], "final")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("lengths", "resets", "reverse"), MASKS)
def test_gradients_are_those_of_finite_differences(
    cell: str, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> None:
    inputs = tuple(x.requires_grad_() for x in inputs_of(cell))
    assert torch.autograd.gradcheck(lambda *x: run(cell, x, lengths, resets, reverse, varied=True), inputs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_with_a_length_is_that_row_alone_cut_short(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    count = states_of(cell)
    states = run(cell, inputs, LENGTHS, None, reverse)
    for row, length in enumerate(LENGTHS.tolist()):
        x_gates, *weights = inputs[:-count]
        initial = [state[row : row + 1] for state in inputs[-count:]]
        alone = run(cell, [x_gates[:length, row : row + 1], *weights, *initial], None, None, reverse)
        for state, wanted in zip(states, alone, strict=True):
            assert_close(state[:length, row : row + 1], wanted)
            assert state[length:, row].eq(0).all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_reset_is_a_new_start_from_zero(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    count, at = states_of(cell), 2
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[at] = True
    whole = run(cell, inputs, None, resets, reverse)
    x_gates, *weights = inputs[:-count]
    after = x_gates[: at + 1] if reverse else x_gates[at:]
    fresh = run(cell, [after, *weights, *(torch.zeros_like(x) for x in inputs[-count:])], None, None, reverse)
    for state, wanted in zip(whole, fresh, strict=True):
        assert_close(state[: at + 1] if reverse else state[at:], wanted)


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_crosses_a_reset(cell: str) -> None:
    inputs = [x.requires_grad_() for x in inputs_of(cell)]
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2] = True
    last = torch.cat([state[-1] for state in run(cell, inputs, None, resets, False)], dim=1).sum()
    x_gates, initial = inputs[0], inputs[-states_of(cell) :]
    grad_x_gates, *grad_initial = torch.autograd.grad(last, [x_gates, *initial])
    assert grad_x_gates[:2].eq(0).all()
    assert grad_x_gates[2:].ne(0).any(dim=2).any(dim=1).all()
    assert all(grad.eq(0).all() for grad in grad_initial)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_pass_is_the_same_bits_as_two_with_the_state_carried(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    x_gates, *weights = inputs[: -states_of(cell)]
    initial = inputs[-states_of(cell) :]
    whole = run(cell, inputs, None, RESETS, reverse)
    for cut in range(1, T):
        pieces = [slice(0, cut), slice(cut, T)]
        states: list[tuple[Tensor, ...]] = []
        carried = initial
        for piece in reversed(pieces) if reverse else pieces:
            states.append(run(cell, [x_gates[piece], *weights, *carried], None, RESETS[piece], reverse))
            carried = [state[0 if reverse else -1] for state in states[-1]]
        for index, wanted in enumerate(whole):
            parts = [piece[index] for piece in (states[::-1] if reverse else states)]
            assert torch.equal(torch.cat(parts), wanted)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_nan_stays_in_its_row_and_past_a_length_is_never_read(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    clean = run(cell, inputs, LENGTHS, None, reverse)
    inputs[0][1, 0] = torch.nan
    inputs[0][2:, 2] = torch.nan  # row 2 has two steps
    soiled = run(cell, inputs, LENGTHS, None, reverse)
    for before, after in zip(clean, soiled, strict=True):
        assert after[:, 0].isnan().any()
        assert torch.equal(after[:, 1:], before[:, 1:])


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_the_same_function_less_precisely(cell: str) -> None:
    inputs = inputs_of(cell, dtype=torch.bfloat16)
    for low, high in zip(
        run(cell, inputs, LENGTHS, RESETS, False),
        run(cell, [x.double() for x in inputs], LENGTHS, RESETS, False),
        strict=True,
    ):
        assert low.dtype == torch.bfloat16
        assert_close(low, high)


@pytest.mark.parametrize(("bad", "row"), [(-1, 0), (T + 1, 2)])
def test_a_length_that_does_not_fit_is_named(bad: int, row: int) -> None:
    lengths = torch.tensor([1, 1, 1])
    lengths[row] = bad
    x_gates, weight_hh, h0 = inputs_of("rnn_tanh")
    with pytest.raises(ValueError, match=rf"lengths\[{row}\] is {bad}, expected 0 to {T}"):
        reference.rnn_forward(
            *(x_gates, None, None, None, weight_hh, None, h0, lengths, None),
            *(False, False, False, torch.empty_like(x_gates), None),
        )
