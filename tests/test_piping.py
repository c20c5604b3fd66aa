"""`unrolled stream`: real processes, killed in the middle, that go on where they were."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from small import BANK, inputs_for, label_file, model_of, speech_file, text_file
from unrolled import Snapshot, Stream, modelfile
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
    assert [one["event"] for one in run(content.encode(), path)] == Stream(model_of("numbers")).read(rows)
    modelfile.write(path, label_file("words"))
    words = inputs_for("words", 6)
    found = run(f"{' '.join(words[:3])}\n{' '.join(words[3:])}\n".encode(), path)
    assert found[0]["events"] + found[1]["events"] == Stream(model_of("words")).read(words)
    modelfile.write(path, speech_file())
    samples = np.clip(inputs_for("speech", 150), -1, 0.999)
    pcm = (samples * 32768).astype("<i2")
    heard = "".join(Stream(model_of("speech")).read(pcm.astype(np.float32) / 32768))
    assert "".join(one["text"] for one in run(pcm.tobytes(), path)) == heard != ""
    assert BANK.rate == 8000


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"abc\nxyz\n", "standard input, line 2: "), (b"\xff\n", "standard input, line 1: ")],
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
    assert process.returncode == 2 and b"belongs to a model of weights" in err
