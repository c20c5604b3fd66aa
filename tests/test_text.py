"""The text task: every symbol is read in its turn, scores are the sums they claim to be, samples repeat."""

import itertools
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from small import text_file
from tolerances import TOLERANCES, assert_close
from unrolled import modelfile
from unrolled.errors import InputError
from unrolled.modelfile import ModelFile
from unrolled.models.text import LanguageModel
from unrolled.tasks.text import Score, TextModel, TextOptions, TextTask, corpus
from unrolled.tasks.text.sampling import choose
from unrolled.vocabulary import ByteVocabulary, CharVocabulary

Batch = dict[str, NDArray[Any]]

pytestmark = pytest.mark.usefixtures("one_thread")

TEXT = "a cab\nhe added a bead\na faded cafe had a deaf bee\n" * 3


def numbered(tmp_path: Path, count: int) -> Path:
    """A text whose symbols are 0, 1, 2, ...: a character's id is its place in the text."""
    path = tmp_path / "numbered.txt"
    path.write_text("".join(chr(0x10000 + place) for place in range(count)), encoding="utf-8")
    return path


@pytest.fixture
def task(tmp_path: Path) -> TextTask:
    """Three streams of 7 steps; 200 symbols to train on (0 to 199), 50 held out."""
    return TextTask(TextOptions(batch=3, chunk=7, split=0.8), [numbered(tmp_path, 250)], seed=1)


PASS = (200 - 1 - 7) // 3 // 7  # chunks


def test_targets_are_the_inputs_shifted_by_one(task: TextTask) -> None:
    for step in range(3 * PASS):
        batch = task.batch(step)
        assert batch["inputs"].shape == batch["targets"].shape == batch["resets"].shape == (7, 3)
        assert np.array_equal(batch["targets"], batch["inputs"] + 1)


def test_a_stream_goes_on_from_chunk_to_chunk(task: TextTask) -> None:
    for first in range(0, 3 * PASS, PASS):
        steps = [task.batch(step)["inputs"] for step in range(first, first + PASS)]
        streams = np.concatenate(steps)
        assert np.array_equal(streams, streams[0] + np.arange(7 * PASS)[:, None])


def test_a_pass_reads_no_symbol_twice_and_leaves_out_less_than_a_round(task: TextTask) -> None:
    for first in range(0, 3 * PASS, PASS):
        read = np.concatenate([task.batch(step)["inputs"] for step in range(first, first + PASS)])
        assert len(np.unique(read)) == read.size > 200 - 1 - 2 * 7 - 3 * 7


def test_all_streams_begin_anew_with_a_pass_and_some_at_any_chunk(tmp_path: Path) -> None:
    task = TextTask(TextOptions(batch=20, chunk=7, split=0.8), [numbered(tmp_path, 9000)], seed=1)
    first = [task.batch(step)["resets"] for step in range(2 * task._chunks)]
    assert all(resets.dtype == bool and not resets[1:].any() for resets in first)
    assert first[0][0].all()
    assert first[task._chunks][0].all()
    within = np.stack([resets[0] for resets in first[1 : task._chunks]])
    assert 0.07 < within.mean() < 0.13
    assert within.any(axis=0).all()
    assert not within.all(axis=1).any()
    assert all(np.array_equal(task.batch(step)["resets"], resets) for step, resets in enumerate(first))


def test_passes_begin_at_different_places(task: TextTask) -> None:
    starts = [int(task.batch(number * PASS)["inputs"][0, 0]) for number in range(30)]
    assert starts[0] == 0
    assert set(starts) == set(range(7))


def test_a_batch_depends_on_the_step_and_the_seed_alone(tmp_path: Path, task: TextTask) -> None:
    options, path = task.options, numbered(tmp_path, 250)
    again, other = TextTask(options, [path], seed=1), TextTask(options, [path], seed=2)
    order = np.random.default_rng(0).permutation(4 * PASS)
    batches = {int(step): again.batch(int(step)) for step in order}
    for step, expected in batches.items():
        for name, array in task.batch(step).items():
            assert np.array_equal(array, expected[name])
    starts = [[int(t.batch(n * PASS)["inputs"][0, 0]) for n in range(10)] for t in (task, other)]
    assert starts[0] != starts[1]


@pytest.mark.parametrize(("batch", "chunk"), [(1, 1), (1, 99), (3, 7), (11, 13), (198, 1)])
def test_nothing_held_out_is_trained_on(tmp_path: Path, batch: int, chunk: int) -> None:
    task = TextTask(TextOptions(batch=batch, chunk=chunk, split=0.8), [numbered(tmp_path, 250)])
    for step in range(400):
        read = task.batch(step)
        assert max(read["inputs"].max(), read["targets"].max()) < 200


@pytest.mark.parametrize(("batch", "chunk"), [(3, 7), (1, 1), (20, 10)])
def test_a_text_too_short_for_a_round_is_refused_with_the_numbers(tmp_path: Path, batch: int, chunk: int) -> None:
    options, needed = TextOptions(batch=batch, chunk=chunk, split=0.5), (batch + 1) * chunk + 1
    TextTask(options, [numbered(tmp_path, 2 * needed)])
    path = numbered(tmp_path, 2 * needed - 1)
    with pytest.raises(InputError) as refused:
        TextTask(options, [path])
    assert str(refused.value).startswith(f"{path}: the training part has {needed - 1:,} symbols, too few for")
    assert f"{batch} streams of {chunk} steps; expected at least {needed:,} " in str(refused.value)


def test_a_text_of_one_character_is_refused_as_such(tmp_path: Path) -> None:
    """There is nothing to learn: it seemed to have diverged, with a loss of 0."""
    (tmp_path / "same.txt").write_text("a" * 5000)
    with pytest.raises(InputError, match=r"same\.txt: the only character is 'a', expected at least two\."):
        TextTask(TextOptions(), [tmp_path / "same.txt"])


def test_a_held_out_part_with_nothing_to_predict_is_refused(tmp_path: Path) -> None:
    path = numbered(tmp_path, 100)
    with pytest.raises(InputError, match="the held-out part has a single symbol, expected at least two"):
        TextTask(TextOptions(batch=1, chunk=1, split=0.99), [path])


@pytest.mark.parametrize("count", [2, 199, 200, 201, 463, 1000, 12_863, 30_000])
def test_every_held_out_symbol_counts_once(tmp_path: Path, count: int) -> None:
    path = numbered(tmp_path, 300 + count)
    task = TextTask(TextOptions(batch=1, chunk=1, split=(300 + 0.5) / (300 + count)), [path])
    assert len(task.corpus.held_out) == count
    batches = task.held_out()
    streams = batches[0][0]["inputs"].shape[1]
    counted = np.concatenate([batch["targets"].ravel() for batch, weight in batches if weight])
    left_out = count % streams
    assert left_out < streams <= 64
    assert np.array_equal(np.sort(counted), 300 + np.arange(count - left_out))
    assert sum(weight for _, weight in batches) == count - left_out
    for batch, weight in batches:
        assert weight in (0, batch["targets"].size)
        assert batch["inputs"].shape == batch["targets"].shape


def test_of_a_long_held_out_text_as_much_is_measured_in_training_all_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unrolled.tasks.text.task.HELD_OUT_SYMBOLS", 6_400)
    task = TextTask(TextOptions(batch=1, chunk=1, split=300.5 / 20_300), [numbered(tmp_path, 20_300)])
    batches = task.held_out()
    counted = np.concatenate([batch["targets"] for batch, weight in batches if weight])
    room = 20_000 // 64
    assert np.array_equal(counted, 300 + np.arange(64) * room + np.arange(100)[:, None])
    assert sum(weight for _, weight in batches) == 6_400


def test_held_out_streams_are_led_in_and_carried_on(tmp_path: Path) -> None:
    path = numbered(tmp_path, 1300)
    batches = TextTask(TextOptions(batch=1, chunk=1, split=300.5 / 1300), [path]).held_out()
    weights = [weight for _, weight in batches]
    assert weights[0] == 0 and all(weights[1:])
    assert len(batches[0][0]["inputs"]) >= 150
    streams = np.concatenate([batch["inputs"] for batch, _ in batches])
    assert np.array_equal(streams, streams[0] + np.arange(len(streams))[:, None])
    for batch, _ in batches:
        assert np.array_equal(batch["targets"], batch["inputs"] + 1)
        assert "resets" not in batch


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_trained_model_becomes_the_same_model_in_a_file(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    task = TextTask(TextOptions(cell=cell, hidden=9, embedding=4, layers=2, batch=2, chunk=5), [path])
    torch.manual_seed(0)
    network = task.build()
    assert isinstance(network, LanguageModel)
    tensors = {name: value.numpy() for name, value in network.state_dict().items()}
    modelfile.write(tmp_path / "model", task.describe(tensors, {"steps": 7}))
    model = TextModel(modelfile.read(tmp_path / "model"))
    assert model.file.training["names"] == [str(path)]
    assert model.file.training["steps"] == 7
    symbols = torch.from_numpy(model.vocabulary.encode(TEXT))[:, None]
    with torch.no_grad():
        loss, _ = network.eval().double()(symbols[:-1], symbols[1:])
    assert_close(torch.tensor(model.score(TEXT).nats, dtype=torch.float32), loss)


def test_the_held_out_part_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    task = TextTask(TextOptions(hidden=3, embedding=2, batch=2, chunk=5, split=0.7), [path])
    tensors = {name: np.zeros(shape, np.float32) for name, shape in task.architecture.shapes().items()}
    model = TextModel(task.describe(tensors, {}))
    assert np.array_equal(model.symbols(), task.corpus.held_out)
    path.write_text(TEXT.replace("cab", "bad"))
    with pytest.raises(InputError, match="not the text that the model was trained on"):
        model.symbols()
    path.unlink()
    with pytest.raises(InputError, match=r"a\.txt, of the model's training, is not there any more; name DATA to"):
        model.symbols()


def zeros(task: TextTask) -> dict[str, NDArray[np.float32]]:
    """Weights for the task's model."""
    return {name: np.zeros(shape, np.float32) for name, shape in task.architecture.shapes().items()}


def test_a_text_that_is_held_out_by_name_is_measured_on_without_the_others(tmp_path: Path) -> None:
    train, valid = tmp_path / "train.txt", tmp_path / "valid.txt"
    train.write_text(TEXT)
    valid.write_text("a faded bead")
    task = TextTask(TextOptions(hidden=3, embedding=2, batch=2, chunk=5, held_out=str(valid)), [train])
    assert len(task.corpus.train) == len(TEXT)
    assert sum(weight for _, weight in task.held_out()) == len("a faded bead")
    model = TextModel(task.describe(zeros(task), {}))
    train.unlink()
    assert model.vocabulary.decode(model.symbols().tolist()) == "a faded bead"
    valid.write_text("a faded cafe")
    with pytest.raises(InputError, match=r"valid\.txt: not the text that was held out of the model's training"):
        model.symbols()


def test_a_model_of_an_earlier_version_finds_its_held_out_part(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    task = TextTask(TextOptions(hidden=3, embedding=2, batch=2, chunk=5), [path])
    file = task.describe(zeros(task), {})
    before = {name: value for name, value in file.training.items() if name not in {"held_out", "held_out_data"}}
    assert np.array_equal(TextModel(replace(file, training=before)).symbols(), task.corpus.held_out)


def test_a_named_text_of_one_symbol_is_too_little_to_hold_out(tmp_path: Path) -> None:
    path = tmp_path / "one.txt"
    path.write_text("a")
    with pytest.raises(InputError, match=r"one\.txt: the held-out part has a single symbol"):
        TextTask(TextOptions(batch=1, chunk=1, held_out=str(path)), [numbered(tmp_path, 100)])


def direct_losses(file: ModelFile, symbols: NDArray[np.int64]) -> NDArray[np.float64]:
    """The loss in nats at each symbol but the first, from the equations in float64."""
    network = LanguageModel(file.architecture)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in file.tensors.items()})
    with torch.no_grad():
        logits, _ = network.double()(torch.from_numpy(symbols[:-1, None]))
    chosen = logits[:, 0].log_softmax(-1).gather(-1, torch.from_numpy(symbols[1:, None]))
    losses: NDArray[np.float64] = -chosen[:, 0].numpy()
    return losses


def assert_nats(score: Score, losses: NDArray[np.float64]) -> None:
    assert score.count == len(losses)
    assert_close(torch.tensor(score.nats, dtype=torch.float32), torch.tensor(losses.mean()))


@pytest.fixture
def model() -> TextModel:
    return TextModel(text_file())


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_a_score_is_the_mean_loss_with_the_state_carried(cell: str) -> None:
    file = text_file(cell)
    model = TextModel(file)
    assert_nats(model.score(TEXT), direct_losses(file, model.vocabulary.encode(TEXT)))


@pytest.mark.parametrize("count", [2, 4096, 4097, 4098, 9000])
def test_a_long_text_is_scored_as_one(count: int) -> None:
    file = text_file("rnn", layers=1)
    symbols = np.random.default_rng(0).integers(0, 10, count)
    assert_nats(TextModel(file).score_symbols(symbols), direct_losses(file, symbols))


@pytest.mark.parametrize("window", [1, 7, 64, 148, 149, 1000])
def test_windows_are_scored_each_from_zero(model: TextModel, window: int) -> None:
    symbols = model.vocabulary.encode(TEXT)
    pieces = [symbols[begin : begin + window + 1] for begin in range(0, len(symbols) - 1, window)]
    alone = [model.score_symbols(piece) for piece in pieces]
    assert sum(score.count for score in alone) == len(symbols) - 1
    expected = sum(score.nats * score.count for score in alone) / (len(symbols) - 1)
    score = model.score(TEXT, window)
    assert score.count == len(symbols) - 1
    assert_close(torch.tensor(score.nats, dtype=torch.float32), torch.tensor(expected))


def test_windows_that_do_not_fit_in_memory_together_are_scored_in_turns(
    model: TextModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = model.score(TEXT, 7)
    monkeypatch.setattr("unrolled.tasks.text.model.SCORE_SYMBOLS", 200)
    parts = model.score(TEXT, 7)
    assert parts.count == whole.count
    assert_close(torch.tensor(parts.nats, dtype=torch.float32), torch.tensor(whole.nats))


def test_symbols_may_be_of_any_whole_type(model: TextModel) -> None:
    symbols = model.vocabulary.encode(TEXT)
    for window in (None, 7):
        assert model.score_symbols(symbols.astype(np.uint8), window) == model.score_symbols(symbols, window)


@pytest.mark.parametrize(
    ("symbols", "sentence"),
    [
        (np.array([0.5, 1.5]), r"symbols are float64 of shape \[2\], expected whole numbers in one dimension"),
        (np.zeros((3, 2), int), r"symbols are int64 of shape \[3, 2\], expected whole numbers in one dimension"),
        ([0, 1, 99], r"symbols\[2\] is 99, expected 0 to \d+"),
        ([0, -1], r"symbols\[1\] is -1, expected 0 to \d+"),
        ([], "the text has 0 symbols"),
    ],
)
def test_what_are_no_symbols_of_a_model_is_not_scored(model: TextModel, symbols: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        model.score_symbols(symbols)


def test_a_model_that_knows_nothing_is_as_perplexed_as_a_die() -> None:
    file = text_file()
    tensors = {name: np.zeros_like(tensor) for name, tensor in file.tensors.items()}
    score = TextModel(replace(file, tensors=tensors)).score(TEXT)
    assert score.nats == pytest.approx(math.log(10), rel=TOLERANCES[torch.float32].rtol)
    assert score.perplexity == pytest.approx(10, rel=1e-4)


def test_a_model_that_is_very_sure_has_a_score() -> None:
    file = text_file()
    tensors = dict(file.tensors) | {"head.bias": np.linspace(-300, 300, 10, dtype=np.float32)}
    file = replace(file, tensors=tensors)
    model = TextModel(file)
    assert_nats(model.score(TEXT), direct_losses(file, model.vocabulary.encode(TEXT)))


def test_bits_a_byte_compare_models_of_other_symbols(model: TextModel, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    figures = model.evaluate([tmp_path / "a.txt"]).figures
    carried = figures["state_carried"]
    size = len(TEXT.encode()) - len(TEXT[0].encode())
    assert figures["bits_a_byte"]["state_carried"] == pytest.approx(carried["bits"] * carried["count"] / size)


def test_bits_and_perplexity_say_the_same_as_nats() -> None:
    assert Score(math.log(8), 3).bits == pytest.approx(3)
    assert Score(math.log(8), 3).perplexity == pytest.approx(8)
    assert Score(0.0, 1).bits == 0.0
    assert Score(0.0, 1).perplexity == 1.0


@pytest.mark.parametrize(
    ("text", "window", "reason"),
    [
        ("", None, "the text has 0 symbols; at least 2 are needed"),
        ("a", None, "the text has 1 symbol; at least 2 are needed"),
        ("ab", 0, "window is 0, expected 1 or more"),
        ("ab", -1, "window is -1, expected 1 or more"),
        ("a!", None, "line 1, column 2: the character '!'"),
        (None, None, "text is a NoneType, expected a text"),
        (["ab"], None, "text is a list, expected a text"),
        ("ab", 1.5, "window is 1.5, expected a whole number"),
        ("ab", "1", "window is '1', expected a whole number"),
    ],
)
def test_what_cannot_be_scored_is_refused(model: TextModel, text: str, window: int | None, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        model.score(text, window)


def written(model: TextModel, *arguments: Any, **options: Any) -> str:
    return "".join(model.sample(*arguments, **options))


def greedy(model: TextModel, prompt: str, length: int) -> str:
    stream = model.stream()
    logits = stream.feed(model.vocabulary.encode(prompt))[-1]
    symbols = []
    for _ in range(length):
        symbols.append(int(logits.argmax()))
        logits = stream.step(symbols[-1])
    return model.vocabulary.decode(symbols)


@pytest.mark.parametrize("length", [0, 1, 2, 57])
def test_a_sample_has_the_length_asked_for(model: TextModel, length: int) -> None:
    assert len(written(model, "bead", length)) == length


def test_the_same_seed_writes_the_same_text_and_another_does_not(model: TextModel) -> None:
    texts = [written(model, "a", 60, seed=seed) for seed in (1, 1, 2, 3)]
    assert texts[0] == texts[1]
    assert len(set(texts)) == 3


def test_samples_of_one_model_do_not_disturb_each_other(model: TextModel) -> None:
    alone = written(model, "a", 30, seed=5)
    one, other = model.sample("a", 30, seed=5), model.sample("bee", 30, seed=6)
    assert "".join(first for first, _ in zip(one, other, strict=True)) == alone


def test_text_comes_as_each_symbol_is_chosen(model: TextModel) -> None:
    pieces = model.sample("a", 10**9)
    assert "".join(itertools.islice(pieces, 5)) == written(model, "a", 5)


@pytest.mark.parametrize("options", [{"temperature": 0}, {"top_p": 1e-9}, {"temperature": 1e-3}])
def test_the_coldest_sample_takes_the_likeliest_symbol(model: TextModel, options: dict[str, float]) -> None:
    assert written(model, "a cab", 80, **options) == greedy(model, "a cab", 80)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("temperature", [1e-30, 1e-300, 5e-324])
def test_no_temperature_is_too_low(model: TextModel, temperature: float) -> None:
    assert written(model, "a cab", 10, temperature=temperature) == greedy(model, "a cab", 10)


LOGITS = np.log(np.array([0.1, 0.4, 0.05, 0.25, 0.2], np.float32))


DRAWS = 4_000
FOUR_DEVIATIONS = 4 * math.sqrt(0.25 / DRAWS)


def frequencies(temperature: float, top_p: float) -> NDArray[np.float64]:
    rng = np.random.default_rng(0)
    symbols = [choose(LOGITS, temperature, top_p, rng) for _ in range(DRAWS)]
    return np.bincount(symbols, minlength=len(LOGITS)) / DRAWS


@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
def test_symbols_are_drawn_with_their_probability(temperature: float) -> None:
    powers = np.exp(LOGITS.astype(np.float64) / temperature)
    assert frequencies(temperature, 1.0) == pytest.approx(powers / powers.sum(), abs=FOUR_DEVIATIONS)


@pytest.mark.parametrize(
    ("top_p", "kept"), [(0.3, [1]), (0.39, [1]), (0.5, [1, 3]), (0.7, [1, 3, 4]), (0.9, [0, 1, 3, 4])]
)
def test_only_the_likeliest_that_make_up_top_p_are_drawn(top_p: float, kept: list[int]) -> None:
    expected = np.zeros(5)
    expected[kept] = np.exp(LOGITS[kept])
    drawn = frequencies(1.0, top_p)
    assert np.flatnonzero(drawn).tolist() == kept
    assert drawn == pytest.approx(expected / expected.sum(), abs=FOUR_DEVIATIONS)


def test_a_heated_sample_is_wilder(model: TextModel) -> None:
    def surprise(temperature: float) -> float:
        return model.score(written(model, "a", 400, temperature=temperature)).nats

    assert surprise(0.5) < surprise(1.0) < surprise(2.0)


@pytest.mark.parametrize("length", [1024, 1025, 3000])
def test_a_prompt_of_any_length_is_read_as_if_step_by_step(model: TextModel, length: int) -> None:
    symbols = np.random.default_rng(0).integers(1, 10, length)
    stream = model.stream()
    for symbol in symbols:
        logits = stream.step(int(symbol))
    expected = model.vocabulary.decode([int(logits.argmax())])
    assert written(model, model.vocabulary.decode(symbols.tolist()), 1, temperature=0) == expected


def test_the_prompt_counts(model: TextModel) -> None:
    assert len({written(model, prompt, 40, temperature=1.0, seed=1) for prompt in ("ab", "bb", "cb", "b")}) == 4


def witness(file: ModelFile) -> TextModel:
    """A model over "abny" that answers y once it has read a b, however long ago, and n before."""
    tensors = {name: np.zeros_like(tensor) for name, tensor in file.tensors.items()}
    tensors["embedding.weight"][1, 0] = 1
    from_b = tensors["recurrent.0.weight_ih_l0"].reshape(4, file.architecture.hidden, -1)[:, 0, 0]
    from_b[:] = [40, 0, 9, 0]  # the input gate opens
    tensors["recurrent.0.bias_ih_l0"].reshape(4, -1)[:, 0] = [-20, 20, 0, 20]  # and nothing is forgotten
    tensors["head.weight"][3, 0] = 1
    tensors["head.bias"][2] = 0.1
    return TextModel(replace(file, tensors=tensors))


@pytest.mark.parametrize("place", [0, 1, 1022, 1023, 1024, 1025, 2047, 2048, 2998, 2999])
def test_every_symbol_of_a_long_prompt_is_read(place: int) -> None:
    model = witness(text_file(layers=1, vocabulary=CharVocabulary("abny")))
    assert written(model, "a" * 3000, 1, temperature=0) == "n"
    assert written(model, "a" * place + "b" + "a" * (2999 - place), 1, temperature=0) == "y"


def test_no_prompt_stands_for_a_new_line(model: TextModel) -> None:
    def texts(model: TextModel, prompt: str) -> list[str]:
        return [written(model, prompt, 5, seed=seed) for seed in range(20)]

    assert texts(model, "") == texts(model, "\n") != texts(model, " ")
    unlined = TextModel(text_file(vocabulary=CharVocabulary("abcdefghij")))
    assert texts(unlined, "") == texts(unlined, "a") != texts(unlined, "c")


@pytest.mark.parametrize(
    ("prompt", "options", "reason"),
    [
        ("a cat", {}, "line 1, column 5: the character 't'"),
        ("a", {"length": -1}, "length is -1, expected 0 or more"),
        ("a", {"temperature": -0.1}, "temperature is -0.1, expected 0 or more"),
        ("a", {"temperature": math.nan}, "temperature is nan, expected 0 or more"),
        ("a", {"top_p": 0.0}, "top-p is 0.0, expected more than 0 and at most 1"),
        ("a", {"top_p": 1.1}, "top-p is 1.1, expected more than 0 and at most 1"),
        ("a", {"top_p": math.nan}, "top-p is nan, expected more than 0 and at most 1"),
        ("a", {"seed": -1}, "seed is -1, expected 0 or more"),
        (None, {}, "text is a NoneType, expected a text"),
        (b"a", {}, "text is a bytes, expected a text"),
        ([], {}, "text is a list, expected a text"),
        ("a", {"length": 1.5}, "length is 1.5, expected a whole number"),
        ("a", {"length": None}, "length is None, expected a whole number"),
        ("a", {"temperature": "1"}, "temperature is '1', expected a number"),
        ("a", {"top_p": None}, "top-p is None, expected a number"),
        ("a", {"seed": 1.5}, "seed is 1.5, expected a whole number"),
    ],
)
def test_a_sample_that_cannot_be_is_refused_before_anything_is_written(
    model: TextModel, prompt: str, options: dict[str, Any], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        model.sample(prompt, **options)  # the iterator is never asked for anything


def test_a_model_of_bytes_writes_whole_characters() -> None:
    model = TextModel(text_file(vocabulary=ByteVocabulary()))
    pieces = list(model.sample("né 漢", 300, temperature=1.0, seed=3))
    assert all(pieces)
    symbols = sampled_symbols(model, "né 漢", 300, seed=3)
    assert any(symbol >= 0x80 for symbol in symbols)
    assert "".join(pieces) == bytes(symbols).decode("utf-8", "replace")
    assert all(piece.encode("utf-8").decode("utf-8") == piece for piece in pieces)


def sampled_symbols(model: TextModel, prompt: str, length: int, seed: int) -> list[int]:
    stream, rng = model.stream(), np.random.default_rng(seed)
    logits = stream.feed(model.vocabulary.encode(prompt))[-1]
    symbols = []
    for _ in range(length):
        symbols.append(choose(logits, 1.0, 1.0, rng))
        logits = stream.step(symbols[-1])
    return symbols


def test_bytes_that_join_to_a_character_come_out_as_one_piece() -> None:
    file = text_file(vocabulary=ByteVocabulary())
    # A head that answers each byte of the sign with the next one, whatever the state.
    tensors = {name: np.zeros_like(tensor) for name, tensor in file.tensors.items()}
    model = TextModel(replace(file, tensors=tensors | write_round(file, "漢".encode())))
    assert list(model.sample("漢", 7, temperature=0)) == ["漢", "漢", "\ufffd"]


def write_round(file: ModelFile, cycle: bytes) -> dict[str, NDArray[np.float32]]:
    """Weights that make the likeliest symbol after each of `cycle` the next one, and after the last the first."""
    shapes = file.architecture.shapes()
    embedding, head = np.zeros(shapes["embedding.weight"], np.float32), np.zeros(shapes["head.weight"], np.float32)
    for unit, (byte, following) in enumerate(pairwise([*cycle, cycle[0]])):
        embedding[byte, unit] = 1
        head[following, unit] = 1
    tensors = {"embedding.weight": embedding, "head.weight": head}
    for layer in range(file.architecture.layers):
        weight = np.zeros(shapes[f"recurrent.{layer}.weight_ih_l0"], np.float32)
        gates = weight.reshape(4, -1, weight.shape[1])
        for unit in range(len(cycle)):
            gates[2, unit, unit] = 9  # the candidate
        gates_of_bias = np.zeros((4, file.architecture.hidden), np.float32)
        gates_of_bias[0] = gates_of_bias[3] = 9  # input and output open
        gates_of_bias[1] = -9  # everything is forgotten
        tensors[f"recurrent.{layer}.weight_ih_l0"] = weight
        tensors[f"recurrent.{layer}.bias_ih_l0"] = gates_of_bias.ravel()
    return tensors


def test_a_vocabulary_of_another_size_than_the_network_is_refused() -> None:
    file = replace(text_file(), encoding=CharVocabulary("ab").to_json())
    with pytest.raises(InputError, match="the vocabulary has 2 symbols, but the architecture 10"):
        TextModel(file)


def test_the_text_that_every_python_carries_trains_without_a_file() -> None:
    task = TextTask(TextOptions())
    assert task.corpus.names == (corpus.BUILTIN,)
    assert task.batch(0)["inputs"].shape == (100, 16)


def test_a_model_of_a_folder_finds_its_held_out_part_again_though_a_text_is_added(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.txt").write_text(f"{name} the clouds are in the sky\n" * 60)
    task = TextTask(TextOptions(hidden=4, embedding=4, batch=4, chunk=8), [folder])
    tensors = {name: np.zeros(shape, np.float32) for name, shape in task.architecture.shapes().items()}
    model = TextModel(task.describe(tensors, {}))
    (folder / "c.txt").write_text("more")
    assert np.array_equal(model.symbols(), task.corpus.held_out)
