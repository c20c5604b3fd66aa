"""Pictures with captions, read from a folder in the form of Flickr8k: picture files and a captions.txt.

Every picture is turned the right way up, made grey or RGB, fitted into a square with black on what is left over,
and kept on disk as bytes, so that a folder may be far larger than memory. This file knows no words and no model.
"""

import csv
import hashlib
import io
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError, counted
from unrolled.examples import Refused
from unrolled.extras import extra
from unrolled.texts import text_of

__all__ = ["CAPTIONS", "Pictures", "fit", "gather", "normal", "pillow", "read", "read_picture"]

CAPTIONS = "captions.txt"
COLUMNS = ["image", "caption"]
LARGEST = 128  # pixels: the square that larger pictures are fitted into unless another is asked for
GREY = ("1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "F")  # Pillow's modes of pictures without colour


@dataclass(frozen=True)
class Pictures:
    """Some pictures, and of each its file and its captions, which are normal (see `normal`), one or more.

    `stored` [M, C, S, S] are the bytes of these and other pictures (C is 1 for grey, 3 for RGB), and `rows` [N]
    says which are these. `fingerprint` is the SHA-256 of the files' bytes and the captions of all that were read
    together.
    """

    names: Sequence[str]
    captions: Sequence[Sequence[str]]
    stored: NDArray[np.uint8]
    rows: NDArray[np.int64]
    fingerprint: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def size(self) -> int:
        """S, the side of the squares."""
        return int(self.stored.shape[-1])

    @property
    def channels(self) -> int:
        """C, 1 for grey or 3 for RGB."""
        return int(self.stored.shape[1])

    def pixels(self, places: NDArray[np.integer] | slice) -> NDArray[np.uint8]:
        """The pictures at these places, [B, C, S, S]."""
        return self.stored[self.rows[places]]

    def part(self, places: NDArray[np.integer]) -> "Pictures":
        """These pictures alone, in this order."""
        names = [self.names[place] for place in places]
        captions = [self.captions[place] for place in places]
        return Pictures(names, captions, self.stored, self.rows[places], self.fingerprint)


def normal(caption: str) -> str:
    """The caption in small letters, with one space where there was any white space."""
    return " ".join(caption.lower().split())


def read(
    folders: Sequence[str | Path],
    refused: Refused,
    size: int | None = None,
    channels: int | None = None,
    base: str = "",
) -> Pictures:
    """The pictures of `folders`, in the order in which their captions.txt first names them.

    captions.txt is CSV in UTF-8 with the header `image,caption`; a picture may have several lines. Its file is in
    the folder itself or in `Images` there. `size` is the side S of the squares (default: the longest side of
    any picture, at most 128); `channels` is 1 or 3 (default: 1 if no picture has colour). `base` is the folder
    that relative `folders` are of; it is in no picture's name, and so not in the fingerprint. Lines and pictures
    that cannot be used go to `refused`. Raises InputError for a folder without captions.txt, for another header,
    and where nothing is left.
    """
    captions: dict[Path, list[str]] = {}
    names: dict[Path, str] = {}
    for folder in folders:
        there = Path(base, folder)
        _read_captions(there, captions, refused)
        for path in captions.keys() - names:
            names[path] = str(folder / path.relative_to(there) if path.is_relative_to(there) else path)
    if size is None or channels is None:
        sides, colours = zip(*map(_peek, captions), strict=True) if captions else ((1,), (1,))
        size = size or min(LARGEST, max(1, *sides))
        channels = channels or max(colours)

    def decoded() -> Iterator[tuple[str, Sequence[str], NDArray[np.uint8], bytes]]:
        for path, texts in captions.items():
            try:
                content = path.read_bytes()
                yield names[path], texts, fit(content, str(path), size, channels), content
            except OSError as error:
                refused(f"{path} could not be read: {error.strerror}")
            except InputError as error:
                refused(str(error))

    pictures = gather(decoded(), size, channels)
    if not len(pictures):
        raise InputError(f"{', '.join(map(str, folders))}: there is no picture with a caption{refused.first}")
    return pictures


def gather(
    examples: Iterator[tuple[str, Sequence[str], NDArray[np.uint8], bytes]], size: int, channels: int
) -> Pictures:
    """Name, captions, pixels [C, S, S] and the file's bytes of every example; the pixels go to an unnamed file."""
    names, captions = [], []
    digest = hashlib.sha256()
    with tempfile.TemporaryFile() as file:
        for name, texts, pixels, content in examples:
            file.write(np.ascontiguousarray(pixels).data)
            for part in (name.encode(), content, *(text.encode() for text in texts)):
                digest.update(len(part).to_bytes(8, "little") + part)
            names.append(name)
            captions.append(tuple(texts))
        file.flush()
        shape = (len(names), channels, size, size)
        pixels = np.asarray(np.memmap(file, np.uint8, "r", shape=shape)) if names else np.empty(shape, np.uint8)
    return Pictures(names, captions, pixels, np.arange(len(names)), digest.hexdigest())


def read_picture(path: str | Path, size: int, channels: int) -> NDArray[np.uint8]:
    """One picture file, `-` for standard input, as `fit` gives it; `InputError` where there is none."""
    if path == "-":
        return fit(sys.stdin.buffer.read(), "standard input", size, channels)
    try:
        return fit(Path(path).read_bytes(), str(path), size, channels)
    except IsADirectoryError as error:
        raise InputError(
            f"{path} is a folder, expected a picture; `unrolled eval` measures on folders."
        ) from error
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}.") from error


def fit(content: bytes, name: str, size: int, channels: int) -> NDArray[np.uint8]:
    """The bytes of a picture file as pixels [C, S, S]; `name` is for the `InputError` where they are no picture.

    The picture keeps its shape: what of the square is left over is black. What is transparent becomes white. Of 16
    bits the upper eight count; floating-point numbers go from 0 (black) to 1 (white).
    """
    library = pillow()
    try:
        with library.Image.open(io.BytesIO(content)) as opened:
            picture = library.ImageOps.exif_transpose(opened)
            if picture.mode.startswith(("I", "F")):
                picture = _eight_bits(picture, name)
            elif picture.has_transparency_data:
                picture = picture.convert("RGBA")
                picture = library.Image.alpha_composite(library.Image.new("RGBA", picture.size, "white"), picture)
            picture = picture.convert("L" if channels == 1 else "RGB")
            picture = library.ImageOps.pad(picture, (size, size))
    except InputError:
        raise
    except library.UnidentifiedImageError as error:
        raise InputError(f"{name} is not a picture that can be read; expected PNG, JPEG or the like.") from error
    except (OSError, SyntaxError, ValueError, EOFError, library.Image.DecompressionBombError) as error:
        raise InputError(f"{name} is damaged or cut off: {str(error).rstrip('.')}.") from error
    pixels = np.asarray(picture, np.uint8).reshape(size, size, channels)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _eight_bits(picture: Any, name: str) -> Any:
    """A grey picture of integers or floating-point numbers, which Pillow would clip at 255, as one of bytes."""
    values = np.asarray(picture)
    whole = values.dtype.kind != "f"
    least, most, highest = values.min(), values.max(), 65535 if whole else 1
    if not (least >= 0 and most <= highest):
        kind = "whole" if whole else "floating-point"
        raise InputError(f"{name} has {kind} numbers from {least:g} to {most:g}, expected 0 to {highest}.")
    if not whole:
        grey = np.rint(values * 255)
    elif picture.mode == "I" and most < 256:
        grey = values
    else:
        grey = values >> 8
    transparent = picture.info.get("transparency")
    if transparent is not None:
        grey = np.where(values == transparent, 255, grey)
    return pillow().Image.fromarray(grey.astype(np.uint8))


def pillow() -> Any:
    """Pillow, with the modules that are needed of it; `InputError` where it is not installed."""
    with extra("pictures", "reading pictures needs Pillow"):
        import PIL
        import PIL.Image
        import PIL.ImageOps
    library: ModuleType = PIL
    return library


def _read_captions(folder: Path, captions: dict[Path, list[str]], refused: Refused) -> None:
    """Add to `captions` what the captions.txt of one folder says, by the picture's file."""
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with pictures and a {CAPTIONS}.")
    path = folder / CAPTIONS
    try:
        text = text_of(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path} could not be read: {error.strerror}.") from error
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    header, before = None, 0
    try:
        for row in rows:
            line, before = before + 1, rows.line_num
            if header is None:
                header = row
                if header != COLUMNS:
                    raise InputError(
                        f"{path}, line 1: the columns are {','.join(row)!r}, expected 'image,caption'."
                    )
            elif row:
                _add(folder, f"{path}, line {line}", row, captions, refused)
    except csv.Error as error:
        raise InputError(f"{path}, line {before + 1}: not CSV: {error}.") from error
    if header is None:
        raise InputError(f"{path} is empty; expected a line 'image,caption' and a line a caption.")


def _add(folder: Path, place: str, row: list[str], captions: dict[Path, list[str]], refused: Refused) -> None:
    if len(row) != len(COLUMNS):
        hint = "; a caption with a comma in it stands in double quotes" if len(row) > len(COLUMNS) else ""
        refused(f"{place}: found {counted(len(row), 'column')}, expected 2, image and caption{hint}")
        return
    name, caption = row[0].strip(), normal(row[1])
    places = (folder / name, folder / "Images" / name, folder / "images" / name)
    file = next((file for file in places if name and file.is_file()), None)
    if file is None:
        refused(f"{place}: the picture {name!r} is not in {folder}, nor in its folder Images or images")
    elif not caption:
        refused(f"{place}: the caption of {name!r} is empty")
    else:
        captions.setdefault(file, []).append(caption)


def _peek(path: Path) -> tuple[int, int]:
    """The longest side of a picture and its channels, without decoding it; (1, 1) if it cannot be opened."""
    library = pillow()
    try:
        with library.Image.open(path) as picture:
            return max(picture.size), 1 if picture.mode in GREY else 3
    except (OSError, SyntaxError, ValueError, library.Image.DecompressionBombError):
        return 1, 1
