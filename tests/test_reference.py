"""The reference against torch's own cells and layers, finite differences, and its own words."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from unrolled import cells, ops, reference

T, B, H, P = 4, 3, 2, 1
CELLS = ("rnn_tanh", "rnn_relu", "lstm", "lstm_projected", "gru")
GATES = {"rnn_tanh": H, "rnn_relu": H, "lstm": 4 * H, "lstm_projected": 4 * H, "gru": 3 * H}
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

_rnn: Callable[..., Tensor] = ops.rnn
_lstm: Callable[..., tuple[Tensor, ...]] = ops.lstm
_lstm_projected: Callable[..., tuple[Tensor, ...]] = ops.lstm_projected
_gru: Callable[..., tuple[Tensor, ...]] = ops.gru


def given(inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """As an op takes them: x is the input's share of the gates, so there is no weight_ih and no bias."""
    return inputs[0], None, None, *inputs[1:]


# The sequence op of each cell as (inputs, lengths, resets, reverse) -> every step's states.
OPS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "rnn_tanh": lambda inputs, *steps: (_rnn(*given(inputs), *steps),),
    "rnn_relu": lambda inputs, *steps: (_rnn(*given(inputs), *steps, relu=True),),
    "lstm": lambda inputs, *steps: _lstm(*given(inputs), *steps)[:2],
    "lstm_projected": lambda inputs, *steps: _lstm_projected(*given(inputs), *steps)[:2],
    "gru": lambda inputs, *steps: _gru(*given(inputs), *steps)[:1],
}
STATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 2, "lstm_projected": 2, "gru": 1}

pytestmark = pytest.mark.filterwarnings("ignore:.*the reference serves it")


def inputs_of(cell: str, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """x_gates, the weights, and last the initial states: what the cell's op takes before lengths."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    x_gates = normal(T, B, GATES[cell])
    if cell == "lstm_projected":
        return [x_gates, normal(4 * H, P), normal(P, H), normal(B, P), normal(B, H)]
    weights = [normal(GATES[cell], H)] + ([normal(H)] if cell == "gru" else [])
    return [x_gates, *weights, *(normal(B, H) for _ in range(STATES[cell]))]


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
    x_gates, weight_hh, bias_hn, h = inputs_of("gru")
    cell = torch.nn.GRUCell(3 * H, H, dtype=torch.float64)
    bias_hh = torch.cat((torch.zeros(2 * H), bias_hn))
    eye, zeros = torch.eye(3 * H), torch.zeros(3 * H)
    cell.load_state_dict({"weight_ih": eye, "weight_hh": weight_hh, "bias_ih": zeros, "bias_hh": bias_hh})
    new_h, gates = cells.gru_step(x_gates[0], weight_hh, bias_hn, h)
    assert_close(new_h, cell(x_gates[0], h))
    assert_close(gates[:, 3 * H :], h @ weight_hh[2 * H :].T + bias_hn)


@pytest.mark.parametrize("cell", CELLS)
def test_a_step_back_is_the_derivative_of_a_step(cell: str) -> None:
    x_gates, *rest = (x.requires_grad_() for x in inputs_of(cell))
    actual: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]
    if cell.startswith("rnn"):
        weight_hh, h_prev = rest
        relu = cell == "rnn_relu"
        h = cells.rnn_step(x_gates[0], weight_hh, h_prev, relu)
        grad_h = torch.randn_like(h)
        actual = cells.rnn_step_backward(grad_h, weight_hh, h, relu)
        expected = torch.autograd.grad(h, (x_gates, h_prev), grad_h)
    elif cell == "gru":
        weight_hh, bias_hn, h_prev = rest
        h, gates = cells.gru_step(x_gates[0], weight_hh, bias_hn, h_prev)
        grad_h = torch.randn_like(h)
        grad_x_gates, grad_h_gates, grad_h_prev = cells.gru_step_backward(grad_h, weight_hh, h_prev, gates)
        actual = (grad_x_gates, grad_h_prev, grad_h_gates.T @ h_prev, grad_h_gates[:, 2 * H :].sum(0))
        expected = torch.autograd.grad(h, (x_gates, h_prev, weight_hh, bias_hn), grad_h)
    else:
        weight_hh, *weight_hr, h_prev, c_prev = rest
        h, c, gates = cells.lstm_step(x_gates[0], weight_hh, h_prev, c_prev, *weight_hr)
        grad_h, grad_c = torch.randn_like(h), torch.randn_like(c)
        actual = cells.lstm_step_backward(grad_h, grad_c, weight_hh, c_prev, c, gates, *weight_hr)
        expected = torch.autograd.grad((h, c), (x_gates, h_prev, c_prev), (grad_h, grad_c))
    assert_close(actual[0], expected[0][0], "grad_gates")
    for got, wanted in zip(actual[1:], expected[1:], strict=True):
        assert_close(got, wanted)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_whole_sequence_is_torchs_layer(cell: str, reverse: bool) -> None:
    layer = torch_layer(cell)
    x = torch.randn(T, B, 2, dtype=torch.float64)
    weights: dict[str, Tensor] = dict(layer.named_parameters())
    x_gates = x @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
    inputs = [weights["weight_hh_l0"]]
    if cell == "gru":
        x_gates = x_gates + torch.cat((weights["bias_hh_l0"][: 2 * H], torch.zeros(H)))
        inputs += [weights["bias_hh_l0"][2 * H :]]
    else:
        x_gates = x_gates + weights["bias_hh_l0"]
    if cell == "lstm_projected":
        inputs += [weights["weight_hr_l0"]]
    initial = [torch.randn_like(state) for state in inputs_of(cell)[-STATES[cell] :]]
    hx = [state[None] for state in initial]
    expected, final = layer(x.flip(0) if reverse else x, hx[0] if len(hx) == 1 else tuple(hx))
    states = OPS[cell]([x_gates, *inputs, *initial], None, None, reverse)
    assert_close(states[0], expected.flip(0) if reverse else expected, "h")
    for state, wanted in zip(states, final if isinstance(final, tuple) else (final,), strict=True):
        assert_close(state[0 if reverse else -1], wanted[0], "final")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize(("lengths", "resets", "reverse"), MASKS)
def test_gradients_are_those_of_finite_differences(
    cell: str, lengths: Tensor | None, resets: Tensor | None, reverse: bool
) -> None:
    inputs = tuple(x.requires_grad_() for x in inputs_of(cell))
    assert torch.autograd.gradcheck(lambda *x: OPS[cell](x, lengths, resets, reverse), inputs)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_row_with_a_length_is_that_row_alone_cut_short(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    count = STATES[cell]
    states = OPS[cell](inputs, LENGTHS, None, reverse)
    for row, length in enumerate(LENGTHS.tolist()):
        x_gates, *weights = inputs[:-count]
        initial = [state[row : row + 1] for state in inputs[-count:]]
        alone = OPS[cell]([x_gates[:length, row : row + 1], *weights, *initial], None, None, reverse)
        for state, wanted in zip(states, alone, strict=True):
            assert_close(state[:length, row : row + 1], wanted)
            assert state[length:, row].eq(0).all()


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_reset_is_a_new_start_from_zero(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    count, at = STATES[cell], 2
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[at] = True
    whole = OPS[cell](inputs, None, resets, reverse)
    x_gates, *weights = inputs[:-count]
    after = x_gates[: at + 1] if reverse else x_gates[at:]
    fresh = OPS[cell]([after, *weights, *(torch.zeros_like(x) for x in inputs[-count:])], None, None, reverse)
    for state, wanted in zip(whole, fresh, strict=True):
        assert_close(state[: at + 1] if reverse else state[at:], wanted)


@pytest.mark.parametrize("cell", CELLS)
def test_no_gradient_crosses_a_reset(cell: str) -> None:
    inputs = [x.requires_grad_() for x in inputs_of(cell)]
    resets = torch.zeros(T, B, dtype=torch.bool)
    resets[2] = True
    last = torch.cat([state[-1] for state in OPS[cell](inputs, None, resets, False)], dim=1).sum()
    x_gates, initial = inputs[0], inputs[-STATES[cell] :]
    grad_x_gates, *grad_initial = torch.autograd.grad(last, [x_gates, *initial])
    assert grad_x_gates[:2].eq(0).all()
    assert grad_x_gates[2:].ne(0).any(dim=2).any(dim=1).all()
    assert all(grad.eq(0).all() for grad in grad_initial)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_one_pass_is_the_same_bits_as_two_with_the_state_carried(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    x_gates, *weights = inputs[: -STATES[cell]]
    initial = inputs[-STATES[cell] :]
    whole = OPS[cell](inputs, None, RESETS, reverse)
    for cut in range(1, T):
        pieces = [slice(0, cut), slice(cut, T)]
        states: list[tuple[Tensor, ...]] = []
        carried = initial
        for piece in reversed(pieces) if reverse else pieces:
            states.append(OPS[cell]([x_gates[piece], *weights, *carried], None, RESETS[piece], reverse))
            carried = [state[0 if reverse else -1] for state in states[-1]]
        for index, wanted in enumerate(whole):
            parts = [piece[index] for piece in (states[::-1] if reverse else states)]
            assert torch.equal(torch.cat(parts), wanted)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("reverse", [False, True])
def test_nan_stays_in_its_row_and_past_a_length_is_never_read(cell: str, reverse: bool) -> None:
    inputs = inputs_of(cell)
    clean = OPS[cell](inputs, LENGTHS, None, reverse)
    inputs[0][1, 0] = torch.nan
    inputs[0][2:, 2] = torch.nan  # row 2 has two steps
    soiled = OPS[cell](inputs, LENGTHS, None, reverse)
    for before, after in zip(clean, soiled, strict=True):
        assert after[:, 0].isnan().any()
        assert torch.equal(after[:, 1:], before[:, 1:])


@pytest.mark.parametrize("cell", CELLS)
def test_bfloat16_is_the_same_function_less_precisely(cell: str) -> None:
    inputs = inputs_of(cell, dtype=torch.bfloat16)
    for low, high in zip(
        OPS[cell](inputs, LENGTHS, RESETS, False),
        OPS[cell]([x.double() for x in inputs], LENGTHS, RESETS, False),
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
            x_gates, None, None, weight_hh, h0, lengths, None, False, False, torch.empty_like(x_gates)
        )
