"""Parallel text: what is read, from which files, and the one sentence for what cannot be used."""

import gzip
from pathlib import Path

import pytest

from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.tasks.translate import numberwords, parallel
from unrolled.tasks.translate.parallel import Pair

GERMAN = "Ein Mann.\nZwei Hunde schlafen.\nÄpfel"
ENGLISH = "A man.\nTwo dogs are sleeping.\nApples\n"


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def texts(pairs: list[Pair]) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in pairs]


EXPECTED = list(zip(GERMAN.splitlines(), ENGLISH.splitlines(), strict=True))


@pytest.mark.parametrize("change", [str.encode, lambda t: gzip.compress(t.encode()),
                                    lambda t: b"\xef\xbb\xbf" + t.replace("\n", " \r\n").encode()])  # fmt: skip
def test_two_files_are_read_line_by_line(tmp_path: Path, change: object) -> None:
    assert callable(change)
    paths = [written(tmp_path / "a", change(GERMAN)), written(tmp_path / "b", change(ENGLISH))]
    pairs = parallel.read(paths, Refused(False))
    assert texts(pairs) == EXPECTED
    assert [pair.place for pair in pairs] == [f"{paths[0]}, line {number}" for number in (1, 2, 3)]


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_columns_are_read_line_by_line(tmp_path: Path, pack: object) -> None:
    assert callable(pack)
    lines = "".join(f"{a}\t{b}\n" for a, b in EXPECTED)
    assert texts(parallel.read([written(tmp_path / "x.tsv", pack(lines.encode()))], Refused(False))) == EXPECTED


def test_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    paths = [written(tmp_path / "a", "one\u2028still one\n"), written(tmp_path / "b", "eins\x85noch eins\n")]
    assert texts(parallel.read(paths, Refused(False))) == [("one\u2028still one", "eins\x85noch eins")]


@pytest.mark.parametrize(
    ("german", "english", "reason"),
    [
        ("a\nb\n", "c\n", r"a has 2 lines but .*b has 1; expected as many"),
        ("a\n\n", "c\nd\n", r"a, line 2 is empty, expected a sentence"),
        ("a\nb\n", "c\n \n", r"b, line 2 is empty, expected a sentence"),
        (b"a\nb\xff\n", "c\nd\n", r"a, line 2, byte 2: 0xFF is not UTF-8"),
        (
            "a\nb\n".encode("utf-16"),
            "c\nd\n",
            r"a: it begins with the byte-order mark of UTF-16, expected text in UTF-8",
        ),
        ("", "", r"there is no pair of sentences that can be used"),
        (gzip.compress(b"a\n" * 99, mtime=0)[:-9], "c\n", r"a is damaged gzip"),
        (b"\x1f\x8bnonsense", "c\n", r"a is damaged gzip"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, german: str | bytes, english: str, reason: str) -> None:
    paths = [written(tmp_path / "a", german), written(tmp_path / "b", english)]
    with pytest.raises(InputError, match=reason):
        parallel.read(paths, Refused(False))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("a\tb\nc\n", "line 2 has 1 column, expected 2"),
        (
            "a\tb\tc\n",
            "line 1 has 3 columns, expected 2: a sentence, a tab and its translation; `cut -f1,2` keeps",
        ),
        ("a\tb\nc\t \n", "line 2 has nothing after its tab"),
        ("\tb\n", "line 1 has nothing before its tab"),
        ("a\tb\n\nc\td\n", "line 2 is empty"),
        (b"a\tb\n\xe4\tb\n", "line 2, byte 1: 0xE4 is not UTF-8"),
        ("", "there is no pair of sentences"),
    ],
)
def test_columns_that_do_not_fit_are_refused(tmp_path: Path, content: str | bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        parallel.read([written(tmp_path / "x.tsv", content)], Refused(False))


def test_bad_pairs_are_left_out_and_counted(tmp_path: Path) -> None:
    refused = Refused(True)
    paths = [written(tmp_path / "a", b"a\n\nb\n\xff\n"), written(tmp_path / "b", "c\nd\n\ne\n")]
    assert texts(parallel.read(paths, refused)) == [("a", "c")]
    assert len(refused.reasons) == 3
    refused = Refused(True)
    path = written(tmp_path / "x.tsv", b"a\tb\n\nc\n\xff\td\n")
    assert texts(parallel.read([path], refused)) == [("a", "b")]
    assert len(refused.reasons) == 3


def test_a_heading_is_refused_and_not_trained_on(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tsv", "de\ten\nrot\tred\nde\ten\n")
    with pytest.raises(InputError) as heading:
        parallel.read([path], Refused(False))
    assert str(heading.value) == (
        f"{path}, line 1 is 'de' and 'en', which looks like a heading, expected a sentence, a tab and its "
        "translation; take the line away, or, if it is a pair, put it on another line; --skip-bad leaves such "
        "examples out."
    )
    refused = Refused(True)
    assert texts(parallel.read([path], refused)) == [("rot", "red"), ("de", "en")]
    assert len(refused.reasons) == 1


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"missing\.tsv cannot be read: No such file"):
        parallel.read([tmp_path / "missing.tsv"], Refused(True))
    with pytest.raises(InputError, match="is a folder, expected a file of sentences"):
        parallel.read([tmp_path, tmp_path], Refused(True))
    with pytest.raises(InputError, match="3 files were given, expected two aligned ones"):
        parallel.read([tmp_path] * 3, Refused(True))


def test_the_fingerprint_is_that_of_the_sentences() -> None:
    pairs = [Pair("a", "b", "x, line 1"), Pair("c", "d", "x, line 2")]
    assert parallel.fingerprint(pairs) == parallel.fingerprint([Pair("a", "b", "y"), Pair("c", "d", "y")])
    assert parallel.fingerprint(pairs) != parallel.fingerprint(pairs[::-1])


def test_the_built_in_numbers_are_spelled_and_all_different() -> None:
    pairs = numberwords.pairs()
    assert len({pair.source for pair in pairs}) == len({pair.target for pair in pairs}) == len(pairs) == 12_000
    by_source = {pair.source: pair.target for pair in pairs}
    assert by_source["siebenundvierzig"] == "forty-seven"
    assert by_source["einhundertzwölf"] == "one hundred twelve"
    assert [pair.target for pair in pairs[:3]] == ["zero", "one", "two"]
    assert pairs[numberwords.ALWAYS_KNOWN - 1].target == "ninety-nine"
