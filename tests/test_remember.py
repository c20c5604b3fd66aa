"""The probes against models whose memory is known, by weights set by hand or by what they were trained on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import small
import unrolled
from tolerances import assert_close
from unrolled.errors import InputError
from unrolled.memory import context, endurance, portrait, reach, remember, shading, units
from unrolled.memory.decoding import Decoding
from unrolled.memory.layered import Layered, Member, numbers
from unrolled.memory.subject import Subject
from unrolled.memory.trained import subject as trained_subject
from unrolled.models.decoder import AttentionDecoder
from unrolled.models.layers import Head, Layers
from unrolled.recipe import TrainOptions
from unrolled.tasks.text import TextOptions, TextTask
from unrolled.train import train

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


@pytest.mark.parametrize("k", [1, 4, 16])
def test_only_the_input_k_steps_back_moves_its_output(k: int) -> None:
    subject = delay(k)
    passages = subject.passages()
    moved = {one.k: one.high for one in reach.substitutions(subject, passages)}
    assert k in moved
    for back, by in moved.items():
        assert by < 1e-6 if back != k else by > 0.5


def test_a_model_whose_forget_gates_are_shut_has_horizon_0() -> None:
    subject = forgetful()
    passages = subject.passages()
    full, contexts = context.by_context(subject, passages)
    assert context.horizon(full, contexts).k == 0
    (of_it,) = units.of_layers(passages)
    assert of_it.half_lives is not None and max(of_it.half_lives) < 0.1
    found = remember.of_subject(subject, passages, steps=20_000)
    assert "the output ignores it" in found.verdict() and "present step alone" in found.verdict()


def test_a_model_that_its_past_misleads_is_said_to_do_better_without() -> None:
    misled = delay(1, true=-1)
    said = remember.of_subject(misled, misled.passages(), steps=20_000).verdict()
    assert "It does better by the present step alone: what went before raises the loss. With none the" in said


def test_a_model_whose_state_stays_zero_is_named() -> None:
    layers, _ = zeros("gru", 4)
    found = remember.of_subject(subject := told(layers, lambda signs: signs), subject.passages(), steps=9000)
    assert found.verdict().startswith("The state never changes")
    assert found.units[0].still == [0, 1, 2, 3]


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


@pytest.mark.parametrize(("steps", "comparable"), [(300, False), (50_000, True)])
def test_losses_are_compared_only_where_the_same_data_came_again(steps: int, comparable: bool) -> None:
    layers, _ = zeros("lstm", 2)
    subject = told(layers, lambda signs: signs)
    assert len(np.concatenate(subject.inputs)) < 50_000
    found = endurance.endure(subject, steps)
    assert found.comparable == comparable
    if comparable:
        assert found.late == pytest.approx(found.early)


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


def test_reach_is_drawn_beside_the_most_that_an_input_changes(
    trained: Any, tmp_path: Path, drawn: list[Any]
) -> None:
    """Not beside the present one, which changes next to nothing where a model answers later, as of speech."""
    late = [reach.Reach(k, moved, moved, moved) for k, moved in ((0, 1e-9), (1, 0.5), (2, 0.25))]
    portrait.draw(tmp_path / "memory.png", replace(remember.remember(trained), gradients=late, substitutions=late))
    axes = drawn[0].axes[1]
    assert all(list(line.get_ydata()) == [1e-9 / 0.5, 1.0, 0.5] for line in axes.lines)


def test_an_axis_of_less_than_a_power_of_ten_has_marks_enough(
    trained: Any, tmp_path: Path, drawn: list[Any]
) -> None:
    found = remember.remember(trained)
    near = [replace(one, half_lives=[1.2, 2.5, 4.5]) for one in found.units]
    portrait.draw(tmp_path / "memory.png", replace(found, units=near))
    assert [label.get_text() for label in drawn[0].axes[2].get_xticklabels()] == ["2", "3", "4"]


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
