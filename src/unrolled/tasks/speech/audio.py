"""Sound files become samples: mono, at one rate, float32 between -1 and 1.

WAV, FLAC, OGG and what else libsndfile reads. A file of another sample rate is resampled with a polyphase
filter; several channels are mixed down to their mean. A file that was cut off is refused, also where the library
would read what is left of it. This file knows nothing of models.
"""

import struct
import tempfile
from collections.abc import Iterator
from math import gcd
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.extras import extra
from unrolled.floats import as_float32

__all__ = [
    "HIGHEST_RATE",
    "LOWEST_RATE",
    "Samples",
    "amplitudes",
    "as_it_comes",
    "from_pcm",
    "is_file",
    "rate_of",
    "read",
    "read_content",
    "resample",
    "write",
]

Samples = NDArray[np.float32]

LOWEST_RATE, HIGHEST_RATE = 1000, 768_000  # samples a second
CHUNK = 0.1  # seconds of live sound that are heard at a time
LOUDEST = 1000  # 1 is full scale; what is so far beyond it is no sound, and its power may overflow
# WAV, its successors RF64 and W64, AIFF, CAF, AU, FLAC, OGG, MP3 with a tag
BEGINNINGS = (b"RIFF", b"RF64", b"riff", b"FORM", b"caff", b".snd", b"fLaC", b"OggS", b"ID3")
UNKNOWN_SIZE = (0, 0xFFFFFFFF)  # what programs that write WAV into a pipe leave in its header


def read(path: Path, rate: int) -> Samples:
    """The sound of a file as samples [N] at `rate` a second, its channels mixed down.

    Raises `InputError` for a file that is missing, no sound, cut off, without samples, or with samples that are
    not finite or beyond ±1000.
    """
    library = _soundfile()
    _check_file(path)
    _check_whole(path)
    try:
        samples, own_rate = library.read(path, dtype="float32", always_2d=True)
    except (library.LibsndfileError, RuntimeError, TypeError) as error:
        raise InputError(f"{path} is damaged or not a sound file: {_reason(error)}.") from error
    if not len(samples):
        raise InputError(f"{path} is a sound file of 0 samples, expected at least one.")
    mono = samples[:, 0] if samples.shape[1] == 1 else samples.mean(axis=1)
    _check_loudness(mono, str(path))
    return resample(np.ascontiguousarray(mono), _checked_rate(path, own_rate), rate)


def read_content(content: bytes, name: str, rate: int) -> Samples:
    """The same of the content of a file, called `name` where something is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            return read(path, rate)
        except InputError as error:
            raise InputError(str(error).replace(str(path), name)) from error


def is_file(content: bytes) -> bool:
    """Whether this is how a sound file begins, and not raw PCM."""
    return content.startswith(BEGINNINGS)


def rate_of(path: Path) -> int:
    """The samples a second of a sound file; raises `InputError` for one that cannot be opened."""
    library = _soundfile()
    _check_file(path)
    try:
        return _checked_rate(path, library.info(path).samplerate)
    except (library.LibsndfileError, RuntimeError, TypeError) as error:
        raise InputError(f"{path} is damaged or not a sound file: {_reason(error)}.") from error


def resample(samples: Samples, own_rate: int, rate: int) -> Samples:
    """Samples [N] of `own_rate` at `rate` a second, by a polyphase low-pass filter (scipy's `resample_poly`)."""
    if own_rate == rate:
        return samples
    with extra("audio", "changing a sound's rate needs scipy"):
        from scipy.signal import resample_poly
    divisor = gcd(own_rate, rate)
    resampled: Samples = resample_poly(samples, rate // divisor, own_rate // divisor).astype(np.float32)
    return resampled


def amplitudes(samples: NDArray[Any]) -> Samples:
    """Samples of any type as float32 between -1 and 1.

    Whole numbers of 8, 16 and 32 bits are PCM and are divided by their range: int16 by 32768, uint8 as
    (x - 128) / 128. Floating-point numbers, and what numpy makes of Python's whole ones (int64), are amplitudes
    already. Raises `InputError` for other types, and for a number that is not finite or beyond ±1000.
    """
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if samples.size and (kind not in "iuf" or (kind == "u" and size > 1)):
        raise InputError(f"samples: expected numbers, floating-point or PCM, got {samples.dtype}")
    if kind == "u":
        return (samples.astype(np.float32) - np.float32(128)) / np.float32(128)
    if kind == "i" and size < 8:
        return samples.astype(np.float32) / np.float32(2 ** (8 * size - 1))
    numbers = as_float32(samples, "samples")
    _check_loudness(numbers, "samples")
    return numbers


def from_pcm(content: bytes) -> Samples:
    """Samples from raw PCM: signed 16-bit little-endian, mono; a last odd byte is left out."""
    whole = len(content) - len(content) % 2
    return amplitudes(np.frombuffer(content[:whole], "<i2"))


def as_it_comes(source: BinaryIO, rate: int) -> Iterator[Samples]:
    """Samples from raw PCM, as for `from_pcm`, a tenth of a second at most at a time, until `source` ends."""
    rest = b""
    while content := source.read1(2 * max(1, round(CHUNK * rate))):  # type: ignore[attr-defined]
        content = rest + content
        whole = len(content) - len(content) % 2
        rest = content[whole:]
        yield from_pcm(content[:whole])


def write(path: Path, samples: Samples, rate: int) -> None:
    """Write samples [N] as a 16-bit file of the kind that the name says; louder than 1 is clipped."""
    _soundfile().write(path, np.clip(samples, -1, 1), rate, subtype="PCM_16")


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError) as error:
        raise InputError("reading sound files needs soundfile: pip install 'unrolled[audio]'.") from error
    module: ModuleType = soundfile
    return module


def _check_file(path: Path) -> None:
    if not path.exists():
        raise InputError(f"{path} does not exist; expected a sound file.")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file; expected a sound file.")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty (0 bytes); expected a sound file.")


def _checked_rate(path: Path, rate: int) -> int:
    if not LOWEST_RATE <= rate <= HIGHEST_RATE:
        raise InputError(f"{path} has {rate} samples a second, expected {LOWEST_RATE} to {HIGHEST_RATE}.")
    return rate


def _check_loudness(samples: Samples, place: str) -> None:
    """Refuse samples [N] of which one is not finite or beyond `LOUDEST`."""
    wrong = ~(np.abs(samples) <= LOUDEST)
    if wrong.any():
        at = int(wrong.argmax())
        raise InputError(
            f"{place}: sample {at} is {samples[at]:g}, expected a finite number from -1 to 1 or little beyond."
        )


def _reason(error: Exception) -> str:
    return str(getattr(error, "error_string", error)).rstrip(".")


def _check_whole(path: Path) -> None:
    """Refuse a WAV that ends before its header says, and an OGG without its last page."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        if head[:4] == b"RIFF" and head[8:] == b"WAVE":
            while len(chunk := file.read(8)) == 8:
                name, length = struct.unpack("<4sI", chunk)
                if name == b"data":
                    if length not in UNKNOWN_SIZE and file.tell() + length > size:
                        raise InputError(
                            f"{path} is cut off: its header says {length:,} bytes of sound, but "
                            f"{size - file.tell():,} are there."
                        )
                    return
                file.seek(length + length % 2, 1)
        elif head[:4] == b"OggS":
            file.seek(max(0, size - (1 << 17)))  # more than the longest page
            tail = file.read()
            page = tail.rfind(b"OggS")
            if page < 0 or len(tail) < page + 27 or not tail[page + 5] & 4:
                raise InputError(f"{path} is cut off: its last page is missing.")
            segments = tail[page + 27 : page + 27 + tail[page + 26]]
            if len(segments) < tail[page + 26] or len(tail) < page + 27 + len(segments) + sum(segments):
                raise InputError(f"{path} is cut off: its last page is not whole.")
