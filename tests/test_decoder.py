"""The attention decoder: one step is the papers' equations, and a whole target is its steps."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from tolerances import assert_close, assert_near
from unrolled import architecture
from unrolled.architecture import TranslateArchitecture
from unrolled.models.attention import attended_sequence
from unrolled.models.decoder import AttentionDecoder
from unrolled.models.translate import Translator

pytestmark = pytest.mark.usefixtures("one_thread")

SYMBOLS, EMBEDDING, HIDDEN, MEMORY = 11, 6, 7, 5
PLACES, ROWS, STEPS = 8, 3, 4
LENGTHS = torch.tensor([8, 3, 5])
every_cell = pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])


def decoder(cell: str, dropout: float = 0.0) -> AttentionDecoder:
    torch.manual_seed(0)
    made = AttentionDecoder(SYMBOLS, EMBEDDING, HIDDEN, MEMORY, cell, dropout)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.5)
    return made


def memory() -> Tensor:
    return torch.randn(PLACES, ROWS, MEMORY, generator=torch.Generator().manual_seed(1))


def inputs() -> Tensor:
    return torch.randint(SYMBOLS, (STEPS, ROWS), generator=torch.Generator().manual_seed(2))


@every_cell
def test_the_parameters_are_those_of_the_model_file(cell: str) -> None:
    shapes = dict(architecture.decoder("decoder", cell, SYMBOLS, EMBEDDING, HIDDEN, MEMORY))
    assert {f"decoder.{name}": tuple(v.shape) for name, v in decoder(cell).state_dict().items()} == shapes


@every_cell
@pytest.mark.parametrize("layers", [1, 2])
def test_the_parameters_of_a_translator_are_those_of_the_model_file(cell: str, layers: int) -> None:
    sizes = TranslateArchitecture(cell, 9, SYMBOLS, EMBEDDING, HIDDEN, layers)
    assert {name: tuple(v.shape) for name, v in Translator(sizes).state_dict().items()} == sizes.shapes()


@every_cell
def test_a_step_follows_the_equations_of_the_papers(cell: str) -> None:
    network, row = decoder(cell), 1
    weights = {name: value.detach().double() for name, value in network.state_dict().items()}
    m = memory()[: LENGTHS[row], row].double()
    kinds = {"rnn": torch.nn.RNNCell, "lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell}
    one = kinds[cell](2 * EMBEDDING, HIDDEN).double()
    one.load_state_dict({name: weights[f"recurrent.0.{name}_l0"] for name in one.state_dict()})
    first = torch.tanh(weights["initial.weight"] @ m.mean(0) + weights["initial.bias"])
    carried = tuple(part[None] for part in first.chunk(2)) if cell == "lstm" else first[None]
    attended = torch.zeros(EMBEDDING, dtype=torch.float64)
    state = network.start(memory(), LENGTHS)
    for symbols in inputs():
        logs, attention, state = network.step(symbols, state)
        carried = one(torch.cat([weights["embedding.weight"][symbols[row]], attended])[None], carried)
        h = carried[0][0] if cell == "lstm" else carried[0]
        alpha = torch.softmax(m @ weights["keys.weight"].T @ h, 0)
        attended = torch.tanh(
            weights["values.weight"] @ (alpha @ m) + weights["combine.weight"] @ h + weights["combine.bias"]
        )
        expected = torch.log_softmax(weights["embedding.weight"] @ attended + weights["bias"], 0)
        assert_close(attention[row, : LENGTHS[row]], alpha)
        assert_close(logs[row], expected)


@every_cell
def test_a_whole_target_is_its_steps(cell: str) -> None:
    network = decoder(cell)
    logits = network(memory(), LENGTHS, inputs())
    assert logits.shape == (STEPS, ROWS, SYMBOLS)
    state = network.start(memory(), LENGTHS)
    for at, symbols in enumerate(inputs()):
        logs, attention, state = network.step(symbols, state)
        assert_close(logs, logits[at].log_softmax(-1))
        assert_close(attention.sum(1), torch.ones(ROWS))
        for row, length in enumerate(LENGTHS):
            assert not attention[row, length:].any()


@every_cell
def test_what_lies_past_a_length_changes_nothing(cell: str) -> None:
    network, other = decoder(cell), memory()
    for row, length in enumerate(LENGTHS):
        other[length:, row] = 100.0
    assert_close(network(other, LENGTHS, inputs()), network(memory(), LENGTHS, inputs()))


def test_hypotheses_of_a_row_share_its_memory() -> None:
    network = decoder("lstm")
    state = network.start(memory(), LENGTHS).choose(torch.arange(ROWS).repeat_interleave(2))
    symbols = torch.arange(6)
    logs, attention, after = network.step(symbols, state)
    alone, alone_attention, _ = network.step(symbols[1::2], network.start(memory(), LENGTHS))
    assert_close(logs[1::2], alone)
    assert_close(attention[1::2], alone_attention)
    chosen = after.choose(torch.tensor([5, 4]), torch.tensor([2]))
    again, _, _ = network.step(torch.tensor([1, 1]), chosen)
    both, _, _ = network.step(torch.ones(6, dtype=torch.int64), after)
    assert_close(again, both[[5, 4]])


def test_chosen_logits_are_those_of_all() -> None:
    network, chosen = decoder("gru"), torch.rand(STEPS, ROWS, generator=torch.Generator().manual_seed(3)) > 0.4
    assert_close(network(memory(), LENGTHS, inputs(), chosen), network(memory(), LENGTHS, inputs())[chosen])


def test_nothing_is_dropped_in_evaluation() -> None:
    network = decoder("lstm", dropout=0.5)
    assert not torch.equal(network(memory(), LENGTHS, inputs()), network(memory(), LENGTHS, inputs()))
    network.eval()
    assert_close(network(memory(), LENGTHS, inputs()), decoder("lstm")(memory(), LENGTHS, inputs()))


def test_embedded_symbols_and_what_is_attended_have_one_mask_each_for_all_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network, read, kept = decoder("lstm", dropout=0.5), list[Tensor](), list[Tensor]()
    share = network.input_share

    def shared(x: Tensor) -> Tensor:
        read.append(x)
        return share(x)

    def attended(*given: Any) -> Tensor:
        kept.append(given[-1])
        return attended_sequence(*given)

    monkeypatch.setattr(network, "input_share", shared)
    monkeypatch.setattr("unrolled.models.decoder.attended_sequence", attended)
    network(memory(), LENGTHS, inputs())
    of_symbols = read[0] / network.embedding(inputs())
    assert_close(of_symbols, of_symbols[:1].expand_as(of_symbols))
    for mask in (of_symbols[0], kept[0]):
        assert mask.shape == (ROWS, EMBEDDING) and set(mask.round(decimals=5).unique().tolist()) == {0.0, 2.0}


@every_cell
def test_under_autocast_products_are_in_lower_precision_and_states_are_not(cell: str) -> None:
    network = decoder(cell)
    expected = network(memory(), LENGTHS, inputs())
    with torch.autocast("cpu", torch.bfloat16):
        state = network.start(memory(), LENGTHS)
        logits = network(memory(), LENGTHS, inputs())
        assert network.weights().hidden.dtype == torch.bfloat16
    assert {part.dtype for part in state.carried} == {torch.float32}
    assert_near(logits, expected)


def translation(rows: slice = slice(None)) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(4)
    lengths = torch.tensor([4, 2, 3])
    return {
        "source": torch.randint(9, (PLACES, ROWS), generator=generator)[:, rows],
        "source_lengths": LENGTHS[rows],
        "targets": torch.randint(SYMBOLS, (STEPS, ROWS), generator=generator)[:, rows],
        "target_lengths": lengths[rows],
    }


@every_cell
def test_the_loss_is_the_mean_over_the_symbols_of_all_rows(cell: str) -> None:
    torch.manual_seed(0)
    network = Translator(TranslateArchitecture(cell, 9, SYMBOLS, EMBEDDING, HIDDEN, 2)).eval()
    loss, state = network(**translation())
    alone = [network(**translation(slice(row, row + 1)))[0] for row in range(ROWS)]
    assert state == ()
    assert_close(loss, (4 * alone[0] + 2 * alone[1] + 3 * alone[2]) / 9)


@every_cell
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_parameter_learns(cell: str, dropout: float) -> None:
    torch.manual_seed(0)
    network = Translator(TranslateArchitecture(cell, 9, SYMBOLS, EMBEDDING, HIDDEN, 2), dropout, 0.1)
    network(**translation())[0].backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def test_what_lies_past_a_sources_end_changes_nothing() -> None:
    network = Translator(TranslateArchitecture("gru", 9, SYMBOLS, EMBEDDING, HIDDEN, 2))
    given = translation()
    past = torch.arange(PLACES)[:, None] >= LENGTHS
    others = (given["source"] + past) % 9
    assert not torch.equal(others, given["source"])
    assert torch.equal(network(**given | {"source": others})[0], network(**given)[0])


def test_an_encoder_drops_what_is_embedded_and_what_it_gives_in_training_alone() -> None:
    network = Translator(TranslateArchitecture("gru", 9, SYMBOLS, EMBEDDING, HIDDEN, 2), dropout=0.5)
    assert network.encoder.dropout == network.decoder.dropout == 0.5
    passes: list[tuple[Tensor, Tensor]] = []
    network.encoder.register_forward_hook(lambda _, read, gave: passes.append((read[0], gave[0])))
    source = translation()["source"]
    for training in (True, False):
        memory = network.train(training).encode(source, LENGTHS)
        read, gave = passes[-1]
        for dropped, whole in ((read, network.embedding(source)), (memory, gave)):
            assert_close(dropped, 2 * whole * dropped.ne(0) if training else whole)
            assert dropped.eq(0).sum() > whole.eq(0).sum() if training else torch.equal(dropped, whole)


def test_the_first_loss_is_that_of_knowing_nothing() -> None:
    torch.manual_seed(0)
    network = Translator(TranslateArchitecture("lstm", 9, SYMBOLS, 32, 32, 1))
    assert abs(network(**translation())[0].item() - math.log(SYMBOLS)) < 0.1


def test_labels_are_smoothed_in_training_alone() -> None:
    torch.manual_seed(0)
    network = Translator(TranslateArchitecture("lstm", 9, SYMBOLS, EMBEDDING, HIDDEN, 1), label_smoothing=0.5)
    smoothed = network(**translation())[0]
    network.label_smoothing = 0.0
    plain = network(**translation())[0]
    network.label_smoothing = 0.5
    assert not torch.equal(smoothed, plain)
    assert_close(network.eval()(**translation())[0], plain)
