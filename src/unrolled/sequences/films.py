"""Films as streams of frames, and films with their events drawn in; PyAV reads and writes.

Times are in seconds from a film's first frame. A film is never held in memory as a whole here.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unrolled.atomic import replacing
from unrolled.errors import InputError
from unrolled.extras import extra
from unrolled.sequences.events import Event, colour

__all__ = [
    "SUFFIXES",
    "check_name",
    "decode",
    "write",
    "write_with_ribbon",
]

SUFFIXES = (".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".mpg", ".mpeg", ".ogv")
MISSING = 0.5  # seconds that a film may lack of what it says it has
RIBBON = 24  # pixels

Frame = NDArray[np.uint8]


def _av() -> Any:
    with extra("video", "films need PyAV"):
        import av
    return av


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The open film; whatever PyAV cannot read becomes one sentence."""
    av = _av()
    try:
        with av.open(str(path)) as container:
            yield container
    except (av.FFmpegError, OSError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path} is cut off or not a film: {reason.rstrip('.')}.") from error


def frames(path: Path) -> Iterator[tuple[float, Any]]:
    """Every frame as PyAV has it with its time, as it is decoded.

    Raises `InputError` for a file without a video, one with no frames, and, when that is found out, one that is
    cut off.
    """
    with _reading(path) as container:
        if not container.streams.video:
            raise InputError(f"{path} has no video, expected a film.")
        stream = container.streams.video[0]
        began: float | None = None
        time, step, count = 0.0, 1.0 / float(stream.average_rate or 25), 0
        for frame in container.decode(stream):
            shown = time + step if frame.time is None else frame.time
            began = shown if began is None else began
            time, count = shown - began, count + 1
            yield time, frame
        if began is None:
            raise InputError(f"{path} has a video with no frames, expected at least one.")
        length = float((stream.duration or 0) * stream.time_base) or float(container.duration or 0) / 1e6
        if length - (time + step) > max(MISSING, 2 * step) or count < stream.frames - 2:
            said = f"{length:.1f} s" if length else f"{stream.frames} frames"
            raise InputError(f"{path} is cut off: it says that it has {said}, found {time + step:.1f} s.")


def decode(path: Path, fps: float, side: int) -> Generator[Frame]:
    """The film at `fps` frames a second: at each tick the first frame not shown before it, [side, side, 3] RGB.

    The picture is squeezed to a square. Raises as `frames` does.
    """
    tick, reformatter = 0, _av().video.reformatter.VideoReformatter()
    for time, frame in frames(path):
        small: Frame | None = None
        while tick / fps <= time + 1e-3:
            if small is None:
                small = reformatter.reformat(frame, side, side, "rgb24").to_ndarray()
            yield small
            tick += 1


def _encoder() -> str:
    """H.264 where this PyAV can write it, MPEG-4 otherwise."""
    av = _av()
    return "libx264" if "libx264" in av.codecs_available else "mpeg4"


def write(path: Path, pictures: Iterable[Frame], fps: float, sound: Path | None = None) -> None:
    """Write RGB pictures [height, width, 3], both even, as a film in an MP4 file, which is whole or not there.

    It has the sound of the film `sound`, if that has any.
    """
    from fractions import Fraction

    av = _av()
    rate = Fraction(fps).limit_denominator(1001)
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = None
        for picture in pictures:
            if stream is None:
                stream = container.add_stream(_encoder(), rate=rate)
                stream.height, stream.width = picture.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = (
                    {"crf": "18", "preset": "veryfast"} if stream.codec.name == "libx264" else {"q:v": "3"}
                )
                if sound is not None:
                    _add_sound(container, sound)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        if stream is not None:
            container.mux(stream.encode())


def _add_sound(container: Any, film: Path) -> None:
    """Write the first sound of `film`, if there is one, into the open `container` as AAC."""
    with _reading(film) as source:
        if not source.streams.audio:
            return
        stream = container.add_stream("aac", rate=source.streams.audio[0].rate)
        for frame in source.decode(audio=0):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def check_name(path: Path) -> None:
    """Raise `InputError` for a name that `write` should not be given: no .mp4, or in no folder that is there."""
    if path.suffix != ".mp4":
        raise InputError(f"{path} is of an unknown kind of film; expected a name ending in .mp4.")
    if not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent} for the film.")


def write_with_ribbon(film: Path, out: Path, events: Sequence[Event], names: Sequence[str]) -> None:
    """Write the film `film`, with its sound, to `out` with a ribbon of its events below it.

    The ribbon fills up as time goes on, a colour an event of `names`, and says what happens now.
    """
    with _reading(film) as container:
        streams = container.streams.video
        rate = float(streams[0].average_rate or 25) if streams else 25.0
    write(out, _with_ribbon(film, events, names), rate, sound=film)


def _with_ribbon(film: Path, events: Sequence[Event], names: Sequence[str]) -> Iterator[Frame]:
    with extra("video", "drawing events needs Pillow"):
        from PIL import Image, ImageDraw
    whole = max(event.end for event in events)
    for time, frame in frames(film):
        width, height = frame.width - frame.width % 2, frame.height - frame.height % 2
        picture = frame.reformat(width, height, format="rgb24").to_ndarray()
        band = Image.new("RGB", (width, RIBBON), (32, 32, 32))
        draw = ImageDraw.Draw(band)
        for event in events:
            if event.start <= time:
                places = event.start / whole * width, min(event.end, time) / whole * width
                draw.rectangle((places[0], RIBBON * 2 // 3, places[1], RIBBON), colour(names.index(event.name)))
        now = [event.name for event in events if event.start <= time]
        if now:
            draw.text((2, 2), now[-1], fill=(255, 255, 255))
        yield np.concatenate([picture, np.asarray(band)])
