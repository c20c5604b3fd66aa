"""Sound files: every kind gives the samples that were written, and what is no whole sound is refused."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from unrolled.errors import InputError
from unrolled.tasks.speech import audio

SINE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)).astype(np.float32)


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_file_gives_its_samples(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    audio.write(path, SINE, 8000)
    samples = audio.read(path, 8000)
    assert samples.dtype == np.float32
    assert np.abs(samples - SINE).max() <= 1 / 32768
    assert audio.rate_of(path) == 8000


def test_an_ogg_file_gives_about_its_samples(tmp_path: Path) -> None:
    path = tmp_path / "a.ogg"
    soundfile.write(path, SINE, 8000)
    samples = audio.read(path, 8000)
    assert len(samples) == len(SINE)
    assert np.corrcoef(samples, SINE)[0, 1] > 0.99


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, (0.5 * np.sin(2 * np.pi * 440 * np.arange(44100) / 44100)).astype(np.float32), 44100)
    samples = audio.read(path, 8000)
    assert len(samples) == 8000
    assert np.abs(samples - SINE)[200:-200].max() < 0.01


@pytest.mark.parametrize("kind", ["WAV", "RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "OGG", "MP3"])
def test_the_first_bytes_tell_a_file_from_raw_sound(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    soundfile.write(path, SINE, 8000, format=kind)
    content = path.read_bytes()
    if kind == "MP3" and not content.startswith(b"ID3"):
        content = b"ID3\x04\0\0\0\0\0\x14" + bytes(20) + content  # a tag of 20 bytes
    assert audio.is_file(content[:4])
    assert np.corrcoef(audio.read_content(content, "standard input", 8000)[: len(SINE)], SINE)[0, 1] > 0.9
    assert not audio.is_file(b"\0\0\1\0")


def test_channels_are_mixed_down(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([SINE, np.zeros_like(SINE)], axis=1), 8000, subtype="FLOAT")
    assert np.array_equal(audio.read(path, 8000), SINE / 2)


def test_raw_pcm_is_little_endian_and_an_odd_byte_is_left() -> None:
    assert audio.from_pcm(b"\x00\x40\x00\x80\x01").tolist() == [0.5, -1.0]


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([-32768, 16384], np.int16), [-1, 0.5]),
        (np.array([-(2**31), 2**30], np.int32), [-1, 0.5]),
        (np.array([-128, 64], np.int8), [-1, 0.5]),
        (np.array([0, 128, 192], np.uint8), [-1, 0, 0.5]),
        (np.array([-1, 0.5], np.float64), [-1, 0.5]),
        (np.array([-1, 0, 1]), [-1, 0, 1]),
    ],
)
def test_whole_numbers_of_a_known_range_are_pcm(samples: np.ndarray, expected: list[float]) -> None:
    found = audio.amplitudes(samples)
    assert found.dtype == np.float32
    assert found.tolist() == expected


@pytest.mark.parametrize("samples", [np.array(["a"]), np.array([True]), np.array([1], np.uint16)])
def test_what_is_no_amplitude_and_no_pcm_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(InputError, match=f"^samples: expected numbers, .*, got {samples.dtype}"):
        audio.amplitudes(samples)


def write_bytes(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def cut(path: Path, part: float) -> Path:
    content = path.read_bytes()
    return write_bytes(path, content[: int(part * len(content))])


@pytest.mark.parametrize("part", [0.02, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["wav", "ogg"])
def test_a_cut_off_file_is_refused(tmp_path: Path, kind: str, part: float) -> None:
    path = tmp_path / f"a.{kind}"
    soundfile.write(path, SINE, 8000)
    cut(path, part)
    with pytest.raises(InputError, match=f"^{path} is (cut off|damaged)"):
        audio.read(path, 8000)


@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_a_cut_off_flac_is_refused(tmp_path: Path, part: float) -> None:
    path = tmp_path / "a.flac"
    audio.write(path, np.random.default_rng(0).uniform(-1, 1, 40_000).astype(np.float32), 8000)
    cut(path, part)
    with pytest.raises(InputError, match=f"^{path} is (cut off|damaged)"):
        audio.read(path, 8000)


def test_a_wav_written_into_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, SINE, 8000)
    content = bytearray(path.read_bytes())
    place = content.index(b"data") + 4
    content[place : place + 4] = b"\xff\xff\xff\xff"
    assert len(audio.read(write_bytes(path, bytes(content)), 8000)) == 8000


def test_a_sound_of_no_samples_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, SINE[:0], 8000)
    with pytest.raises(InputError, match=r"a\.wav is a sound file of 0 samples, expected at least one"):
        audio.read(path, 8000)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 1e30, -2000])
def test_samples_of_no_sound_are_refused(tmp_path: Path, wrong: float) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.array([0, wrong, 0], np.float32), 8000, subtype="FLOAT")
    reason = re.escape(f": sample 1 is {wrong:g}, expected a finite number from -1 to 1")
    with pytest.raises(InputError, match=r"a\.wav" + reason):
        audio.read(path, 8000)
    with pytest.raises(InputError, match=r"^samples(\[1\]|: sample 1) is"):
        audio.amplitudes(np.array([0, wrong, 0], np.float32))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"", r"is empty \(0 bytes\)"),
        (b"no sound at all", "is damaged or not a sound file"),
    ],
)
def test_what_is_no_sound_is_refused(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    for call in (lambda: audio.read(path, 8000), lambda: audio.rate_of(path)):
        with pytest.raises(InputError, match=reason):
            call()


@pytest.mark.parametrize("rate", [100, 768_001, 2_000_000_000])
def test_a_rate_that_no_sound_has_is_refused(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    audio.write(path, SINE, rate)
    with pytest.raises(InputError, match=f"has {rate} samples a second, expected 1000 to 768000"):
        audio.read(path, 8000)
