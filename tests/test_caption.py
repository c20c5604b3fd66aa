"""The caption task: batches show what is in the pictures, a trained model says it, figures are what they claim."""

import json
import math
import sys
from collections.abc import Iterator
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import unrolled
from programs import python
from tolerances import assert_close
from unrolled.architecture import CaptionArchitecture, grid_side
from unrolled.errors import InputError
from unrolled.examples import pad
from unrolled.loop import train
from unrolled.memory import trained as probed
from unrolled.memory.subject import NO_TARGET, losses
from unrolled.models.caption import CaptionNetwork, Stage
from unrolled.recipe import TrainOptions
from unrolled.tasks.caption import CaptionModel, CaptionOptions, CaptionRunOptions, CaptionTask, panels, scenes
from unrolled.tasks.caption.data import spoken
from unrolled.tasks.caption.model import scores

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL: dict[str, Any] = {"width": 8, "embedding": 64, "hidden": 64, "batch": 16}
SIDE, SIZE = 8, 20


def shapes() -> tuple[np.ndarray[Any, np.dtype[np.uint8]], np.ndarray[Any, np.dtype[np.int64]]]:
    """Two shapes that take little learning, in place of a zero and a one: a full square, a thin bar."""
    pixels = np.zeros((2, SIDE, SIDE), np.uint8)
    pixels[0] = 255
    pixels[1, 3:5] = 255
    return pixels, np.arange(2)


def write_scenes(folder: Path, count: int, seed: int = 0) -> Path:
    digits, labels = shapes()
    scenes.write(folder, scenes.compose(digits, labels, count, size=SIZE, side=SIDE, turn=0, most=2, seed=seed))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes"), 1000)


@pytest.fixture(scope="module")
def model_path(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A model trained on the 1000 scenes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("model") / "caption.safetensors"
    task = CaptionTask(CaptionOptions(**SMALL), [folder])
    for _ in train(task, TrainOptions(steps=400, lr=0.01), out):
        pass
    yield out
    torch.set_num_threads(before)


def says(task: CaptionTask, symbols: list[int]) -> str:
    return task.vocabulary.decode(symbols).strip()


def test_a_batch_has_a_caption_of_each_picture(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 20)
    with open(folder / "captions.txt", "a") as file:
        file.writelines(f"{number:05}.png,some shapes\n" for number in range(20))
    task = CaptionTask(CaptionOptions(**SMALL), [folder])
    boundary = task.vocabulary.size
    known = {
        pixels.tobytes(): texts
        for pixels, texts in zip(task.data.train.pixels(slice(None)), task.data.train.captions, strict=True)
    }
    drawn = set()
    for step in range(30):
        batch = task.batch(step)
        assert batch["pictures"].shape[1:] == (1, SIZE, SIZE) and batch["pictures"].dtype == np.uint8
        for picture, length, targets in zip(
            batch["pictures"], batch["target_lengths"], batch["targets"].T, strict=True
        ):
            assert targets[length - 1] == boundary
            caption = says(task, targets[: length - 1].tolist())
            drawn.add((picture.tobytes(), known[picture.tobytes()].index(caption)))
    assert {number for _, number in drawn} == {0, 1}, "each of its captions is learnt from"


def test_a_step_gives_the_same_batch_again(folder: Path) -> None:
    one, other = (CaptionTask(CaptionOptions(**SMALL), [folder], seed=5) for _ in range(2))
    for step in (40, 0, 17):
        first, again = one.batch(step), other.batch(step)
        assert all(np.array_equal(first[name], again[name]) for name in first)


def test_held_out_pictures_are_not_trained_on(folder: Path, tmp_path: Path) -> None:
    task = CaptionTask(CaptionOptions(split=0.8, **SMALL), [folder])
    assert (len(task.data.train), len(task.data.held_out)) == (800, 200)
    assert not set(task.data.train.names) & set(task.data.held_out.names)
    assert sum(len(batch["pictures"]) for batch, _ in task.held_out()) == 200
    other = write_scenes(tmp_path / "other", 7, seed=1)
    task = CaptionTask(CaptionOptions(held_out=str(other), **SMALL), [folder])
    assert (len(task.data.train), len(task.data.held_out)) == (1000, 7)


def architecture(**sizes: Any) -> CaptionArchitecture:
    given: dict[str, Any] = {
        "channels": 3,
        "size": 21,
        "width": 4,
        "backbone": "",
        "backbone_tensors": {},
        "backbone_side": 0,
        "backbone_memory": 0,
        "cell": "lstm",
        "symbols": 11,
        "embedding": 5,
        "hidden": 7,
    }
    return CaptionArchitecture(**(given | sizes))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_parameters_are_those_of_the_model_file(cell: str, channels: int) -> None:
    sizes = architecture(cell=cell, channels=channels, width=6)
    network = CaptionNetwork(sizes)
    assert {name: tuple(value.shape) for name, value in network.state_dict().items()} == sizes.shapes()


def test_a_stage_is_a_residual_block_on_half_the_side() -> None:
    torch.manual_seed(0)
    stage = Stage(3, 5).eval()
    weights = stage.state_dict()
    for name, value in weights.items():
        value.uniform_(0.5, 2) if "running_var" in name else value.normal_()

    def normed(name: str, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        parts = [weights[f"{name}_norm.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(F.conv2d(x, weights[f"{name}.weight"], stride=stride, padding=1), *parts)

    x = torch.randn(2, 3, 9, 9)
    halved = normed("reduce", x, 2).relu()
    expected = (halved + normed("second", normed("first", halved).relu())).relu()
    assert expected.shape == (2, 5, 5, 5)
    assert_close(stage(x), expected)


def test_dropout_is_the_decoders() -> None:
    assert [CaptionNetwork(architecture(), *given).decoder.dropout for given in ((), (0.3,))] == [0.0, 0.3]


def test_padding_does_not_count_in_the_loss() -> None:
    torch.manual_seed(0)
    network = CaptionNetwork(architecture()).eval()
    pictures = torch.randint(0, 256, (2, 3, 21, 21), dtype=torch.uint8)
    targets = torch.randint(11, (6, 2))
    ends = torch.tensor([6, 4])
    loss, state = network(pictures, targets, ends)
    memory, lengths = network.look(pictures)
    inputs = torch.cat([torch.full((1, 2), 10), targets[:-1]])
    logs = network.decoder(memory, lengths, inputs).log_softmax(-1)
    chosen = [logs[t, b, targets[t, b]] for t in range(6) for b in range(2) if t < ends[b]]
    assert_close(loss, -torch.stack(chosen).mean())
    assert state == ()


@pytest.mark.parametrize("size", [8, 20, 21, 33])
def test_the_memory_is_the_grid_row_by_row(size: int) -> None:
    torch.manual_seed(0)
    network = CaptionNetwork(architecture(size=size)).eval()
    pictures = torch.randint(0, 256, (2, 3, size, size), dtype=torch.uint8)
    memory, lengths = network.look(pictures)
    side = grid_side(size)
    assert memory.shape == (side * side, 2, architecture().memory) and lengths.tolist() == [side * side] * 2
    seen = network.grid(pictures.float() / 255)
    for row in range(side):
        for column in range(side):
            expected = seen[:, :, row, column] + network.position[:, row, column]
            assert_close(memory[row * side + column], expected)


def test_a_trained_model_says_what_is_in_new_pictures(model_path: Path, tmp_path: Path) -> None:
    model = unrolled.load(model_path)
    assert isinstance(model, CaptionModel)
    figures = model.evaluate([write_scenes(tmp_path / "new", 60, seed=9)]).figures
    assert figures["pictures"] == 60
    assert figures["exact"] > 0.9 and figures["bleu4"] > 90


def test_what_is_probed_are_the_captions_as_the_loss_reads_them(model_path: Path, tmp_path: Path) -> None:
    model = unrolled.load(model_path)
    data = [write_scenes(tmp_path / "new", 60, seed=9)]
    examples, words = model.pictures(data), model.vocabulary
    written = [np.append(words.encode(spoken(one[0])), words.size) for one in examples.captions]
    with torch.no_grad():
        pixels = torch.from_numpy(examples.pixels(np.arange(60)))
        expected, _ = model.network(pixels, *map(torch.from_numpy, pad(written)))
    passages = probed.subject(model, data).passages()
    known = passages.targets != NO_TARGET
    assert_close(losses(passages.logits[known], passages.targets[known]).mean(), expected)


def test_without_data_a_model_is_measured_on_what_was_held_out(model_path: Path, folder: Path) -> None:
    task = CaptionTask(CaptionOptions(**SMALL), [folder])
    model = unrolled.load(model_path)
    evaluation, report = model.evaluate(), task.report(model)
    assert {**evaluation.figures, "left_out": 0} == report.figures
    assert evaluation.figures["pictures"] == 100
    assert "of a person: " in report.shown


def test_changed_pictures_are_not_taken_for_those_held_out(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 10)
    task = CaptionTask(CaptionOptions(**SMALL), [folder])
    tensors = {name: value.numpy() for name, value in task.build().state_dict().items()}
    model = CaptionModel(task.describe(tensors, {"seed": 0}))
    evaluation = model.evaluate()
    assert evaluation.figures["pictures"] == 1 and evaluation.tables[0].columns[0] == "1 picture"
    captions = folder / "captions.txt"
    captions.write_text(captions.read_text().replace(" a zero", " a nought"))
    with pytest.raises(InputError, match="not the pictures that the model was trained on; name a folder"):
        model.evaluate()


def test_run_writes_a_caption_and_draws_where_it_looked(model_path: Path, folder: Path, tmp_path: Path) -> None:
    drawing = tmp_path / "looked.png"
    model = unrolled.load(model_path)
    (output,) = model.run([str(folder / "00000.png")], CaptionRunOptions(attention=str(drawing)))
    assert output.line == output.record["caption"]
    assert set(output.line.split()) <= {"a", "zero", "one", "to", "the", "left", "of", "above"}
    with Image.open(drawing) as image:
        assert image.format == "PNG" and image.width > image.height
    both = list(model.run([str(folder / "00000.png"), str(folder / "00001.png")], CaptionRunOptions(beam=1)))
    assert both[1].line == f"{folder / '00001.png'}: {both[1].record['caption']}"
    found = model.captions(model.pictures([folder]).pixels([0, 1]), beam=1)
    assert [one.record["score"] for one in both] == pytest.approx([one.score for one in found], abs=1e-3)
    assert all(-20 < one.score < 0 for one in found)


def test_a_picture_comes_by_standard_input(
    model_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, picture = unrolled.load(model_path), folder / "00000.png"
    (expected,) = model.run([str(picture)], CaptionRunOptions())
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(picture.read_bytes())))
    (said,) = model.run(["-"], CaptionRunOptions())
    assert said.line == expected.line
    with pytest.raises(InputError, match=r"^standard input is not a picture"):  # of which nothing is left
        next(model.run(["-"], CaptionRunOptions()))


def test_attention_is_on_the_grid_and_sums_to_one(model_path: Path, folder: Path) -> None:
    model = unrolled.load(model_path)
    pixels = CaptionTask(CaptionOptions(**SMALL), [folder]).data.train.pixels(slice(0, 3))
    for caption in model.captions(pixels):
        assert caption.attention.shape == (len(caption.pieces), grid_side(SIZE), grid_side(SIZE))
        assert_close(torch.from_numpy(caption.attention).sum((1, 2)), torch.ones(len(caption.pieces)))
        assert " ".join(caption.pieces) == caption.text


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (np.zeros((2, 3, SIZE, SIZE), np.uint8), f"uint8 [2, 3, {SIZE}, {SIZE}]"),
        (np.zeros((2, 1, SIZE, 9), np.uint8), f"uint8 [2, 1, {SIZE}, 9]"),
        (np.zeros((1, SIZE, SIZE), np.uint8), f"uint8 [1, {SIZE}, {SIZE}]"),
        (np.zeros((2, 1, SIZE, SIZE), np.float32), f"float32 [2, 1, {SIZE}, {SIZE}]"),
    ],
)
def test_pixels_of_another_shape_or_type_are_refused(model_path: Path, pixels: Any, found: str) -> None:
    with pytest.raises(InputError) as error:
        unrolled.load(model_path).captions(pixels)
    assert str(error.value) == f"pixels: expected uint8 [B, 1, {SIZE}, {SIZE}], got {found}."


def test_a_name_in_place_of_pixels_is_refused(model_path: Path) -> None:
    with pytest.raises(InputError, match=r"^pixels: expected an array, got str"):
        unrolled.load(model_path).captions("a.png")


def test_a_beam_of_nothing_is_refused(model_path: Path) -> None:
    with pytest.raises(InputError, match=r"^beam is 0, expected at least 1"):
        unrolled.load(model_path).captions(np.zeros((1, 1, SIZE, SIZE), np.uint8), beam=0)


def test_no_pictures_have_no_captions(model_path: Path) -> None:
    assert unrolled.load(model_path).captions(np.zeros((0, 1, SIZE, SIZE), np.uint8)) == []


def test_one_drawing_is_of_one_picture(model_path: Path, tmp_path: Path) -> None:
    options = CaptionRunOptions(attention=str(tmp_path / "x.png"))
    with pytest.raises(InputError, match="--attention draws one picture, but 2 were given"):
        next(unrolled.load(model_path).run(["a.png", "b.png"], options))


def test_a_drawing_has_a_panel_a_word(tmp_path: Path) -> None:
    picture, attention = np.zeros((8, 8, 1), np.uint8), np.full((7, 2, 2), 0.25, np.float32)
    panels.draw(tmp_path / "drawing.svg", picture, ["one"] * 7, attention)
    assert (tmp_path / "drawing.svg").read_text().count("<!-- one -->") == 7
    with pytest.raises(InputError, match=r"x\.txt is of an unknown kind of picture"):
        panels.draw(tmp_path / "x.txt", picture, ["one"] * 7, attention)


def test_bleu_is_that_of_its_definition() -> None:
    figures = scores(["the cat sat on the mat"], [["the cat is on the mat", "there is a cat on the mat"]])
    # Found in a reference: 5 of 6 words, 3 of 5 pairs, 1 of 4 threes; the nearest length is the same, no penalty.
    assert figures["bleu1"] == pytest.approx(100 * 5 / 6)
    assert figures["bleu2"] == pytest.approx(100 * math.sqrt(5 / 6 * 3 / 5))
    assert figures["bleu3"] == pytest.approx(100 * (5 / 6 * 3 / 5 * 1 / 4) ** (1 / 3))


def test_pictures_may_have_different_numbers_of_references() -> None:
    figures = scores(["a cat", "two dogs"], [["a cat"], ["some dogs run", "two dogs", "dogs"]])
    assert figures["exact"] == 1 and figures["bleu2"] == pytest.approx(100)
    assert scores(["a cat", "a dog"], [["a cat"], ["two dogs", "dogs"]])["exact"] == 0.5


def test_a_picture_that_cannot_be_read_is_refused(model_path: Path, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_text("nothing")
    with pytest.raises(InputError, match=r"x\.png is not a picture that can be read"):
        list(unrolled.load(model_path).run([str(tmp_path / "x.png")], CaptionRunOptions()))


def test_left_out_examples_are_counted(tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "scenes", 10)
    with open(folder / "captions.txt", "a") as file:
        file.write("99999.png,a ghost\n")
    with pytest.raises(InputError, match=r"line 12: the picture '99999\.png' is not in"):
        CaptionTask(CaptionOptions(**SMALL), [folder])
    task = CaptionTask(CaptionOptions(skip_bad=True, **SMALL), [folder])
    assert task.settings()["left_out"] == 1


def test_held_out_needs_data() -> None:
    with pytest.raises(InputError, match="--held-out is 'x', but there is no DATA to train on"):
        CaptionTask(CaptionOptions(held_out="x"))


def test_a_vocabulary_of_another_size_than_the_network_is_refused(model_path: Path) -> None:
    file = unrolled.load(model_path).file
    file.encoding["words"].append(" ghost")
    with pytest.raises(InputError, match=r"the vocabulary has \d+ words, but the architecture \d+"):
        CaptionModel(file)


def test_the_built_in_scenes_are_written_once_and_read_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(scenes, "TRAIN_SCENES", 60)
    monkeypatch.setattr(scenes, "HELD_OUT_SCENES", 20)
    task = CaptionTask(CaptionOptions(**SMALL))
    assert task.data.names == [scenes.BUILTIN]
    assert (len(task.data.train), len(task.data.held_out)) == (60, 20)
    train, held_out = scenes.builtin()
    assert train.parent.parent == tmp_path / "unrolled" and len(list(held_out.glob("*.png"))) == 20
    before = [path.stat().st_mtime_ns for path in sorted(train.iterdir())]
    again = CaptionTask(CaptionOptions(**SMALL), seed=1)
    assert [path.stat().st_mtime_ns for path in sorted(train.iterdir())] == before
    assert again.data.fingerprint == task.data.fingerprint
    tensors = {name: value.numpy() for name, value in task.build().state_dict().items()}
    model = CaptionModel(task.describe(tensors, {"seed": 0}))
    assert model.evaluate().figures["pictures"] == 20
    assert str(held_out / "00000.png") in model.next_commands("m")[0]


def test_the_module_needs_no_library_to_be_imported() -> None:
    code = "import sys, json, unrolled.tasks.caption; print(json.dumps(list(sys.modules)))"
    done = python(code)
    assert not {"torch", "PIL", "sklearn", "scipy", "sacrebleu", "matplotlib"} & set(json.loads(done.stdout))
