"""`unrolled stream`: real processes, killed in the middle, that go on where they were."""

import json
import subprocess
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small import BANK, inputs_for, label_file, model_of, speech_file, text_file
from unrolled import Snapshot, Stream, modelfile, piping, texts
from unrolled.errors import InputError
from unrolled.tasks.speech import ListenOptions
from unrolled.tasks.text import piped as text_piped
from unrolled.vocabulary import ByteVocabulary

LINES = ["abc abc\n", "had a bed\n", "\n", "face cab\n", "gh\n", "deaf bee\n"] * 3


def start(*arguments: Any) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "unrolled", "stream", *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run(content: bytes, *arguments: Any) -> list[Any]:
    process = start(*arguments, "--json")
    out, err = process.communicate(content)
    assert process.returncode == 0, err
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    modelfile.write(tmp_path / "text.safetensors", text_file())
    return tmp_path / "text.safetensors"


def test_a_run_that_is_killed_goes_on_with_the_next_line(tmp_path: Path, model: Path) -> None:
    whole = run("".join(LINES).encode(), model)
    printed: list[Any] = []
    state, ends = tmp_path / "state", list(np.cumsum([len(line) for line in LINES]))
    for count in (5, 4):
        done = ends.index(Snapshot.read(state).position) + 1 if state.exists() else 0
        process = start(model, "--state", state, "--json")
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("".join(LINES[done:]).encode())
        process.stdin.flush()
        printed += [json.loads(process.stdout.readline()) for _ in range(count)]
        process.kill()
        process.communicate()
        # What was printed is in the state; of a line that is in the state and was not printed, nothing is known.
        lost = ends.index(Snapshot.read(state).position) + 1 - done - count
        assert lost >= 0
        printed += whole[len(printed) : len(printed) + lost]
    printed += run("".join(LINES[len(printed) :]).encode(), model, "--state", state)
    assert printed == whole


def test_of_a_text_the_surprise_of_a_line_is_told(model: Path) -> None:
    found = run(b"abc\nabc\n", model)
    loaded = model_of("text")
    score = loaded.score("abc\nabc\n")
    assert sum(one["nats"] * count for one, count in zip(found, (3, 4), strict=True)) == pytest.approx(
        score.nats * score.count
    )
    assert [one["position"] for one in found] == [4, 8]


def test_rows_words_and_sound_are_read_as_a_stream_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    modelfile.write(path, label_file("numbers"))
    rows = inputs_for("numbers", 20)
    content = "".join(",".join(repr(float(cell)) for cell in row) + "\n" for row in rows)
    found = run(content.encode(), path)
    assert [one["event"] for one in found] == Stream(model_of("numbers")).read(rows)
    likely = [[*one["probabilities"].values()] for one in found]
    assert np.array(likely) == pytest.approx(model_of("numbers").probabilities(rows), abs=1e-6)
    modelfile.write(path, label_file("words"))
    words = inputs_for("words", 6)
    found = run(f"{' '.join(words[:3])}\n{' '.join(words[3:])}\n".encode(), path)
    assert [one["events"] for one in found] == [
        Stream(model_of("words")).read(part) for part in (words[:3], words[3:])
    ]
    likely = [[*one.values()] for one in found[1]["probabilities"]]
    assert np.array(likely) == pytest.approx(model_of("words").probabilities(words[3:]), abs=1e-6)
    modelfile.write(path, speech_file())
    samples = np.clip(inputs_for("speech", 150), -1, 0.999)
    pcm = (samples * 32768).astype("<i2")
    heard = "".join(Stream(model_of("speech")).read(pcm))
    state = tmp_path / "state"
    assert "".join(one["text"] for one in run(pcm.tobytes(), path, "--state", state)) == heard != ""
    assert BANK.rate == 8000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            b"abc\nabxyz\n",
            "standard input, line 2: column 3: the character 'x' (U+0078) is not one of the 10 characters that "
            "the model knows; a model of --level byte reads any text; --skip-bad leaves such examples out.",
        ),
        (b"\xff\n", "standard input, line 1: "),
    ],
)
def test_a_line_that_cannot_be_read_is_said_and_what_went_before_is_kept(
    tmp_path: Path, model: Path, content: bytes, sentence: str
) -> None:
    process = start(model, "--state", tmp_path / "state")
    _, err = process.communicate(content)
    assert process.returncode == 2
    assert sentence in err.decode()
    assert not (tmp_path / "state").exists() or Snapshot.read(tmp_path / "state").position == 4


def test_lines_that_cannot_be_read_may_be_left_out(model: Path) -> None:
    process = start(model, "--skip-bad", "--json")
    out, err = process.communicate(b"abc\nxyz\n\xff\nabc\n")
    assert process.returncode == 0
    assert [json.loads(line) for line in out.splitlines()] == run(b"abc\nabc\n", model)
    assert [line.split(":")[1] for line in err.decode().splitlines()] == [
        " standard input, line 2",
        " standard input, line 3",
    ]


def test_a_model_of_bytes_reads_any(tmp_path: Path) -> None:
    path = tmp_path / "bytes.safetensors"
    modelfile.write(path, text_file(vocabulary=ByteVocabulary()))
    assert [one["position"] for one in run(b"caf\xe9\nok\n", path)] == [5, 8]


def test_at_the_end_of_a_sound_the_rest_of_its_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    modelfile.write(path, speech_file())
    samples = np.clip(inputs_for("speech", 150), -1, 0.999)
    pcm = (samples * 32768).astype("<i2")
    found = run(pcm.tobytes(), path)
    assert "".join(one["text"] for one in found) == model_of("speech").transcribe(pcm, ListenOptions(beam=1))
    assert found[-1]["text"] != ""
    assert found[-1]["seconds"] == len(pcm) / BANK.rate
    assert run(b"", path) == []


def test_a_sound_file_is_no_raw_sound(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    modelfile.write(path, speech_file())
    process = start(path)
    _, err = process.communicate(b"RIFF\0\0\0\0WAVE")
    assert process.returncode == 2
    assert b"standard input is a sound file, expected raw PCM: 8,000 samples a second" in err


def test_a_state_of_another_model_is_refused(tmp_path: Path, model: Path) -> None:
    Stream(model_of("numbers")).snapshot().write(tmp_path / "state")
    process = start(model, "--state", tmp_path / "state")
    _, err = process.communicate(b"abc\n")
    assert (
        process.returncode == 2
        and f"{tmp_path / 'state'}: the state belongs to a model of weights" in err.decode()
    )


def test_a_state_is_one_streams_at_a_time_and_nothing_else_is_left_of_it(tmp_path: Path, model: Path) -> None:
    state, link = tmp_path / "state", tmp_path / "link"
    link.symlink_to(state)
    first = start(model, "--state", link)
    assert first.stdin is not None and first.stdout is not None
    first.stdin.write(b"abc\n")
    first.stdin.flush()
    first.stdout.readline()
    second = start(model, "--state", state)
    out, err = second.communicate(b"abc\n")
    assert (second.returncode, out) == (2, b"")
    said = (
        f"unrolled: {state} is the state of another stream that runs; expected another, or that it ends first.\n"
    )
    assert err.decode() == said
    first.communicate(b"face\n")
    assert Snapshot.read(state).position == 9
    assert {path.name for path in tmp_path.iterdir()} == {"state", "link", "text.safetensors"}


def test_a_state_that_cannot_be_written_is_said_before_anything_is_read(tmp_path: Path, model: Path) -> None:
    process = start(model, "--state", tmp_path / "none" / "state")
    assert process.wait(60) == 2 and process.stderr is not None
    assert process.stderr.read().decode().endswith("none/state cannot be written: No such file or directory.\n")
    process.communicate()


def test_a_sentence_starts_from_nothing_as_run_reads_it(tmp_path: Path) -> None:
    path, sentences = tmp_path / "model.safetensors", tmp_path / "sentences.txt"
    modelfile.write(path, label_file("words"))
    sentences.write_text("the old man\nboat the\nthe old man\n")
    found = run(b"\xef\xbb\xbf" + sentences.read_bytes(), path, "--state", tmp_path / "state")
    command = [sys.executable, "-m", "unrolled", "run", str(path), str(sentences), "--json"]
    read = [
        json.loads(line) for line in subprocess.run(command, capture_output=True, check=True).stdout.splitlines()
    ]
    assert [one["events"] for one in found] == [one["events"] for one in read]
    assert [one["position"] for one in found] == [3, 2, 3]
    (again,) = run(b"the old man\n", path, "--state", tmp_path / "state")
    assert again == found[0]


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    """A model of a table's columns."""
    file = label_file("numbers")
    file.encoding["layout"]["features"] = ["x", "y, m", "z"]
    modelfile.write(tmp_path / "columns.safetensors", file)
    return tmp_path / "columns.safetensors"


def test_a_blank_line_ends_a_sequence_of_numbers(tmp_path: Path, columns: Path) -> None:
    found = run(b"1,2,3\n4,5,6\n\n1,2,3\n \r\n4,5,6\n", columns)
    assert [one["position"] for one in found] == [1, 2, 1, 1]
    assert found[2] == found[0]
    run(b"1,2,3\n\n", columns, "--state", tmp_path / "state")
    assert run(b"1,2,3\n", columns, "--state", tmp_path / "state") == found[:1]


def test_the_heading_of_the_training_table_is_passed_over(columns: Path) -> None:
    expected = run(b"1,2,3\n4,5,6\n", columns)
    assert run(b'\xef\xbb\xbfx, "y, m",z\r\n1,"2",3\r\n"4", 5 ,6\r\n', columns) == expected
    assert run(b"\xef\xbb\xbf1,2,3\n4,5,6\n", columns) == expected


@pytest.mark.parametrize("separator", [",", "\t"])
def test_in_a_table_of_more_columns_the_models_are_found_by_name(
    tmp_path: Path, columns: Path, separator: str
) -> None:
    table = [["", "z", "x", "who", "y, m"], ["9:00", "3", "1", "m0", "2"], ["9:01", "6", "4", "m0", "5"]]
    lines = [separator.join(f'"{cell}"' if "," in cell else cell for cell in row) + "\n" for row in table]
    expected = run(b"1,2,3\n4,5,6\n", columns)
    assert run("".join(lines).encode(), columns) == expected
    state = tmp_path / "state"
    assert [run((lines[0] + line).encode(), columns, "--state", state) for line in lines[1:]] == [
        expected[:1],
        expected[1:],
    ]
    _, err = start(columns, "--state", state).communicate(lines[1].encode())
    assert b"line 1" in err and Snapshot.read(state).position == 2


@pytest.fixture
def machines(tmp_path: Path) -> Path:
    """A model of a table's columns, one of which told sequences apart."""
    file = label_file("numbers")
    file.encoding["layout"] |= {"features": ["x", "y", "z"], "sequence": "who"}
    modelfile.write(tmp_path / "machines.safetensors", file)
    return tmp_path / "machines.safetensors"


MIXED = [
    b"who,x,y,z\n",
    b"a/b,1,2,3\n",
    b"c,7,8,9\n",
    b"\n",
    b"a/b,4,5,6\n",
    b"c,1,1,1\n",
    b" a/b ,2,2,2\n",
]


def test_rows_of_several_sequences_have_a_stream_each(machines: Path) -> None:
    alone = {"a/b": run(b"1,2,3\n4,5,6\n2,2,2\n", machines), "c": run(b"7,8,9\n1,1,1\n", machines)}
    found = run(b"".join(MIXED), machines)
    assert [one["sequence"] for one in found] == ["a/b", "c", "a/b", "c", "a/b"]
    for name, expected in alone.items():
        assert [one for one in found if one["sequence"] == name] == [{"sequence": name, **one} for one in expected]
    out, _ = start(machines).communicate(MIXED[0] + b'"a, b",1,2,3\nc,7,8,9\n')
    assert [line.rpartition(b",")[0] for line in out.splitlines()] == [b'"a, b"', b"c"]
    nameless = run(b"".join(MIXED[:2]) + b"x,y,z\n1,2,3\n4,5,6\n", machines)[1:]
    assert nameless == run(b"1,2,3\n4,5,6\n", machines)


def test_the_states_of_several_sequences_are_kept_in_a_folder(tmp_path: Path, machines: Path) -> None:
    whole, state = run(b"".join(MIXED), machines), tmp_path / "states"
    assert [one for line in MIXED[1:] for one in run(MIXED[0] + line, machines, "--state", state)] == whole
    assert sorted(path.name for path in state.iterdir()) == ["a%2Fb.state", "c.state"]
    _, err = start(machines, "--state", state).communicate(MIXED[0])
    assert err == b"going on from the states of 2 sequences\n"


def test_states_with_and_without_names_are_not_taken_for_each_other(
    tmp_path: Path, machines: Path, model: Path
) -> None:
    run(b"".join(MIXED), machines, "--state", tmp_path / "states")
    for other, line in ((machines, b"1,2,3\n"), (model, b"abc\n")):
        process = start(other, "--state", tmp_path / "states", "--skip-bad")  # no line is to blame
        out, err = process.communicate(line * 2)
        assert (process.returncode, out) == (2, b"")
        assert err.endswith(
            b"states is a folder, of the states of sequences with names; expected the file of one state.\n"
        )
    run(b"1,2,3\n", machines, "--state", tmp_path / "one")
    for state, before, rows in (("one", b"", 0), ("new", b"1,2,3\n", 1)):
        process = start(machines, "--state", tmp_path / state, "--skip-bad")
        out, err = process.communicate(before + b"".join(MIXED))
        assert (process.returncode, len(out.splitlines())) == (2, rows)
        assert err.endswith(b"is the state of one sequence, expected a folder of states by name.\n")
        assert Snapshot.read(tmp_path / state).position == 1


def test_blank_lines_may_stand_before_the_heading(tmp_path: Path, machines: Path) -> None:
    states = tmp_path / "states"
    for position in (1, 2):  # with a new state, and with one that goes on
        found = run(b"\n \r\n" + b"".join(MIXED[:2]), machines, "--state", states)
        assert [(one["sequence"], one["position"]) for one in found] == [("a/b", position)]
    process = start(machines)
    _, err = process.communicate(b"\nwho,a,b,c,d\n")
    assert b"standard input, line 2: the columns are who, a, b, c, d, expected x, y, z in this order" in err


def test_a_state_of_a_name_that_cannot_be_used_is_no_fault_of_the_line(tmp_path: Path, machines: Path) -> None:
    (tmp_path / "states").mkdir()
    (tmp_path / "states" / "c.state").write_text("none")
    process = start(machines, "--state", tmp_path / "states", "--skip-bad")
    _, err = process.communicate(b"".join(MIXED))
    assert process.returncode == 2
    assert err.decode().splitlines() == [
        "going on from the state of 1 sequence",
        f"unrolled: {tmp_path / 'states' / 'c.state'} is damaged or not a stream's state.",
    ]


def test_a_folder_of_states_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    streams = piping.Streams(model_of("numbers"), tmp_path / "gone" / "states")
    streams.named("a")
    with pytest.raises(InputError, match="gone/states cannot be made: No such file or directory"):
        streams.keep()


def test_where_all_begin_nothing_goes_on(tmp_path: Path, machines: Path) -> None:
    (tmp_path / "empty").mkdir()
    run(b"1,2,3\n\n", machines, "--state", tmp_path / "over")  # the blank line ended the sequence
    for state, line in (("empty", b"".join(MIXED[:2])), ("over", b"1,2,3\n")):
        out, err = start(machines, "--state", tmp_path / state).communicate(line)
        assert (len(out.splitlines()), err) == (1, b"")


def test_names_of_any_length_have_states_of_their_own(tmp_path: Path, machines: Path) -> None:
    lines = [MIXED[0], *(f"{name},1,2,3\n".encode() for name in ("x" * 2000, "装置" * 99, "x" * 1999))]
    state = tmp_path / "states"
    assert [one["position"] for one in run(b"".join(lines), machines, "--state", state)] == [1, 1, 1]
    assert [one["position"] for one in run(b"".join(lines), machines, "--state", state)] == [2, 2, 2]


def test_a_row_that_does_not_name_its_sequence_is_refused(machines: Path) -> None:
    process = start(machines)
    out, err = process.communicate(b"".join(MIXED[:2]) + b" ,1,2,3\n")
    assert (process.returncode, len(out.splitlines())) == (2, 1)
    assert b"line 3: ' ,1,2,3' does not name its sequence, expected a name in each row" in err
    process = start(machines)
    out, err = process.communicate(b"who,who,x,y,z\na,b,1,2,3\n")
    assert (process.returncode, out) == (2, b"")
    assert b"line 1: the columns are who, who, x, y, z, expected x, y, z in this order" in err


def test_a_heading_may_come_again_with_other_columns(columns: Path, machines: Path) -> None:
    expected = run(b"1,2,3\n4,5,6\n", columns)
    heading, other = b'x,"y, m",z\n', b'z,a,"y, m",x\n'
    assert run(heading + b"1,2,3\n" + heading + b"4,5,6\n", columns) == expected
    assert run(b"1,2,3\n" + other + b"6,0,5,4\n", columns) == expected
    assert run(other + b"3,0,2,1\n" + heading + b"4,5,6\n", columns) == expected
    assert run(b"".join([*MIXED[:4], *MIXED[:1], *MIXED[4:]]), machines) == run(b"".join(MIXED), machines)


def test_quotes_in_the_name_of_a_column_are_none_around_it(tmp_path: Path) -> None:
    file = label_file("numbers")
    file.encoding["layout"]["features"] = ['5" pipe', "y", "z"]
    modelfile.write(tmp_path / "pipes.safetensors", file)
    expected = run(b"1,2,3\n", tmp_path / "pipes.safetensors")
    assert run(b'when,"5"" pipe",y,z\n9:00,1,2,3\n', tmp_path / "pipes.safetensors") == expected


@pytest.mark.parametrize("heading", ["z,x,y", "x,x,y,z"])
def test_a_heading_in_another_order_or_with_a_name_twice_is_refused(machines: Path, heading: str) -> None:
    out, err = start(machines).communicate(f"{heading}\n1,2,3\n".encode())
    assert out == b""
    assert f"line 1: the columns are {heading.replace(',', ', ')}, expected x, y, z in this order".encode() in err


def test_a_row_of_another_width_than_its_heading_is_refused(columns: Path) -> None:
    process = start(columns)
    out, err = process.communicate(b'x,z,"y, m",a\n1,2,3\n')
    assert (process.returncode, out) == (2, b"")
    assert b"line 2: '1,2,3' has 3 numbers, expected 4 cells as in the heading" in err


def test_true_and_false_are_the_numbers_that_they_were_in_training(columns: Path) -> None:
    assert run(b"true, FALSE,True\nfalse,2,true\n", columns) == run(b"1,0,1\n0,2,1\n", columns)


@pytest.mark.parametrize(
    ("heading", "skips"), [("z,x,y", False), ("x,y,m,z", True), ("x,z", True), ("nonsense", True)]
)
def test_another_heading_is_refused_and_left_out_only_where_its_rows_are_too(
    columns: Path, heading: str, skips: bool
) -> None:
    process = start(columns)
    out, err = process.communicate(f"{heading}\n1,2,3\n".encode())
    names = ", ".join(heading.split(","))
    said = f'standard input, line 1: the columns are {names}, expected x, "y, m", z in this order, or numbers'
    assert process.returncode == 2 and not out and said in err.decode()
    process = start(columns, "--skip-bad", "--json")
    out, err = process.communicate(f"{heading}\n1,2,3\n".encode())
    assert said in err.decode() and len(out.splitlines()) == skips and process.returncode == (0 if skips else 2)


def test_a_first_line_with_a_number_or_with_gaps_is_no_heading(columns: Path) -> None:
    for line, reason in [("x,2,z", "'x,2,z' is no row of numbers"), (",NA,", "a number is missing")]:
        process = start(columns)
        _, err = process.communicate(f"{line}\n".encode())
        assert process.returncode == 2 and reason in err.decode()


@pytest.mark.parametrize("separator", [";", "\t", "; "])
def test_a_row_may_be_separated_as_the_training_table_may(columns: Path, separator: str) -> None:
    rows = ["1,2,3\n", "4,-5e1,true\n"]
    heading = 'x,"y, m",z\n'
    told = "".join([heading.replace(",", separator).replace(f"y{separator} m", "y, m"), *rows[:1]])
    content = told + rows[1].replace(",", separator)
    assert run(content.encode(), columns) == run("".join(rows).encode(), columns)


def test_numbers_between_semicolons_may_have_a_decimal_comma(columns: Path) -> None:
    expected = run(b"1.5,2.25,-3\n0.5,1,2\n", columns)
    assert run(b"1,5;2,25;-3\n0,5;1;2\n", columns) == expected
    assert run(b"z;who;x;y, m\n-3;m,0;1,5;2,25\n2;m,0;0,5;1\n", columns) == expected


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2", "'1,2' has 2 numbers, expected 3, or first a heading that names them"),
        (
            b"m0,1,2,3",
            "'m0,1,2,3' is no row of numbers with commas, semicolons or tabs between them, expected 3, or f",
        ),
        (b"1", "'1' has 1 number, expected 3"),
        (b"1;2;3;4", "'1;2;3;4' has 4 numbers, expected 3"),
        (b"1_0,2,3", "'1_0,2,3' is no row of numbers"),
        pytest.param(b"1" + b",1" * 100_000, f"'1{',1' * 39},' has 100,001 numbers, expected 3", id="many commas"),
        pytest.param(
            b"1" + b";1" * 100_000, f"'1{';1' * 39};' has 100,001 numbers, expected 3", id="many semicolons"
        ),
        (b"1,\xff,3", "byte 0xFF at offset 2 of it is not UTF-8, expected text in UTF-8"),
    ],
)
def test_a_line_that_is_no_row_is_said_to_be_none(columns: Path, line: bytes, reason: str) -> None:
    process = start(columns)
    _, err = process.communicate(b"1,2,3\n" + line + b"\n")
    assert process.returncode == 2 and f"standard input, line 2: {reason}" in err.decode()


def test_a_byte_order_mark_is_no_character_of_a_text(tmp_path: Path, model: Path) -> None:
    assert run(b"\xef\xbb\xbfabc\n", model) == run(b"abc\n", model)
    modelfile.write(tmp_path / "bytes", text_file(vocabulary=ByteVocabulary()))
    assert [one["position"] for one in run(b"\xef\xbb\xbfabc\n", tmp_path / "bytes")] == [7]


def test_a_line_of_any_length_is_read_in_parts(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"abc had\n" + b"face a bed " * 999 + b"\n"
    (_, whole) = run(content, model)
    monkeypatch.setattr(text_piped, "LOGITS", 100)
    with piping.opened(model_of("text"), None) as streams:
        found = [one.record for one in piping.piped(model_of("text"), streams, BytesIO(content), False, print)]
    assert found[1] == whole


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_a_line_without_end_is_refused_before_it_takes_all_memory(model: Path, mark: bytes) -> None:
    process = start(model, "--skip-bad", "--json")
    out, err = process.communicate(mark + b"a" * (2 * texts.MOST + 100) + b"\nabc\n")
    assert (process.returncode, json.loads(out)["position"]) == (0, 4)
    assert err.decode() == "unrolled: standard input, line 1: it has more than 16 MB, expected shorter lines.\n"
