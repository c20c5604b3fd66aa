"""Texts that a command is given: themselves, in files, on standard input."""

import gzip
import sys
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest

from unrolled.errors import InputError
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
