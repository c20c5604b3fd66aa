"""The language model in torch: how it starts, what it carries, what it drops."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from small import CELLS
from tolerances import assert_close
from unrolled import kinds
from unrolled.architecture import LabelArchitecture, SpeechArchitecture, TextArchitecture
from unrolled.models.label import LabelNetwork, Member
from unrolled.models.layers import Layers
from unrolled.models.speech import SpeechNetwork
from unrolled.models.text import LanguageModel

STEPS, ROWS, SYMBOLS, EMBEDDING, HIDDEN = 12, 5, 30, 7, 9
every_cell = pytest.mark.parametrize("cell", CELLS)


def model(cell: str, layers: int = 2, dropout: float = 0.0) -> LanguageModel:
    torch.manual_seed(0)
    return LanguageModel(TextArchitecture(cell, SYMBOLS, EMBEDDING, HIDDEN, layers), dropout)


def symbols(steps: int = STEPS, seed: int = 1) -> Tensor:
    return torch.randint(SYMBOLS, (steps, ROWS), generator=torch.Generator().manual_seed(seed))


@every_cell
@pytest.mark.parametrize("layers", [1, 3])
def test_the_parameters_are_those_of_the_model_file(cell: str, layers: int) -> None:
    architecture = TextArchitecture(cell, SYMBOLS, EMBEDDING, HIDDEN, layers)
    network = LanguageModel(architecture)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == architecture.shapes()
    assert sum(p.numel() for p in network.parameters()) == architecture.parameters


@every_cell
def test_the_first_loss_is_that_of_knowing_nothing(cell: str) -> None:
    torch.manual_seed(0)
    network = LanguageModel(TextArchitecture(cell, 60, 64, 128, 2))
    inputs = torch.randint(60, (50, 8))
    loss, _ = network(inputs[:-1], inputs[1:])
    assert abs(loss.item() - math.log(60)) < 0.1


@every_cell
def test_only_forget_gates_start_with_a_bias(cell: str) -> None:
    network = model(cell)
    for name, parameter in network.named_parameters():
        if name.startswith("recurrent") and "bias" in name:
            expected = torch.zeros_like(parameter)
            if "bias_ih" in name and "coupled" in cell:
                expected[:HIDDEN] = -1  # f is 1 - i
            elif "bias_ih" in name and cell.startswith("lstm"):
                expected[HIDDEN : 2 * HIDDEN] = 1
            assert torch.equal(parameter, expected), name


@every_cell
def test_the_loss_is_the_mean_over_all_targets(cell: str) -> None:
    network, text = model(cell).eval(), symbols(STEPS + 1)
    loss, _ = network(text[:-1], text[1:])
    logits, _ = network(text[:-1])
    assert logits.shape == (STEPS, ROWS, SYMBOLS)
    chosen = logits.log_softmax(-1).gather(-1, text[1:, :, None])
    assert_close(loss, -chosen.mean())


@every_cell
@pytest.mark.parametrize("cuts", [(1,), (5,), (3, 4, 11), tuple(range(1, STEPS))])
def test_chunks_with_the_state_carried_are_one_pass(cell: str, cuts: tuple[int, ...]) -> None:
    network, inputs = model(cell).eval(), symbols()
    whole, final = network(inputs)
    state, pieces = None, []
    for chunk in inputs.tensor_split(list(cuts)):
        logits, state = network(chunk, state=state)
        pieces.append(logits)
    assert_close(torch.cat(pieces), whole)
    assert state is not None
    widths = kinds.named(cell).state_widths(HIDDEN)
    for part, expected, width in zip(state, final, widths, strict=True):
        assert part.shape == (2, ROWS, width)
        assert_close(part, expected)


@every_cell
def test_a_reset_row_starts_from_zero_and_the_others_go_on(cell: str) -> None:
    network, inputs = model(cell).eval(), symbols()
    _, state = network(symbols(seed=2))
    resets = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    resets[0, 1] = resets[4, 3] = True
    logits, after = network(inputs, state=state, resets=resets)
    carried, _ = network(inputs, state=state)
    fresh, fresh_after = network(inputs)
    later, _ = network(inputs[4:])
    assert torch.equal(logits[:, [0, 2, 4]], carried[:, [0, 2, 4]])
    assert_close(logits[:, 1], fresh[:, 1])
    assert_close(logits[:4, 3], carried[:4, 3])
    assert_close(logits[4:, 3], later[:, 3])
    for part, expected in zip(after, fresh_after, strict=True):
        assert_close(part[:, 1], expected[:, 1])


@every_cell
def test_no_gradient_crosses_a_reset(cell: str) -> None:
    network = model(cell)
    _, state = network(symbols(seed=2))
    state = tuple(part.detach().requires_grad_() for part in state)
    resets = torch.zeros(STEPS, ROWS, dtype=torch.bool)
    resets[0, 1] = True
    loss, _ = network(symbols(), symbols(seed=3), state, resets)
    for grad in torch.autograd.grad(loss, state):
        assert not grad[:, 1].any()
        assert grad[:, [0, 2, 3, 4]].any()


@every_cell
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_every_parameter_learns(cell: str, dropout: float) -> None:
    network, text = model(cell, dropout=dropout), symbols(STEPS + 1)
    loss, _ = network(text[:-1], text[1:])
    loss.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


def dropped(network: Any, *inputs: Tensor) -> list[Tensor]:
    """What goes into recurrent layers from the second on and into the head, as a multiple of what came before."""
    seen: list[Tensor] = []
    handles = [
        layer.register_forward_pre_hook(lambda _layer, arguments: seen.append(arguments[0]))
        for layer in (*list(network.recurrent)[1:], network.head)
    ]
    before: list[Tensor] = []
    handles += [
        layer.register_forward_hook(
            lambda _layer, _arguments, output: before.append(output[0] if isinstance(output, tuple) else output)
        )
        for layer in network.recurrent
    ]
    with torch.no_grad():
        network(*inputs or (symbols(),))
    for handle in handles:
        handle.remove()
    return [after / x for after, x in zip(seen, before, strict=True)]


@pytest.mark.parametrize("cell", kinds.PLAIN)
def test_dropout_has_one_mask_for_all_steps(cell: str) -> None:
    masks = dropped(model(cell, dropout=0.4))
    assert len(masks) == 2
    for mask in masks:
        assert_close(mask, mask[:1].expand_as(mask))
        kept = mask[0] > 0
        assert kept.any() and not kept.all()
        assert_close(mask[0][kept], torch.full((int(kept.sum()),), 1 / 0.6))
        assert not all(torch.equal(kept[0], row) for row in kept), "each row its own"


LABEL = LabelArchitecture(
    kind="numbers", inputs=3, cell="gru", hidden=HIDDEN, layers=2, bidirectional=True, members=1, classes=4,
    characters=0, embedding=0, spelling=0,
)  # fmt: skip


def test_dropout_of_what_hears_and_of_what_tells_events_has_one_mask_for_all_steps() -> None:
    torch.manual_seed(0)
    speech = SpeechNetwork(SpeechArchitecture("gru", 6, 2, 0, HIDDEN, 2, SYMBOLS), dropout=0.4)
    label = Member(LABEL, 0.4, None)
    found = dropped(speech, torch.randn(2 * STEPS, ROWS, 6))
    found += dropped(label, torch.randn(STEPS, ROWS, 3), torch.full((ROWS,), STEPS))
    assert len(found) == 4 and label.backward_recurrent.dropout == 0.4
    for mask in found:
        assert_close(mask, mask[:1].expand_as(mask))
        assert (mask[0] > 0).any() and not (mask[0] > 0).all()


def seen_by(module: Any) -> list[Tensor]:
    """What the module is given first, at each call."""
    seen: list[Tensor] = []
    module.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    return seen


def test_what_reads_both_ways_is_dropped_both_ways() -> None:
    torch.manual_seed(0)
    member = Member(LABEL, 0.4, None)
    seen = seen_by(member.offline)
    member(torch.randn(STEPS, ROWS, 3), torch.full((ROWS,), STEPS))
    for half in seen[0].chunk(2, dim=-1):
        gone = (half == 0).all(0)
        assert gone.any() and not gone.all()


def test_members_read_a_part_of_the_input_and_single_steps_all_of_it() -> None:
    torch.manual_seed(0)
    network = LabelNetwork(replace(LABEL, inputs=20), input_dropout=0.5)
    member: Any = network.members[0]
    x, whole, part = torch.randn(STEPS, ROWS, 20), seen_by(network.alone), seen_by(member.recurrent[0])
    network(x, torch.full((ROWS,), STEPS), torch.zeros(STEPS, ROWS, dtype=torch.int64))
    mask = part[0] / x
    assert torch.equal(whole[0], x) and set(mask.round(decimals=5).flatten().tolist()) == {0.0, 2.0}
    assert_close(mask, mask[:1].expand_as(mask))


def test_events_are_smoothed_in_training_alone() -> None:
    torch.manual_seed(0)
    network = LabelNetwork(LABEL, smoothing=0.5)
    given = (torch.randn(STEPS, ROWS, 3), torch.full((ROWS,), STEPS), symbols() % 4)
    losses = [[float(network.train(mode)(*given)[0].detach()) for mode in (True, False)]]
    network.smoothing = 0.0
    losses += [[float(network.train(mode)(*given)[0].detach()) for mode in (True, False)]]
    assert losses[0][0] != losses[1][0] and losses[0][1] == losses[1][1]


def test_embedded_symbols_are_left_whole() -> None:
    network, seen = model("lstm", dropout=0.4), []
    network.recurrent[0].register_forward_pre_hook(
        lambda _layer, arguments, named: seen.append((arguments[0], named["embedding"])), with_kwargs=True
    )
    network(symbols())
    ((read, embedding),) = seen
    assert torch.equal(read, symbols()) and embedding is network.embedding.weight


def test_dropout_differs_from_chunk_to_chunk() -> None:
    network = model("lstm", dropout=0.4)
    assert not torch.equal(dropped(network)[0][0] > 0, dropped(network)[0][0] > 0)


def test_dropout_drops_the_part_that_it_says() -> None:
    torch.manual_seed(0)
    network = LanguageModel(TextArchitecture("rnn", SYMBOLS, 3, 1000, 1), dropout=0.25)
    assert (dropped(network)[0] == 0).float().mean().item() == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize("quiet", [lambda: model("lstm", dropout=0.4).eval(), lambda: model("lstm", dropout=0.0)])
def test_nothing_is_dropped_in_evaluation_or_by_default(quiet: Callable[[], LanguageModel]) -> None:
    network = quiet()
    assert torch.equal(network(symbols())[0], network(symbols())[0])
    for mask in dropped(network):
        assert torch.equal(mask, torch.ones_like(mask))


def test_layers_in_both_directions_go_on_from_the_states_of_their_own() -> None:
    torch.manual_seed(0)
    layers = Layers("lstm", 3, HIDDEN, 2, bidirectional=True)
    x, h, c = torch.randn(STEPS, ROWS, 3), torch.randn(4, ROWS, HIDDEN), torch.randn(4, ROWS, HIDDEN)
    below, _ = layers[0](x, (h[:2], c[:2]))
    above, _ = layers[1](below, (h[2:], c[2:]))
    assert torch.equal(layers(x, (h, c))[0], above)


@pytest.mark.parametrize("cell", kinds.PLAIN)
def test_gates_are_made_for_the_longest_gap(cell: str) -> None:
    torch.manual_seed(0)
    text = LanguageModel(TextArchitecture(cell, SYMBOLS, 3, 200, 2), longest_gap=100)
    label = Member(replace(LABEL, cell=cell, hidden=200), 0.0, 100)
    for layers in (text.recurrent, label.recurrent, label.backward_recurrent):
        longest = max(parameter.max().item() for name, parameter in layers.named_parameters() if "bias" in name)
        assert longest == (0.0 if cell == "rnn" else pytest.approx(math.log(99), abs=0.1))
