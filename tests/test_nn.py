"""The layers against torch.nn's: same programs, same numbers, and what lengths and resets add."""

import copy
import io
import pickle
import re
from collections.abc import Callable
from itertools import product
from typing import Any, cast

import onnxruntime
import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pack_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from tolerances import assert_close, assert_near
from unrolled import nn
from unrolled.errors import InputError

T, B, D, H = 6, 4, 3, 5
LAYERS = ("RNN", "LSTM", "GRU")
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 3},
    {"bidirectional": True},
    {"num_layers": 2, "bidirectional": True, "dropout": 0.4},
    {"batch_first": True, "num_layers": 2},
    {"bias": False},
    {"dtype": torch.float64, "num_layers": 2},
]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *product(LAYERS, OPTIONS),
    ("RNN", {"nonlinearity": "relu", "num_layers": 2}),
    ("LSTM", {"proj_size": 2, "num_layers": 2, "bidirectional": True}),
]
every_variant = pytest.mark.parametrize(("kind", "options"), VARIANTS)
every_layer = pytest.mark.parametrize("kind", LAYERS)

pytestmark = pytest.mark.filterwarnings("ignore:.*the reference serves it", "ignore:LSTM with projections")


def twins(kind: str, options: dict[str, Any]) -> tuple[Any, Any]:
    """Torch's layer and ours, made from the same seed."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(D, H, **options)
    torch.manual_seed(0)
    return theirs, getattr(nn, kind)(D, H, **options)


def sequences(options: dict[str, Any]) -> Tensor:
    shape = (B, T, D) if options.get("batch_first") else (T, B, D)
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(options.get("dtype", torch.float32))


def initial(kind: str, options: dict[str, Any], rows: int | None = B) -> Any:
    """A random hx of the right shape; rows=None for unbatched input."""
    generator = torch.Generator().manual_seed(2)
    count = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)

    def state(width: int) -> Tensor:
        shape = (count, width) if rows is None else (count, rows, width)
        return torch.randn(shape, generator=generator).to(options.get("dtype", torch.float32)).requires_grad_()

    h = state(options.get("proj_size", H))
    return (h, state(H)) if kind == "LSTM" else h


def flat(nested: Any) -> list[Tensor]:
    """Every tensor of an output or state, however nested."""
    if isinstance(nested, Tensor):
        return [nested]
    if isinstance(nested, PackedSequence):
        return [nested.data]
    return [tensor for part in nested for tensor in flat(part)]


def assert_twins_agree(theirs: Any, ours: Any, x: Any, hx: Any = None, seed: int = 3) -> None:
    """Same outputs, same final states, and the same gradients of everything from a random loss of both."""
    results = []
    for layer in (theirs, ours):
        torch.manual_seed(seed)  # dropout
        outputs = flat(layer(x, hx))
        generator = torch.Generator().manual_seed(4)
        grads = [torch.randn(y.shape, generator=generator).to(y.dtype) for y in outputs]
        inputs = [*layer.parameters(), *([] if hx is None else flat(hx)), *flat(x)]
        results.append((outputs, torch.autograd.grad(outputs, inputs, grads)))
    (expected, expected_grads), (actual, actual_grads) = results
    for got, wanted in zip(actual, expected, strict=True):
        assert got.dtype == wanted.dtype
        assert_close(got, wanted)
    for got, wanted in zip(actual_grads, expected_grads, strict=True):
        assert_close(got, wanted)


@every_variant
def test_the_same_seed_gives_torchs_weights_and_leaves_the_generator_where_torch_does(
    kind: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(D, H, **options)
    next_draw = torch.rand(1)
    torch.manual_seed(0)
    ours = getattr(nn, kind)(D, H, **options)
    assert torch.equal(torch.rand(1), next_draw)
    expected, actual = dict(theirs.named_parameters()), dict(ours.named_parameters())
    assert list(actual) == list(expected)
    for name, parameter in actual.items():
        assert torch.equal(parameter, expected[name])


@every_variant
def test_checkpoints_load_strictly_both_ways(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = twins(kind, options)
    torch.nn.init.normal_(theirs.weight_hh_l0)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    assert torch.equal(ours.weight_hh_l0, theirs.weight_hh_l0)
    torch.nn.init.normal_(ours.weight_ih_l0)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(ours.weight_ih_l0, theirs.weight_ih_l0)
    assert repr(ours) == repr(theirs)


@every_variant
@pytest.mark.parametrize("given", [False, True], ids=["zero-state", "given-state"])
def test_outputs_and_gradients_are_torchs(kind: str, options: dict[str, Any], given: bool) -> None:
    theirs, ours = twins(kind, options)
    x = sequences(options).requires_grad_()
    assert_twins_agree(theirs, ours, x, initial(kind, options) if given else None)


@every_variant
def test_outputs_are_torchs_in_evaluation(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = twins(kind, options)
    with torch.no_grad():
        expected, actual = (layer.eval()(sequences(options)) for layer in (theirs, ours))
    for got, wanted in zip(flat(actual), flat(expected), strict=True):
        assert got.shape == wanted.shape
        assert_close(got, wanted)


@every_variant
def test_unbatched_input_is_torchs(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = twins(kind, options)
    x = torch.randn(T, D, dtype=options.get("dtype")).requires_grad_()
    assert_twins_agree(theirs, ours, x, initial(kind, options, rows=None))
    assert_twins_agree(theirs, ours, x)


@every_variant
@pytest.mark.parametrize("lengths", [[6, 4, 4, 1], [2, 6, 1, 6]], ids=["sorted", "unsorted"])
def test_packed_sequences_are_torchs(kind: str, options: dict[str, Any], lengths: list[int]) -> None:
    theirs, ours = twins(kind, options | {"dropout": 0.0})  # torch draws a packed mask in another order
    x = torch.randn(T, B, D, dtype=options.get("dtype")).requires_grad_()
    packed = pack_padded_sequence(x, torch.tensor(lengths), enforce_sorted=False)
    for hx in (None, initial(kind, options)):
        assert_twins_agree(theirs, ours, packed, hx)
    output, _ = ours(packed)
    for kept, given in zip(output[1:], packed[1:], strict=True):  # batch_sizes and both indices
        assert kept is given


@every_layer
def test_a_sequence_packed_in_order_comes_back_without_indices(kind: str) -> None:
    theirs, ours = twins(kind, {})
    packed = pack_sequence([torch.randn(n, D) for n in (4, 2, 2)])
    expected, _ = theirs(packed)
    output, _ = ours(packed)
    assert output.sorted_indices is None and output.unsorted_indices is None
    assert_close(output.data, expected.data)


def program(library: Any) -> list[float]:
    """A classifier of sequences of unequal length, trained for a few steps: as written for torch.nn."""
    torch.manual_seed(0)

    class Classifier(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = torch.nn.Embedding(11, D)
            self.encoder = library.LSTM(D, H, num_layers=2, batch_first=True, bidirectional=True)
            self.decoder = library.GRU(2 * H, H)
            self.head = torch.nn.Linear(H, 2)

        def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
            self.encoder.flatten_parameters()
            packed = pack_padded_sequence(self.embedding(tokens), lengths, True, enforce_sorted=False)
            output, (_, _) = self.encoder(packed)
            padded, _ = pad_packed_sequence(output)
            _, h_n = self.decoder(padded)
            scores: Tensor = self.head(h_n[-1])
            return scores

    model = Classifier()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.5)
    tokens, lengths = torch.randint(11, (B, T)), torch.tensor([3, 6, 1, 5])
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(tokens, lengths), torch.tensor([0, 1, 1, 0]))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_a_program_trains_alike_when_the_import_is_swapped() -> None:
    assert_close(torch.tensor(program(nn)), torch.tensor(program(torch.nn)))


@every_variant
def test_lengths_give_what_packing_gives(kind: str, options: dict[str, Any]) -> None:
    theirs, ours = twins(kind, options | {"dropout": 0.0})
    first = bool(options.get("batch_first"))
    lengths = torch.tensor([2, 6, 1, 4])
    x = sequences(options)
    expected, expected_final = theirs(pack_padded_sequence(x, lengths, first, enforce_sorted=False))
    padded, _ = pad_packed_sequence(expected, first)
    past = (torch.arange(T)[:, None] >= lengths)[:, :, None]
    x = x.masked_fill(past.transpose(0, 1) if first else past, torch.nan).requires_grad_()
    output, final = ours(x, lengths=lengths.to(torch.int32))
    assert_close(output, padded)
    for got, wanted in zip(flat(final), flat(expected_final), strict=True):
        assert_close(got, wanted)
    for grad in torch.autograd.grad(output.sum(), [x, *ours.parameters()]):
        assert grad.isfinite().all()


@every_variant
def test_a_row_of_length_zero_keeps_its_state(kind: str, options: dict[str, Any]) -> None:
    _, ours = twins(kind, options)
    hx = initial(kind, options)
    output, final = ours(sequences(options), hx, lengths=torch.tensor([6, 0, 3, 0]))
    empty = output.select(0 if options.get("batch_first") else 1, 1)
    assert empty.eq(0).all()
    for state, before in zip(flat(final), flat(hx), strict=True):
        assert torch.equal(state[:, 1], before[:, 1])
    for grad in torch.autograd.grad(flat(final)[0][:, 1].sum(), flat(hx)[:1]):
        assert grad[:, 1].eq(1).all() and grad[:, 0].eq(0).all()


@every_layer
@pytest.mark.parametrize("batch_first", [False, True])
def test_a_reset_starts_a_row_anew(kind: str, batch_first: bool) -> None:
    _, ours = twins(kind, {"num_layers": 2, "batch_first": batch_first})
    x = sequences({"batch_first": batch_first})
    resets = torch.zeros(x.shape[:2], dtype=torch.bool)
    time = 1 if batch_first else 0
    resets.select(time, 2).fill_(True)
    output, final = ours(x, initial(kind, {"num_layers": 2}), resets=resets)
    fresh, fresh_final = ours(x.narrow(time, 2, T - 2))
    assert_close(output.narrow(time, 2, T - 2), fresh)
    for got, wanted in zip(flat(final), flat(fresh_final), strict=True):
        assert_close(got, wanted)


@every_layer
def test_unbatched_input_takes_a_scalar_length_and_a_row_of_resets(kind: str) -> None:
    _, ours = twins(kind, {})
    x, resets = torch.randn(T, D), torch.tensor([False, True, False, False, True, False])
    output, final = ours(x, lengths=torch.tensor(4), resets=resets)
    expected, expected_final = ours(x[:, None], lengths=torch.tensor([4]), resets=resets[:, None])
    assert torch.equal(output, expected[:, 0])
    for got, wanted in zip(flat(final), flat(expected_final), strict=True):
        assert torch.equal(got, wanted[:, 0])


@every_layer
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[2, 6, 1, 4], [2, 6, 1, 1]], ids=["alike", "very different"])
def test_resets_of_packed_rows_are_in_the_order_before_packing(
    kind: str, batch_first: bool, lengths: list[int]
) -> None:
    _, ours = twins(kind, {"batch_first": batch_first, "bidirectional": True})
    x = sequences({"batch_first": batch_first})
    resets = torch.rand(x.shape[:2]) < 0.4
    expected, expected_final = ours(x, lengths=torch.tensor(lengths), resets=resets)
    packed = pack_padded_sequence(x, torch.tensor(lengths), batch_first, enforce_sorted=False)
    output, final = ours(packed, resets=resets)
    assert torch.equal(pad_packed_sequence(output, batch_first)[0], expected)
    for got, wanted in zip(flat(final), flat(expected_final), strict=True):
        assert torch.equal(got, wanted)


@every_layer
def test_a_stream_of_chunks_is_the_whole_sequence(kind: str) -> None:
    _, ours = twins(kind, {"num_layers": 2})
    x = sequences({})
    expected, expected_final = ours(x)
    for cut in range(1, T):
        first, state = ours(x[:cut])
        second, final = ours(x[cut:], state)
        assert_close(torch.cat((first, second)), expected)
        for got, wanted in zip(flat(final), flat(expected_final), strict=True):
            assert_close(got, wanted)


@every_layer
def test_a_batch_without_rows_gives_an_output_without_rows(kind: str) -> None:
    theirs, ours = twins(kind, {"num_layers": 2, "bidirectional": True})
    x = torch.zeros(T, 0, D).requires_grad_()
    assert_twins_agree(theirs, ours, x)
    assert ours(x, lengths=torch.zeros(0, dtype=torch.int64))[0].shape == (T, 0, 2 * H)


@every_variant
def test_copies_and_pickles_compute_the_same(kind: str, options: dict[str, Any]) -> None:
    _, ours = twins(kind, options)
    ours.eval()
    x = sequences(options)
    expected = flat(ours(x))
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert all(torch.equal(a, b) for a, b in zip(flat(twin(x)), expected, strict=True))
        torch.nn.init.zeros_(twin.weight_hh_l0)
        assert not ours.weight_hh_l0.eq(0).all()


@every_layer
def test_to_changes_the_dtype_of_the_layer_and_its_results(kind: str) -> None:
    _, ours = twins(kind, {"num_layers": 2})
    single = flat(ours(sequences({})))
    double = flat(ours.to(torch.float64)(sequences({}).double()))
    for low, high in zip(single, double, strict=True):
        assert high.dtype == torch.float64
        assert_close(low, high)


@every_layer
def test_weights_put_in_by_functional_call_are_the_ones_used(kind: str) -> None:
    _, ours = twins(kind, {})
    other = {name: torch.zeros_like(parameter) for name, parameter in ours.named_parameters()}
    output, _ = torch.func.functional_call(ours, other, (sequences({}),))
    assert output.eq(0).all()


@every_layer
def test_autocast_runs(kind: str) -> None:
    _, ours = twins(kind, {"num_layers": 2})
    x = sequences({})
    expected, _ = ours(x)
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = ours(x)
        ours(x.bfloat16())
    assert_close(output.bfloat16(), expected)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RNN", {"bias": False}),
        ("GRU", {"bias": False}),
        ("LSTM", {"bias": False, "layer_norm": True}),
        ("LSTM", {"layer_norm": True}),
    ],
)
def test_gradients_under_autocast_are_near(kind: str, options: dict[str, bool]) -> None:
    torch.manual_seed(1)
    layer = getattr(nn, kind)(D, H, **options)
    parameters = list(layer.parameters())
    expected = torch.autograd.grad(layer(X)[0].square().sum(), parameters)
    with torch.autocast("cpu", torch.float16):
        output, _ = layer(X)
    for got, wanted in zip(torch.autograd.grad(output.square().sum(), parameters), expected, strict=True):
        assert_near(got, wanted)


@every_layer
def test_under_autocast_nothing_past_a_length_is_read(kind: str) -> None:
    layer, lengths = getattr(nn, kind)(D, H), torch.tensor([2, T, 1, 4])
    past = torch.arange(T)[:, None] >= lengths
    found = []
    for beyond in (0.0, torch.nan):
        with torch.autocast("cpu", torch.float16):
            output, _ = layer(X.masked_fill(past[:, :, None], beyond), lengths=lengths)
        found.append((output, *torch.autograd.grad(output.sum(), list(layer.parameters()))))
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


@every_layer
def test_under_autocast_symbols_have_lengths_too(kind: str) -> None:
    layer, lengths = getattr(nn, kind)(D, H), torch.tensor([2, T, 1, 4])
    embedding = torch.randn(3, D, generator=torch.Generator().manual_seed(0))
    symbols = torch.arange(T * B).view(T, B) % 3
    with torch.autocast("cpu", torch.float16):
        found, _ = layer(symbols, lengths=lengths, embedding=embedding)
        expected, _ = layer(embedding[symbols], lengths=lengths)
    assert_near(found, expected)


@every_layer
def test_a_layer_compiles_without_a_graph_break(kind: str) -> None:
    options = {"num_layers": 2, "bidirectional": True, "batch_first": True}
    _, ours = twins(kind, options)
    x, lengths = sequences(options), torch.tensor([2, 6, 0, 4])
    resets = torch.rand(x.shape[:2]) < 0.4
    compiled: Any = torch.compile(ours, fullgraph=True, backend="aot_eager")
    output, final = compiled(x, lengths=lengths, resets=resets)
    expected, expected_final = ours(x, lengths=lengths, resets=resets)
    for got, wanted in zip(flat((output, final)), flat((expected, expected_final)), strict=True):
        assert_close(got, wanted)
    for got, wanted in zip(
        torch.autograd.grad(output.sum(), list(ours.parameters())),
        torch.autograd.grad(expected.sum(), list(ours.parameters())),
        strict=True,
    ):
        assert_close(got, wanted)
    with torch.no_grad():
        assert_close(compiled(x)[0], ours(x)[0])


@every_layer
def test_a_layer_exports_and_is_saved_and_loaded(kind: str) -> None:
    _, ours = twins(kind, {"num_layers": 2})
    shapes = {"input": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
    exported: Any = torch.export.export(ours, (sequences({}),), dynamic_shapes=shapes)
    assert any("unrolled" in str(node.target) for node in exported.graph.nodes)
    x = torch.randn(T + 3, B + 1, D)
    file = io.BytesIO()
    torch.export.save(exported, file)
    file.seek(0)
    for program in (exported, torch.export.load(file)):
        for got, wanted in zip(flat(program.module()(x)), flat(ours(x)), strict=True):
            assert_close(got, wanted)


@every_layer
@pytest.mark.parametrize("strict", [False, True])
def test_a_layer_exports_for_any_number_of_steps_and_rows(kind: str, strict: bool) -> None:
    layer = getattr(nn, kind)(D, H, batch_first=True, **{} if kind == "RNN" else {"recompute": 3})
    rows, rows_and_steps = {0: torch.export.Dim.DYNAMIC}, dict.fromkeys((0, 1), torch.export.Dim.DYNAMIC)

    def arguments(steps: int, batch: int, symbols: bool) -> dict[str, Tensor]:
        x = torch.randint(0, 9, (batch, steps)) if symbols else torch.randn(batch, steps, D)
        resets = torch.rand(batch, steps) < 0.2
        return {"input": x, "lengths": torch.randint(0, steps + 1, (batch,)), "resets": resets}

    shapes: Any = {"input": rows_and_steps, "lengths": rows, "resets": rows_and_steps}
    for symbols in (False, True):
        whole: Any = Embedded(layer) if symbols else layer
        program = torch.export.export(
            whole, (), arguments(T, B, symbols), dynamic_shapes=shapes, strict=strict
        ).module()
        for size in ((T, B), (2, 2), (T + 5, B + 1)):
            given = arguments(*size, symbols)
            for got, wanted in zip(flat(program(**given)), flat(whole(**given)), strict=True):
                assert_close(got, wanted)


@every_layer
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::torch.jit.TracerWarning")
def test_a_layer_is_traced_saved_and_loaded(kind: str) -> None:
    _, layer = twins(kind, {"num_layers": 2})
    file, x, jit = io.BytesIO(), torch.randn(T + 3, B + 1, D), cast("Any", torch.jit)
    jit.save(jit.trace(layer, sequences({})), file)
    file.seek(0)
    found = flat(jit.load(file)(x))
    for got, wanted in zip(found, flat(layer(x)), strict=True):
        assert_close(got, wanted)
    torch.autograd.backward(found[0].sum())


class Packing(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        output, final = self.layer(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(output)[0], final


@every_layer
@pytest.mark.filterwarnings("ignore:.*deprecated", "ignore::torch.jit.TracerWarning")
def test_what_was_traced_takes_packed_rows_of_other_lengths(kind: str) -> None:
    theirs, ours = twins(kind, {"bidirectional": True})
    x = torch.randn(40, 4, D, generator=torch.Generator().manual_seed(7))
    jit = cast("Any", torch.jit)
    traced = jit.trace(Packing(ours), (x, torch.tensor([1, 40, 2, 1])), check_trace=False)
    for lengths in ([1, 40, 2, 1], [20, 40, 30, 3], [40, 40, 40, 40]):
        wanted = Packing(theirs)(x, torch.tensor(lengths))
        for got, torchs in zip(flat(traced(x, torch.tensor(lengths))), flat(wanted), strict=True):
            assert_close(got, torchs)


class Embedded(torch.nn.Module):
    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer, self.embedding = layer, torch.nn.Embedding(9, D)

    def forward(self, input: Tensor, lengths: Tensor, resets: Tensor) -> Any:
        return self.layer(input, lengths=lengths, resets=resets, embedding=self.embedding.weight)


X = torch.randn(T, B, D, generator=torch.Generator().manual_seed(6))
ZEROS = torch.zeros(1, B, H)
MISTAKES: dict[str, Callable[[Any], object]] = {
    "four dimensions": lambda layer: layer(X[None]),
    "one dimension": lambda layer: layer(X[0, 0]),
    "too few features": lambda layer: layer(X[:, :, :2]),
    "another dtype": lambda layer: layer(X.double()),
    "integers": lambda layer: layer(X.long()),
    "no steps": lambda layer: layer(X[:0]),
    "state of another batch": lambda layer: layer(X, as_hx(layer, ZEROS[:, :2])),
    "state of another width": lambda layer: layer(X, as_hx(layer, ZEROS[:, :, :2])),
    "state of another depth": lambda layer: layer(X, as_hx(layer, ZEROS.expand(2, B, H))),
    "state without a batch": lambda layer: layer(X, as_hx(layer, ZEROS[:, 0])),
    "batched state of unbatched input": lambda layer: layer(X[:, 0], as_hx(layer, ZEROS[:, :1])),
    "state in another dtype": lambda layer: layer(X, as_hx(layer, ZEROS.double())),
    "packed with more dimensions": lambda layer: layer(pack_sequence([X])),
}


def as_hx(layer: torch.nn.RNNBase, state: Tensor) -> Any:
    return (state, state) if layer.mode == "LSTM" else state


@every_layer
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_the_error_that_torch_raises(kind: str, mistake: Callable[[Any], object]) -> None:
    theirs, ours = twins(kind, {})
    with pytest.raises((ValueError, RuntimeError)) as expected:
        mistake(theirs)
    with pytest.raises(expected.type) as actual:
        mistake(ours)
    assert "Traceback" not in str(actual.value) and len(str(actual.value)) > 20


@every_layer
def test_a_packed_batch_and_a_state_of_other_sizes_are_refused(kind: str) -> None:
    _, ours = twins(kind, {})  # torch reads past the rows here
    with pytest.raises(RuntimeError, match=r"Expected h_0 of size \(1, 2, 5\), got \(1, 4, 5\)"):
        ours(pack_sequence([X[:3, 0], X[:2, 0]]), as_hx(ours, ZEROS))


@every_layer
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"dropout": 2}, ValueError),
        ({"bias": 1}, TypeError),
        ({"num_layers": 0}, ValueError),
        ({"hidden_size": 0}, ValueError),
        ({"input_size": 1.5}, TypeError),
    ],
)
def test_a_bad_constructor_argument_is_the_error_that_torch_raises(
    kind: str, options: dict[str, Any], error: type[Exception]
) -> None:
    arguments = {"input_size": D, "hidden_size": H} | options
    for library in (torch.nn, nn):
        with pytest.raises(error):
            getattr(library, kind)(**arguments)


def test_an_unknown_nonlinearity_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown nonlinearity 'sin'"):
        nn.RNN(D, H, nonlinearity="sin")


def test_dropout_on_a_single_layer_warns_as_torch_does() -> None:
    with pytest.warns(UserWarning, match="num_layers greater than 1"):
        nn.GRU(D, H, dropout=0.5)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"lengths": torch.tensor([1, 2])}, "lengths must be integers of shape (4,), got int64 of shape (2,)"),
        ({"lengths": torch.ones(B)}, "lengths must be integers of shape (4,), got float32 of shape (4,)"),
        ({"lengths": [1, 2, 3, 4]}, "lengths must be integers of shape (4,), got a list, which is no Tensor"),
        ({"lengths": torch.tensor([1, 2, 9, 4])}, "lengths[2] is 9, expected 0 to 6"),
        ({"lengths": torch.tensor([1, -1, 2, 4])}, "lengths[1] is -1, expected 0 to 6"),
        ({"lengths": torch.ones(B).long().to_sparse()}, "lengths must be integers of shape (4,), got layout"),
        ({"lengths": torch.ones(B, device="meta").long()}, "lengths must hold numbers, as the input on cpu does"),
        ({"resets": torch.ones(T, B, device="meta") > 0}, "resets must hold numbers, as the input on cpu does"),
        ({"resets": torch.zeros(B, T) > 0}, "resets must be bool of shape (6, 4), got bool of shape (4, 6)"),
        ({"resets": torch.zeros(T, B)}, "resets must be bool of shape (6, 4), got float32 of shape (6, 4)"),
        ({"resets": [[False]]}, "resets must be bool of shape (6, 4), got a list"),
    ],
)
def test_lengths_and_resets_that_do_not_fit_are_refused(masks: dict[str, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        nn.LSTM(D, H)(X, **masks)


def test_lengths_beside_a_packed_sequence_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths cannot be given with a PackedSequence"):
        nn.LSTM(D, H)(pack_sequence([X[:, 0]]), lengths=torch.tensor([6]))


@pytest.mark.parametrize(
    ("layer", "hx", "message"),
    [
        (nn.LSTM(D, H), ZEROS, r"LSTM: hx must be a pair \(h_0, c_0\), got Tensor"),
        (nn.LSTM(D, H), (ZEROS, ZEROS, ZEROS), r"LSTM: hx must be a pair \(h_0, c_0\), got tuple"),
        (nn.GRU(D, H), (ZEROS, ZEROS), "GRU: hx must be a Tensor, got tuple"),
    ],
)
def test_the_state_of_another_kind_of_layer_is_refused(layer: Any, hx: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        layer(X, hx)


def test_a_pair_of_states_may_be_a_list() -> None:
    layer, states = nn.LSTM(D, H), torch.randn(2, 1, B, H, generator=torch.Generator().manual_seed(0))
    hx: Any = list(states)
    assert torch.equal(layer(X, hx)[0], layer(X, tuple(hx))[0])


@every_variant
@pytest.mark.parametrize("masked", [False, True])
def test_a_trace_has_every_state_and_gate(kind: str, options: dict[str, Any], masked: bool) -> None:
    """Run one step at a time, the layer passes through the same states; outputs are not changed by tracing."""
    layer = twins(kind, options)[1].eval()
    x = sequences(options)
    given = {"lengths": torch.tensor([T, 3, 1, T - 1, 5][:B])} if masked else {}
    output, final = layer(x, **given)
    traced, final_traced, traces = layer(x, **given, trace=True)
    assert torch.equal(output, traced)
    directions = 2 if options.get("bidirectional") else 1
    assert len(traces) == options.get("num_layers", 1) * directions
    last = torch.cat([trace.h for trace in traces[-directions:]], dim=-1)
    assert torch.equal(last, output)
    pairs = [(final, final_traced)] if kind != "LSTM" else list(zip(final, final_traced, strict=True))
    assert all(torch.equal(*pair) for pair in pairs)
    for number, trace in enumerate(traces):
        assert (trace.c is None) == (kind != "LSTM") and (trace.gates is None) == (kind == "RNN")
        if kind != "LSTM":
            continue
        h, c, gates = (part.transpose(0, 1) if options.get("batch_first") else part for part in trace)
        i, f, g, o = gates.chunk(4, dim=-1)
        nothing = torch.zeros_like(c[:1])
        backward = directions == 2 and number % 2
        before = torch.cat([c[1:], nothing]) if backward else torch.cat([nothing, c[:-1]])
        assert torch.allclose(c, f * before + i * g, atol=1e-6)
        if "proj_size" not in options:
            assert torch.allclose(h, o * torch.tanh(c), atol=1e-6)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_trace_is_asked_for_by_whatever_is_true(kind: str) -> None:
    layer, asked = getattr(nn, kind)(D, H), (True, 1, 2, "yes")
    gates = [layer(X, trace=trace)[2][0].gates for trace in asked]
    assert all(torch.equal(one, gates[0]) for one in gates)


def test_traces_follow_the_layout_of_the_input() -> None:
    layer = nn.GRU(D, H)
    x = torch.randn(T, B, D)
    _, _, (whole,) = layer(x, trace=True)
    _, _, (alone,) = layer(x[:, 1], trace=True)
    assert alone.h.shape == (T, H) and torch.allclose(alone.gates, whole.gates[:, 1], atol=1e-6)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, torch.full((B,), T))
    with pytest.raises(InputError, match="PackedSequence"):
        layer(packed, trace=True)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_chrono_units_forget_in_as_many_steps_as_they_were_told(kind: str) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, kind)(3, 2000, num_layers=2, bidirectional=True, init="chrono", longest_gap=101)
    for suffix in ("_l0", "_l1_reverse"):
        bias = getattr(layer, f"bias_ih{suffix}") + getattr(layer, f"bias_hh{suffix}")
        times = bias[2000:4000].exp()
        assert times.min() >= 0.999 and times.max() <= 100.001
        assert abs(times.mean() - 50.5) < 3
        if kind == "LSTM":
            assert torch.allclose(bias[:2000], -bias[2000:4000])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"init": "zeros"}, "init is 'zeros', expected"),
        ({"init": "chrono"}, "needs longest_gap"),
        ({"longest_gap": 7}, "only for init"),
        ({"init": "chrono", "longest_gap": 1}, "longest_gap is 1, expected"),
        ({"init": "chrono", "longest_gap": 9, "bias": False}, "bias=False"),
    ],
)
def test_an_initialisation_that_cannot_be_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        nn.LSTM(2, 3, **options)


@pytest.mark.parametrize("layer", [torch.nn.RNN(2, 3), nn.RNN(2, 3), torch.nn.Linear(2, 3), None])
def test_chrono_is_for_what_has_gates(layer: Any) -> None:
    with pytest.raises(InputError, match=f"layer is a {type(layer).__name__}, expected an LSTM or a GRU"):
        nn.chrono(layer, 9)


@every_variant
@pytest.mark.parametrize("lengths", [[40, 3, 2, 1, 1], [2, 1, 30, 29, 1, 2, 14, 1], [17, 1, 1]])
def test_packed_rows_of_very_different_length_are_torchs(
    kind: str, options: dict[str, Any], lengths: list[int]
) -> None:
    theirs, ours = twins(kind, options | {"dropout": 0.0})
    generator = torch.Generator().manual_seed(1)
    dtype = options.get("dtype", torch.float32)
    rows = [torch.randn(length, D, generator=generator).to(dtype).requires_grad_() for length in lengths]
    packed = pack_sequence(rows, enforce_sorted=False)
    for hx in (None, initial(kind, options, len(lengths))):
        assert_twins_agree(theirs, ours, packed, hx)


def test_packed_rows_of_very_different_length_cost_their_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    def spy(self: Any, x: Tensor, *rest: Any) -> Any:
        sizes.append(x.shape[0] * x.shape[1])
        return stack(self, x, *rest)

    stack = nn.LSTM._stack
    monkeypatch.setattr(nn.LSTM, "_stack", spy)
    lengths = [2000] + [3, 2, 1] * 100
    packed = pack_sequence([torch.zeros(length, D) for length in lengths], enforce_sorted=False)
    nn.LSTM(D, H)(packed)
    assert sum(sizes) <= 2 * sum(lengths)


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_reset_parameters_draws_as_the_constructor_does(kind: str) -> None:
    options: dict[str, Any] = {"init": "chrono", "longest_gap": 101}
    if kind == "LSTM":
        options |= {"layer_norm": True, "peephole": True}
    torch.manual_seed(0)
    layer = getattr(nn, kind)(D, 2000, **options, device="meta").to_empty(device="cpu")
    layer.reset_parameters()
    for one in (layer, getattr(nn, kind)(D, 2000, **options)):
        times = (one.bias_ih_l0 + one.bias_hh_l0)[2000:4000].exp()
        assert abs(times.mean() - 50.5) < 3
        for name, parameter in one.named_parameters():
            if name.startswith("gain"):
                assert (parameter == 1).all()
            elif name.startswith("bias_c"):
                assert (parameter == 0).all()
            elif name.startswith(("weight", "peephole")):
                assert abs(parameter.std() - (3 * 2000) ** -0.5) < 1e-3


@every_layer
def test_on_the_meta_device_a_layer_has_shapes(kind: str) -> None:
    output, _ = getattr(nn, kind)(D, H, device="meta")(torch.empty(T, B, D, device="meta"))
    assert (output.device.type, output.shape) == ("meta", (T, B, H))


@every_layer
def test_a_checkpointed_layer_has_the_same_gradients(kind: str) -> None:
    layer = getattr(nn, kind)(D, H)
    x = torch.randn(T, B, D, generator=torch.Generator().manual_seed(0)).requires_grad_()
    (expected,) = torch.autograd.grad(layer(x)[0].sum(), x)
    output, _ = checkpoint(layer, x, use_reentrant=False)
    (found,) = torch.autograd.grad(output.sum(), x)
    assert torch.equal(found, expected)


def test_an_embedding_must_be_a_tensor() -> None:
    symbols: Any = torch.zeros(T, B, dtype=torch.int64)
    layer: Any = nn.LSTM(D, H)
    with pytest.raises(InputError, match=r"embedding must be a tensor \[V,D\], got a Embedding"):
        layer(symbols, embedding=torch.nn.Embedding(4, D))


@pytest.mark.parametrize(
    ("symbols", "width", "message"),
    [
        (torch.zeros(T, B, 1), D, "the input must be integers, got float32 of shape (6, 4, 1)"),
        (torch.zeros(T, B, 1).long(), D, "the input must have one dimension or two, got int64 of shape (6, 4, 1)"),
        (torch.tensor(3), D, "the input must have one dimension or two, got int64 of shape ()"),
        (pack_sequence([torch.zeros(T, 1).long()]), D, "one dimension when packed, got int64 of shape (6, 1)"),
        (torch.zeros(T, B).long(), 9, "embedding must be a tensor [V,3], got float32 of shape (4, 9)"),
    ],
)
def test_symbols_and_an_embedding_that_do_not_fit_are_refused(symbols: Any, width: int, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        nn.LSTM(D, H)(symbols, embedding=torch.zeros(4, width))


def test_an_embedding_without_rows_is_refused() -> None:
    with pytest.raises(InputError, match=r"must have a row for each symbol, got float32 of shape \(0, 3\)"):
        nn.LSTM(D, H)(torch.zeros(T, B).long(), embedding=torch.zeros(0, D))


def test_an_embedding_of_another_dtype_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"^LSTM embedding dtype \(torch.float64\).*embedding.to\(torch.float32\)"
    ):
        nn.LSTM(D, H)(torch.zeros(T, B).long(), embedding=torch.zeros(4, D).double())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.int8])
def test_integers_of_any_width_are_symbols_and_lengths(dtype: torch.dtype) -> None:
    layer, embedding = nn.GRU(D, H), torch.randn(4, D)
    symbols, lengths = torch.randint(0, 4, (T, B)), torch.randint(0, T + 1, (B,))
    expected, _ = layer(symbols, lengths=lengths, embedding=embedding)
    found, _ = layer(symbols.to(dtype), lengths=lengths.to(dtype), embedding=embedding)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (nn.LSTM(3, 5, 2, batch_first=True), "LSTM(3, 5, num_layers=2, batch_first=True)"),
        (nn.LSTM(3, 5, proj_size=2, peephole=True), "LSTM(3, 5, proj_size=2, peephole=True)"),
        (nn.LSTM(3, 5, coupled=True, zoneout=(0.1, 0.2)), "LSTM(3, 5, coupled=True, zoneout=(0.1, 0.2))"),
        (nn.LSTM(3, 5, zoneout=0.1, recompute=4), "LSTM(3, 5, zoneout=0.1, recompute=4)"),
        (
            nn.GRU(3, 5, zoneout=0.1, init="chrono", longest_gap=9),
            "GRU(3, 5, zoneout=0.1, init='chrono', longest_gap=9)",
        ),
        (nn.RNN(3, 5, weight_drop=0.5), "RNN(3, 5, weight_drop=0.5)"),
    ],
)
def test_a_layer_prints_as_it_was_made(layer: torch.nn.Module, expected: str) -> None:
    assert repr(layer) == expected
    assert repr(eval(f"nn.{expected}")) == expected


def test_zoneout_of_one_state_alone_is_refused() -> None:
    zoneout: Any = (0.1,)
    with pytest.raises(InputError, match="expected a probability, or a pair of two"):
        nn.LSTM(D, H, zoneout=zoneout)


@pytest.mark.parametrize("state", [None, torch.zeros(1, B, H).numpy()])
def test_a_state_that_is_no_tensor_is_named(state: Any) -> None:
    with pytest.raises(TypeError, match=f"^hx: c_0 must be a Tensor, got {type(state).__name__}$"):
        nn.LSTM(D, H)(X, (ZEROS, state))


@every_layer
@pytest.mark.parametrize("dtype", [torch.float64, torch.int64])
def test_autocast_brings_no_float64_and_no_integers_to_float32(kind: str, dtype: torch.dtype) -> None:
    layer = getattr(nn, kind)(D, H)
    with torch.autocast("cpu"):
        with pytest.raises(ValueError, match=rf"input dtype \({dtype}\) does not match weight dtype"):
            layer(X.to(dtype))
        with pytest.raises(RuntimeError, match=f"Expected h_0 of dtype torch.float32 as input is, got {dtype}"):
            layer(X, as_hx(layer, ZEROS.to(dtype)))
        with pytest.raises(ValueError, match=r"does not match weight dtype \(torch.float64\)"):
            layer.double()(X)


@every_layer
def test_an_input_on_another_device_is_the_error_that_torch_raises(kind: str) -> None:
    theirs, ours = twins(kind, {})
    for layer in (theirs, ours):
        with pytest.raises(RuntimeError, match="found input tensor at meta and parameter tensor at cpu"):
            layer(X.to("meta"))
        with pytest.raises(RuntimeError, match="found input tensor at cpu and parameter tensor at meta"):
            layer.to("meta")(X)


@every_layer
def test_a_state_on_another_device_is_named(kind: str) -> None:
    layer = getattr(nn, kind)(D, H)
    with pytest.raises(RuntimeError, match="Expected h_0 on cpu as input is, got meta"):
        layer(X, as_hx(layer, ZEROS.to("meta")))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors", "ignore:Sparse")
def test_an_input_that_is_not_dense_is_refused() -> None:
    rows: Any = [torch.randn(2, D), torch.randn(3, D)]
    for layout in (torch.strided, torch.jagged):
        with pytest.raises(TypeError, match=r"^LSTM: input must be a dense Tensor, with lengths .* a nested one$"):
            nn.LSTM(D, H)(torch.nested.nested_tensor(rows, layout=layout))
    with pytest.raises(TypeError, match=r"with lengths where rows differ, got layout torch.sparse_coo$"):
        nn.LSTM(D, H)(X.to_sparse())
    with pytest.raises(TypeError, match=r"^hx: c_0 must be a dense Tensor, got layout torch.sparse_coo$"):
        nn.LSTM(D, H)(X, (ZEROS, ZEROS.to_sparse()))
    with pytest.raises(TypeError, match=r"^hx: h_0 must be a dense Tensor, got a nested one$"):
        nn.GRU(D, H)(X, torch.nested.nested_tensor(rows))


def test_a_weight_of_another_dtype_is_named() -> None:
    layer = nn.LSTM(4, 6)
    layer.weight_hh_l0.data = layer.weight_hh_l0.data.double()
    with pytest.raises(InputError, match=r"unrolled::lstm: weight_hh is torch.float64 .*, expected torch.float32"):
        layer(torch.zeros(3, 2, 4))


def test_autograd_names_the_op_whose_output_was_changed() -> None:
    output, _ = nn.GRU(4, 6)(torch.zeros(3, 2, 4))
    with pytest.raises(RuntimeError, match="output 0 of unrolled_gru"):
        torch.autograd.backward(output.relu_().sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_length_out_of_range_is_an_input_error(dtype: torch.dtype) -> None:
    with pytest.raises(InputError, match=r"lengths\[0\] is 9, expected 0 to 3"):
        nn.LSTM(4, 6, dtype=dtype)(torch.zeros(3, 2, 4, dtype=dtype), lengths=torch.tensor([9, 1]))


def test_a_weight_that_is_made_of_what_others_learn_has_a_way_back() -> None:
    layer: Any = nn.LSTM(3, 5).requires_grad_(False)
    weight = layer.weight_hh_l0.detach().clone()
    del layer.weight_hh_l0
    scale = torch.ones((), requires_grad=True)
    layer.weight_hh_l0 = weight * scale
    layer(torch.ones(4, 2, 3))[0].sum().backward()
    assert scale.grad is not None and scale.grad != 0


@pytest.mark.parametrize(
    "options", [{}, {"batch_first": True}, {"bidirectional": True}, {"dtype": torch.bfloat16}]
)
@every_layer
def test_a_hook_on_the_output_does_not_meet_the_gradient_of_the_final_state(
    kind: str, options: dict[str, Any]
) -> None:
    layer = getattr(nn, kind)(D, H, **options)
    output, final = layer(sequences(options))
    output.register_hook(torch.zeros_like)
    torch.autograd.backward(output.sum() + flat(final)[0].sum(), inputs=(output, layer.weight_hh_l0))
    assert torch.equal(output.grad, torch.ones_like(output).zero_())
    assert layer.weight_hh_l0.grad.abs().sum() > 0


@every_layer
def test_what_torchs_layers_have_for_their_states_is_there(kind: str) -> None:
    theirs, ours = twins(kind, {})
    x, hx, order = X, initial(kind, {}), torch.tensor([2, 0, 3, 1])
    for got, wanted in zip(
        flat(ours.permute_hidden(hx, order)), flat(theirs.permute_hidden(hx, order)), strict=True
    ):
        assert torch.equal(got, wanted)
    assert [name for name in dir(theirs) if not hasattr(ours, name)] == []
    ours.check_forward_args(x, hx, None)
    with pytest.raises(RuntimeError, match="Expected hidden"):
        ours.check_forward_args(x[:, :2], hx, None)


@every_layer
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("options", [{"num_layers": 2, "bidirectional": True}, {"weight_drop": 0.5}])
def test_onnx_gets_the_layer_that_torch_would_give_it(kind: str, options: dict[str, Any]) -> None:
    # Within another: of a bare layer torch 2.13 gives keyword-only arguments by position.
    model = torch.nn.Sequential(getattr(nn, kind)(D, H, **options)).eval()
    file: Any = io.BytesIO()
    axes = {"x": {0: "steps", 1: "rows"}}
    torch.onnx.export(model, (torch.randn(2, 1, D),), file, dynamo=False, input_names=["x"], dynamic_axes=axes)
    session = onnxruntime.InferenceSession(file.getvalue())
    for got, wanted in zip(session.run(None, {"x": X.numpy()}), flat(model(X)), strict=True):
        assert_close(torch.from_numpy(got), wanted)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::torch.jit.TracerWarning")
@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_onnx_gets_the_states_that_a_layer_is_given(kind: str) -> None:
    class Stepped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = getattr(nn, kind)(D, H)

        def forward(self, x: Tensor, *states: Tensor) -> Any:
            return self.layer(x, states if kind == "LSTM" else states[0])

    model, file = Stepped(), io.BytesIO()
    given = {"x": X, "h": torch.randn(1, B, H), "c": torch.randn(1, B, H)}
    given = given if kind == "LSTM" else {name: given[name] for name in "xh"}
    torch.onnx.export(model, tuple(given.values()), cast("Any", file), dynamo=False, input_names=list(given))
    session = onnxruntime.InferenceSession(file.getvalue())
    got = session.run(None, {name: value.numpy() for name, value in given.items()})
    for one, wanted in zip(got, flat(model(*given.values())), strict=True):
        assert_close(torch.from_numpy(one), wanted)


@every_layer
@pytest.mark.filterwarnings("ignore:.*deprecated")
def test_a_scripted_model_has_torchs_layer_on_the_same_parameters(kind: str) -> None:
    layer, jit, file = getattr(nn, kind)(D, H, num_layers=2), cast("Any", torch.jit), io.BytesIO()
    model = torch.nn.Sequential(layer)
    expected = flat(model(X))
    jit.save(jit.script(model), file)
    file.seek(0)
    for got, wanted in zip(flat(jit.load(file)(X)), expected, strict=True):
        assert_close(got, wanted)
    assert type(model[0]) is getattr(torch.nn, kind) and model[0].weight_hh_l0 is layer.weight_hh_l0
    assert nn.accelerate(model).replaced == ("0",)


class Own(nn.LSTM):
    """A subclass."""


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("layer", [nn.LSTM(D, H, peephole=True), nn.GRU(D, H, weight_drop=0.5), Own(D, H)])
def test_what_torch_has_no_layer_for_is_not_scripted(layer: Any) -> None:
    with pytest.raises(InputError, match="TorchScript"):
        torch.jit.script(torch.nn.Sequential(layer))


class Stacked(torch.nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.below, self.above = getattr(nn, kind)(D, H), getattr(nn, kind)(H, H)

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        output, state, (trace,) = self.below(x, lengths=lengths, trace=True)
        return self.above(output, state), trace.h


@every_layer
def test_fx_writes_down_one_node_for_a_layer(kind: str) -> None:
    model, lengths = Stacked(kind), torch.tensor([2, 6, 1, 4])
    program = torch.fx.symbolic_trace(model)
    assert [node.target for node in program.graph.nodes if node.op == "call_module"] == ["below", "above"]
    for got, wanted in zip(flat(program(X, lengths)), flat(model(X, lengths)), strict=True):
        assert torch.equal(got, wanted)


@every_layer
def test_fx_writes_down_a_call_as_it_was_made(kind: str) -> None:
    program = torch.fx.symbolic_trace(torch.nn.Sequential(getattr(nn, kind)(D, H)))
    x, node, _ = program.graph.nodes
    assert node.args == (x,) and node.kwargs == {}


class Scaled(nn.GRU):
    def forward(self, x: Tensor, *_: Any) -> Any:  # type: ignore[override]
        return super().forward(2 * x)


def hooked(before: bool) -> torch.nn.Module:
    layer = nn.LSTM(D, H)
    if before:
        layer.register_forward_pre_hook(lambda _, given: (2 * given[0],))
    else:
        layer.register_forward_hook(lambda _, given, got: (2 * got[0], got[1]))
    return torch.nn.Sequential(layer)


@pytest.mark.parametrize("model", [hooked(True), hooked(False), torch.nn.Sequential(Scaled(D, H)), nn.RNN(D, H)])
def test_fx_does_not_write_down_what_would_run_twice(model: torch.nn.Module) -> None:
    with pytest.raises(InputError, match=r"torch\.fx"):
        torch.fx.symbolic_trace(model)
