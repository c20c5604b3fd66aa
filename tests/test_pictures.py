"""Folders of pictures with captions: what is there is read, and what cannot be used is said where it is."""

import csv
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.tasks.caption import pictures

STRICT = Refused(False)


def grey(value: int, width: int = 6, height: int = 6) -> Image.Image:
    return Image.new("L", (width, height), value)


def folder_of(tmp_path: Path, rows: Sequence[Sequence[str]], header: Sequence[str] = ("image", "caption")) -> Path:
    """A folder with two pictures, a.png and b.png, and a captions.txt of these rows."""
    for number, name in enumerate(("a.png", "b.png")):
        grey(50 * (number + 1)).save(tmp_path / name)
    with open(tmp_path / "captions.txt", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return tmp_path


def test_a_picture_has_all_its_captions_in_normal_form(tmp_path: Path) -> None:
    rows = [["b.png", " A  Dog, running ."], ["a.png", "A cat"], ["b.png", "Ein Hund"]]
    read = pictures.read([folder_of(tmp_path, rows)], STRICT)
    assert [Path(name).name for name in read.names] == ["b.png", "a.png"]
    assert list(read.captions) == [("a dog, running .", "ein hund"), ("a cat",)]
    assert read.pixels(slice(None)).shape == (2, 1, 6, 6)
    assert read.pixels(np.array([1, 0]))[:, 0, 0, 0].tolist() == [50, 100]
    part = read.part(np.array([1]))
    assert (len(part), part.pixels(slice(None))[0, 0, 0, 0]) == (1, 50)
    assert list(part.names) == [str(tmp_path / "a.png")]


def test_pictures_may_stand_in_a_folder_of_their_own(tmp_path: Path) -> None:
    folder_of(tmp_path, [["c.png", "a cat"]])
    (tmp_path / "Images").mkdir()
    grey(7).save(tmp_path / "Images" / "c.png")
    assert pictures.read([tmp_path], STRICT).pixels(slice(None))[0, 0, 0, 0] == 7


def test_several_folders_are_read_one_after_the_other(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        folder_of(tmp_path / name, [["a.png", name]])
    read = pictures.read([tmp_path / "one", tmp_path / "two"], STRICT)
    assert list(read.captions) == [("one",), ("two",)]


def test_one_picture_in_colour_makes_all_of_them_rgb(tmp_path: Path) -> None:
    folder_of(tmp_path, [["a.png", "grey"], ["c.png", "red"]])
    Image.new("RGB", (6, 6), (200, 10, 20)).save(tmp_path / "c.png")
    read = pictures.read([tmp_path], STRICT)
    assert (read.channels, read.size) == (3, 6)
    assert read.pixels(slice(None))[:, :, 3, 3].tolist() == [[50, 50, 50], [200, 10, 20]]


def test_the_square_is_as_large_as_the_longest_side_up_to_128(tmp_path: Path) -> None:
    folder_of(tmp_path, [["a.png", "small"], ["c.png", "wide"]])
    grey(9, 40, 20).save(tmp_path / "c.png")
    assert pictures.read([tmp_path], STRICT).size == 40
    grey(9, 300, 20).save(tmp_path / "c.png")
    assert pictures.read([tmp_path], STRICT).size == 128
    assert pictures.read([tmp_path], STRICT, size=16, channels=3).pixels(slice(None)).shape == (2, 3, 16, 16)


def content(picture: Image.Image, tmp_path: Path, name: str = "x.png", **options: Any) -> bytes:
    picture.save(tmp_path / name, **options)
    return (tmp_path / name).read_bytes()


def test_a_wide_picture_keeps_its_shape_between_black_bars(tmp_path: Path) -> None:
    pixels = pictures.fit(content(grey(90, 40, 20), tmp_path), "x", 20, 1)[0]
    assert (pixels[5:15] == 90).all()
    assert not pixels[:5].any() and not pixels[15:].any()


def test_a_picture_is_turned_the_right_way_up(tmp_path: Path) -> None:
    image = grey(0, 8, 8)
    image.paste(255, (0, 0, 8, 4))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    pixels = pictures.fit(content(image, tmp_path, exif=exif), "x", 8, 1)[0]
    assert (pixels[:4] == 0).all() and (pixels[4:] == 255).all()


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    assert (pictures.fit(content(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), tmp_path), "x", 4, 3) == 255).all()


def test_sixteen_bits_become_eight(tmp_path: Path) -> None:
    image = Image.fromarray(np.full((4, 4), 0x8042, np.uint16))
    assert (pictures.fit(content(image, tmp_path), "x", 4, 1) == 0x80).all()


def saved(image: Image.Image, path: Path, **options: Any) -> bytes:
    image.save(path, **options)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("values", "name", "expected"),
    [
        (np.array([0, 0x8042, 0xFFFF], np.uint16), "a.pgm", [0, 0x80, 0xFF]),
        (np.array([0, 0x8042, 0xFFFF], np.int32), "a.tiff", [0, 0x80, 0xFF]),
        (np.array([0, 100, 255], np.int32), "a.tiff", [0, 100, 255]),
        (np.array([0, 0.2, 1], np.float32), "a.tiff", [0, 51, 255]),
    ],
)
def test_wide_numbers_become_eight_bits(tmp_path: Path, values: Any, name: str, expected: list[int]) -> None:
    image = Image.fromarray(np.broadcast_to(values, (3, 3)).copy())
    assert pictures.fit(saved(image, tmp_path / name), "x", 3, 1)[0, 1].tolist() == expected


def test_sixteen_bits_with_a_transparent_value_become_eight(tmp_path: Path) -> None:
    image = Image.fromarray(np.broadcast_to(np.array([0x1000, 0x8042, 0x2000], np.uint16), (3, 3)).copy())
    found = pictures.fit(saved(image, tmp_path / "a.png", transparency=0x1000), "x", 3, 1)
    assert found[0, 1].tolist() == [255, 0x80, 0x20]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.array([0, 1 << 20], np.int32), "whole numbers from 0 to 1.04858e+06, expected 0 to 65535"),
        (np.array([-3, 9], np.int32), "whole numbers from -3 to 9, expected 0 to 65535"),
        (np.array([0, 255], np.float32), "floating-point numbers from 0 to 255, expected 0 to 1"),
        (np.array([0, np.nan], np.float32), "floating-point numbers from nan to nan, expected 0 to 1"),
    ],
)
def test_numbers_of_no_known_range_are_refused(tmp_path: Path, values: Any, reason: str) -> None:
    image = Image.fromarray(np.broadcast_to(values, (2, 2)).copy())
    with pytest.raises(InputError, match=f"^x has {re.escape(reason)}"):
        pictures.fit(saved(image, tmp_path / "a.tiff"), "x", 2, 1)


def test_the_fingerprint_is_of_pictures_and_captions(tmp_path: Path) -> None:
    def fingerprint(caption: str = "a cat") -> str:
        return pictures.read([folder_of(tmp_path, [["a.png", caption]])], STRICT).fingerprint

    first = fingerprint()
    assert fingerprint() == first != fingerprint("a dog")
    grey(51).save(tmp_path / "a.png")
    assert pictures.read([tmp_path], STRICT).fingerprint != first


BAD_ROWS = [
    (["c.png", "a bird"], r"captions.txt, line 3: the picture 'c.png' is not in "),
    (["", "a bird"], r"captions.txt, line 3: the picture '' is not in "),
    (["a.png", " "], r"captions.txt, line 3: the caption of 'a.png' is empty"),
    (["a.png"], r"captions.txt, line 3: found 1 column, expected 2, image and caption;"),
    (
        ["a.png", "one", "two"],
        r"line 3: found 3 columns, .*; a caption with a comma in it stands in double quotes",
    ),
]


@pytest.mark.parametrize(("row", "reason"), BAD_ROWS)
def test_a_bad_line_is_named_or_left_out_and_counted(tmp_path: Path, row: list[str], reason: str) -> None:
    folder = folder_of(tmp_path, [["a.png", "a cat"], row, ["b.png", "a dog"]])
    with pytest.raises(InputError, match=reason):
        pictures.read([folder], STRICT)
    refused = Refused(True)
    assert list(pictures.read([folder], refused).captions) == [("a cat",), ("a dog",)]
    assert len(refused.reasons) == 1


def test_where_every_line_is_left_out_the_first_reason_is_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [["none.png", "a cat"], ["a.png", ""]])
    with pytest.raises(InputError) as error:
        pictures.read([folder], Refused(True))
    assert "there is no picture with a caption (the first was left out: " in str(error.value)
    assert "captions.txt, line 2: the picture 'none.png'" in str(error.value)


def test_a_line_is_counted_from_where_it_begins(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [["a.png", "on\ntwo lines"], ["c.png", "x\ny"]])
    with pytest.raises(InputError, match=r"captions.txt, line 4: the picture 'c.png'"):
        pictures.read([folder], STRICT)


@pytest.mark.parametrize("kind", ["jpg", "png"])
def test_a_picture_that_is_cut_off_is_refused(tmp_path: Path, kind: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    whole = content(Image.fromarray(noise), tmp_path, f"x.{kind}")
    folder = folder_of(tmp_path, [["a.png", "a cat"], ["b.png", "a dog"]])
    (folder / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"b\.png is damaged or cut off: .*; --skip-bad"):
        pictures.read([folder], STRICT)
    assert list(pictures.read([folder], Refused(True)).names) == [str(folder / "a.png")]


def test_a_file_that_is_no_picture_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [["a.png", "a cat"]])
    (folder / "a.png").write_text("no picture")
    with pytest.raises(InputError, match=r"a\.png is not a picture that can be read; expected PNG, JPEG"):
        pictures.read([folder], STRICT)
    with pytest.raises(InputError, match="there is no picture with a caption"):
        pictures.read([folder], Refused(True))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", r"captions.txt is empty; expected a line 'image,caption'"),
        (b"image\na.png\n", r"captions.txt, line 1: the columns are 'image', expected 'image,caption'"),
        (b"picture,caption\n", r"line 1: the columns are 'picture,caption', expected 'image,caption'"),
        (b"image,caption\n", r"there is no picture with a caption"),
        (b'image,caption\na.png,"a cat\n', r"captions.txt, line 2: not CSV: unexpected end of data"),
        (b"image,caption\na.png,\xff\n", r"captions.txt: byte 0xFF at offset 20 of it is not UTF-8, expected"),
    ],
)
def test_a_captions_file_that_is_none_is_refused(tmp_path: Path, text: bytes, reason: str) -> None:
    folder = folder_of(tmp_path, [])
    (folder / "captions.txt").write_bytes(text)
    with pytest.raises(InputError, match=reason):
        pictures.read([folder], STRICT)


def test_a_missing_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"nowhere is not a folder; expected one with pictures and a captions.txt"
    ):
        pictures.read([tmp_path / "nowhere"], STRICT)
    with pytest.raises(InputError, match=r"captions.txt could not be read: No such file"):
        pictures.read([tmp_path], STRICT)
    with pytest.raises(InputError, match=r"x.png could not be read: No such file"):
        pictures.read_picture(tmp_path / "x.png", 8, 1)
    with pytest.raises(InputError, match=r"is a folder, expected a picture; `unrolled eval` measures on folders"):
        pictures.read_picture(tmp_path, 8, 1)
