"""The probes against models whose memory is known, by weights set by hand or by what they were trained on."""

import copy
import html
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small
import unrolled
from test_whereabouts import WRITERS, modelled
from tolerances import assert_close
from unrolled.errors import InputError
from unrolled.loop import train
from unrolled.memory import context, endurance, portrait, reach, remember, shading, units
from unrolled.memory.context import Horizon
from unrolled.memory.decoding import Decoding
from unrolled.memory.layered import Layered, Member, numbers
from unrolled.memory.subject import NO_TARGET, States, Steps, Subject, losses
from unrolled.memory.trained import subject as trained_subject
from unrolled.models.decoder import AttentionDecoder
from unrolled.models.layers import Head, Layers
from unrolled.recipe import TrainOptions
from unrolled.tasks.text import TextModel, TextOptions, TextTask
from unrolled.vocabulary import CharVocabulary

SHUT, OPEN, SURE = -30.0, 30.0, 30.0
STEPS = 3000


def delay(k: int, true: int = 1) -> Subject:
    """An LSTM of weights set by hand that says the sign that its input had k steps ago, and data of such signs.

    `true` is 1 where that is the true answer and -1 where the other sign is.

    A chain of units: each takes over what the one before had a step ago; forget gates are shut.
    """
    hidden = k + 1
    layers, layer = zeros("lstm", hidden)
    with torch.no_grad():
        i, f, g, o = (slice(number * hidden, (number + 1) * hidden) for number in range(4))
        layer.bias_ih_l0[i], layer.bias_ih_l0[f], layer.bias_ih_l0[o] = OPEN, SHUT, OPEN
        layer.weight_ih_l0[g][0, 0] = SURE
        for unit in range(1, hidden):
            layer.weight_hh_l0[g][unit, unit - 1] = SURE
    return told(layers, lambda signs: true * np.roll(signs, k))


def zeros(cell: str, hidden: int) -> tuple[Layers, Any]:
    """A layer over one number a step whose weights are all zero, and that layer itself."""
    layers = Layers(cell, 1, hidden)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.zero_()
    return layers, layers[0]


def told(layers: Layers, answer: Any) -> Subject:
    """The layers with a head that reads the sign of the last unit, over random signs with this answer."""
    head = Head(layers.width, 2)
    with torch.no_grad():
        head.bias.zero_()
        head.weight.zero_()
        head.weight[:, -1] = torch.tensor([-2.0, 2.0])
    signs = np.random.default_rng(0).choice([-1.0, 1.0], STEPS).astype(np.float32)
    targets = (answer(signs) > 0).astype(np.int64)
    return Layered([Member(layers, head)], numbers, [signs[:, None]], [targets], "step")


def forgetful() -> Subject:
    """An LSTM that could only remember by its cell, and whose forget gates are shut."""
    layers, layer = zeros("lstm", 3)
    with torch.no_grad():
        layer.weight_ih_l0[6:9] = SURE
        layer.bias_ih_l0[3:6] = SHUT
    return told(layers, lambda signs: signs)


@pytest.mark.parametrize("k", [1, 2, 5, 13, 40])
def test_a_model_that_says_what_it_read_k_steps_ago_has_that_horizon(k: int) -> None:
    subject = delay(k)
    full, contexts = context.by_context(subject, subject.passages())
    assert context.horizon(full, contexts) == context.Horizon(k, k, k)
    losses = {one.k: one.loss for one in contexts}
    assert losses[k] == pytest.approx(full, rel=1e-3) and losses[k - 1] > 5 * full


def test_the_horizon_has_the_bounds_of_its_interval() -> None:
    found = [
        context.Context(k, 1.0 + excess, excess, low, high)
        for k, excess, low, high in (
            (1, 0.3, 0.2, 0.4),
            (2, 0.1, 0.01, 0.2),
            (4, 0.01, 0.0, 0.02),
            (8, 0.0, 0.0, 0.0),
        )
    ]
    assert context.horizon(1.0, found) == context.Horizon(4, 2, 8)
    assert context.horizon(1.0, found[:2]) == context.Horizon(2, 2, None)
    assert context.horizon(1.0, found[:1]) == context.Horizon(1, 1, None)


def test_the_interval_of_a_loss_is_that_of_95_in_100() -> None:
    """Without context the loss is the same at every step, so that only that with all of it varies."""
    flips = np.random.default_rng(1).choice([1, 1, -1], STEPS)
    subject = delay(1)
    subject.targets = [(np.roll(subject.inputs[0][:, 0], 1) * flips > 0).astype(np.int64)]
    passages = subject.passages()
    half = torch.arange(len(passages.x))[:, None] >= passages.lengths // 2
    known = losses(passages.logits, passages.targets.clamp(min=0))[half & (passages.targets != NO_TARGET)]
    none = context.by_context(subject, passages)[1][0]
    assert none.excess == pytest.approx(np.log(2) - known.mean().item(), rel=1e-4)
    assert none.high - none.low == pytest.approx(2 * 1.96 * known.std().item() / len(known) ** 0.5, rel=0.08)


def test_context_is_measured_up_to_half_a_passage() -> None:
    subject = delay(1)
    passages = subject.passages()
    _, contexts = context.by_context(subject, passages)
    assert int(passages.lengths.max()) == 2048 and contexts[-1].k == 1024


@pytest.mark.parametrize("k", [1, 4, 16])
def test_only_the_input_k_steps_back_moves_its_output(k: int) -> None:
    subject = delay(k)
    passages = subject.passages()
    moved = {one.k: one.high for one in reach.substitutions(subject, passages)}
    assert k in moved
    for back, by in moved.items():
        assert by < 1e-6 if back != k else 0.5 < by <= 1.0


def test_a_model_whose_forget_gates_are_shut_has_horizon_0() -> None:
    subject = forgetful()
    passages = subject.passages()
    full, contexts = context.by_context(subject, passages)
    assert context.horizon(full, contexts).k == 0
    (of_it,) = units.of_layers(passages)
    assert of_it.half_lives is not None and max(of_it.half_lives) < 0.1
    found = remember.of_subject(subject, passages, steps=20_000)
    assert "the output ignores it" in found.verdict() and "present step alone" in found.verdict()


def test_how_much_the_past_is_heeded_is_how_far_it_moves_the_output() -> None:
    """Without it, this model takes both signs for as likely."""
    passages = (subject := delay(1)).passages()
    valid = torch.arange(len(passages.x))[:, None] < passages.lengths
    moved = (passages.logits.softmax(-1)[valid][:, 0] - 0.5).abs().mean().item()
    assert remember.of_subject(subject, passages, steps=300).heeded == pytest.approx(moved, rel=1e-4)


def test_a_model_that_its_past_misleads_is_said_to_do_better_without() -> None:
    misled = delay(1, true=-1)
    said = remember.of_subject(misled, misled.passages(), steps=20_000).verdict()
    assert "It does better by the present step alone: what went before raises the loss. With none the" in said


def test_a_model_whose_state_stays_zero_is_named() -> None:
    layers, _ = zeros("gru", 4)
    found = remember.of_subject(subject := told(layers, lambda signs: signs), subject.passages(), steps=9000)
    assert found.verdict().startswith("The state never changes")
    assert found.units[0].still == [0, 1, 2, 3]


def test_8_of_10_steps_lie_between_the_bounds_of_reach() -> None:
    (found,) = reach._reaches(np.arange(11, dtype=np.float32)[None] ** 2, [3])
    assert found == reach.Reach(3, 25.0, 1.0, 81.0)


def test_gradients_vanish_as_the_weights_say() -> None:
    """h(t) = 0.5 h(t-1) + x(t), in the linear part of tanh: an input counts half as much with each step."""
    layers, layer = zeros("rnn", 1)
    with torch.no_grad():
        layer.weight_ih_l0[:] = 1e-3
        layer.weight_hh_l0[:] = 0.5
    subject = told(layers, lambda signs: signs)
    found = reach.gradients(subject, subject.passages())
    assert [one.k for one in found] == list(range(reach.LONGEST + 1))
    sizes = [one.median for one in found]
    assert np.allclose(np.array(sizes[1:20]) / sizes[:19], 0.5, rtol=0.02)


@pytest.mark.parametrize("cell", ["lstm", "lstm-proj0.4"])
def test_half_lives_are_those_of_the_gates(cell: str) -> None:
    layers, layer = zeros(cell, 3)
    lives = torch.tensor([1.0, 10.0, 100.0])
    keeping = torch.exp2(-1 / lives)
    with torch.no_grad():
        layer.bias_ih_l0[3:6] = torch.logit(keeping)
    (found,) = units.of_layers(told(layers, lambda signs: signs).passages())
    assert found.hidden == 3
    assert found.half_lives == pytest.approx(lives.tolist(), rel=1e-3)


def test_a_state_that_grows_and_one_that_is_saturated_are_seen() -> None:
    layers, layer = zeros("lstm", 2)
    with torch.no_grad():
        layer.bias_ih_l0[:] = OPEN  # i, f, g, o all at 1: c counts the steps
    subject = told(layers, lambda signs: signs)
    found = endurance.endure(subject, 200_000)
    assert found.sizes[-1] > 10 * found.sizes[0] and found.finite
    assert found.steps[-1] == 200_000
    (of_it,) = units.of_layers(subject.passages())
    assert of_it.saturated == [0, 1] and of_it.half_lives is not None and min(of_it.half_lives) > 1e5


def test_units_are_told_by_the_steps_that_count() -> None:
    c = torch.full((20, 2, 5), 0.0)
    c[:, 0, 0], c[:16, 0, 1], c[:, 0, 2], c[::2, 0, 3] = -3.0, 3.0, 0.99, 0.5
    gates = torch.full((20, 2, 20), 0.5)
    gates[:, 0, 9] = 0.0  # f of the last unit
    c[:, 1], gates[:, 1] = torch.nan, torch.nan
    h = c.clone()
    h[:, 0] = 0.0
    h[::2, 0, 4] = 1.0
    found = units.of_layer(Steps(h, c, gates), torch.tensor([True, False]).expand(20, 2))
    assert (found.hidden, found.saturated, found.still) == (5, [0], [0, 1, 2, 3])
    assert found.half_lives is not None and found.half_lives[:4] == pytest.approx([1.0] * 4)
    assert 0 < found.half_lives[4] < 0.1, "a gate that is shut is drawn on an axis of logarithms"
    assert found.moves == pytest.approx(h[:, 0, 4].std().item())


@pytest.mark.parametrize(
    ("steps", "early", "late", "comparable"),
    [
        (250, slice(0, 125), slice(125, 250), False),
        (6100, slice(0, 3000), slice(3000, 6000), True),
        (20_000, slice(0, 3000), slice(15_000, 18_000), True),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_losses_are_compared_where_the_same_data_came_again(
    steps: int, early: slice, late: slice, comparable: bool, known: bool
) -> None:
    """Of a model that is wrong at first, and of data in which some steps have no answer, or none."""
    subject = forgetful()
    inputs, (targets,) = torch.from_numpy(subject.inputs[0]), subject.targets
    assert targets is not None
    targets[:200] = 1 - targets[:200]
    targets[100:2000:7] = NO_TARGET
    logits = subject.logits(subject.run(inputs[:, None], torch.zeros(1, dtype=torch.int64))[0])[:, 0]
    expected = torch.from_numpy(targets) if known else logits.argmax(-1)
    every = losses(logits, expected.clamp(min=0)).masked_fill(expected == NO_TARGET, torch.nan).repeat(7)
    subject.targets = [targets if known else None]
    found = endurance.endure(subject, steps)
    assert found.comparable == comparable
    assert found.early == pytest.approx(every[early].nanmean().item(), rel=1e-4)
    assert found.late == pytest.approx(every[late].nanmean().item(), rel=1e-4)


def test_a_state_that_stops_being_a_number_is_said() -> None:
    layers, layer = zeros("lstm", 2)
    subject = told(layers, lambda signs: signs)
    passages = subject.passages()
    with torch.no_grad():
        layer.bias_ih_l0[:] = torch.nan
    assert "its state stops being a number" in remember.of_subject(subject, passages, steps=300).verdict()


def test_the_loss_is_that_of_the_second_half_of_each_passage_and_steps_without_an_answer_do_not_count() -> None:
    subject, *_ = decoding("lstm")
    subject.targets[3] = np.full_like(subject.targets[3], NO_TARGET)
    passages = subject.passages()
    steps = torch.arange(len(passages.x))[:, None]
    half = (steps >= passages.lengths // 2) & (steps < passages.lengths) & (passages.sequences != 3)
    full, _ = context.by_context(subject, passages)
    assert full == pytest.approx(losses(passages.logits[half], passages.targets[half]).mean().item())


def test_nothing_past_the_end_of_a_passage_is_looked_at() -> None:
    subject, *_ = decoding("lstm")
    passages = subject.passages()
    expected = remember.of_subject(subject, passages)
    past = torch.arange(len(passages.x))[:, None] >= passages.lengths
    for part in (
        passages.x,
        passages.logits,
        *(one for trace in passages.traces for one in trace if one is not None),
    ):
        part[past] = torch.nan
    assert remember.of_subject(subject, passages) == expected


def test_where_nobody_knows_the_answer_it_is_what_the_model_expects() -> None:
    subject = delay(1)
    subject.targets = [None]
    passages = subject.passages()
    assert torch.equal(passages.targets, passages.logits.argmax(-1))


def test_a_long_sequence_is_looked_at_in_several_passages() -> None:
    subject = forgetful()
    subject.inputs = [np.concatenate(subject.inputs * 3)]
    subject.targets = [np.concatenate([one for one in subject.targets if one is not None] * 3)]
    passages = subject.passages()
    assert passages.lengths.tolist() == [2048] * 4
    assert torch.equal(passages.targets, passages.logits.argmax(-1))


@pytest.mark.parametrize(("count", "steps", "most"), [(1200, 2, 1024), (140, 500, 132)])
def test_of_much_data_a_part_is_looked_at_that_the_seed_chooses(count: int, steps: int, most: int) -> None:
    subject = forgetful()
    subject.inputs, subject.targets = [subject.inputs[0][:steps]] * count, [None] * count
    chosen = [subject.passages(seed).sequences.tolist() for seed in (0, 0, 1)]
    assert chosen[0] == chosen[1] != chosen[2]
    assert [len(set(one)) for one in chosen] == [most] * 3


def test_of_many_sentences_the_seed_chooses_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    modelled("translate", WRITERS["translate"]("few"), None)
    Path("many.tsv").write_text("rot\tred\nblau\tblue\n" * 513)
    one, other = (trained_subject(unrolled.load("model"), ["many.tsv"], seed).inputs for seed in (0, 1))
    assert len(one) == len(other) == 1024 and not np.array_equal(one, other)


@pytest.mark.parametrize("task", ["translate", "caption"])
def test_a_decoder_should_say_what_was_written_of_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    monkeypatch.chdir(tmp_path)
    modelled(task, data := WRITERS[task]("few"), None)
    model = unrolled.load("model")
    if task == "translate":
        Path(data).write_text("rot rot\tblue\n")
    words = model.target if task == "translate" else model.vocabulary
    targets = [one for one in trained_subject(model, [data]).targets if one is not None]
    said = {words.decode(one[:-1].tolist()).strip() for one in targets}
    assert said == ({"blue"} if task == "translate" else {"a shade of grey"})
    assert {one[-1] for one in targets} == {words.size}, "the end"


def test_pictures_are_looked_at_in_parts_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said() -> torch.Tensor:
        subject = trained_subject(model, [data])
        x = torch.nn.utils.rnn.pad_sequence([subject.vectors(one) for one in subject.inputs])
        return subject.logits(subject.run(x, torch.arange(3))[0])

    monkeypatch.chdir(tmp_path)
    modelled("caption", data := WRITERS["caption"]("few"), None)
    model = unrolled.load("model")
    together = said()
    monkeypatch.setattr("unrolled.memory.trained.AT_ONCE", 2)
    assert_close(said(), together)
    assert not torch.equal(together[:, 0], together[:, 1])


def test_an_input_in_the_place_of_the_same_changes_nothing() -> None:
    """Neither of sequences of two steps, of which the first is the one replaced."""
    layers, _ = zeros("gru", 3)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(0))
    subject = told(layers, lambda signs: signs)
    subject.inputs, subject.targets = [np.ones((2, 1), np.float32)] * 60, [None] * 60
    moved = reach.substitutions(subject, subject.passages())
    assert [one.k for one in moved] == [0, 1] and max(one.high for one in moved) < 1e-6


def test_layers_of_members_go_on_from_a_step_in_the_middle() -> None:
    torch.manual_seed(0)
    members = [Member(Layers("lstm", 1, 4, 2), Head(4, 2)) for _ in range(2)]
    inputs = np.random.default_rng(0).normal(size=(120, 1)).astype(np.float32)
    subject = Layered(members, numbers, [inputs], [None], "step")
    passages = subject.passages()
    state = [tuple(part[49] for part in trace.carried) for trace in passages.traces]
    outputs, _ = subject.run(passages.x[50:], passages.sequences, state)
    assert_close(subject.logits(outputs), passages.logits[50:])


def test_a_variant_is_probed_without_the_masks_of_training(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abc fed " * 40)
    subject = trained_subject(TextModel(small.text_file("lstm-zoneout0.5")), [tmp_path / "text.txt"])
    assert torch.equal(subject.passages().logits, subject.passages().logits)


def test_reach_goes_back_half_the_longest_passage() -> None:
    subject, *_ = decoding("lstm")
    passages = subject.passages()
    assert int(passages.lengths.max()) == 9
    assert [one.k for one in reach.gradients(subject, passages)] == [0, 1, 2, 3, 4]
    assert [one.k for one in reach.substitutions(subject, passages)] == [0, 1, 2, 4]


class OwnNetwork(Subject):
    """A network with an `embedding`, an LSTM `recurrent` and a `head`, and symbols [T] with what should follow."""

    step = "symbol"  # what the report calls a step
    endless = True  # it may read on and on

    def __init__(self, network: Any, symbols: Any, targets: Any) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.inputs, self.targets, self.classes = [symbols], [targets], network.head.out_features

    def vectors(self, inputs: Any) -> Any:
        return self.network.embedding(torch.from_numpy(inputs))

    def beginning(self, sequences: torch.Tensor) -> States:
        zero = torch.zeros(len(sequences), self.network.recurrent.hidden_size)
        return [(zero, zero)] * self.network.recurrent.num_layers

    def run(self, x: Any, sequences: Any, state: States | None = None, lengths: Any = None) -> Any:
        h, c = zip(*(self.beginning(sequences) if state is None else state), strict=True)
        start = torch.stack(h), torch.stack(c)
        output, _, traces = self.network.recurrent(x, start, lengths=lengths, trace=True)
        return output, [Steps(*trace) for trace in traces]

    def logits(self, outputs: torch.Tensor) -> Any:
        return self.network.head(outputs)


def test_a_network_of_ones_own_is_probed_like_a_model() -> None:
    torch.manual_seed(0)
    network: Any = torch.nn.Module()
    network.embedding, network.head = torch.nn.Embedding(4, 8), torch.nn.Linear(32, 4)
    network.recurrent = unrolled.nn.LSTM(8, 32, 2)
    optimiser = torch.optim.Adam(network.parameters(), 0.01)
    for _ in range(100):
        drawn = torch.randint(4, (20, 32))
        said = network.head(network.recurrent(network.embedding(drawn))[0])
        optimiser.zero_grad()
        torch.autograd.backward(losses(said[3:], drawn[:-3]).mean())
        optimiser.step()
    symbols = np.random.default_rng(0).integers(4, size=400)
    probed = OwnNetwork(network, symbols, np.roll(symbols, 3))
    memory = remember.of_subject(probed, probed.passages(), steps=2000)
    assert memory.horizon == Horizon(3, 3, 3)
    assert [one.hidden for one in memory.units] == [32, 32]


def decoder(cell: str, seed: int = 0) -> AttentionDecoder:
    """A decoder of 7 symbols over sources of 5 numbers a place, with random weights large enough to matter."""
    torch.manual_seed(seed)
    made = AttentionDecoder(7, 6, 9, 5, cell)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.4)
    return made


def decoding(cell: str) -> tuple[Decoding, AttentionDecoder, torch.Tensor, torch.Tensor]:
    """A decoder as the probes see it, with 40 sources of different length and what was written of each."""
    made, rng = decoder(cell), np.random.default_rng(0)
    lengths = torch.from_numpy(rng.integers(2, 5, 40))
    sources = torch.from_numpy(rng.normal(0, 1, (4, 40, 5)).astype(np.float32))
    written = [np.append(rng.integers(0, 6, rng.integers(3, 9)), 6) for _ in range(40)]
    return Decoding(made, sources, lengths, written, "word"), made, sources, lengths


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_decoder_is_probed_as_it_decodes(cell: str) -> None:
    subject, made, sources, lengths = decoding(cell)
    passages = subject.passages()
    symbols = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(one) for one in passages.contents])
    rows = passages.sequences
    with torch.no_grad():
        logits = made(sources[:, rows], lengths[rows], symbols)
    valid = torch.arange(len(symbols))[:, None] < passages.lengths
    assert sorted(rows.tolist()) == list(range(40))
    assert symbols[0].tolist() == [6] * 40, "what begins a sequence"
    assert_close(passages.logits[valid], logits[valid])


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_decoder_goes_on_from_a_step_in_the_middle(cell: str) -> None:
    subject, *_ = decoding(cell)
    passages = subject.passages()
    state = [tuple(part[1] for part in trace.carried) for trace in passages.traces]
    outputs, _ = subject.run(passages.x[2:], passages.sequences, state)
    valid = torch.arange(2, len(passages.x))[:, None] < passages.lengths
    assert_close(subject.logits(outputs)[valid], passages.logits[2:][valid])


def test_a_decoder_begins_anew_with_every_sentence() -> None:
    subject, *_ = decoding("lstm")
    found = remember.of_subject(subject, subject.passages())
    assert found.endurance is None and "begins anew with every sequence" in found.verdict()
    assert remember.Memory.from_figures(json.loads(json.dumps(found.figures()))) == found
    assert found.contexts[0].excess != 0 and found.units[0].half_lives is not None


def test_a_decoder_that_does_not_hear_its_past_has_horizon_0() -> None:
    subject, made, *_ = decoding("rnn")
    layer: Any = made.recurrent[0]
    with torch.no_grad():
        layer.weight_hh_l0.zero_()
        layer.weight_ih_l0[:, 6:] = 0
    full, contexts = context.by_context(subject, subject.passages())
    assert context.horizon(full, contexts).k == 0
    assert max(abs(one.excess) for one in contexts) < 1e-5
    found = remember.of_subject(subject, subject.passages())
    assert found.heeded < 1e-6 and found.units[0].half_lives is None, "an RNN has no gates"


def test_of_members_it_is_their_mean_that_is_looked_at(tmp_path: Path) -> None:
    model = small.model_of("members")
    inputs = [small.inputs_for("numbers", 60, seed) for seed in range(3)]
    for number, one in enumerate(inputs):
        np.savez(tmp_path / f"{number}.npz", inputs=one, labels=np.array(["still"] * 60))
    subject = trained_subject(model, [tmp_path])
    passages = subject.passages()
    assert len(passages.traces) == 6 and subject.classes == 3  # of three members, two layers each
    for row, number in enumerate(passages.sequences.tolist()):
        assert_close(passages.logits[:60, row], torch.from_numpy(model.stream().feed(inputs[number])))


MOVED = [reach.Reach(k, 0.5, 0.25, 1.0) for k in (0, 1, 2)]
PLAIN = remember.Memory(
    step="step",
    full=1.0,
    contexts=[context.Context(0, 1.5, 0.5, 0.4, 0.6), context.Context(1, 1.0, 0.0, 0.0, 0.0)],
    horizon=context.Horizon(1, 1, 1),
    gradients=[],
    substitutions=[],
    units=[units.Units(3, [1.0, 10.0, 2000.0], [], [], 0.5)],
    endurance=endurance.Endurance([10, 20], [1.0, 1.5], 0.5, 0.5, True),
    heeded=0.5,
)
"""A model of which there is nothing special to say."""
DRAWN = replace(PLAIN, gradients=MOVED, substitutions=MOVED)


def test_a_verdict_says_context_units_and_endurance() -> None:
    assert replace(PLAIN, horizon=context.Horizon(2, 1, 1_000)).verdict() == (
        "It uses about 2 steps of context (1 to 1,000); more does not help. "
        "With none the loss is 1.500 nats a step, with all 1.000. "
        "1 of 3 units hold information for longer than 1,000 steps (half-life by their gates); "
        "the median holds it for 10. "
        "Over 20 steps without a reset the state stays as large as it was (1.50 times) "
        "and the loss goes from 0.500 to 0.500."
    )


@pytest.mark.parametrize(
    ("part", "given", "sentence"),
    [
        ("units", {"saturated": [1]}, " Of 3 units saturated nearly always: 1; never moving: 0."),
        ("units", {"still": [0, 2]}, " Of 3 units saturated nearly always: 0; never moving: 2."),
        ("endurance", {"sizes": [1.0, 3.0]}, "the state grows 3 times and the loss goes from"),
        ("endurance", {"late": 0.6}, "the loss goes from 0.500 to 0.600: reset it now and then."),
        (
            "endurance",
            {"comparable": False},
            "(1.50 times); more --steps than the data have would compare the loss",
        ),
        ("endurance", {"finite": False}, "its state stops being a number within 20 steps."),
    ],
)
def test_what_is_special_is_said(part: str, given: dict[str, Any], sentence: str) -> None:
    found = getattr(PLAIN, part)
    changed: Any = [replace(found[0], **given)] if part == "units" else replace(found, **given)
    changes: dict[str, Any] = {part: changed}
    said = replace(PLAIN, **changes).verdict()
    assert sentence in said and sentence not in PLAIN.verdict()


def test_a_layer_that_moves_is_enough_to_remember() -> None:
    quiet = replace(PLAIN.units[0], moves=0.0)
    assert "never changes" not in replace(PLAIN, units=[quiet, *PLAIN.units]).verdict()


def test_another_seed_looks_at_other_steps() -> None:
    subject, *_ = decoding("lstm")
    passages = subject.passages()
    one, other = (remember.of_subject(subject, passages, seed) for seed in (0, 1))
    for part in ("contexts", "gradients", "substitutions"):
        assert getattr(one, part) != getattr(other, part), part


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A text model of text in which a symbol depends on the one two before it, and on nothing else.

    A pass over the text is one chunk, so that the zero state is nothing new to the model.
    """
    folder = tmp_path_factory.mktemp("remember")
    rng = np.random.default_rng(0)
    symbols = [0, 1]
    for _ in range(24_000):
        symbols.append(symbols[-2] if rng.random() < 0.7 else int(rng.integers(4)))
    text = folder / "two.txt"
    text.write_text("".join("abcd"[symbol] for symbol in symbols))
    out = folder / "two.safetensors"
    task = TextTask(TextOptions(hidden=24, embedding=8, dropout=0.0, batch=200, chunk=100), [text])
    for _ in train(task, TrainOptions(steps=200), out):
        pass
    return unrolled.load(out)


def test_the_horizon_is_no_longer_than_the_structure_of_the_data(trained: Any) -> None:
    found = remember.remember(trained)
    assert found.horizon.k == 1  # the one before; the symbol itself is always read
    assert found.step == "character"
    assert found.contexts[0].excess > 0.05
    assert "1 character of context" in found.verdict()
    assert remember.Memory.from_figures(json.loads(json.dumps(found.figures()))) == found
    assert {"horizon", "verdict", "contexts", "gradients", "endurance"} <= set(found.figures())


def test_where_the_data_do_not_tell_whether_more_context_helps_it_is_said_so(trained: Any) -> None:
    found = remember.remember(trained)
    longest = found.contexts[-1].k
    open_end = replace(found, horizon=context.Horizon(8, 4, None))
    assert "about 8 characters of context (at least 4); these data leave open whether more helps." in (
        open_end.verdict()
    )
    at_the_end = replace(found, horizon=context.Horizon(longest, 4, None))
    assert "(at least 4); more may help: no longer context could be measured." in at_the_end.verdict()


def test_as_many_steps_as_asked_are_run_without_a_reset(trained: Any) -> None:
    found = remember.remember(trained, steps=2)
    assert found.endurance is not None and found.endurance.steps == [2]


def test_no_difference_has_no_sign(trained: Any) -> None:
    found = remember.remember(trained)
    same = replace(found, contexts=[context.Context(0, 1.0, -1e-9, -0.5, 0.25)])
    assert same.evaluation().tables[0].rows == [["0", "1.0000", "0.0000", "-0.5000 to +0.2500"]]


def test_what_is_found_is_drawn(trained: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = remember.remember(trained)
    portrait.draw(tmp_path / "memory.png", found)
    assert (tmp_path / "memory.png").read_bytes().startswith(b"\x89PNG")
    portrait.draw(tmp_path / "memory.svg", found)
    drawn = (tmp_path / "memory.svg").read_text()
    assert "<!-- 100 -->" in drawn and "10^{2}" not in drawn


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The figures that would have been saved."""
    pytest.importorskip("matplotlib")
    figures: list[Any] = []
    monkeypatch.setattr("unrolled.plots.save", lambda figure, path: figures.append(figure))
    return figures


def test_loss_by_context_is_drawn_with_its_interval(tmp_path: Path, drawn: list[Any]) -> None:
    portrait.draw(tmp_path / "memory.png", DRAWN)
    axes = drawn[0].axes[0]
    assert list(axes.lines[0].get_ydata()) == [1.5, 1.0]
    (band,) = axes.collections
    assert {round(y, 6) for x, y in band.get_paths()[0].vertices if x == 0} == {1.4, 1.6}


def test_reach_is_drawn_beside_the_most_that_an_input_changes(
    trained: Any, tmp_path: Path, drawn: list[Any]
) -> None:
    """Not beside the present one, which changes next to nothing where a model answers later, as of speech."""
    late = [reach.Reach(k, moved, moved, moved) for k, moved in ((0, 1e-9), (1, 0.5), (2, 0.25))]
    portrait.draw(tmp_path / "memory.png", replace(remember.remember(trained), gradients=late, substitutions=late))
    axes = drawn[0].axes[1]
    assert all(list(line.get_ydata()) == [1e-9 / 0.5, 1.0, 0.5] for line in axes.lines)


@pytest.mark.parametrize(
    ("lives", "marks"),
    [
        ([1.2, 2.5, 4.5], ["2", "3", "4"]),
        ([1.0, 9.0], ["1", "2", "5"]),
        ([1.5, 100.0], ["2", "5", "10", "20", "50", "100"]),
        ([1.5, 400.0], ["10", "100"]),
    ],
)
def test_an_axis_has_marks_enough_and_not_too_many(
    lives: list[float], marks: list[str], tmp_path: Path, drawn: list[Any]
) -> None:
    portrait.draw(tmp_path / "memory.png", replace(DRAWN, units=[replace(DRAWN.units[0], half_lives=lives)]))
    assert [label.get_text() for label in drawn[0].axes[2].get_xticklabels()] == marks


def test_units_are_counted_in_whole_numbers(tmp_path: Path, drawn: list[Any]) -> None:
    lives = [*np.geomspace(1.5, 100, 7)] * 2
    portrait.draw(tmp_path / "memory.png", replace(DRAWN, units=[replace(DRAWN.units[0], half_lives=lives)]))
    assert all(float(mark).is_integer() for mark in drawn[0].axes[2].get_yticks())


def test_what_is_drawn_of_units_says_which_layer_they_are_of_and_whether_they_have_gates(
    tmp_path: Path, drawn: list[Any]
) -> None:
    bare = replace(DRAWN.units[0], half_lives=None)
    for layers in (DRAWN.units, DRAWN.units * 2, [bare]):
        portrait.draw(tmp_path / "memory.png", replace(DRAWN, units=layers))
    one, two, none = (figure.axes[2] for figure in drawn)
    assert one.get_legend() is None
    assert [text.get_text() for text in two.get_legend().get_texts()] == ["layer 1", "layer 2"]
    assert [text.get_text() for text in none.texts] == ["no gates"]


def test_a_horizon_that_is_open_is_drawn_as_the_least(tmp_path: Path, drawn: list[Any]) -> None:
    for high in (8, None):
        portrait.draw(tmp_path / "memory.png", replace(DRAWN, horizon=context.Horizon(4, 2, high)))
    labels = [figure.axes[0].get_legend().get_texts()[1].get_text() for figure in drawn]
    assert labels == ["horizon: 4", "horizon: at least 4"]


def test_influence_is_on_what_came_true() -> None:
    layers, layer = zeros("rnn", 1)
    with torch.no_grad():
        layer.weight_ih_l0[:] = 0.5
    subject = told(layers, lambda signs: signs)
    passages = subject.passages()
    right = reach.influence(subject, passages, 0, 50, 3)
    passages.targets[50, 0] = 1 - passages.targets[50, 0]
    wrong = reach.influence(subject, passages, 0, 50, 3)
    surer = (passages.logits[50, 0, 1] - passages.logits[50, 0, 0]).abs().exp().item()
    assert right.shape == (4,) and not right[:3].any()
    assert wrong[3] / right[3] == pytest.approx(surer, rel=1e-3)


def test_a_page_shows_the_last_of_a_passage_as_it_is_written(tmp_path: Path) -> None:
    model = TextModel(small.text_file(vocabulary=CharVocabulary("\n &<ab")))
    text = "".join(np.random.default_rng(0).choice(list(" <&ab"), 1000))
    (tmp_path / "text.txt").write_text(text)
    shading.write(tmp_path / "page.html", model, [tmp_path / "text.txt"])
    page = (tmp_path / "page.html").read_text()
    spans = page.partition('<div id="text">')[2].partition("</div>")[0]
    assert html.unescape(spans.replace("<i>", "").replace("</i>", "")) == text[598:999]
    influences = json.loads(page.partition("const influences = ")[2].partition(";\n")[0])
    assert [len(one) for one in influences] == list(range(1, 401))
    subject = trained_subject(model, [tmp_path / "text.txt"])
    last = reach.influence(subject, subject.passages(), 0, 997, 399)
    assert influences[-1] == pytest.approx((last / last.max()).tolist(), abs=0.006)


def test_a_page_shows_a_passage_and_what_mattered_in_it(trained: Any, tmp_path: Path) -> None:
    shading.check(trained, tmp_path / "page.html")
    shading.write(tmp_path / "page.html", trained)
    page = (tmp_path / "page.html").read_text()
    assert page.count("<i>") == 401 and "const influences = [[" in page


def test_a_page_is_html(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a name ending in \.html"):
        shading.check(trained, tmp_path / "page.png")


def test_a_page_without_a_folder_is_refused_before_anything_is_looked_at(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"page\.html: there is no folder .*none for the page\.$"):
        shading.check(trained, tmp_path / "none" / "page.html")


def test_data_may_be_given(trained: Any, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("abcdabcdab" * 30)
    found = remember.remember(trained, [tmp_path / "other.txt"])
    assert found.full > 0
    assert remember.remember(trained, tmp_path / "other.txt") == found
    assert remember.remember(trained, str(tmp_path / "other.txt")) == found
    (tmp_path / "short.txt").write_text("abcd" * 20)
    with pytest.raises(InputError, match="the data have 79 characters to look at, expected at least 100"):
        remember.remember(trained, [tmp_path / "short.txt"])
    (tmp_path / "unknown.txt").write_text("xyz")
    with pytest.raises(InputError, match="unknown"):
        remember.remember(trained, [tmp_path / "unknown.txt"])


def test_what_cannot_be_asked_is_said(trained: Any) -> None:
    for model in (None, torch.nn.LSTM(3, 5)):
        with pytest.raises(InputError, match=f"model is a {type(model).__name__}, expected a model that unrolled"):
            remember.remember(model)
    number: Any
    for number in (1, 2.5, "3"):
        with pytest.raises(InputError, match=f"steps is {number!r}, expected a whole number, at least 2"):
            remember.remember(trained, steps=number)
    for number in (-1, 1.5, None):
        with pytest.raises(InputError, match=f"seed is {number!r}, expected a whole number, at least 0"):
            remember.remember(trained, seed=number)
