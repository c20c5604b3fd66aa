"""Text to symbols and back: nothing is lost, nothing is guessed, and a model file can carry the way."""

import json
import sys
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from programs import python
from unrolled.errors import InputError
from unrolled.tasks.text.corpus import builtin_text
from unrolled.vocabulary import (
    LEVELS,
    BpeVocabulary,
    ByteVocabulary,
    CharVocabulary,
    Vocabulary,
    WordVocabulary,
    from_json,
    learn,
)

SAMPLE = "I grew up in France, didn't I? – „Ja“, sagte sie;\n\n\tich spreche  fließend 漢字 😀.\r\n"
TEXTS = st.text(max_size=60) | st.text("ab1_é漢😀'’ \n\t\r\u00a0\u2028.,", max_size=60)


@cache
def learnt(level: str) -> Vocabulary:
    text = SAMPLE + builtin_text()[:30_000]
    return learn(level, [text], 400 if level in ("word", "bpe") else None)


@pytest.fixture(params=LEVELS)
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return learnt(request.param)


@given(TEXTS)
@settings(deadline=None)
def test_bytes_give_the_text_back(text: str) -> None:
    vocabulary = ByteVocabulary()
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(TEXTS)
@settings(deadline=None)
def test_byte_pairs_give_any_text_back(text: str) -> None:
    vocabulary = learnt("bpe")
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(TEXTS)
@settings(deadline=None)
def test_words_give_the_text_back_that_they_were_learnt_from(text: str) -> None:
    vocabulary = WordVocabulary.learn([text])
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(TEXTS.filter(bool))
@settings(deadline=None)
def test_characters_give_the_text_back_that_they_were_learnt_from(text: str) -> None:
    vocabulary = CharVocabulary.learn([text])
    assert vocabulary.size == len(set(text))
    assert vocabulary.decode(vocabulary.encode(text)) == text


@given(st.data(), st.sampled_from(LEVELS))
@settings(deadline=None)
def test_symbols_decoded_one_at_a_time_equal_all_at_once(data: st.DataObject, level: str) -> None:
    vocabulary = learnt(level)
    ids = data.draw(st.lists(st.integers(0, vocabulary.size - 1), max_size=30))
    decoder = vocabulary.decoder()
    assert "".join(map(decoder.feed, ids)) + decoder.finish() == vocabulary.decode(ids)


def test_the_bytes_of_symbols_are_those_of_their_text() -> None:
    text = "zwölf Äpfel, zwölf €\n" * 9
    for level in LEVELS:
        vocabulary = learn(level, [text])
        assert vocabulary.byte_count(vocabulary.encode(text)) == len(text.encode())
    words = learn("word", [text])
    assert words.byte_count(words.encode("elf Äpfel")) is None


def test_a_decoder_gives_a_character_when_its_last_byte_comes() -> None:
    vocabulary = ByteVocabulary()
    decoder = vocabulary.decoder()
    assert [decoder.feed(symbol) for symbol in vocabulary.encode("é😀")] == ["", "é", "", "", "", "😀"]
    assert decoder.finish() == ""


def test_a_character_that_is_cut_short_becomes_a_replacement() -> None:
    decoder = ByteVocabulary().decoder()
    assert decoder.feed(0xE2) + decoder.feed(0x82) == ""
    assert decoder.finish() == "\ufffd"


def test_encoding_gives_int64_ids_below_the_size(vocabulary: Vocabulary) -> None:
    ids = vocabulary.encode(SAMPLE)
    assert ids.dtype == np.int64
    assert 0 <= ids.min() <= ids.max() < vocabulary.size
    assert len(vocabulary.encode("")) == 0


def test_a_document_survives_json_and_encodes_alike(vocabulary: Vocabulary) -> None:
    restored = from_json(json.loads(json.dumps(vocabulary.to_json())))
    assert type(restored) is type(vocabulary)
    assert restored.to_json() == vocabulary.to_json()
    assert restored.size == vocabulary.size
    assert restored.encode(SAMPLE).tolist() == vocabulary.encode(SAMPLE).tolist()
    assert restored.decode(range(restored.size)) == vocabulary.decode(range(vocabulary.size))


def test_learning_twice_gives_the_same(vocabulary: Vocabulary) -> None:
    level = vocabulary.level
    text = SAMPLE + builtin_text()[:30_000]
    parts = text.splitlines(keepends=True)
    again = learn(level, parts, 400 if level in ("word", "bpe") else None)
    assert again.to_json() == vocabulary.to_json()


def test_characters_are_numbered_by_code_point() -> None:
    vocabulary = CharVocabulary.learn(["cab", "\nabé"])
    assert vocabulary.encode("\nabcé").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("stranger", ["ß", "\x00", "😀", "\ud800"])
def test_a_character_never_seen_is_named_with_its_place(stranger: str) -> None:
    vocabulary = CharVocabulary.learn(["abcé\n"])
    with pytest.raises(InputError) as raised:
        vocabulary.encode(f"ab\ncé{stranger}a")
    assert str(raised.value) == (
        f"the text, line 2, column 3: the character {stranger!r} (U+{ord(stranger):04X}) is not one of the 5 "
        "characters that the model knows."
    )


def test_words_carry_the_space_before_them() -> None:
    vocabulary = WordVocabulary.learn([SAMPLE])
    pieces = [vocabulary.decode([symbol]) for symbol in vocabulary.encode(SAMPLE)]
    assert pieces[:10] == ["I", " grew", " up", " in", " France", ",", " didn't", " I", "?", " –"]
    assert pieces[-8:] == [" spreche", " ", " fließend", " 漢字", " 😀", ".", "\r", "\n"]


def test_the_most_frequent_words_stay_and_the_others_are_unknown() -> None:
    vocabulary = WordVocabulary.learn([" a a a b b c d"], vocab_size=3)
    assert vocabulary.size == 3
    assert vocabulary.encode(" a b c d a").tolist() == [1, 2, 0, 0, 1]
    assert vocabulary.decode([1, 0]) == " a<unk>"


def test_equally_frequent_words_stay_in_the_order_of_the_text() -> None:
    vocabulary = WordVocabulary.learn([" d c b a"], vocab_size=4)
    assert vocabulary.decode([1, 2, 3]) == " d c b"


def test_the_unknown_word_written_out_is_not_the_unknown_word() -> None:
    vocabulary = WordVocabulary.learn(["<unk>"])
    assert vocabulary.encode("<unk>").tolist() == [1, 2, 3]


def test_byte_pairs_are_fewer_than_bytes() -> None:
    text = builtin_text()[30_000:31_000]
    assert len(learnt("bpe").encode(text)) < 0.7 * len(ByteVocabulary().encode(text))


def test_byte_pairs_never_cross_a_newline() -> None:
    vocabulary = learnt("bpe")
    lines = ["a\n", "\n", "\n", "    b\n", "  \n", "c"]
    whole = vocabulary.encode("".join(lines)).tolist()
    assert whole == [symbol for line in lines for symbol in vocabulary.encode(line).tolist()]


def test_byte_pairs_decode_without_the_library_and_say_what_encoding_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ids = learnt("bpe").encode(SAMPLE)
    document = learnt("bpe").to_json()
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    vocabulary = from_json(document)
    assert vocabulary.decode(ids) == SAMPLE
    for attempt in (lambda: vocabulary.encode("a"), lambda: learn("bpe", ["a"])):
        with pytest.raises(InputError, match=r"pip install 'unrolled\[train\]'"):
            attempt()


def test_the_embedded_document_is_the_librarys_own() -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(learnt("bpe").to_json()["tokenizer"]))
    assert tokenizer.encode(SAMPLE).ids == learnt("bpe").encode(SAMPLE).tolist()
    assert tokenizer.decode(tokenizer.encode(SAMPLE).ids) == SAMPLE


def test_symbols_have_printable_names() -> None:
    assert CharVocabulary("\n a").symbol(0) == "'\\n'"
    assert WordVocabulary([" France"]).symbol(1) == "' France'"
    assert WordVocabulary([" France"]).symbol(0) == "'<unk>'"
    assert ByteVocabulary().symbol(0x41) == "'A'"
    assert ByteVocabulary().symbol(0xE2) == "0xE2"


def test_the_bytes_of_what_is_no_character_are_told() -> None:
    assert ByteVocabulary().parts() == {byte: [byte] for byte in range(128, 256)}
    assert CharVocabulary("\n aé").parts() == {}


def test_bytes_that_python_escaped_in_an_argument_come_back() -> None:
    assert ByteVocabulary().encode("a\udce2").tolist() == [0x61, 0xE2]


@pytest.mark.parametrize(("level", "text"), [("byte", "a\ud800"), ("bpe", "a\udce2")])
def test_half_a_surrogate_pair_is_refused(level: str, text: str) -> None:
    with pytest.raises(InputError, match="half a surrogate pair"):
        learnt(level).encode(text)


@pytest.mark.parametrize("level", LEVELS)
def test_what_is_no_text_is_named(level: str) -> None:
    text: Any = None
    with pytest.raises(InputError, match="text is a NoneType, expected a text"):
        learnt(level).encode(text)


def test_the_smallest_vocabularies_are_of_one_word_and_of_all_bytes() -> None:
    assert learn("word", ["b a a"], 2).texts([0, 1]) == ["<unk>", " a"]
    assert learn("bpe", ["b a a"], 256).size == 256


def test_an_unknown_level_is_told_the_nearest() -> None:
    with pytest.raises(InputError, match=r"level 'words' is not one of .*; the nearest is 'word'"):
        learn("words", ["a"])


@pytest.mark.parametrize(
    ("level", "size", "message"),
    [
        ("word", 1, "at least 2, not 1"),
        ("bpe", 255, "at least 256, one a byte, not 255"),
        ("char", 100, "level 'char' takes none"),
        ("byte", 256, "level 'byte' takes none"),
    ],
)
def test_a_vocabulary_size_that_makes_no_sense_is_refused(level: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        learn(level, ["a"], size)


def bpe_document(**changes: Any) -> dict[str, Any]:
    """A well-formed document with its model's vocab changed."""
    document: dict[str, Any] = json.loads(json.dumps(learnt("bpe").to_json()))
    document["tokenizer"]["model"]["vocab"].update(changes)
    return document


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "char",
        {},
        {"level": "chars"},
        {"level": ["char"]},
        {"level": "char"},
        {"level": "char", "characters": ""},
        {"level": "char", "characters": ["a", "b"]},
        {"level": "char", "characters": "ba"},
        {"level": "char", "characters": "aa"},
        {"level": "char", "characters": "a\ud800"},
        {"level": "char", "characters": "a", "other": {1, 2}},
        {"level": "word"},
        {"level": "word", "words": []},
        {"level": "word", "words": "abc"},
        {"level": "word", "words": ["a", 1]},
        {"level": "word", "words": ["a", ""]},
        {"level": "word", "words": ["a", "b c"]},
        {"level": "word", "words": ["a", "a"]},
        {"level": "bpe"},
        {"level": "bpe", "tokenizer": "{}"},
        {"level": "bpe", "tokenizer": {"model": None}},
        {"level": "bpe", "tokenizer": {"model": {"vocab": {"a": 0}}}},
        bpe_document(new=0),
        bpe_document(new=10**6),
        bpe_document(new="400"),
        bpe_document(new=None),
        bpe_document(漢=400),
    ],
    ids=lambda document: json.dumps(document, default=str)[:60],
)
def test_a_malformed_document_is_refused(document: object) -> None:
    with pytest.raises(InputError, match="the vocabulary document is malformed: "):
        from_json(document)


def test_a_tokenizer_that_the_library_refuses_is_an_input_error() -> None:
    document = bpe_document()
    document["tokenizer"]["pre_tokenizer"] = {"type": "Unheard"}
    with pytest.raises(InputError, match="refused by the tokenizers library"):
        from_json(document).encode("a")


def test_every_byte_is_a_byte_pair_symbol_of_its_own() -> None:
    names = {learnt("bpe").decode([symbol]) for symbol in range(256)}
    assert {chr(code) for code in range(128)} <= names
    assert isinstance(learnt("bpe"), BpeVocabulary)


def test_reading_text_needs_neither_torch_nor_tokenizers() -> None:
    program = (
        "import sys, unrolled.tasks.text.corpus, unrolled.tasks.text.ngram, unrolled.vocabulary as v;"
        "v.learn('char', ['ab']).encode('a');"
        "print({'torch', 'tokenizers'} & sys.modules.keys())"
    )
    done = python(program)
    assert (done.stdout, done.stderr) == ("set()\n", "")


def test_a_character_of_several_symbols_is_the_text_of_its_last() -> None:
    known = ByteVocabulary()
    assert known.texts(known.encode("aü€").tolist()) == ["a", "", "ü", "", "", "€"]


def test_a_decoder_is_whole_where_no_character_is_missing_bytes() -> None:
    decoder = ByteVocabulary().decoder()
    told = [(decoder.feed(byte), decoder.whole) for byte in (0x61, 0xE2, 0xC3, 0xBC, 0xE2, 0x62)]
    assert told == [("a", True), ("", False), ("\ufffd", False), ("ü", True), ("", False), ("\ufffdb", True)]
