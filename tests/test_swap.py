"""Torch's layers inside a model become ours: same numbers, same parameters, and a reason for each that stays."""

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from tolerances import assert_close
from unrolled import nn
from unrolled.errors import InputError

SYMBOLS, T, B = 11, 7, 4
LENGTHS = torch.tensor([3, 7, 1, 5])

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:LSTM with projections"),  # torch: not by oneDNN
]


class Reader(torch.nn.Module):
    """Layers of every kind in containers of torch's, one of them used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(SYMBOLS, 6)
        self.encoder = torch.nn.LSTM(6, 5, num_layers=2, dropout=0.3, batch_first=True, bidirectional=True)
        self.narrow = torch.nn.LSTM(10, 9, proj_size=4)
        self.stack = torch.nn.Sequential(torch.nn.RNN(4, 8, nonlinearity="relu"))
        self.decoders = torch.nn.ModuleDict({"first": torch.nn.GRU(8, 8), "plain": torch.nn.RNN(8, 8, bias=False)})
        self.decoders["second"] = self.decoders["first"]
        self.head = torch.nn.Linear(8, 2)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(self.embedding(tokens), lengths, True, enforce_sorted=False)
        x, _ = pad_packed_sequence(self.encoder(packed)[0])
        x = self.stack(self.narrow(x)[0])[0]
        for decoder in self.decoders.values():
            x, h_n = decoder(x)
        scores: Tensor = self.head(h_n[-1])
        return scores


LAYERS = ("encoder", "narrow", "stack.0", "decoders.first", "decoders.plain")


def reader(seed: int = 0) -> Reader:
    torch.manual_seed(seed)
    return Reader()


def batch() -> Tensor:
    return torch.randint(SYMBOLS, (B, T), generator=torch.Generator().manual_seed(1))


def train(model: torch.nn.Module, optimiser: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        loss = torch.nn.functional.cross_entropy(model(batch(), LENGTHS), torch.tensor([0, 1, 1, 0]))
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        optimiser.step()
        losses.append(loss.item())
    return losses


def test_every_layer_becomes_ours_and_outputs_stay() -> None:
    theirs, ours = reader().eval(), reader().eval()
    done = nn.accelerate(ours)
    assert done == nn.Swap(LAYERS, {})
    assert str(done).splitlines() == [f"{name}: replaced" for name in LAYERS]
    assert {type(ours.get_submodule(name)) for name in LAYERS} == {nn.LSTM, nn.GRU, nn.RNN}
    assert ours.decoders["second"] is ours.decoders["first"]
    assert_close(ours(batch(), LENGTHS), theirs(batch(), LENGTHS))


def test_a_turned_layer_has_all_that_one_made_as_ours_has() -> None:
    turned = torch.nn.GRU(3, 5, num_layers=2, batch_first=True)
    nn.accelerate(turned)
    made = nn.GRU(3, 5, num_layers=2, batch_first=True)
    assert vars(turned).keys() == vars(made).keys()
    assert repr(turned) == repr(made)


def test_parameters_are_the_same_objects_under_the_same_names() -> None:
    model = reader()
    before = dict(model.named_parameters())
    nn.accelerate(model)
    after = dict(model.named_parameters())
    assert list(after) == list(before) and all(after[name] is before[name] for name in before)
    reader(seed=1).load_state_dict(model.state_dict(), strict=True)


def test_an_optimiser_made_before_goes_on_as_if_nothing_had_happened() -> None:
    theirs, ours = reader(), reader()
    optimisers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in (theirs, ours)]
    losses: list[list[float]] = [[], []]
    for turn in range(2):
        for model, optimiser, seen in zip((theirs, ours), optimisers, losses, strict=True):
            model.encoder.dropout = 0.0  # torch draws a packed mask in another order
            seen += train(model, optimiser, 4)
        if not turn:
            nn.accelerate(ours)
    assert isinstance(ours.encoder, nn.LSTM)
    assert losses[0][-1] < losses[0][0]
    assert_close(torch.tensor(losses[1]), torch.tensor(losses[0]))


def test_training_mode_and_dropout_stay() -> None:
    layer = torch.nn.GRU(3, 5, num_layers=2, dropout=0.5)
    frozen = copy.deepcopy(layer).eval().requires_grad_(False)
    x = torch.randn(T, B, 3)
    torch.manual_seed(3)
    expected, expected_frozen = layer(x)[0], frozen(x)[0]
    nn.accelerate(layer)
    nn.accelerate(frozen)
    assert layer.training and not frozen.training
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    torch.manual_seed(3)
    assert_close(layer(x)[0], expected)
    assert_close(frozen(x)[0], expected_frozen)


def test_hooks_go_on_being_called() -> None:
    layer = torch.nn.LSTM(3, 5)
    called = []
    layer.register_forward_pre_hook(lambda *_: called.append("before"))
    layer.register_forward_hook(lambda *_: called.append("after"))
    layer.register_full_backward_hook(lambda *_: called.append("back"))
    nn.accelerate(layer)
    torch.autograd.backward(layer(torch.randn(T, B, 3).requires_grad_())[0].sum())
    assert called == ["before", "after", "back"]


def test_a_bare_layer_is_turned_itself() -> None:
    layer = torch.nn.RNN(3, 5)
    done = nn.accelerate(layer)
    assert isinstance(layer, nn.RNN)
    assert done.replaced == ("",) and str(done) == "the model: replaced"


def test_a_bare_layer_that_stays_is_called_the_model() -> None:
    assert str(nn.accelerate(torch.nn.LSTMCell(3, 5))).startswith("the model: left, LSTMCell is a single step")


def test_a_layer_of_few_bits_is_turned() -> None:
    layers = [torch.nn.GRU(3, 5, dtype=dtype) for dtype in (torch.bfloat16, torch.float16)]
    assert nn.accelerate(torch.nn.ModuleList(layers)).replaced == ("0", "1")


def test_turning_a_layer_draws_no_random_numbers() -> None:
    layer, before = torch.nn.LSTM(3, 5), torch.get_rng_state()
    nn.accelerate(layer)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_time_there_is_nothing_left_to_do() -> None:
    model = reader()
    nn.accelerate(model)
    assert nn.accelerate(model) == nn.Swap((), {})
    assert str(nn.accelerate(torch.nn.Linear(2, 2))) == "no recurrent layers"


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_a_hook_computes_are_the_ones_used() -> None:
    layer = torch.nn.utils.weight_norm(torch.nn.RNN(3, 5), "weight_hh_l0")
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0_g").mul_(2)
    x = torch.randn(T, B, 3)
    expected, _ = layer(x)
    assert nn.accelerate(layer).replaced == ("",)
    assert_close(layer(x)[0], expected)
    with torch.no_grad():
        layer.get_parameter("weight_hh_l0_g").zero_()
    assert_close(layer(x)[0][1:], layer(x[1:])[0])  # no step sees the one before


class Reversed(torch.nn.LSTM):
    """A subclass whose forward is its own."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        return super().forward(input.flip(0), hx)


def scripted() -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made: torch.nn.Module = torch.jit.script(torch.nn.GRU(3, 5))
    return made


def quantized(layer: torch.nn.Module) -> torch.nn.Module:
    quantize: Any = torch.ao.quantization.quantize_dynamic
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: torch.nn.Module = quantize(torch.nn.Sequential(layer), {type(layer)})[0]
    return made


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        (torch.nn.LSTMCell(3, 5), "LSTMCell is a single step; the loop over steps is the model's own"),
        (Reversed(3, 5), "Reversed is a subclass and may compute something else"),
        (torch.nn.RNN(3, 5, dtype=torch.float64), "torch.float64 on cpu, which no compiled kernel serves"),
        (torch.nn.GRU(3, 5, device="meta"), "torch.float32 on meta, which no compiled kernel serves"),
        (
            parametrizations.orthogonal(torch.nn.RNN(3, 5), "weight_hh_l0"),
            "parametrized; accelerate the model first",
        ),
        (scripted(), "compiled by TorchScript, which cannot hold one of these"),
        (quantized(torch.nn.LSTM(3, 5)), "LSTM is quantized; its weights are no parameters"),
        (quantized(torch.nn.GRUCell(3, 5)), "GRUCell is a single step; the loop over steps is the model's own"),
    ],
)
def test_what_stays_has_a_reason(layer: torch.nn.Module, reason: str) -> None:
    model = torch.nn.ModuleList([torch.nn.Linear(3, 3), layer, torch.nn.GRU(3, 5)])
    kind = type(layer)
    done = nn.accelerate(model)
    assert type(layer) is kind
    assert done == nn.Swap(("2",), {"1": reason})
    assert str(done) == f"2: replaced\n1: left, {reason}"


def test_a_turned_layer_can_be_parametrized() -> None:
    layer: Any = torch.nn.RNN(3, 5)
    nn.accelerate(layer)
    parametrizations.orthogonal(layer, "weight_hh_l0")
    x = torch.randn(T, B, 3)
    expected, _ = layer(x)
    parametrize.remove_parametrizations(layer, "weight_hh_l0")
    assert_close(layer.weight_hh_l0 @ layer.weight_hh_l0.T, torch.eye(5))
    assert_close(layer(x)[0], expected)


def test_an_accelerated_model_is_copied_pickled_and_compiled() -> None:
    model = reader().eval()
    nn.accelerate(model)
    expected = model(batch(), LENGTHS)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin(batch(), LENGTHS), expected)
    layers = torch.nn.Sequential(torch.nn.LSTM(3, 5, num_layers=2))
    nn.accelerate(layers)
    compiled: Any = torch.compile(layers, fullgraph=True, backend="aot_eager")
    x = torch.randn(T, B, 3)
    assert_close(compiled(x)[0], layers(x)[0])


def test_a_model_compiled_before_runs_the_new_layer() -> None:
    layer = torch.nn.GRU(3, 5)
    compiled: Any = torch.compile(layer, backend="aot_eager")
    x, resets = torch.randn(T, B, 3), torch.rand(T, B) < 0.5
    compiled(x)
    assert nn.accelerate(compiled).replaced == ("_orig_mod",)
    assert_close(compiled(x, resets=resets)[0], layer(x, resets=resets)[0])


def test_what_is_no_module_is_refused() -> None:
    with pytest.raises(InputError, match=r"model is a list, expected a torch\.nn\.Module"):
        nn.accelerate([torch.nn.LSTM(3, 5)])  # type: ignore[arg-type]
