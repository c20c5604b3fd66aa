"""Texts that a person gives a command: themselves, in files, or on standard input.

`-` is standard input, and what names a file is that file. A name of no file is refused, not taken for a text.
"""

import gzip
import re
import sys
import textwrap
import zlib
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE, BOM_UTF32_BE, BOM_UTF32_LE
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO, NamedTuple

from unrolled.errors import InputError

__all__ = ["GZIP", "MOST", "Placed", "decoded", "numbered", "placed", "text_of", "unpacked", "whole", "wide"]

GZIP = b"\x1f\x8b"  # how such a file begins
MOST = 16 << 20  # bytes of a line; one that never ends would take all memory that there is
WIDE = {BOM_UTF32_LE: "UTF-32", BOM_UTF32_BE: "UTF-32", BOM_UTF16_LE: "UTF-16", BOM_UTF16_BE: "UTF-16"}
"""The encodings that begin with a mark of their own; one mark of UTF-32 begins with one of UTF-16."""
FILE_NAME = re.compile(r"(?:~?\.{0,2}/)?\S*\.[A-Za-z][A-Za-z0-9]{0,7}|~?\.{0,2}/\S+")


class Placed(NamedTuple):
    """A text, and where it stands, as a sentence says it."""

    text: str
    place: str


def whole(given: str) -> str:
    """The text `given`, or that of the file (gzipped or not) or of standard input that it names.

    Raises `InputError` for a folder, and for a file that is not there, cannot be read or is not UTF-8.
    """
    if given == "-":
        return text_of(sys.stdin.buffer.read(), "standard input")
    path = Path(given)
    if _is(Path.is_file, path):
        try:
            return text_of(unpacked(path), given)
        except OSError as error:
            raise InputError(f"{given} cannot be read: {error.strerror}.") from error
    if given and _is(Path.is_dir, path):
        raise InputError(f"{given} is a folder, expected a text or a file; a text of that name comes by '-'.")
    if FILE_NAME.fullmatch(given):
        raise InputError(f"{given}: there is no such file; a text that looks like a file's name comes by '-'.")
    return given


def placed(given: str) -> list[Placed]:
    """The texts of `given`: that one, or each line of the file or of standard input that it names.

    A line ends with a newline, or a carriage return and a newline, and with nothing else. Raises `InputError` as
    `whole` does, and where there is no line.
    """
    found = whole(given)
    if found is given:
        return [Placed(given, f"the text {textwrap.shorten(given, 40, placeholder=' …')!r}")]
    name = "standard input" if given == "-" else given
    if not found:
        raise InputError(f"{name} is empty, expected a text on each line.")
    texts = found.removesuffix("\n").split("\n")
    return [Placed(text.removesuffix("\r"), f"{name}, line {number}") for number, text in enumerate(texts, 1)]


def unpacked(path: Path) -> bytes:
    """What is in a file, unpacked where that is gzip; raises `OSError`, and `InputError` for damaged gzip."""
    content = path.read_bytes()
    try:
        return gzip.decompress(content) if content.startswith(GZIP) else content
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{path} is damaged gzip: {error}.") from error


def numbered(source: BinaryIO, marked: bool = True) -> Iterator[tuple[int, bytes]]:
    """The lines of a text, counted from 1, the first without a byte order mark if it is `marked`.

    Of a line of more than `MOST` bytes there is the beginning alone, which is that long.
    """
    for number in count(1):
        line = source.readline(MOST + 1)
        if not line:
            return
        yield number, line.removeprefix(BOM_UTF8) if marked and number == 1 and len(line) <= MOST else line
        while len(line) > MOST and not line.endswith(b"\n"):
            line = source.readline(MOST + 1)


def wide(content: bytes) -> str:
    """That a text is UTF-16 or UTF-32, which its first four bytes tell, and what to do; of another, nothing."""
    for mark, encoding in WIDE.items():
        if content.startswith(mark):
            way = f"iconv -f {encoding} -t UTF-8 makes it of this"
            return f"it begins with the byte-order mark of {encoding}, expected text in UTF-8; {way}"
    return ""


def decoded(content: bytes) -> str:
    """The text of a line, or of all of a file; raises `InputError` for what is not UTF-8."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{content[error.start]:02X} at offset {error.start} of it is not UTF-8"
        raise InputError(wide(content) or f"{wrong}, expected text in UTF-8") from error


def text_of(content: bytes, name: str) -> str:
    """The text of a file without its byte order mark; raises `InputError`, under its `name`, as `decoded` does."""
    try:
        return decoded(content).removeprefix("\ufeff")
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _is(kind: Callable[[Path], bool], path: Path) -> bool:
    try:
        return kind(path)
    except (OSError, ValueError):  # too long a name, or one with a zero in it
        return False
