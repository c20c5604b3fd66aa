"""Plain layers by torch's own kernels, as on a GPU: here those of the CPU, beside the engine."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pack_padded_sequence

from unrolled import nn
from unrolled.nn import gpu
from unrolled.ops import dispatch

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN:UserWarning")

T, B, D, H = 9, 5, 3, 6
LENGTHS = torch.tensor([9, 0, 4, 9, 1])
RESETS = torch.zeros(T, B, dtype=torch.bool)
RESETS[0, 0] = RESETS[3, 2] = RESETS[3, 3] = RESETS[6, 2] = RESETS[8, 3] = True  # that of step 6 is past its row

Calls = list[str]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """The calls of torch's kernels, which from now on run all layers that they can."""
    called: Calls = []
    for mode, kernel in gpu.KERNELS.items():

        def counted(*given: Any, mode: str = mode, kernel: Callable[..., Any] = kernel) -> Any:
            called.append(mode)
            return kernel(*given)

        monkeypatch.setitem(gpu.KERNELS, mode, counted)
    monkeypatch.setattr("unrolled.nn.recurrent.served_by_torch", lambda device, dtype: True)
    return called


def by_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.nn.recurrent.served_by_torch", lambda device, dtype: False)


LAYERS: dict[str, dict[str, Any]] = {
    "LSTM": {},
    "GRU": {},
    "RNN": {},
    "LSTM projected": {"proj_size": 4},
    "RNN relu": {"nonlinearity": "relu"},
}


def layer_of(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    return getattr(nn, name.split()[0])(D, H, **LAYERS[name], **options)


def states_of(layer: Any) -> Any:
    """States before the first step, of a layout that is not contiguous."""
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    states = [torch.randn(count, 2 * B, width)[:, ::2] for width in layer._state_widths()]
    return states if len(states) > 1 else states[0]


def solved(layer: Any, x: Tensor, hx: Any = None, **masks: Any) -> list[Tensor]:
    """The output, the final states and all gradients."""
    layer.zero_grad()
    x = x.detach().clone().requires_grad_()
    before = [
        part.detach().requires_grad_() for part in (hx if isinstance(hx, list) else [hx] if hx is not None else [])
    ]
    output, final = layer(x, None if hx is None else tuple(before) if len(before) > 1 else before[0], **masks)
    finals = final if isinstance(final, tuple) else (final,)
    torch.manual_seed(2)
    sum((part * torch.randn(part.shape)).sum() for part in (output, *finals)).backward()
    gradients = [one.grad for one in (x, *before, *layer.parameters())]
    return [output.detach(), *(part.detach() for part in finals), *gradients]


def same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from states"])
@pytest.mark.parametrize("masks", [(), ("lengths",), ("resets",), ("lengths", "resets")], ids="-".join)
@pytest.mark.parametrize("options", [{}, {"num_layers": 2}, {"bidirectional": True}, {"bias": False}], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_outputs_states_and_gradients_are_those_of_the_engine(
    calls: Calls, monkeypatch: pytest.MonkeyPatch, name: str, options: Any, masks: tuple[str, ...], given: bool
) -> None:
    layer = layer_of(name, **options)
    chosen = {mask: value for mask, value in (("lengths", LENGTHS), ("resets", RESETS)) if mask in masks}
    x, hx = torch.randn(T, B, D), states_of(layer) if given else None
    found = solved(layer, x, hx, **chosen)
    assert bool(calls) == (not (layer.bidirectional and "resets" in masks))
    by_engine(monkeypatch)
    same(found, solved(layer, x, hx, **chosen))


def test_a_call_is_cut_where_a_row_is_reset_that_has_the_step(calls: Calls) -> None:
    layer = layer_of("LSTM")
    layer(torch.randn(T, B, D), lengths=LENGTHS, resets=RESETS)
    assert len(calls) == 3  # from steps 0, 3 and 8 on


@pytest.mark.parametrize("batch_first", [False, True])
def test_any_layout_of_input(calls: Calls, monkeypatch: pytest.MonkeyPatch, batch_first: bool) -> None:
    layer = layer_of("GRU", batch_first=batch_first, num_layers=2)
    x = torch.randn(B, T, D) if batch_first else torch.randn(T, B, D)
    resets = RESETS.T if batch_first else RESETS
    embedding, symbols = torch.randn(7, D), torch.randint(7, x.shape[:2])
    packed = pack_padded_sequence(x, torch.tensor([9, 5, 4, 9, 1]), batch_first, enforce_sorted=False)

    def outputs() -> list[Tensor]:
        found = [layer(x, lengths=LENGTHS, resets=resets), layer(symbols, lengths=LENGTHS, embedding=embedding)]
        found += [layer(x[:, 0]), (lambda output, h: (output.data, h))(*layer(packed))]
        return [part.detach() for pair in found for part in pair]

    found = outputs()
    assert len(calls) > 4
    by_engine(monkeypatch)
    same(found, outputs())


def test_what_stands_past_a_row_reaches_nothing(calls: Calls) -> None:
    layer, x = layer_of("LSTM"), torch.randn(T, B, D)
    x[4:, 2] = x[:, 1] = x[1:, 4] = float("nan")
    found = solved(layer, x, lengths=LENGTHS)
    assert calls
    assert all(part.isfinite().all() for part in found)
    assert not any(part.any() for part in solved(layer, x, lengths=torch.zeros(B, dtype=torch.int64)))


def test_a_layer_in_evaluation_has_gradients_and_no_dropout(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x = layer_of("LSTM", num_layers=2, dropout=0.5), torch.randn(T, B, D)
    assert not torch.equal(layer(x)[0], layer(x)[0])
    layer.eval()
    found = solved(layer, x)
    assert calls
    by_engine(monkeypatch)
    same(found, solved(layer, x))


def test_cudnn_is_given_what_it_wants(monkeypatch: pytest.MonkeyPatch, calls: Calls) -> None:
    """States without gaps, and whether there will be a way back; kernels of the CPU ask for neither."""
    given: list[Any] = []
    kernel = gpu.KERNELS["LSTM"]

    def kept(*call: Any) -> Any:
        given.append(call)
        return kernel(*call)

    monkeypatch.setitem(gpu.KERNELS, "LSTM", kept)
    layer, x = layer_of("LSTM").eval(), torch.randn(T, B, D)
    hx = states_of(layer)
    layer(x, hx)
    with torch.no_grad():
        layer(x, hx)
    assert not any(state.is_contiguous() for state in hx)
    assert all(state.is_contiguous() for call in given for state in call[1])
    assert [call[6] for call in given] == [True, False]


@pytest.mark.parametrize("inner", [torch.float32, torch.bfloat16])
def test_under_autocast_no_state_is_carried_in_less(calls: Calls, inner: torch.dtype) -> None:
    layer, x = layer_of("LSTM"), torch.randn(T, B, D)
    expected, (_, cell) = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, (_, c_n) = layer(x.to(inner))
    assert calls == ["LSTM"] * 2
    assert (output.dtype, c_n.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close((output, c_n), (expected, cell), atol=2e-2, rtol=0)


@pytest.mark.parametrize(
    ("options", "call"),
    [
        ({"peephole": True}, {}),
        ({"zoneout": 0.1}, {}),
        ({"weight_drop": 0.5}, {}),
        ({"recompute": 3}, {}),
        ({}, {"trace": True}),
        ({"bidirectional": True}, {"resets": RESETS}),
    ],
    ids=str,
)
def test_what_torchs_kernels_do_not_know_is_run_as_before(calls: Calls, options: Any, call: Any) -> None:
    output, *_ = nn.LSTM(D, H, **options)(torch.randn(T, B, D), **call)
    assert output.shape == (T, B, H * (2 if "bidirectional" in options else 1))
    assert not calls


@pytest.mark.filterwarnings("ignore:unrolled..rnn within torch.func:UserWarning")
def test_transforms_go_past_torchs_kernels(calls: Calls) -> None:
    layer, x = layer_of("RNN"), torch.randn(T, B, D)
    gradient = torch.func.grad(lambda x: layer(x)[0].sum())(x)
    assert gradient.shape == x.shape
    assert not calls


def test_no_rows_are_no_call(calls: Calls) -> None:
    assert layer_of("GRU")(torch.randn(T, 0, D))[0].shape == (T, 0, H)
    assert not calls


def test_kernels_say_what_serves_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.ops.dispatch.accelerator", lambda: "cuda")
    served = {(row.device, row.dtype, row.op): row.kernel for row in dispatch.kernels()}
    assert served["cuda", "float32", "unrolled::lstm"] == "torch"
    assert served["cuda", "float64", "unrolled::lstm"] == "reference"
    assert served["cpu", "float32", "unrolled::lstm"] == "engine"
    assert not dispatch.served_by_torch("cpu", torch.float32)
    assert not dispatch.served_by_torch("meta", torch.float32)
