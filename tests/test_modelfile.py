"""The model file: what goes in comes out, and anything less than a whole one is refused in a sentence."""

import json
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import unrolled
from small import text_file
from unrolled import modelfile
from unrolled.architecture import CaptionArchitecture, TextArchitecture
from unrolled.atomic import replacing
from unrolled.errors import InputError
from unrolled.modelfile import ModelFile
from unrolled.tasks import TASKS
from unrolled.tasks.text import TextModel
from unrolled.vocabulary import CharVocabulary

Tensors = dict[str, Any]


def refusal(path: Path, read: Callable[[Path], object] = modelfile.read) -> str:
    """Why a file is refused, without its name: one sentence that begins with the name."""
    with pytest.raises(InputError) as refused:
        read(path)
    message = str(refused.value)
    assert message.startswith(f"{path} ") and message.endswith(".")
    assert "\n" not in message and ". " not in message.removeprefix(str(path))
    return message.removeprefix(f"{path} ")


def rewrite(path: Path, change: Callable[[dict[str, Any], Tensors], None]) -> None:
    """Write a model file anew after `change` has had its description and its tensors."""
    with safetensors.safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["unrolled"])
    tensors: Tensors = safetensors.numpy.load_file(path)
    change(description, tensors)
    path.write_bytes(safetensors.numpy.save(tensors, {"unrolled": json.dumps(description)}))


@contextmanager
def disk_full_after(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru"])
def test_what_is_written_is_read(tmp_path: Path, cell: str) -> None:
    model = text_file(cell, layers=3)
    path = tmp_path / "model.safetensors"
    modelfile.write(path, model)
    back = modelfile.read(path)
    assert replace(back, tensors={}) == replace(model, tensors={})
    assert back.tensors.keys() == model.tensors.keys()
    for name, tensor in back.tensors.items():
        assert tensor.dtype == np.float32
        assert np.array_equal(tensor, model.tensors[name])
    assert back.fingerprint() == model.fingerprint()


def test_a_loaded_model_shows_what_it_is(model_path: Path) -> None:
    said = f"1 lstm layer of 1,234 units, {text_file(layers=1, hidden=1234).architecture.parameters:,} parameters>"
    assert repr(TextModel(text_file(layers=1, hidden=1234))) == f"<TextModel: {said}"
    assert repr(unrolled.load(model_path)).startswith("<TextModel model.safetensors: 2 lstm layers of 17 units, ")
    assert all(issubclass(task.Model, modelfile.Loaded) for task in TASKS.values())
    assert len(repr(unrolled.load(model_path).file)) < 300


def test_a_caption_model_shows_its_one_layer() -> None:
    sizes = CaptionArchitecture(3, 16, 4, "", {}, 0, 0, "gru", 9, 5, 6)
    shown = repr(modelfile.Loaded(ModelFile("caption", sizes, {}, {}, {})))
    assert shown == f"<Loaded: 1 gru layer of 6 units, {sizes.parameters:,} parameters>"


def test_the_same_model_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        modelfile.write(tmp_path / name, text_file())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_every_name_and_character_is_kept(tmp_path: Path) -> None:
    # A file name on Linux is any bytes; Python holds those that are not UTF-8 as lone surrogates.
    training = {"names": ["fließend 漢字 😀.txt", "latin\udce9.txt"]}
    vocabulary = CharVocabulary("\0\né漢😀").to_json()
    model = replace(text_file(), training=training, encoding=vocabulary)
    modelfile.write(tmp_path / "model", model)
    back = modelfile.read(tmp_path / "model")
    assert (back.training, back.encoding) == (training, vocabulary)


def test_a_fingerprint_is_that_of_the_weights() -> None:
    model = text_file()
    tensors = {name: tensor.copy() for name, tensor in model.tensors.items()}
    tensors["head.bias"][3] = np.nextafter(tensors["head.bias"][3], np.float32(9))
    assert replace(model, training={}).fingerprint() == model.fingerprint()
    assert replace(model, tensors=tensors).fingerprint() != model.fingerprint()
    assert replace(model, tensors=dict(reversed(list(model.tensors.items())))).fingerprint() == model.fingerprint()


@pytest.mark.parametrize(("cell", "gates"), [("rnn", 1), ("lstm", 4), ("gru", 3)])
def test_an_architecture_counts_its_parameters(cell: str, gates: int) -> None:
    V, E, H = 11, 3, 5
    recurrent = gates * (H * E + H * H + 2 * H) + gates * (H * H + H * H + 2 * H)
    assert TextArchitecture(cell, V, E, H, 2).parameters == V * E + recurrent + V * H + V


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("there", [True, False])
def test_a_symbolic_link_stays_one_and_its_target_is_written(tmp_path: Path, there: bool) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to("folder/target")
    if there:
        target.write_text("old")
    with replacing(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink() and target.read_text() == "new"
    assert {path.name for path in tmp_path.rglob("*")} == {"folder", "target", "link"}


def test_a_file_keeps_who_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch(0o600)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_pipe_is_not_replaced_by_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    said = "pipe is a device or a pipe, expected the name of a file"
    with pytest.raises(InputError, match=said), replacing(tmp_path / "pipe") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "pipe").is_fifo() and list(tmp_path.iterdir()) == [tmp_path / "pipe"]


def test_what_a_killed_process_left_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / ".model.partial").write_bytes(b"half" * 10_000)
    modelfile.write(tmp_path / "model", text_file())
    modelfile.read(tmp_path / "model")
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_content_is_on_the_disk_before_it_has_its_name_and_then_so_is_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flush, flushed = tmp_path / "file", os.fsync, []

    def fsync(file: int) -> None:
        flushed.append((os.readlink(f"/proc/self/fd/{file}"), path.read_text()))
        flush(file)

    path.write_text("old")
    monkeypatch.setattr(os, "fsync", fsync)
    with replacing(path) as temporary:
        temporary.write_text("new")
    assert flushed == [(str(temporary), "old"), (str(tmp_path), "new")]


def test_an_error_that_has_no_number_is_told_in_its_own_words(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"/m could not be written: cannot write mode F\.$"),
        replacing(tmp_path / "m"),
    ):
        raise OSError("cannot write mode F")


def test_a_full_disk_keeps_the_old_file_and_leaves_no_other(model_path: Path) -> None:
    old = model_path.read_bytes()
    with disk_full_after(len(old) // 2):
        assert refusal(model_path, lambda path: modelfile.write(path, text_file("gru"))).startswith(
            "could not be written: "
        )
    assert model_path.read_bytes() == old
    assert list(model_path.parent.iterdir()) == [model_path]


@pytest.mark.parametrize(
    "name", ["missing/model", "file/model", "folder", pytest.param("long" * 63, id="a name too long")]
)
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    before = sorted(tmp_path.rglob("*"))
    path = tmp_path / name
    assert "could not be written" in refusal(path, lambda path: modelfile.write(path, text_file()))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_cut_at_any_byte_is_refused(model_path: Path) -> None:
    modelfile.write(model_path, text_file(layers=1, hidden=2))
    content = model_path.read_bytes()
    for cut in range(len(content)):
        model_path.write_bytes(content[:cut])
        assert "damaged or not a model file" in refusal(model_path)


def test_a_file_with_a_tail_is_refused(model_path: Path) -> None:
    model_path.write_bytes(model_path.read_bytes() + b"\0")
    assert "damaged or not a model file" in refusal(model_path)


@pytest.mark.parametrize("bit", range(64))
def test_a_flipped_bit_in_the_headers_length_is_refused(model_path: Path, bit: int) -> None:
    content = bytearray(model_path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    model_path.write_bytes(content)
    assert "damaged or not a model file" in refusal(model_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_flipped_bit_anywhere_is_refused_or_harmless(
    tmp_path: Path, model_path: Path, data: st.DataObject
) -> None:
    content = bytearray(model_path.read_bytes())
    header = 8 + int.from_bytes(content[:8], "little")
    content[data.draw(st.integers(8, header - 1))] ^= 1 << data.draw(st.integers(0, 7))
    flipped = tmp_path / "flipped.safetensors"
    flipped.write_bytes(content)
    try:
        unrolled.load(flipped)
    except InputError as error:
        assert str(error).startswith(f"{flipped} "), error


def set_version(description: dict[str, Any], tensors: Tensors) -> None:
    description["version"] = 1


def widen(description: dict[str, Any], tensors: Tensors) -> None:
    tensors["head.weight"] = np.zeros((10, 18), np.float32)


def transpose(description: dict[str, Any], tensors: Tensors) -> None:
    tensors["recurrent.0.weight_hh_l0"] = np.zeros((17, 68), np.float32)


def halve(description: dict[str, Any], tensors: Tensors) -> None:
    tensors["head.bias"] = tensors["head.bias"].astype(np.float16)


def double(description: dict[str, Any], tensors: Tensors) -> None:
    tensors["head.bias"] = tensors["head.bias"].astype(np.float64)


def lose(description: dict[str, Any], tensors: Tensors) -> None:
    del tensors["recurrent.1.bias_hh_l0"]


def add(description: dict[str, Any], tensors: Tensors) -> None:
    tensors["recurrent.2.bias_hh_l0"] = np.zeros(68, np.float32)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (set_version, "format version 1 is unknown; this program reads 2"),
        (widen, "tensor head.weight is float32 [10, 18], its architecture needs float32 [10, 17]"),
        (
            transpose,
            "tensor recurrent.0.weight_hh_l0 is float32 [17, 68], its architecture needs float32 [68, 17]",
        ),
        (halve, "tensor head.bias is float16 [10], its architecture needs float32 [10]"),
        (double, "tensor head.bias is float64 [10], its architecture needs float32 [10]"),
        (lose, "tensor recurrent.1.bias_hh_l0 is missing"),
        (add, "tensor recurrent.2.bias_hh_l0 does not belong to its architecture"),
    ],
)
def test_a_file_that_does_not_fit_says_why(
    model_path: Path, change: Callable[[dict[str, Any], Tensors], None], reason: str
) -> None:
    rewrite(model_path, change)
    assert refusal(model_path) == f"cannot be used: {reason}."


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("cell", "mamba", "cell is 'mamba', expected one of rnn, gru, lstm, or a variant of one"),
        ("cell", ["lstm"], "cell is ['lstm'], expected a text"),
        ("hidden", 0, "hidden is 0, expected a whole number of at least 1"),
        ("hidden", 17.0, "hidden is 17.0, expected a whole number of at least 1"),
        ("layers", "2", "layers is '2', expected a whole number of at least 1"),
        ("symbols", True, "symbols is True, expected a whole number of at least 1"),
        ("heads", 4, "architecture must have cell, symbols, embedding, hidden, layers"),
    ],
)
def test_an_architecture_that_cannot_be_is_refused(
    model_path: Path, name: str, value: object, reason: str
) -> None:
    rewrite(model_path, lambda description, _: description["architecture"].update({name: value}))
    assert refusal(model_path) == f"cannot be used: {reason}."


@pytest.mark.parametrize("name", ["architecture", "encoding", "training", "task"])
@pytest.mark.parametrize("value", [None, 3, []])
def test_a_description_with_a_wrong_part_is_refused(model_path: Path, name: str, value: object) -> None:
    rewrite(model_path, lambda description, _: description.update({name: value}))
    assert name in refusal(model_path)


@pytest.mark.parametrize("name", ["architecture", "encoding", "training", "task"])
def test_a_description_without_a_part_is_refused(model_path: Path, name: str) -> None:
    rewrite(model_path, lambda description, _: description.pop(name))
    assert refusal(model_path) == f"cannot be used: no '{name}' in its description."


@pytest.mark.parametrize("description", ["", "[]", "3", '{"format": "other"}', '{"format": "unrolled model"}'])
def test_a_description_that_is_no_models_is_refused(model_path: Path, description: str) -> None:
    tensors: Tensors = safetensors.numpy.load_file(model_path)
    model_path.write_bytes(safetensors.numpy.save(tensors, {"unrolled": description}))
    assert refusal(model_path).startswith("cannot be used: ")


def test_another_programs_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    for metadata in (None, {"format": "pt"}):
        safetensors.numpy.save_file({"weight": np.zeros(3, np.float32)}, path, metadata)
        assert refusal(path) == "is a safetensors file, but not one written by `unrolled train`."


def test_a_dtype_that_numpy_lacks_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bfloat16.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3, dtype=torch.bfloat16)}, path, {"unrolled": "{}"})
    refusal(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "model.safetensors").startswith("does not exist; expected a model file")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith("is a folder; expected a model file")


@pytest.mark.parametrize("content", [b"\x80\x04K\x01.", b"PK\x03\x04" * 100, b"plain text, and a good deal of it"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "damaged or not a model file" in refusal(path)


def test_a_model_of_an_unknown_task_is_not_run(model_path: Path) -> None:
    rewrite(model_path, lambda description, _: description.update(task="poker"))
    assert (
        refusal(model_path, unrolled.load)
        == "cannot be used: it was trained for the task 'poker', which this version cannot run."
    )


@pytest.mark.parametrize("vocabulary", [CharVocabulary("ab").to_json(), {"level": "char"}, {"level": "runes"}, {}])
def test_a_vocabulary_that_does_not_fit_is_refused_with_the_files_name(
    model_path: Path, vocabulary: dict[str, Any]
) -> None:
    rewrite(model_path, lambda description, _: description.update(encoding=vocabulary))
    refusal(model_path, unrolled.load)
