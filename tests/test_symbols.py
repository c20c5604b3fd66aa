"""Layers that read symbols: the same as with their rows of the embedding looked up before."""

import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch.utils.dlpack import from_dlpack

from tolerances import assert_close
from unrolled import nn
from unrolled.errors import InputError
from unrolled.ops import dispatch

T, B, D, H, FEW, MANY = 7, 5, 3, 4, 6, 50
LAYERS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in ("RNN", "LSTM", "GRU")),
    ("LSTM", {"num_layers": 2, "bidirectional": True, "proj_size": 2}),
    ("LSTM", {"layer_norm": True}),
    ("LSTM", {"peephole": True, "coupled": True, "bias": False}),
    ("LSTM", {"recompute": 3}),
    ("GRU", {"recompute": 2, "num_layers": 2}),
]
every_layer = pytest.mark.parametrize(("kind", "options"), LAYERS)

pytestmark = pytest.mark.filterwarnings("ignore:.*the reference serves it")


def made(kind: str, options: dict[str, Any]) -> Any:
    torch.manual_seed(0)
    return getattr(nn, kind)(D, H, **options)


def embedding_of(count: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(count, D, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()


def symbols_of(count: int) -> Tensor:
    return torch.randint(count, (T, B), generator=torch.Generator().manual_seed(2))


def masks() -> dict[str, Tensor]:
    resets = torch.rand(T, B, generator=torch.Generator().manual_seed(3)) < 0.3
    return {"lengths": torch.tensor([T, 2, 0, T, 4]), "resets": resets}


def solve(layer: Any, embedding: Tensor, output: Tensor) -> list[Tensor]:
    """The output and its gradients at the embedding and the parameters."""
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(4)).to(output.dtype)
    learned = [embedding, *layer.parameters()]
    return [output, *torch.autograd.grad((output * weights).sum(), learned)]


@every_layer
@pytest.mark.parametrize("count", [FEW, MANY])
@pytest.mark.parametrize("given", [{}, masks()], ids=["whole", "masked"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outputs_and_gradients_are_those_of_the_features(
    kind: str, options: dict[str, Any], count: int, given: dict[str, Tensor], dtype: torch.dtype
) -> None:
    layer, embedding, symbols = made(kind, options).to(dtype), embedding_of(count, dtype), symbols_of(count)
    expected = solve(layer, embedding, layer(F.embedding(symbols, embedding), **given)[0])
    if given:
        symbols = symbols.masked_fill(torch.arange(T)[:, None] >= given["lengths"], -1)  # not read
    for found, right in zip(
        solve(layer, embedding, layer(symbols, embedding=embedding, **given)[0]), expected, strict=True
    ):
        assert_close(found, right)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("count", [FEW, MANY])
def test_few_symbols_reach_the_engine_as_they_are(kind: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    op, seen = kind.lower(), []
    run = dispatch.ENGINE[op]

    def spy(capsule: Any, symbols: object, *rest: Any) -> None:
        x = from_dlpack(capsule)
        seen.append((tuple(x.shape), symbols is None))
        run(x, symbols, *rest)

    monkeypatch.setitem(dispatch.ENGINE, op, spy)
    made(kind, {"num_layers": 2})(symbols_of(count), embedding=embedding_of(count))
    assert seen == [((FEW, D), False) if count == FEW else ((T, B, D), True), ((T, B, H), True)]


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_in_every_layout(kind: str) -> None:
    layer, embedding, symbols = made(kind, {}), embedding_of(FEW), symbols_of(FEW)
    expected, _ = layer(F.embedding(symbols, embedding))
    turned = made(kind, {"batch_first": True})
    assert torch.equal(turned(symbols.T.int(), embedding=embedding)[0].transpose(0, 1), expected)
    assert torch.equal(layer(symbols[:, 0], embedding=embedding)[0], expected[:, 0])
    lengths = torch.tensor([T, 2, 1, T, 4])
    packed = pack_padded_sequence(symbols, lengths, enforce_sorted=False)
    found, _ = layer(packed, embedding=embedding)
    of_features = pack_padded_sequence(F.embedding(symbols, embedding), lengths, enforce_sorted=False)
    assert isinstance(found, PackedSequence) and torch.equal(found.data, layer(of_features)[0].data)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_trace_and_factors_are_of_all_steps(kind: str) -> None:
    layer, embedding = made(kind, {"zoneout": 0.5}), embedding_of(FEW)
    found = []
    symbols = symbols_of(FEW)
    for x, given in ((F.embedding(symbols, embedding), None), (symbols, embedding)):
        torch.manual_seed(5)
        found.append(layer(x, trace=True, embedding=given)[2][0].gates)
    assert found[0].shape == (T, B, 4 * H) and torch.equal(*found)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_it_compiles_and_runs_under_autocast(kind: str) -> None:
    torch.compiler.reset()
    layer, embedding, symbols = made(kind, {}), embedding_of(FEW), symbols_of(FEW)
    expected, _ = layer(symbols, embedding=embedding)
    compiled: Any = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(symbols, embedding=embedding)[0], expected)
    with torch.autocast("cpu", torch.bfloat16):
        low, _ = layer(symbols, embedding=embedding)
    assert torch.allclose(low.float(), expected, atol=0.05) and not torch.equal(low, expected)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_it_has_second_derivatives(kind: str) -> None:
    layer, embedding, symbols = made(kind, {}).double(), embedding_of(FEW, torch.float64), symbols_of(FEW)

    def curved(output: Tensor) -> Tensor:
        (first,) = torch.autograd.grad(output.square().sum(), embedding, create_graph=True)
        (second,) = torch.autograd.grad(first.square().sum(), embedding)
        return second

    found = curved(layer(symbols, embedding=embedding)[0])
    assert_close(found, curved(layer(F.embedding(symbols, embedding))[0]))


@pytest.mark.parametrize("count", [FEW, MANY])
def test_what_is_no_symbol_is_refused(count: int) -> None:
    layer, embedding, symbols = made("LSTM", {}), embedding_of(count), symbols_of(count)
    for unknown in (count, -1):
        symbols[3, 2] = unknown
        sentence = f"symbols[3, 2] is {unknown}, expected 0 to {count - 1}"
        with pytest.raises(IndexError, match=re.escape(sentence)):
            layer(symbols, embedding=embedding)
    sentence = "with an embedding the input must be integers, got float32 of shape (7, 5)"
    with pytest.raises(InputError, match=re.escape(sentence)):
        layer(symbols.float(), embedding=embedding)
    with pytest.raises(InputError, match=re.escape("embedding must be a tensor [V,D], got float32 of shape (3,)")):
        layer(symbols, embedding=embedding[0])
    sentence = f"embedding must be a tensor [V,3], got float32 of shape ({count}, 2)"
    with pytest.raises(InputError, match=re.escape(sentence)):
        layer(symbols_of(count), embedding=embedding[:, :2])
    with pytest.raises(
        InputError, match=re.escape("embedding must have a row for each symbol, got float32 of shape (0, 3)")
    ):
        layer(symbols_of(count), embedding=embedding[:0])
    sentence = "embedding must be a tensor [V,D], got layout torch.sparse_coo"
    with pytest.raises(InputError, match=re.escape(sentence)):
        layer(symbols_of(count), embedding=embedding.detach().to_sparse())


def test_no_rows_of_symbols_give_no_outputs_and_gradients_of_zero() -> None:
    embedding, shapes = embedding_of(FEW), ((3 * H, D), (3 * H,), (3 * H, H), (3 * H,))
    weights = [torch.randn(shape).requires_grad_() for shape in shapes]
    x, h0 = torch.zeros(T, 0, dtype=torch.int64), torch.zeros(0, H)
    h, *_ = torch.ops.unrolled.gru(embedding, x, *weights, h0, None, None, False, False, None, True)
    assert h.shape == (T, 0, H)
    for gradient in torch.autograd.grad(h.sum(), [embedding, *weights]):
        assert not gradient.any()


@every_layer
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_row_of_the_embedding_that_no_step_reads_reaches_no_gradient(
    kind: str, options: dict[str, Any], dtype: torch.dtype
) -> None:
    layer, last = made(kind, options).to(dtype), FEW - 1
    lengths = torch.tensor([T, 2, 0, T, 4])
    past = torch.arange(T)[:, None] >= lengths
    symbols = symbols_of(last).masked_fill(past, last)
    found = []
    for value in (0.0, torch.nan):
        rows = embedding_of(last, dtype).detach()
        embedding = torch.cat([rows, torch.full((1, D), value, dtype=dtype)]).requires_grad_()
        found.append(solve(layer, embedding, layer(symbols, embedding=embedding, lengths=lengths)[0]))
    for got, expected in zip(*reversed(found), strict=True):
        assert torch.equal(got, expected)
