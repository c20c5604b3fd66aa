"""The translate task: from files to a model and back, what it measures and what it refuses."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tolerances import assert_close
from unrolled import modelfile
from unrolled.beam import Hypothesis
from unrolled.errors import InputError
from unrolled.examples import ExampleOptions, pad
from unrolled.loop import train
from unrolled.memory import trained as probed
from unrolled.memory.subject import NO_TARGET, losses
from unrolled.recipe import TrainOptions
from unrolled.tasks import load
from unrolled.tasks.translate import (
    TranslateModel,
    TranslateOptions,
    TranslateTask,
    TranslationOptions,
)
from unrolled.tasks.translate.model import scores
from unrolled.tasks.translate.sentences import encode, labels

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = {"rot": "red", "blau": "blue", "grün": "green", "Haus": "house", "Hund": "dog", "Baum": "tree"}
SMALL = TranslateOptions(batch=16, level="word", embedding=24, hidden=32, dropout=0.0, label_smoothing=0.0)


def corpus(folder: Path, count: int = 200, seed: int = 0) -> list[Path]:
    """Two files: words of the one, and in the other their translations in reverse order."""
    rng, german = np.random.default_rng(seed), list(WORDS)
    sentences = [[german[n] for n in rng.integers(len(german), size=rng.integers(1, 5))] for _ in range(count)]
    folder.mkdir(exist_ok=True)
    source, target = folder / "a.de", folder / "a.en"
    source.write_text("".join(" ".join(words) + "\n" for words in sentences), encoding="utf-8")
    turned = (" ".join(WORDS[word] for word in words[::-1]) + "\n" for words in sentences)
    target.write_text("".join(turned), encoding="utf-8")
    return [source, target]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has learnt the words and their order."""
    folder = tmp_path_factory.mktemp("translate")
    out = folder / "model.safetensors"
    list(train(TranslateTask(SMALL, corpus(folder, 600)), TrainOptions(steps=250, lr=0.01), out))
    return out


def test_a_trained_model_translates_what_it_has_not_seen(trained: Path) -> None:
    evaluation = load(trained).evaluate()
    assert evaluation.figures["sentences"] == 60
    assert evaluation.figures["exact"] >= 0.9
    assert evaluation.figures["bleu"] > 90
    assert evaluation.figures["source_copied"]["exact"] == 0
    assert "tok:13a" in evaluation.figures["bleu_signature"]
    assert "-> " in evaluation.shown


def test_a_model_is_measured_on_other_data_too(trained: Path, tmp_path: Path) -> None:
    pairs = corpus(tmp_path / "other", 30, seed=1)
    figures = load(trained).evaluate(pairs).figures
    assert figures["sentences"] == 30 and figures["exact"] >= 0.8
    table = tmp_path / "x.tsv"
    lines = zip(*(path.read_text(encoding="utf-8").splitlines() for path in pairs), strict=True)
    table.write_text("".join(f"{a}\t{b}\n" for a, b in lines), encoding="utf-8")
    assert load(trained).evaluate([table]).figures == figures


def test_what_is_probed_are_the_held_out_pairs_as_the_loss_reads_them(trained: Path) -> None:
    model = load(trained)
    pairs = model.pairs()
    sides = [
        [encode(model.source, one.source) for one in pairs],
        [encode(model.target, one.target) for one in pairs],
    ]
    with torch.no_grad():
        expected, _ = model.network(*(torch.from_numpy(part) for side in sides for part in pad(side)))
    passages = probed.subject(model).passages()
    known = passages.targets != NO_TARGET
    assert_close(losses(passages.logits[known], passages.targets[known]).mean(), expected)


def test_of_many_pairs_the_seed_chooses_which_are_probed(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probed, "SOURCES", 5)
    first, again, other = (
        [one.tolist() for one in probed.subject(load(trained), seed=seed).inputs] for seed in (0, 0, 1)
    )
    assert len(first) == 5 and first == again != other


def test_data_that_changed_is_not_taken_for_what_was_held_out(trained: Path, tmp_path: Path) -> None:
    file = modelfile.read(trained)
    names = [str(path) for path in corpus(tmp_path, 200, seed=5)]
    model = TranslateModel(replace(file, training={**file.training, "names": names}))
    with pytest.raises(InputError, match="not the pairs that the model was trained on; name DATA"):
        model.evaluate()


def test_run_translates_each_input_in_its_turn(trained: Path) -> None:
    texts = ["rot Haus Baum grün", "Hund", "blau Hund"]
    outputs = list(load(trained).run(texts, TranslationOptions()))
    assert [output.line for output in outputs] == ["green tree house red", "dog", "dog blue"]
    assert [output.record["source"] for output in outputs] == texts
    assert outputs[1].record["translation"] == "dog" and outputs[1].record["score"] <= 0


def test_run_translates_the_lines_of_a_file(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.de").write_text("Hund\r\nblau Hund\n")
    outputs = list(load(trained).run([str(tmp_path / "texts.de"), "rot Haus"], TranslationOptions()))
    assert [output.line for output in outputs] == ["dog", "dog blue", "house red"]
    (tmp_path / "texts.de").write_text("")
    with pytest.raises(InputError, match=r"texts\.de is empty, expected a text on each line"):
        list(load(trained).run([str(tmp_path / "texts.de")], TranslationOptions()))
    with pytest.raises(InputError, match=r"none\.de: there is no such file"):
        list(load(trained).run(["none.de"], TranslationOptions()))


def test_a_blank_line_gives_a_blank_line(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.de").write_text("Hund\n\n \t\r\nblau Hund\n\n")
    outputs = list(load(trained).run([str(tmp_path / "texts.de")], TranslationOptions()))
    assert [output.line for output in outputs] == ["dog", "", "", "dog blue", ""]
    assert outputs[1].record == {"source": "", "translation": "", "score": None}
    with pytest.raises(InputError, match="text 2 is empty, expected a sentence to translate"):
        list(load(trained).run(["rot", " "], TranslationOptions()))
    with pytest.raises(InputError, match="draws one sentence, but 2 were given"):
        list(load(trained).run([str(tmp_path / "texts.de")], TranslationOptions(attention="a.png")))


def test_there_are_as_many_translations_as_lines(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.de").write_text("rot\fHaus\nHund\u2028blau\x85Hund\nBaum\rBaum", encoding="utf-8")
    outputs = list(load(trained).run([str(tmp_path / "texts.de")], TranslationOptions()))
    assert len(outputs) == 3
    assert not any("\n" in output.line for output in outputs)


def test_a_sentence_that_is_too_long_is_translated_and_said_to_be(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = modelfile.read(trained)
    model = TranslateModel(replace(file, training={**file.training, "longest": 3}))
    (tmp_path / "texts.de").write_text("Hund\nrot rot Hund Baum\nblau Hund Baum\n")
    outputs = list(model.run([str(tmp_path / "texts.de")], TranslationOptions()))
    assert [output.line for output in outputs][::2] == ["dog", "tree dog blue"]
    place, after = f"unrolled: {tmp_path}/texts.de, line", "; its translation may lack a part."
    assert capsys.readouterr().err.splitlines() == [
        f"{place} 2 has 4 symbols, the model was trained on 3 at most{after}",
        f"{place} 3 was translated into 3 symbols, the most that the model writes{after}",
    ]
    list(model.run(["rot rot Hund Baum"], TranslationOptions()))
    assert "unrolled: the text 'rot rot Hund Baum' has 4 symbols" in capsys.readouterr().err


def test_run_draws_the_alignment(trained: Path, tmp_path: Path) -> None:
    options = TranslationOptions(attention=str(tmp_path / "a.png"))
    (output,) = load(trained).run(["rot Haus"], options)
    assert output.record["attention"] == options.attention
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="draws one sentence, but 2 were given"):
        list(load(trained).run(["rot", "blau"], options))


def test_an_empty_text_is_refused(trained: Path) -> None:
    with pytest.raises(InputError, match="text 2 is empty"):
        load(trained).translate(["rot", "  "])


def test_an_unknown_word_becomes_the_one_attended_to(trained: Path) -> None:
    model = load(trained)
    attention = torch.tensor([[0.1, 0.7, 0.2], [0.3, 0.1, 0.6], [0.0, 0.0, 1.0]])
    known = int(model.target.encode(" red")[0])
    found = model._translation(Hypothesis([0, known], -1.0, attention), "rot Xylofon")
    assert found.text == "Xylofon red"
    assert found.source == [" rot", " Xylofon", "(end)"]
    at_end = torch.tensor([[0.4, 0.1, 0.5], [0.0, 0.0, 1.0]])
    assert model._translation(Hypothesis([0], -1.0, at_end), "rot Xylofon").text == "rot", "the end is no word"


def test_the_settings_say_what_the_model_was_trained_on(trained: Path) -> None:
    training = load(trained).file.training
    assert training["left_out"] == 0 and training["longest"] == 100 and len(training["data"]) == 64
    assert [Path(name).name for name in training["names"]] == ["a.de", "a.en"]


def test_batches_say_the_same_in_inputs_and_targets(tmp_path: Path) -> None:
    task = TranslateTask(SMALL, corpus(tmp_path))
    end = task.target.size
    seen = []
    for step in range(task._batches.a_pass):
        batch = task.batch(step)
        for row, (length, target) in enumerate(zip(batch["source_lengths"], batch["target_lengths"], strict=True)):
            source = batch["source"][:length, row]
            assert source[-1] == task.source.size and batch["targets"][target - 1, row] == end
            words = task.source.decode(source[:-1]).split()
            answer = task.target.decode(batch["targets"][: target - 1, row]).split()
            assert answer == [WORDS[word] for word in words[::-1]]
            seen.append(" ".join(words))
    assert sorted(seen) == sorted(pair.source for pair in task.data.train)


def test_a_batch_depends_on_the_step_and_the_seed_alone(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    one, other = TranslateTask(SMALL, paths, seed=3), TranslateTask(SMALL, paths, seed=3)
    forth, back = [one.batch(n) for n in range(40)], [other.batch(n) for n in reversed(range(40))][::-1]
    for a, b in zip(forth, back, strict=True):
        assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(TranslateTask(SMALL, paths, seed=4).batch(0)["source"], forth[0]["source"])


def test_held_out_pairs_may_be_files_of_their_own(tmp_path: Path) -> None:
    paths, (de, en) = corpus(tmp_path / "train"), corpus(tmp_path / "val", 17, seed=2)
    task = TranslateTask(replace(SMALL, held_out=f"{de},{en}"), paths)
    assert len(task.data.train) == 200 and len(task.data.held_out) == 17
    weights = [weight for _, weight in task.held_out()]
    assert sum(weights) == sum(len(pair.target.split()) + 1 for pair in task.data.held_out)


def test_one_vocabulary_may_serve_both_sides(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    task = TranslateTask(replace(SMALL, shared_vocab=True), paths)
    assert task.source is task.target
    assert {" rot", " red"} <= set(task.source.to_json()["words"])
    sizes = TranslateTask(replace(SMALL, level="bpe", vocab_size=270), paths).architecture
    assert (sizes.source_symbols, sizes.target_symbols) == (271, 271)


def test_pairs_that_are_too_long_are_refused_or_counted(tmp_path: Path) -> None:
    paths = corpus(tmp_path)
    with pytest.raises(InputError, match=r"a\.de, line \d+ has 4 symbols, expected at most 3 \(--longest\)"):
        TranslateTask(replace(SMALL, longest=3), paths)
    task = TranslateTask(replace(SMALL, longest=3, skip_bad=True), paths)
    assert task.settings()["left_out"] == sum(len(pair.source.split()) > 3 for pair in task.data.train) > 0
    with pytest.raises(InputError, match="no pair is left to train on"):
        TranslateTask(replace(SMALL, longest=1, level="bpe", skip_bad=True, vocab_size=256), paths)


def test_a_model_whose_vocabulary_does_not_fit_is_refused(trained: Path) -> None:
    file = modelfile.read(trained)
    encoding = {**file.encoding, "target": {"level": "byte"}}
    with pytest.raises(InputError, match=r"its vocabularies have \d+ and 256 symbols, but the architecture"):
        TranslateModel(replace(file, encoding=encoding))


def test_the_built_in_numbers_train_without_a_file() -> None:
    task = TranslateTask(TranslateOptions())
    assert len(task.data.held_out) == 1190
    assert task.architecture.source_symbols <= 321
    assert {"null", "neunundneunzig"} <= {pair.source for pair in task.data.train}
    assert not {pair.source for pair in task.data.train} & {pair.source for pair in task.data.held_out}


def test_scores_of_what_is_right_and_what_is_not() -> None:
    right = scores(["a b c d e", "f g h i j"], ["a b c d e", "f g h i j"])
    assert right["bleu"] == pytest.approx(100) and right["chrf"] == pytest.approx(100) and right["exact"] == 1
    half = scores(["a b c d e", "x"], ["a b c d e", "f g h i j"])
    assert half["exact"] == 0.5 and half["bleu"] < 100


def test_pieces_within_a_word_are_drawn_as_such() -> None:
    assert labels([" ", " sieben", "und", "(end)"]) == ["␣", "sieben", "·und", "(end)"]


def test_every_setting_of_examples_is_kept_for_the_held_out_part(trained: Path) -> None:
    training = load(trained).file.training
    assert all(name in training for name in ExampleOptions.__dataclass_fields__)


@pytest.mark.parametrize(
    ("names", "content"), [(("a.tsv", "b.tsv"), "rot red\n"), (("a.txt", "b.gz"), "rot\tred\n\nblau\tblue\n")]
)
def test_two_tables_are_not_taken_for_source_and_target(
    tmp_path: Path, names: tuple[str, str], content: str
) -> None:
    one, other = (tmp_path / name for name in names)
    one.write_text(content)
    other.write_text(content)
    with pytest.raises(InputError, match=r"expected one TSV, or two aligned files without tabs\.$"):
        TranslateTask(SMALL, [one, other])
    with pytest.raises(InputError, match=r"a\.\w+ and .*b\.\w+ are two TSVs, expected one TSV"):
        TranslateTask(replace(SMALL, held_out=f"{one},{other}"), corpus(tmp_path))


def test_tabs_in_one_of_two_aligned_files_are_taken_as_they_are(tmp_path: Path) -> None:
    source, target = corpus(tmp_path)
    source.write_text(source.read_text(encoding="utf-8").replace("\n", "\tHund\n"), encoding="utf-8")
    assert len(TranslateTask(SMALL, [source, target]).data.train) == 180


@pytest.mark.parametrize(
    ("texts", "reason"),
    [
        ("rot Haus", "texts: expected a list of texts, got str"),
        (None, "texts: expected a list of texts, got NoneType"),
        (["rot Haus", None], "text 2 is a NoneType, expected a sentence to translate"),
        (b"rot", "text 1 is a int, expected a sentence to translate"),
    ],
)
def test_what_is_no_list_of_texts_is_not_translated(trained: Path, texts: Any, reason: str) -> None:
    with pytest.raises(InputError, match=f"^{reason}"):
        load(trained).translate(texts)
