"""The label task: batches, the torch model and the engine's twin of it, decoding, files, films told live."""

import itertools
import json
import re
import sys
from dataclasses import asdict, replace
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from small import label_file, random
from tolerances import assert_close
from unrolled import modelfile, plots
from unrolled.errors import InputError
from unrolled.loop import train
from unrolled.models.label import LabelNetwork
from unrolled.recipe import TrainOptions
from unrolled.sequences import Series, films
from unrolled.sequences.layout import Layout
from unrolled.stream import Stream
from unrolled.tasks.label import LabelOptions, LabelTask
from unrolled.tasks.label.model import LabelModel
from unrolled.tasks.label.segments import segments
from unrolled.tasks.label.switching import SwitchFilter, viterbi
from unrolled.tasks.label.telling import EventOptions, Step, Telling

pytestmark = pytest.mark.usefixtures("one_thread")

RNG_SEED = 5


def numbers(folder: Path, count: int = 12) -> Path:
    """Sequences whose event is the one that the last spike named: a single step does not tell it."""
    rng = np.random.default_rng(RNG_SEED)
    folder.mkdir(exist_ok=True)
    for number in range(count):
        steps = int(rng.integers(20, 40))
        spikes = np.zeros((steps, 2))
        labels, now = [], "left"
        for step in range(steps):
            if step == 0 or rng.random() < 0.15:
                now = ("left", "right")[int(rng.integers(2))]
                spikes[step, int(now == "right")] = 1
            labels.append(now)
        np.savez(folder / f"{number:02}.npz", inputs=spikes, labels=np.array(labels))
    return folder


def words(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    line = "{}\t{}\t_\t{}\t_\t_\t_\t_\t_\t_\n"
    sentences = [[("the", "DET"), (f"{a}ing", "VERB"), (f"{b}ers", "NOUN")] for a in "abcd" for b in "xyz"]
    text = "\n".join(
        "".join(line.format(n, word, tag) for n, (word, tag) in enumerate(sentence[: 2 + k % 2], 1))
        for k, sentence in enumerate(sentences)
    )
    (folder / "a.conllu").write_text(text + "\n")
    return folder


def shots(folder: Path, count: int = 4) -> Path:
    """Films of 3 seconds that are dark, then light."""
    folder.mkdir(exist_ok=True)
    for number in range(count):
        cut = 10 + 2 * number
        pictures = [np.full((16, 16, 3), 30 if n < cut else 220, np.uint8) for n in range(30)]
        films.write(folder / f"{number}.mp4", pictures, 10)
        (folder / f"{number}.csv").write_text(f"start,end,event\n{cut / 10},3,light\n")
    return folder


MAKERS = {"numbers": numbers, "words": words, "films": shots}
SMALL: dict[str, Any] = {"hidden": 9, "embedding": 6, "spelling": 4, "side": 8, "batch": 4, "split": 0.75}


def task_of(kind: str, folder: Path, **options: Any) -> LabelTask:
    return LabelTask(LabelOptions(**{**SMALL, **options}), [MAKERS[kind](folder / kind)], seed=1)


def untrained(task: LabelTask) -> tuple[LabelNetwork, LabelModel]:
    torch.manual_seed(0)
    network = task.build()
    assert isinstance(network, LabelNetwork)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    return network.eval(), LabelModel(task.describe(tensors, {**asdict(TrainOptions()), "seed": 1}))


def as_tensors(batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.items()}


every_kind = pytest.mark.parametrize("kind", list(MAKERS))


@every_kind
@pytest.mark.parametrize(
    ("cell", "bidirectional", "members"),
    [("lstm", True, 1), ("lstm", True, 3), ("gru", False, 2), ("rnn", True, 1)],
)
def test_the_engine_says_what_torch_says(
    tmp_path: Path, kind: str, cell: str, bidirectional: bool, members: int
) -> None:
    task = task_of(kind, tmp_path, cell=cell, bidirectional=bidirectional, members=members, layers=2)
    network, model = untrained(task)
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    assert shapes == task.architecture.shapes()
    batch = as_tensors(task._gather([task._encoded(one) for one in task.data.held_out]))
    del batch["targets"]
    with torch.no_grad():
        expected = network.logits(**batch)
    for row, one in enumerate(task.data.held_out):
        found = model._labeller.logits(one.inputs)
        assert list(found) == ["alone", "causal", "offline"][: len(expected)]
        for name, logits in zip(found, expected, strict=True):
            assert_close(torch.from_numpy(found[name]), logits[: len(one.inputs), row], name)


@every_kind
def test_a_stream_says_the_same_however_it_is_cut(tmp_path: Path, kind: str) -> None:
    _, model = untrained(task_of(kind, tmp_path, bidirectional=True, members=3, switch_penalty=0.5))
    task = task_of(kind, tmp_path)
    inputs = task.data.held_out[0].inputs
    whole = model.stream().read(inputs)
    stream = model.stream()
    assert [stream.read(inputs[t : t + 1])[0] for t in range(len(inputs))] == whole


@every_kind
def test_padding_changes_no_loss(tmp_path: Path, kind: str) -> None:
    task = task_of(kind, tmp_path, bidirectional=True)
    network, _ = untrained(task)
    pieces = [task._encoded(one) for one in task.data.train[:3]]
    with torch.no_grad():
        together = network(**as_tensors(task._gather(pieces)))[0]
        alone = [network(**as_tensors(task._gather([piece])))[0] * len(piece[1]) for piece in pieces]
    assert_close(together, sum(alone) / sum(len(targets) for _, targets in pieces))


@every_kind
def test_a_batch_depends_on_the_step_and_the_seed_alone(tmp_path: Path, kind: str) -> None:
    extra = (
        {"noise": 0.5, "offset": 0.5, "exchange": 0.5, "stretch": 1.5, "window": 10} if kind == "numbers" else {}
    )
    one, again = (task_of(kind, tmp_path, **extra) for _ in range(2))
    for step in (7, 0, 3):
        for name, array in again.batch(step).items():
            assert np.array_equal(array, one.batch(step)[name]), name
    assert any(not np.array_equal(one.batch(0)["inputs"], one.batch(step)["inputs"]) for step in (1, 2, 3))


def test_numbers_are_normalised_by_the_training_part(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, batch=100)
    batch = task.batch(0)
    steps = np.concatenate([batch["inputs"][:n, row] for row, n in enumerate(batch["lengths"])])
    assert np.abs(steps.mean(0)).max() < 1e-5
    assert np.abs(steps.std(0) - 1).max() < 1e-5


def test_a_common_scale_keeps_how_numbers_compare(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, scale="common")
    given = np.concatenate([one.inputs for one in task.data.train])
    encoded = np.concatenate([task._encoded(one)[0] for one in task.data.train])
    assert np.allclose(encoded.std(0) / given.std(0), encoded[:, 0].std() / given[:, 0].std())
    assert (encoded**2).mean() == pytest.approx(1, abs=1e-3)


def test_an_offset_is_the_same_for_every_step_of_a_sequence(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, offset=0.5)
    plain, _ = task._encoded(task.data.train[0])
    drawn = [task._piece(task.data.train[0], np.random.default_rng(draw))[0] - plain for draw in range(200)]
    assert all(np.ptp(one, axis=0).max() < 1e-5 for one in drawn)
    assert np.std([one[0] for one in drawn]) == pytest.approx(0.5, rel=0.1)


def test_members_learn_each_by_its_own_loss_and_speak_by_their_mean(tmp_path: Path) -> None:
    network, _ = untrained(
        task_of("numbers", tmp_path, bidirectional=True, members=2, dropout=0.0, input_dropout=0.0)
    )
    batch = as_tensors(task_of("numbers", tmp_path).batch(0))
    inputs, lengths, targets = (batch[name] for name in ("inputs", "lengths", "targets"))
    said = [member(inputs, lengths) for member in network.members]
    alone, causal, offline = network.logits(inputs, lengths)
    assert_close(causal, (said[0][0] + said[1][0]) / 2)

    def loss(logits: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    assert_close(network(**batch)[0], loss(offline))
    of_members = [sum(loss(one[way]) for one in said) / 2 for way in (0, 1)]
    assert_close(network.train()(**batch)[0], (loss(alone) + sum(of_members)) / 3)


def test_balance_makes_a_short_event_count_as_a_long_one(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, balance=1.0)
    network, _ = untrained(task)
    batch = as_tensors(task.batch(0))
    sums = [weights.sum() for weights in batch["weights"].T]
    changes = [
        int((row[:n].diff() != 0).sum()) for row, n in zip(batch["targets"].T, batch["lengths"], strict=True)
    ]
    assert_close(torch.stack(sums), torch.tensor(changes) + 1.0)
    shifted = {**batch, "weights": batch["weights"] * 2}
    plain = {name: value for name, value in batch.items() if name != "weights"}
    balanced, same, unbalanced = (network(**one)[0] for one in (batch, shifted, plain))
    assert_close(balanced, same)
    assert abs(balanced - unbalanced) > 1e-3


def test_pieces_are_no_longer_than_the_window_and_keep_their_targets(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, window=7)
    places = {one.inputs.tobytes(): one for one in task.data.train}
    assert len(places) == len(task.data.train)
    for step in range(5):
        batch = task.batch(step)
        assert batch["inputs"].shape[0] == 7
        assert (batch["lengths"] == 7).all() and (batch["targets"] >= 0).all()


def test_a_stretched_sequence_has_its_events_in_order(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, stretch=2.0)
    lengths = set()
    for draw in range(20):
        _, targets = task._piece(task.data.train[0], np.random.default_rng(draw))
        lengths.add(len(targets))
        _, plain = task._encoded(task.data.train[0])
        assert set(targets) <= set(plain)
        assert len(plain) / 2 - 1 <= len(targets) <= len(plain) * 2 + 1
    assert len(lengths) > 5


def test_exchanged_events_are_of_the_same_name_and_the_order_stays(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, exchange=0.5)
    plain, before = task._encoded(task.data.train[0])
    events = {
        (one.label, inputs[one.start : one.end].tobytes())
        for inputs, targets in map(task._encoded, task.data.train)
        for one in segments(targets)
    }
    for draw in range(5):
        inputs, targets = task._piece(task.data.train[0], np.random.default_rng(draw))
        assert [one.label for one in segments(targets)] == [one.label for one in segments(before)]
        assert {(one.label, inputs[one.start : one.end].tobytes()) for one in segments(targets)} <= events
        assert not np.array_equal(inputs, plain)


def test_rare_words_are_forgotten_now_and_then_and_unknown_ones_always(tmp_path: Path) -> None:
    task = task_of("words", tmp_path, word_dropout=1.0)
    known = task._spelling.encode(["THE", "the", "unheard"])
    assert known[0] == known[1] > 0 and known[2] == 0
    forgotten = np.concatenate([(task.batch(step)["inputs"] == 0).ravel() for step in range(40)])
    assert 0.1 < forgotten.mean() < 0.6


def test_without_a_penalty_each_step_has_its_likeliest_event() -> None:
    logits = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    assert np.array_equal(SwitchFilter(4, 0).feed(logits), logits.argmax(-1))
    assert np.array_equal(viterbi(logits, 0), logits.argmax(-1))


@given(st.integers(0, 10**6), st.floats(0, 4))
def test_the_course_is_the_likeliest_of_all(seed: int, penalty: float) -> None:
    logits = np.random.default_rng(seed).normal(size=(5, 3)).astype(np.float32)
    likelihoods = torch.from_numpy(logits).double().log_softmax(-1).numpy()

    def worth(course: Any) -> float:
        changes = sum(a != b for a, b in itertools.pairwise(course))
        return float(sum(likelihoods[t, label] for t, label in enumerate(course)) - penalty * changes)

    best = max(itertools.product(range(3), repeat=5), key=worth)
    assert worth(viterbi(logits, penalty)) == pytest.approx(worth(best))
    ends = [max(itertools.product(range(3), repeat=t + 1), key=worth)[-1] for t in range(5)]
    assert SwitchFilter(3, penalty).feed(logits).tolist() == ends


def trained(task: LabelTask, out: Path, steps: int, lr: float = 0.02) -> LabelModel:
    for _ in train(task, TrainOptions(steps=steps, lr=lr, seed=1), out):
        pass
    return LabelModel(modelfile.read(out))


def test_what_a_step_does_not_tell_is_remembered_and_measured_again_from_the_file(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path, hidden=16, bidirectional=True, switch_penalty=0.1, dropout=0.0)
    model = trained(task, tmp_path / "model", 300)
    report = task.report(model).figures
    assert report["causal"]["accuracy"] > 95 > 80 > report["alone"]["accuracy"]
    assert report["offline_smoothed"]["f1@50"] > 90
    again = model.evaluate().figures
    assert {name: report[name] for name in again} == again
    given = model.evaluate([tmp_path / "numbers"]).figures
    assert given["sequences"] == 12
    assert "truth" in task.report(model).shown
    rows = list(model.run([str(tmp_path / "numbers" / "00.npz")], EventOptions(plot=str(tmp_path / "p.png"))))
    assert rows[0].line.splitlines()[1] == "start,end,event"
    assert (tmp_path / "p.png").stat().st_size > 1000
    steps = list(model.run([str(tmp_path / "numbers" / "00.npz")], EventOptions(every=True, offline=False)))
    assert len(steps) == rows[-1].record["end"]
    assert steps[0].line.splitlines()[1] == "step,event" and steps[2].record["step"] == 2


def test_words_are_tagged_from_text_and_from_files(tmp_path: Path) -> None:
    model = trained(task_of("words", tmp_path, bidirectional=True), tmp_path / "model", 200)
    (output,) = model.run(["The cing yers"], EventOptions())
    assert output.line == "The/DET cing/VERB yers/NOUN"
    lower, upper = tmp_path / "words" / "a.conllu", tmp_path / "B.CONLLU"
    upper.write_bytes(lower.read_bytes())
    for path in (lower, upper):
        assert len(list(model.run([str(path)], EventOptions(offline=False)))) == 12
    assert re.fullmatch(r"unrolled run m 'the \wing \wers'", model.next_commands("m")[0])  # of its own language
    assert set(model.evaluate().figures["offline"]) == {"accuracy"}
    (tmp_path / "plain.txt").write_text("The cing\nyers\n")
    assert [one.record["words"] for one in model.run([str(tmp_path / "plain.txt")], EventOptions())] == [
        ["The", "cing"],
        ["yers"],
    ]
    (tmp_path / "plain.txt").write_text("The cing\n\nyers\n")
    with pytest.raises(InputError, match=r"plain\.txt, line 2 has no words, expected at least one"):
        list(model.run([str(tmp_path / "plain.txt")], EventOptions()))


def test_a_film_is_told_while_it_is_decoded_and_drawn_with_its_events(tmp_path: Path) -> None:
    model = trained(task_of("films", tmp_path, dropout=0.0), tmp_path / "model", 150)
    film = tmp_path / "films" / "0.mp4"
    video, plot = tmp_path / "out.mp4", tmp_path / "out.svg"
    told = model.run([str(film)], EventOptions(video=str(video), plot=str(plot)))
    first = next(told)
    likely = first.record.pop("probabilities")
    assert first.record == {"sequence": str(film), "start": 0.0, "end": 1.0, "event": "nothing"}
    assert max(likely, key=likely.__getitem__) == "nothing" and sum(likely.values()) == pytest.approx(1, abs=1e-5)
    assert not video.exists()
    assert [one.line for one in told] == ["1,3,light"]
    assert video.stat().st_size > 1000 and "svg" in plot.read_text()
    for name, reason in (("none/a.png", "there is no folder"), ("a.gif", "unknown kind of picture")):
        with pytest.raises(InputError, match=reason):
            next(model.run(["film.mp4"], EventOptions(plot=str(tmp_path / name))))
    for name, reason in (("none/a.mp4", "there is no folder"), ("a.gif", r"expected a name ending in \.mp4")):
        with pytest.raises(InputError, match=reason):
            next(model.run([str(film)], EventOptions(video=str(tmp_path / name))))
    with pytest.raises(InputError, match=r"films has \d sequences, expected one for --video"):
        next(model.run([str(film.parent)], EventOptions(video=str(video))))
    every = list(model.run([str(film)], EventOptions(every=True)))
    assert len(every) == 30 and every[-1].line == "2.9,light" and every[0].line.splitlines()[1] == "time,event"
    assert model.evaluate().figures["causal"]["accuracy"] == 100


@pytest.mark.parametrize("offline", [False, True])
def test_programs_are_told_how_likely_each_event_is(tmp_path: Path, offline: bool) -> None:
    model = LabelModel(label_file("numbers", bidirectional=True, members=3, seed=1))
    inputs = random(60, 3)
    np.save(tmp_path / "a.npy", inputs)

    def run(every: bool) -> list[dict[str, Any]]:
        options = EventOptions(every=every, offline=offline)
        return [one.record for one in model.run([str(tmp_path / "a.npy")], options)]

    likely = model.probabilities(inputs, offline)
    assert likely.sum(1) == pytest.approx(np.ones(60))
    if not offline:
        exponentials = np.exp(Stream(model).feed(inputs))  # of the members' mean
        assert likely == pytest.approx(exponentials / exponentials.sum(1, keepdims=True), rel=1e-5)
    steps, events = run(every=True), run(every=False)
    assert [list(one["probabilities"]) for one in steps] == [model.classes] * 60
    assert np.array([list(one["probabilities"].values()) for one in steps]) == pytest.approx(likely, abs=1e-6)
    named = [model.classes[one] for one in likely.argmax(1)]  # without the penalty, which is in what is said
    assert named != [one["event"] for one in steps] == model.label(inputs, offline)
    assert len(events) > 1
    for event in events:  # the mean of its steps
        mean = likely[event["start"] : event["end"]].mean(0)
        assert list(event["probabilities"].values()) == pytest.approx(mean, abs=1e-6)


def test_programs_are_told_how_likely_each_event_is_of_each_word() -> None:
    model = LabelModel(label_file("words", penalty=0.0))
    (told,) = (one.record for one in model.run(["the old man"], EventOptions()))
    assert [max(likely, key=likely.__getitem__) for likely in told["probabilities"]] == told["events"]
    expected = model.probabilities(["the", "old", "man"])
    assert np.array([[*likely.values()] for likely in told["probabilities"]]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("offline", [False, True])
def test_what_a_program_gives_is_checked_however_it_is_read(offline: bool) -> None:
    for kind, wrong, reason in [
        ("numbers", [[1.0, 2.0]], r"expected shape \[T, 3\], got \[1, 2\]"),
        ("numbers", [[1.0, None, 2.0]], "a number is missing"),
        ("words", "the old man", "expected a list of texts"),
        ("films", np.zeros((2, 8, 8, 3)), "expected bytes"),
    ]:
        model = LabelModel(label_file(kind, bidirectional=True))
        with pytest.raises(InputError, match=reason):
            model.label(wrong, offline)


@every_kind
def test_a_model_that_reads_forward_alone_says_so(tmp_path: Path, kind: str) -> None:
    task = task_of(kind, tmp_path)
    _, model = untrained(task)
    with pytest.raises(InputError, match="--offline needs a model trained with --bidirectional"):
        model.label(task.data.held_out[0].inputs, offline=True)


def test_data_that_is_no_longer_the_same_is_refused(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path)
    _, model = untrained(task)
    assert model.evaluate().figures["sequences"] == 3
    path = Path(task.data.held_out[0].name)
    np.savez(path, inputs=task.data.held_out[0].inputs + 1, labels=np.array(task.data.held_out[0].labels))
    with pytest.raises(InputError, match="not the data that the model was trained with"):
        model.evaluate()


def test_held_out_files_are_measured_in_place_of_a_part(tmp_path: Path) -> None:
    other = numbers(tmp_path / "other", 3)
    task = task_of("numbers", tmp_path, held_out=str(other), keep="last")
    assert len(task.data.train) == 12 and len(task.data.held_out) == 3
    assert task.held_out() == []
    _, model = untrained(task)
    assert model.evaluate().figures["sequences"] == 3
    list(train(task, TrainOptions(steps=1), tmp_path / "model"))
    assert modelfile.read(tmp_path / "model").training["held_out_loss"] is None


def test_an_event_of_the_held_out_part_alone_is_refused_as_such(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path)
    rare, *_ = task.data.held_out
    np.savez(rare.name, inputs=np.zeros((2, 2)), labels=np.array(["left", "up"]))
    reason = (
        r"'up' is not known, .* left, right; it is in the held-out part alone, which another --seed draws anew"
    )
    with pytest.raises(InputError, match=reason):
        LabelTask(task.options, task.data.names, seed=1)
    assert "up" in LabelTask(task.options, task.data.names, seed=2).data.classes


def test_data_in_which_no_step_has_an_event_measures_nothing(tmp_path: Path) -> None:
    _, model = untrained(task_of("numbers", tmp_path))
    series = [
        Series(name, np.zeros((2, 2), np.float32), labels) for name, labels in (("a", [None] * 2), ("b", None))
    ]
    with pytest.raises(
        InputError, match="a and 1 more: no step has an event, expected at least one to measure by"
    ):
        model.measure(series)


def test_an_event_that_training_never_saw_is_refused_or_left_out(tmp_path: Path) -> None:
    other = numbers(tmp_path / "other", 2)
    np.savez(other / "00.npz", inputs=np.zeros((2, 2)), labels=np.array(["left", "up"]))
    with pytest.raises(InputError, match=r"00.npz, step 1: the event 'up' is not known, expected one"):
        task_of("numbers", tmp_path, held_out=str(other))
    task = task_of("numbers", tmp_path, held_out=str(other), skip_bad=True)
    assert len(task.data.held_out) == 1
    _, model = untrained(task)
    assert model.file.training["left_out"] == 1
    assert task.report(model).figures["left_out"] == 1
    assert model.evaluate().figures["sequences"] == 1
    with pytest.raises(InputError, match="the event 'up' is not known"):
        model.evaluate([other])


def test_inputs_that_do_not_fit_the_model_are_refused(tmp_path: Path) -> None:
    _, model = untrained(task_of("numbers", tmp_path))
    np.save(tmp_path / "wide.npy", np.zeros((3, 4)))
    for inputs, options, reason in [
        ([str(tmp_path / "wide.npy")], EventOptions(), "wide.npy has 4 numbers a step, but the model reads 2"),
        ([str(words(tmp_path / "w"))], EventOptions(), "has words, but the model reads numbers"),
        (["a", "b"], EventOptions(video="x.mp4"), "2 inputs, expected one for --video"),
        (["a"] * 25, EventOptions(plot="x.png"), "25 inputs; --plot draws at most 24 sequences"),
        (["a"], EventOptions(video="x.mp4"), "--video needs a film, but the model reads numbers"),
    ]:
        with pytest.raises(InputError, match=reason):
            list(model.run(inputs, options))


def test_a_single_event_or_nothing_held_out_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        np.savez(tmp_path / f"{name}.npz", inputs=np.zeros((2, 1)), labels=np.array(["x", "x"]))
    with pytest.raises(InputError, match="the only event is 'x', expected at least two"):
        LabelTask(LabelOptions(), [tmp_path])


def test_a_file_with_another_encoding_is_refused(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path)
    _, model = untrained(task)
    for encoding, reason in [
        ({}, "its encoding is not that of a label model"),
        ({"classes": ["a"]}, "it names 1 "),
    ]:
        changed = replace(model.file, encoding={**model.file.encoding, **encoding} if encoding else {})
        with pytest.raises(InputError, match=reason):
            LabelModel(changed)


def test_the_confusion_is_told_in_per_cent_of_each_events_steps(tmp_path: Path) -> None:
    task = task_of("numbers", tmp_path)
    _, model = untrained(task)
    evaluation = model.measure(task.data.train)
    readings, events, table = evaluation.tables
    assert events.columns[0] == f"event, {readings.rows[-1][0]}"  # of which the confusion is too
    assert table.dense and len(table.columns) == len(model.classes) + 1
    for row, counts in zip(table.rows, evaluation.figures["confusion"], strict=True):
        expected = [f"{100 * count / max(1, sum(counts)):3.0f}" if count else "" for count in counts]
        assert list(row[1:]) == expected
    assert [row[0].split(" ", 1)[1] for row in table.rows] == model.classes


def test_what_stands_first_is_learned_where_only_the_last_step_has_an_event(tmp_path: Path) -> None:
    """The class of a sequence is the sign of its first number; it is told and asked for at the last step."""
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(300, 12, 1)).astype(np.float32)
    np.savez(tmp_path / "signs.npz", inputs=inputs, labels=np.where(inputs[:, 0, 0] > 0, "up", "down"))
    task = LabelTask(LabelOptions(hidden=16, batch=32, dropout=0.0, input_dropout=0.0), [tmp_path / "signs.npz"])
    batch = task.batch(0)
    assert (batch["targets"][:-1] == -1).all() and (batch["targets"][-1] >= 0).all()
    for _ in train(task, TrainOptions(steps=300, lr=0.01), tmp_path / "signs.safetensors"):
        pass
    model = LabelModel(modelfile.read(tmp_path / "signs.safetensors"))
    figures = model.evaluate().figures
    assert figures["causal"]["accuracy"] > 90 > figures["alone"]["accuracy"]
    assert "?" in model.show(model.held_out()[0])


def table_of(path: Path, rows: list[str], heading: str = "who,x,label") -> Path:
    path.write_text("\n".join([heading, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_table_of_one_sequence_is_refused_with_the_ways_out(tmp_path: Path) -> None:
    path = table_of(tmp_path / "a.csv", ["1,1,up", "1,2,down"])
    reason = r"a\.csv: there is one example, expected at least two, .*; --held-out names others; --sequence COLUMN"
    with pytest.raises(InputError, match=reason):
        LabelTask(LabelOptions(), [path])
    (tmp_path / "b.conllu").write_text("1\ta\t_\tDET\t_\t_\t_\t_\t_\t_\n")
    with pytest.raises(InputError, match="--held-out names others") as refused:
        LabelTask(LabelOptions(), [tmp_path / "b.conllu"])
    assert "--sequence" not in str(refused.value)


def test_a_column_of_numbers_is_no_column_of_events(tmp_path: Path) -> None:
    path = table_of(tmp_path / "a.csv", [f"{n % 4},{n},{n / 4}" for n in range(2000)])
    with pytest.raises(InputError, match="column 'label' has 1,500 different events, is it a column of numbers"):
        LabelTask(LabelOptions(sequence="who", split=0.75), [path])
    table_of(path, [f"{n % 4},{n},{n // 4}" for n in range(2400)])
    assert len(LabelTask(LabelOptions(sequence="who", split=0.75), [path]).data.classes) == 600


def test_an_event_of_a_table_that_training_never_saw_is_told_by_its_line(tmp_path: Path) -> None:
    rows = [f"{n % 4},{n},{'down' if n % 3 else 'up'}" for n in range(40)]
    task = LabelTask(LabelOptions(sequence="who"), [table_of(tmp_path / "a.csv", rows)])
    _, model = untrained(task)
    other = table_of(tmp_path / "b.csv", ["1,1,up", "2,1,up", "1,2,left"])
    with pytest.raises(InputError, match=r"b\.csv, line 4, column 'label': the event 'left' is not known"):
        model.evaluate([other])


def test_of_many_events_ten_are_listed(tmp_path: Path) -> None:
    rows = [f'{n % 4},{n},"{n // 4}, a"' for n in range(80)]
    other = table_of(tmp_path / "b.csv", ["1,1,no such"])
    options = LabelOptions(sequence="who", held_out=str(other))
    with pytest.raises(
        InputError, match=r'event \'no such\' is not .*expected one of "0, a", "1, a",.* and 10 more'
    ):
        LabelTask(options, [table_of(tmp_path / "a.csv", rows)])


def test_a_column_whose_name_has_a_comma_may_be_left_out(tmp_path: Path) -> None:
    assert LabelOptions(ignore='"temp, C",x').layout(()).ignore == ("temp, C", "x")
    assert LabelOptions(ignore='x, "a ""b""" ,').layout(()).ignore == ("x", 'a "b"')
    assert LabelOptions().layout(()).ignore == ()
    rows = [f"{who},{who},noon,{label}" for who in (1, 2, 3) for label in ("up", "down")]
    table_of(tmp_path / "a.csv", rows, 'who,x,"when, UTC",label')
    task = LabelTask(LabelOptions(sequence="who", ignore='"when, UTC"'), [tmp_path / "a.csv"])
    assert task.data.layout.features == ("x",)


def test_a_column_of_times_is_told_beside_the_steps(tmp_path: Path) -> None:
    rows = [f"{who},{sign},{'up' if sign > 0 else 'down'}" for who in range(4) for sign in (-1, 1, 1, -1)]
    path = table_of(tmp_path / "a.csv", rows)
    task = LabelTask(LabelOptions(sequence="who", hidden=8, split=0.75, dropout=0.0, input_dropout=0.0), [path])
    model = trained(task, tmp_path / "model", 100)
    hours = ["1,-3,09:00", "1,-3,09:10", "1,3,10:00", "2,3,0010", "2,3,"]
    path = table_of(tmp_path / "b.csv", hours, "who,x,at")
    told = list(model.run([str(path)], EventOptions(time="at")))
    assert [one.line for one in told] == [
        f"# {path}, 1\nstart,end,event,start_time,end_time\n0,2,down,09:00,10:00",
        "2,3,up,10:00,10:00",
        f"# {path}, 2\nstart,end,event,start_time,end_time\n0,2,up,0010,",
    ]
    assert told[0].record == {
        "sequence": f"{path}, 1", "start": 0, "end": 2, "event": "down", "start_time": "09:00",
        "end_time": "10:00", "probabilities": told[0].record["probabilities"],
    }  # fmt: skip
    assert json.dumps(told[0].record).startswith(f'{{"sequence": "{path}, 1", "start": 0, "end": 2, "event"')
    every = list(model.run([str(path)], EventOptions(time="at", every=True)))
    assert every[0].line == f"# {path}, 1\nstep,event,time\n0,down,09:00"
    row = {"sequence": f"{path}, 2", "step": 0, "event": "up", "time": "0010"}
    assert every[3].record == row | {"probabilities": every[3].record["probabilities"]}
    assert '"step": 0, ' in json.dumps(every[3].record)  # a whole number
    with pytest.raises(InputError, match=r"b\.csv has no column 'when', expected it among who, x, at"):
        next(model.run([str(path)], EventOptions(time="when")))
    np.save(tmp_path / "b.npy", np.zeros((3, 1)))
    with pytest.raises(InputError, match=r"b\.npy has no columns with names, expected a table for --time"):
        next(model.run([str(tmp_path / "b.npy")], EventOptions(time="at")))


def timed(tmp_path: Path, *columns: list[str]) -> tuple[LabelModel, list[str]]:
    """A model, and for each of `columns` a table of one sequence that has it as the column `at`."""
    rows = [f"{who},{step},{label}" for who in range(4) for step, label in enumerate(("up", "down"))]
    options = LabelOptions(sequence="who", hidden=4, split=0.75)
    _, model = untrained(LabelTask(options, [table_of(tmp_path / "a.csv", rows)], seed=1))
    paths = [tmp_path / f"b{number}.csv" for number in range(len(columns))]
    for path, times in zip(paths, columns, strict=True):
        table_of(path, [f"1,0,{time}" for time in times], "who,x,at")
    return model, list(map(str, paths))


@pytest.mark.parametrize("times", [["noon"], ["", "na", "noon", "true"]])
def test_a_column_that_has_no_times_is_refused(tmp_path: Path, times: list[str]) -> None:
    model, paths = timed(tmp_path, times)
    line = 2 + times.index("noon")
    with pytest.raises(
        InputError,
        match=rf"b0\.csv, line {line}, column 'at': 'noon', expected times, but no cell has a digit\.$",
    ):
        next(model.run(paths, EventOptions(time="at")))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (["9:30", "", "10:00", "na"], ""),
        (["9:30:30", "9:31"], ""),
        (["", ""], ""),
        (["23:59", "00:00"], "step 1: the time '00:00' comes after '23:59'"),
        (["11/30/2026 9:30 AM"], "step 0: the time '11/30/2026 9:30 AM' cannot be read"),
        (["noon", "2026-11-30 9:30"], "step 0: the time 'noon' cannot be read"),
    ],
)
def test_times_are_told_as_they_stand_and_once_what_is_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], times: list[str], said: str
) -> None:
    model, paths = timed(tmp_path, times, times)
    told = list(model.run(paths, EventOptions(time="at", every=True)))
    assert [one.record["time"] for one in told] == times * 2
    note = f"unrolled: {paths[0]}, 1, {said}; times are told as they stand.\n" if said else ""
    assert capsys.readouterr().err == note


def test_a_table_comes_by_standard_input_as_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"{who},{step},{label}" for who in range(4) for step, label in enumerate(("up", "down"))]
    path = table_of(tmp_path / "a.csv", rows)
    _, model = untrained(LabelTask(LabelOptions(sequence="who", hidden=4, split=0.75), [path], seed=1))
    assert model.next_commands("m")[0] == f"unrolled run m {path}"

    def run(content: str, **options: Any) -> list[str]:
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content.encode())))
        return [one.line for one in model.run(["-"], EventOptions(**options))]

    expected = [one.line.replace(str(path), "standard input") for one in model.run([str(path)], EventOptions())]
    assert run(path.read_text()) == expected
    assert run("at\tother\tx\twho\n7\ta\t1\tme\n8\ta\t2\tme\n", time="at", every=True)[1].startswith("1,")
    with pytest.raises(InputError, match=r"^standard input, line 3, column 'x': 'b', expected a finite number\.$"):
        run("who,x\n1,1\n1,b\n")
    with pytest.raises(InputError, match=r"^standard input has no column 'x', expected it among who, y\.$"):
        run("who,y\n1,1\n")
    with pytest.raises(InputError, match=r"^standard input has no rows, expected at least one\.$"):
        run("")


def test_what_has_no_names_does_not_come_by_standard_input(tmp_path: Path) -> None:
    for kind, reads in (("numbers", "arrays, which have no names of columns"), ("films", "films")):
        _, model = untrained(task_of(kind, tmp_path))
        with pytest.raises(
            InputError, match=f"^standard input: the model reads {reads}, expected the name of a file"
        ):
            list(model.run(["-"], EventOptions()))


def test_the_millionth_step_is_told_whole() -> None:
    labels = itertools.chain(itertools.repeat("left", 1_234_567), ["right"])
    steps = (Step(label, np.array([0.5, 0.5])) for label in labels)
    told = Telling("numbers", Layout(), ["left", "right"], EventOptions(), 1).told("x", steps)
    assert [one.line.splitlines()[-1] for one in told] == ["0,1234567,left", "1234567,1234568,right"]


def test_a_film_and_a_sentence_have_no_column_of_times() -> None:
    for kind in ("words", "films"):
        model = LabelModel(label_file(kind))
        with pytest.raises(InputError, match=f"--time names a column of a table, but the model reads {kind}"):
            next(model.run(["x"], EventOptions(time="at")))


def test_what_was_trained_on_is_in_the_report(tmp_path: Path) -> None:
    rows = [f'{who},{step},1,"{label}"' for who in range(4) for step, label in enumerate(("up", "down, far"))]
    path = table_of(tmp_path / "a.csv", rows, 'who,x,"y, m",label')
    task = LabelTask(LabelOptions(sequence="who", hidden=4, split=0.75), [path], seed=1)
    _, model = untrained(task)
    reads = {
        "columns": ["x", "y, m"],
        "label": "label",
        "sequence": "who",
        "events": ["down, far", "up"],
        "missing": "refuse",
    }
    assert model.reads() == reads
    report = task.report(model)
    assert report.figures["trained_on"] == {"sequences": 3, "steps": 6} and report.figures["reads"] == reads
    used = {name: said for name, said in report.tables[0].rows}
    assert used["trained on"] == "3 sequences, 6 steps" and used["held out"] == "1 sequence, 2 steps"
    assert used["columns"] == 'x, "y, m"' and used["events"] == '"down, far", up'


def test_sequences_are_drawn_one_below_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def table(count: int) -> str:
        rows = [f"{who},{step},{label}" for who in range(count) for step, label in enumerate(("up", "down"))]
        return str(table_of(tmp_path / f"{count}.csv", rows))

    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, path: figures.append(figure))
    _, model = untrained(LabelTask(LabelOptions(sequence="who", hidden=4, split=0.75), [Path(table(4))], seed=1))
    assert list(model.run([table(4), table(2)], EventOptions(plot=str(tmp_path / "p.png"))))
    titles = [axes.get_title(loc="left") for axes in figures[0].axes]
    assert titles == [f"{tmp_path / '4.csv'}, {who}" for who in range(4)] + [
        f"{tmp_path / '2.csv'}, {who}" for who in range(2)
    ]
    assert list(model.run([table(4), table(20)], EventOptions(plot=str(tmp_path / "p.png"))))
    with pytest.raises(InputError, match=r"21\.csv has 21 sequences; --plot draws at most 24 of all inputs"):
        list(model.run([table(4), table(21)], EventOptions(plot=str(tmp_path / "p.png"))))


@pytest.mark.parametrize("kind", ["numbers", "words"])
def test_an_empty_name_is_not_the_folder_one_is_in(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, model = untrained(task_of(kind, tmp_path))
    monkeypatch.chdir(tmp_path / kind)
    with pytest.raises(InputError, match="the INPUT is empty, expected"):
        list(model.run([""], EventOptions()))
    with pytest.raises(InputError, match="the name of a file is empty, expected"):
        model.evaluate([""])


def test_words_are_not_drawn(tmp_path: Path) -> None:
    _, model = untrained(task_of("words", tmp_path))
    with pytest.raises(InputError, match="--plot draws events over time, but the model reads words"):
        list(model.run(["the cing"], EventOptions(plot=str(tmp_path / "p.png"))))
