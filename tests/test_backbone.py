"""Captions by a network of timm: its weights are taken, kept and looked through; without timm, a sentence."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import unrolled
from tolerances import assert_close
from unrolled.architecture import CaptionArchitecture
from unrolled.errors import InputError
from unrolled.loop import train
from unrolled.models.backbone import Backbone
from unrolled.recipe import TrainOptions
from unrolled.tasks.caption import CaptionOptions, CaptionRunOptions, CaptionTask

pytestmark = pytest.mark.usefixtures("one_thread")

NAME = "resnet18"
needs_timm = pytest.mark.skipif(importlib.util.find_spec("timm") is None, reason="timm is not installed")


def folder_of(tmp_path: Path, count: int = 12) -> Path:
    rng = np.random.default_rng(0)
    rows = ["image,caption"]
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,a {'red' if number % 2 else 'blue'} picture")
    (tmp_path / "captions.txt").write_text("\n".join(rows) + "\n")
    return tmp_path


def options(**given: Any) -> CaptionOptions:
    usual: dict[str, Any] = {"embedding": 16, "hidden": 16, "batch": 4, "backbone": NAME}
    return CaptionOptions(**(usual | given))


def test_a_backbone_and_its_weights_come_together(tmp_path: Path) -> None:
    both: tuple[dict[str, Any], ...] = ({}, {"backbone": None, "backbone_weights": "w.safetensors"})
    for given in both:
        with pytest.raises(InputError, match="--backbone and --backbone-weights come together"):
            CaptionTask(options(**given), [folder_of(tmp_path)])


def test_without_timm_a_sentence_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    task = CaptionTask(options(backbone_weights="w.safetensors"), [folder_of(tmp_path)])
    with pytest.raises(InputError, match=r"needs timm and torchvision: pip install 'unrolled\[timm\]'"):
        task.build()


def test_a_file_names_the_tensors_of_a_backbone() -> None:
    document = {
        "channels": 3,
        "size": 48,
        "width": 0,
        "backbone": "some_network",
        "backbone_tensors": {"stem.weight": [4, 3, 3, 3], "count": []},
        "backbone_side": 3,
        "backbone_memory": 8,
        "cell": "lstm",
        "symbols": 5,
        "embedding": 6,
        "hidden": 7,
    }
    shapes = CaptionArchitecture.from_json(document).shapes()
    assert shapes["grid.stem.weight"] == (4, 3, 3, 3) and shapes["grid.count"] == ()
    assert shapes["position"] == (8, 3, 3) and not any(name.startswith("grid.0") for name in shapes)
    for bad in (["stem"], {"stem": 3}, {"stem": [-1]}, {"stem": [1.5]}):
        with pytest.raises(ValueError, match="backbone_tensors must have a list of whole numbers for each tensor"):
            CaptionArchitecture.from_json({**document, "backbone_tensors": bad})
    with pytest.raises(ValueError, match="backbone is 3, expected a text"):
        CaptionArchitecture.from_json({**document, "backbone": 3})


@needs_timm
def test_a_model_looks_through_the_backbones_own_weights(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    weights = timm.create_model(NAME).state_dict()
    save_file(weights, tmp_path / "w.safetensors")
    task = CaptionTask(options(backbone_weights=str(tmp_path / "w.safetensors")), [folder_of(tmp_path)])
    out = tmp_path / "model.safetensors"
    list(train(task, TrainOptions(steps=4, lr=0.01), out))
    (tmp_path / "w.safetensors").unlink()
    model = unrolled.load(out)
    kept = {name: value for name, value in model.file.tensors.items() if name.startswith("grid.")}
    assert len(kept) > 50
    for name, value in kept.items():
        assert_close(torch.from_numpy(value), weights[name.removeprefix("grid.network.")].float())
    pictures = torch.from_numpy(task.data.train.pixels(slice(0, 2)))
    mean, deviation = (torch.tensor(x)[:, None, None] for x in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    whole = timm.create_model(NAME, features_only=True, out_indices=(3,))
    whole.load_state_dict({name.removeprefix("grid.network."): torch.from_numpy(v) for name, v in kept.items()})
    expected = whole.eval()((pictures / 255 - mean) / deviation)[0]
    memory, _ = model.network.look(pictures)
    places = (expected + model.network.position).flatten(2).permute(2, 0, 1)
    assert memory.shape == (9, 2, 256)
    assert_close(memory, places)
    (output,) = model.run([str(tmp_path / "0.png")], CaptionRunOptions())
    assert set(output.line.split()) <= {"a", "red", "blue", "picture"}


@needs_timm
def test_what_timm_cannot_use_is_refused(tmp_path: Path) -> None:
    bad = tmp_path / "bad.safetensors"
    save_file({"x": torch.zeros(2)}, bad)
    folder = folder_of(tmp_path)
    for name, reason in (
        ("no_such_net", r"^timm cannot make 'no_such_net': Unknown model \(no_such_net\)"),
        (
            "vit_small_patch32_224",
            r"^vit_small_patch32_224 has no stage of at most 16 pixels a place, but of \[32",
        ),
    ):
        with pytest.raises(InputError, match=reason):
            CaptionTask(options(backbone=name, backbone_weights=str(bad)), [folder]).build()
    with pytest.raises(InputError, match=r"bad\.safetensors does not hold the weights of resnet18: conv1"):
        CaptionTask(options(backbone_weights=str(bad)), [folder]).build()
    with pytest.raises(InputError, match=r"none\.safetensors is not a file; expected the weights of resnet18"):
        CaptionTask(options(backbone_weights="none.safetensors"), [folder]).build()


@needs_timm
@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("cut.safetensors", b"\xff", "Error while deserializing header"),
        ("cut.pth", b"", "EOFError"),
        ("list.pth", [1, 2], "'list' object has no attribute 'items'"),
        ("numbers.pth", {"a": 1}, "conv1.weight is missing"),
    ],
)
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, file: str, content: Any, reason: str) -> None:
    if isinstance(content, bytes):
        (tmp_path / file).write_bytes(content)
    else:
        torch.save(content, tmp_path / file)
    with pytest.raises(InputError, match=rf"/{file} does not hold the weights of resnet18: {reason}"):
        Backbone(NAME, 3, str(tmp_path / file))


@needs_timm
def test_grey_pictures_are_seen_with_one_mean_of_the_colours() -> None:
    backbone = Backbone(NAME, 1)
    tensors, *sizes = backbone.sizes(48)
    assert sizes == [3, 256] and tensors["network.conv1.weight"] == (64, 1, 7, 7)
    assert_close(backbone.mean.flatten(), torch.tensor([0.485 + 0.456 + 0.406]) / 3)
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@needs_timm
def test_a_file_of_weights_leaves_the_random_numbers_to_the_seed(tmp_path: Path) -> None:
    torch.save(Backbone(NAME, 3).network.state_dict(), tmp_path / "w.pth")
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        Backbone(NAME, 3, str(tmp_path / "w.pth"))
        drawn.append(torch.rand(1))
    assert not torch.equal(*drawn)
