"""Texts that a command is given: themselves, in files, on standard input."""

import gzip
import sys
from collections.abc import Callable
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from unrolled import settings
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.sequences import conllu, events
from unrolled.tasks.caption import pictures
from unrolled.tasks.speech import transcripts
from unrolled.tasks.text import corpus
from unrolled.tasks.translate import parallel
from unrolled.texts import placed, whole


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"one\ntwo", ["one", "two"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (b"\n", [""]),
        (b"one\n\n", ["one", ""]),
        (b"\xef\xbb\xbfone\n", ["one"]),
        ("a\fb\vc\u2028d\x85e\x1cf\rg\nh".encode(), ["a\fb\vc\u2028d\x85e\x1cf\rg", "h"]),
    ],
)
def test_a_newline_and_nothing_else_ends_a_line(tmp_path: Path, content: bytes, expected: list[str]) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    assert [one.text for one in placed(str(tmp_path / "a.txt"))] == expected


def test_a_gzipped_file_is_read_as_it_is_in_training(tmp_path: Path) -> None:
    packed = gzip.compress("eins\nzwölf\n".encode())
    (tmp_path / "a.de.gz").write_bytes(packed)
    assert [one.text for one in placed(str(tmp_path / "a.de.gz"))] == ["eins", "zwölf"]
    (tmp_path / "a.de.gz").write_bytes(packed[:-9])
    with pytest.raises(InputError, match=r"a\.de\.gz is damaged gzip: "):
        placed(str(tmp_path / "a.de.gz"))


def test_standard_input_is_read_by_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO("one\u2028still\ntwo\n".encode())))
    assert placed("-") == [("one\u2028still", "standard input, line 1"), ("two", "standard input, line 2")]


def test_a_text_stands_for_itself_and_is_named_by_its_beginning() -> None:
    ((text, _),) = placed("a text\nof two lines")
    assert text == "a text\nof two lines"
    ((_, place),) = placed("one word after another " * 9)
    assert place == "the text 'one word after another one word after …'"


def test_a_byte_that_is_no_text_is_found_behind_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfab\xff")
    with pytest.raises(
        InputError, match=r"a\.txt: byte 0xFF at offset 5 of it is not UTF-8, expected text in UTF-8"
    ):
        whole(str(tmp_path / "a.txt"))


READERS: dict[str, Callable[[Path], object]] = {
    "a text": lambda path: whole(str(path)),
    "a corpus": lambda path: corpus.read([path], "char"),
    "sentences": lambda path: list(conllu.read(path, True, Refused())),
    "pairs of sentences": lambda path: parallel.read([path], Refused()),
    "events": events.read_events,
    "transcripts": lambda path: transcripts.read([path], None, Refused()),
    "captions": lambda path: pictures.read([path.parent], Refused()),
    "settings": settings.read_toml,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("encoding", ["UTF-16-LE", "UTF-16-BE", "UTF-32-LE", "UTF-32-BE"])
def test_each_reader_tells_wide_characters_from_damage(tmp_path: Path, reader: str, encoding: str) -> None:
    path = tmp_path / "captions.txt"
    path.write_bytes("\ufeffone\ttwo\n".encode(encoding))
    wrong = f"it begins with the byte-order mark of {encoding[:6]}, expected text in UTF-8"
    said = f"{wrong}; iconv -f {encoding[:6]} -t UTF-8 makes it of this"
    with pytest.raises(InputError, match=rf"^{path}(, line 1| is not [a-zA-Z ]+)?: {said}\.$"):
        READERS[reader](path)


def test_a_text_with_nothing_in_it_is_no_folder() -> None:
    assert whole("") == ""


def test_a_file_with_nothing_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert whole(str(tmp_path / "a.txt")) == ""
    with pytest.raises(InputError, match=r"a\.txt is empty, expected a text on each line\.$"):
        placed(str(tmp_path / "a.txt"))


@pytest.mark.parametrize("end", ["", "/"])
def test_a_folder_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    (tmp_path / "tr").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"^tr{end} is a folder, expected a text or a file"):
        whole(f"tr{end}")
