"""Files to symbols: the split, the borders between blocks, and one clear sentence for what cannot be read."""

import gzip
import hashlib
import os
import sys
import tempfile
from codecs import BOM_UTF8
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from unrolled.errors import InputError
from unrolled.tasks.text import corpus
from unrolled.tasks.text.corpus import builtin_text, encode_files, read
from unrolled.vocabulary import LEVELS, ByteVocabulary, CharVocabulary, Vocabulary, WordVocabulary, learn

TEXT = "I grew up in France,\r\nI speak  fluent – “French”; naïve 漢字 😀!\n\n\t(the end of a line)   \n" * 5
BLOCKS = [1, 2, 3, 7, 64, 1000]
TEXTS = st.text("abé漢😀'’-=_ \n\t\r\x1c\x85\u00a0\u2028", min_size=1, max_size=80)
VOCABULARIES = {level: learn(level, [TEXT], 300 if level == "bpe" else None) for level in LEVELS}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def decode(vocabulary: Vocabulary, *parts: corpus.Symbols) -> str:
    return "".join(vocabulary.decode(part.tolist()) for part in parts)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write(tmp_path / "text.txt", TEXT)


@pytest.mark.parametrize("split", [0.9, 0.5, 1 / 3])
def test_characters_are_split_as_nanogpt_splits_them(tmp_path: Path, split: float) -> None:
    data = builtin_text()[:10_007]
    read_back = read([write(tmp_path / "a.txt", data)], "char", split=split)
    count = int(split * len(data))
    assert decode(read_back.vocabulary, read_back.train) == data[:count]
    assert decode(read_back.vocabulary, read_back.held_out) == data[count:]


def test_bytes_are_split_by_bytes(file: Path) -> None:
    data = TEXT.encode()
    read_back = read([file], "byte", split=0.7)
    assert read_back.train.tobytes() == data[: int(0.7 * len(data))]
    assert read_back.held_out.tobytes() == data[int(0.7 * len(data)) :]


@pytest.mark.parametrize("level", ["word", "bpe"])
def test_words_and_byte_pairs_are_split_where_a_word_ends(file: Path, level: str) -> None:
    size = 300 if level == "bpe" else None
    read_back = read([file], level, size, split=0.81)
    first = read_back.vocabulary.decode(read_back.train.tolist())
    target = int(0.81 * len(TEXT.encode()))
    assert TEXT.startswith(first)
    assert target - 12 < len(first.encode()) <= target
    assert TEXT[len(first)] in " \n" or first.endswith("\n")
    assert read_back.held_out.tolist() == read_back.vocabulary.encode(TEXT[len(first) :]).tolist()


def test_words_are_learnt_from_the_training_part_alone(tmp_path: Path) -> None:
    read_back = read([write(tmp_path / "a.txt", "old " * 90 + "new " * 10)], "word")
    assert [read_back.vocabulary.decode([i]) for i in range(read_back.vocabulary.size)] == [
        "<unk>",
        " old",
        "old",
    ]
    assert read_back.held_out[:-1].tolist() == [0] * 10


def test_byte_pairs_are_learnt_from_the_training_part_alone(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "old " * 90 + "new " * 10)
    vocabulary = read([file], "bpe").vocabulary
    pieces = {vocabulary.decode([i]) for i in range(vocabulary.size)}
    assert " old" in pieces
    assert not {"ne", "ew", " n"} & pieces


def test_characters_are_learnt_from_the_whole_text(tmp_path: Path) -> None:
    read_back = read([write(tmp_path / "a.txt", "a" * 99 + "ß")], "char")
    assert decode(read_back.vocabulary, read_back.held_out).endswith("ß")


@pytest.mark.parametrize("level", LEVELS)
def test_files_are_joined_in_the_order_given(tmp_path: Path, level: str) -> None:
    one, two = write(tmp_path / "1.txt", "one é two\n" * 20), write(tmp_path / "2.txt", "two é one\n" * 20)
    both = read([two, one], level, split=0.6)
    text = decode(both.vocabulary, both.train, both.held_out)
    assert text == "two é one\n" * 20 + "one é two\n" * 20
    assert both.names == (str(two), str(one))


def test_no_word_reaches_from_one_file_into_the_next(tmp_path: Path) -> None:
    files = [write(tmp_path / "1.txt", "news"), write(tmp_path / "2.txt", "paper")]
    assert encode_files(files, WordVocabulary(["news", "paper", "newspaper"])).tolist() == [1, 2]


@pytest.mark.parametrize("split", [0.1, 0.5, 0.77, 0.99])
def test_a_split_may_fall_into_any_of_several_files(tmp_path: Path, split: float) -> None:
    files = [write(tmp_path / f"{i}.txt", f"file {i} " * 30) for i in range(4)]
    read_back = read(files, "bpe", 256, split)
    assert decode(read_back.vocabulary, read_back.train, read_back.held_out) == "".join(
        f"file {i} " * 30 for i in range(4)
    )
    assert len(read_back.train) / (len(read_back.train) + len(read_back.held_out)) == pytest.approx(
        split, abs=0.02
    )


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("level", LEVELS)
def test_a_text_is_read_the_same_in_blocks_of_any_size(
    file: Path, level: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 300 if level == "bpe" else None
    whole = read([file], level, size)
    monkeypatch.setattr(corpus, "BLOCK", block)
    in_blocks = read([file], level, size)
    assert in_blocks.vocabulary.to_json() == whole.vocabulary.to_json()
    assert in_blocks.train.tolist() == whole.train.tolist()
    assert in_blocks.held_out.tolist() == whole.held_out.tolist()
    assert in_blocks.fingerprint == whole.fingerprint


@pytest.mark.parametrize("level", ["byte", "word", "bpe"])
@given(text=TEXTS, block=st.integers(1, 9))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_in_blocks_equals_the_vocabularys_own_encoding(
    tmp_path: Path, level: str, text: str, block: int
) -> None:
    vocabulary = learn("word", [text]) if level == "word" else VOCABULARIES[level]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "BLOCK", block)
        ids = encode_files([write(tmp_path / "a.txt", text)], vocabulary)
    assert ids.tolist() == vocabulary.encode(text).tolist()


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_a_long_line_without_a_border_is_read_in_bounded_blocks(
    tmp_path: Path, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BLOCK", 16)
    monkeypatch.setattr(corpus, "LONGEST_PIECE", 64)
    text = "漢é😀x" * 300
    lengths: list[int] = []
    vocabulary = learn(level, [text])
    encode = vocabulary.encode

    def watched(part: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        lengths.append(len(part.encode()))
        return encode(part)

    monkeypatch.setattr(vocabulary, "encode", watched)
    ids = encode_files([write(tmp_path / "a.txt", text)], vocabulary)
    assert 1 < max(lengths) <= 64 + 16
    assert sum(lengths) == len(text.encode())
    if level != "word":  # here the one word of the text falls into several
        assert decode(vocabulary, ids) == text


def test_a_line_longer_than_a_block_is_kept_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus, "BLOCK", 16)
    text = "漢" * 1000 + "\nend\n"
    vocabulary = WordVocabulary.learn([text])
    ids = encode_files([write(tmp_path / "a.txt", text)], vocabulary)
    assert ids.tolist() == vocabulary.encode(text).tolist()


@pytest.mark.parametrize(("count", "dtype"), [(250, np.uint8), (256, np.uint16), (65_536, np.uint32)])
def test_symbols_take_the_smallest_type_that_holds_them(
    tmp_path: Path, count: int, dtype: type[np.unsignedinteger]
) -> None:
    vocabulary = WordVocabulary([f"w{number}" for number in range(count)])
    ids = encode_files([write(tmp_path / "a.txt", f"w{count - 1}")], vocabulary)
    assert ids.dtype == dtype
    assert ids.tolist() == [count]


def test_symbols_lie_in_a_file_without_a_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = file.parent / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    read_back = read([file], "char")
    assert not list(folder.iterdir())
    assert decode(read_back.vocabulary, read_back.train, read_back.held_out) == TEXT


@pytest.mark.parametrize("level", LEVELS)
def test_a_vocabulary_that_is_given_is_used(file: Path, level: str) -> None:
    learnt = read([file], level, 300 if level == "bpe" else None)
    again = read([file], level, vocabulary=learnt.vocabulary)
    assert again.vocabulary is learnt.vocabulary
    assert again.train.tolist() == learnt.train.tolist()
    assert again.held_out.tolist() == learnt.held_out.tolist()
    everything = encode_files([file], learnt.vocabulary)
    assert everything.tolist() == [*learnt.train.tolist(), *learnt.held_out.tolist()]


@pytest.mark.parametrize("level", LEVELS)
def test_texts_named_to_be_held_out_leave_all_of_the_others_to_train_on(tmp_path: Path, level: str) -> None:
    train, held_out = write(tmp_path / "1.txt", "old é word\n" * 30), write(tmp_path / "2.txt", "old é\n" * 3)
    read_back = read([train], level, 300 if level == "bpe" else None, held_out=[held_out])
    assert decode(read_back.vocabulary, read_back.train) == "old é word\n" * 30
    assert decode(read_back.vocabulary, read_back.held_out) == "old é\n" * 3
    assert read_back.names == (str(train),)
    assert read_back.fingerprint == corpus.fingerprint([train], level)
    assert read_back.held_out_fingerprint == corpus.fingerprint([held_out], level)


def test_characters_are_learnt_from_texts_named_to_be_held_out_too_and_words_are_not(tmp_path: Path) -> None:
    train, held_out = write(tmp_path / "1.txt", "old " * 9), write(tmp_path / "2.txt", "old new\n")
    characters = read([train], "char", held_out=[held_out]).vocabulary
    assert characters.decode(list(range(characters.size))) == "\n delnow"
    assert 0 in read([train], "word", held_out=[held_out]).held_out.tolist()


def test_a_text_without_a_name_is_not_the_folder_that_one_is_in(file: Path) -> None:
    with pytest.raises(InputError, match="the name of a text is empty; expected that of a file or a folder"):
        read([file], held_out=[""])


def test_a_vocabulary_of_another_level_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="the vocabulary is of level 'byte'; expected level 'char'"):
        read([file], "char", vocabulary=ByteVocabulary())


def test_the_fingerprint_is_of_the_bytes_and_the_level(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.txt", "abcdefghij\n" * 4)
    half = write(tmp_path / "half.txt", "abcdefghij\n" * 2)
    fingerprint = read([whole], "byte").fingerprint
    assert fingerprint == hashlib.sha256(b"byte\0" + b"abcdefghij\n" * 4).hexdigest()
    assert read([half, half], "byte", split=0.5).fingerprint == fingerprint
    assert read([whole], "char").fingerprint != fingerprint
    assert read([half], "byte").fingerprint != fingerprint


def test_without_files_the_python_reference_is_read() -> None:
    text = builtin_text()
    assert len(text) > 100_000
    assert text.index('The "assert" statement') < text.index('The "while" statement')
    read_back = read([])
    assert read_back.names == ("python-reference",)
    assert decode(read_back.vocabulary, read_back.train, read_back.held_out) == text
    assert len(encode_files([], read_back.vocabulary)) == len(text)


def one_sentence(error: pytest.ExceptionInfo[InputError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message.removesuffix(".")


@pytest.mark.parametrize("level", LEVELS)
def test_a_missing_file_is_named(tmp_path: Path, level: str) -> None:
    with pytest.raises(InputError) as error:
        read([tmp_path / "nowhere.txt"], level)
    assert f"{tmp_path / 'nowhere.txt'} cannot be read (No such file or directory)" in one_sentence(error)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_named(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(InputError, match=r"text\.txt cannot be read \(Permission denied\)"):
        read([file])


def test_a_folder_is_its_text_files_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "older.txt").mkdir(parents=True)
    for name, text in {
        "b.txt": "two ",
        "a.TXT": "one ",
        "c.md": "no ",
        ".d.txt": "no ",
        "older.txt/e.txt": "no ",
    }.items():
        write(folder / name, text)
    read_back = read([folder, write(tmp_path / "c.txt", "three")], split=0.5)
    assert decode(read_back.vocabulary, read_back.train, read_back.held_out) == "one two three"
    assert read_back.names == (str(folder / "a.TXT"), str(folder / "b.txt"), str(tmp_path / "c.txt"))
    again = read(read_back.names, split=0.5)
    assert again.fingerprint == read_back.fingerprint


def test_a_folder_without_a_text_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.md", "text")
    with pytest.raises(InputError) as error:
        read([tmp_path])
    assert one_sentence(error) == f"{tmp_path} is a folder without any .txt file; expected at least one in it"


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="pipe is not a regular file"):
        read([tmp_path / "pipe"])


def test_a_gzipped_file_is_bytes_and_no_text(file: Path) -> None:
    packed = file.parent / "packed.txt.gz"
    packed.write_bytes(gzip.compress(b"some words"))
    with pytest.raises(InputError) as error:
        read([packed])
    assert one_sentence(error) == f"{packed} is gzipped; expected a file of text: gunzip makes one of it"
    assert len(read([packed], "byte").train) > 0


@pytest.mark.parametrize("level", LEVELS)
def test_an_empty_file_is_refused(file: Path, level: str) -> None:
    empty = write(file.parent / "empty.txt", "")
    with pytest.raises(InputError) as error:
        read([file, empty], level)
    assert one_sentence(error) == f"{empty} is empty; expected a file of text"


@pytest.mark.parametrize("block", [1, 5, 1 << 20])
@pytest.mark.parametrize("level", ["char", "word", "bpe"])
@pytest.mark.parametrize("bad", [b"\xff", b"\xe2\x82", b"\x80\x80\x80\x80\x80\x80", b"\xc3("])
def test_bytes_that_are_not_utf8_are_named_with_their_offset(
    tmp_path: Path, level: str, block: int, bad: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BLOCK", block)
    good = "naïve 漢 text\n".encode()
    file = write(tmp_path / "latin.txt", good + bad + good)
    with pytest.raises(InputError) as error:
        read([file], level)
    assert one_sentence(error) == (
        f"{file}: byte 0x{bad[0]:02X} at offset {len(good)} is not UTF-8, which level {level!r} expects; "
        "level 'byte' reads any file"
    )


def test_a_character_cut_short_by_the_files_end_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "cut.txt", b"abc\xe2\x82")
    with pytest.raises(InputError, match=r"byte 0xE2 at offset 3 is not UTF-8"):
        read([file])


@pytest.mark.parametrize("level", ["char", "word", "bpe"])
def test_a_byte_order_mark_is_no_text(tmp_path: Path, level: str) -> None:
    plain = [write(tmp_path / name, text) for name, text in (("a", "some words " * 9), ("b", "and more\n" * 9))]
    marked = [write(tmp_path / f"marked {path.name}", BOM_UTF8 + path.read_bytes()) for path in plain]
    expected, found = (corpus.read(paths, level, split=0.5) for paths in (plain, marked))
    assert decode(found.vocabulary, found.train, found.held_out) == decode(
        expected.vocabulary, expected.train, expected.held_out
    )
    assert found.fingerprint == expected.fingerprint


def test_a_byte_order_mark_is_bytes(tmp_path: Path) -> None:
    found = corpus.read([write(tmp_path / "a", BOM_UTF8 + b"abc")], "byte")
    assert bytes([*found.train, *found.held_out]) == BOM_UTF8 + b"abc"


def test_any_bytes_are_read_as_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 3
    read_back = read([write(tmp_path / "data.bin", data)], "byte")
    assert np.concatenate([read_back.train, read_back.held_out]).tobytes() == data


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_a_character_that_the_model_never_saw_is_named_with_its_line(
    tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus, "BLOCK", block)
    files = [write(tmp_path / "1.txt", "abba\n"), write(tmp_path / "2.txt", "ab\nba\nbaβb\n")]
    with pytest.raises(InputError) as error:
        encode_files(files, CharVocabulary("\nab"))
    assert one_sentence(error) == (
        f"{files[1]}, line 3, column 3: the character 'β' (U+03B2) is not one of the 3 characters that the "
        "model knows"
    )


@pytest.mark.parametrize("split", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_a_split_outside_zero_to_one_is_refused(file: Path, split: float) -> None:
    with pytest.raises(InputError, match="expected a fraction between 0 and 1"):
        read([file], split=split)


def test_an_unknown_level_is_told_the_nearest(file: Path) -> None:
    with pytest.raises(InputError, match="the nearest is 'byte'"):
        read([file], "bytes")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("split", [0.1, 0.9])
def test_a_text_too_short_to_train_on_is_refused(tmp_path: Path, level: str, split: float) -> None:
    file = write(tmp_path / "short.txt", "a")
    with pytest.raises(InputError) as error:
        read([file], level, split=split)
    assert one_sentence(error) == f"{file}: too short, a split of {split} leaves nothing to train on"


def test_a_python_without_the_reference_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(InputError, match=r"pydoc_data\.topics"):
        read([])
