"""Films: read as streams at a chosen rate, refused with a reason, written with their events; the rendered ones."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from unrolled.errors import InputError
from unrolled.sequences import films
from unrolled.sequences.events import Event, colour, label_steps, read_events
from unrolled.tasks.label import rendered


def pictures(count: int, side: int = 32) -> list[NDArray[np.uint8]]:
    """Pictures that get lighter."""
    return [np.full((side, side, 3), 250 * number // count, np.uint8) for number in range(count)]


@pytest.fixture
def film(tmp_path: Path) -> Path:
    """40 frames at 20 a second."""
    films.write(tmp_path / "a.mp4", pictures(40), 20)
    return tmp_path / "a.mp4"


@pytest.mark.parametrize(("fps", "taken"), [(20, range(40)), (10, range(0, 40, 2)), (4, range(0, 40, 5))])
def test_a_film_is_read_at_the_rate_asked_for(film: Path, fps: float, taken: range) -> None:
    found = list(films.decode(film, fps, 16))
    assert [frame.shape for frame in found] == [(16, 16, 3)] * len(taken)
    for frame, number in zip(found, taken, strict=True):
        assert abs(frame.mean() - 250 * number // 40) < 5


def test_a_higher_rate_repeats_frames(film: Path) -> None:
    found = list(films.decode(film, 40, 8))
    assert len(found) == 79
    assert np.array_equal(found[2], found[1]) and not np.array_equal(found[3], found[2])


def test_frames_come_while_the_film_is_still_being_decoded(film: Path) -> None:
    stream = films.decode(film, 20, 8)
    assert next(stream).mean() < 5
    stream.close()


def test_a_film_that_is_cut_off_is_refused(film: Path) -> None:
    whole = film.read_bytes()
    film.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.mp4 is cut off or not a film"):
        list(films.decode(film, 20, 8))


def test_a_film_that_ends_before_it_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    noise = np.random.default_rng(0).integers(0, 256, (60, 64, 64, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    assert len(list(films.decode(path, 20, 8))) == 60
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"a\.mkv is cut off"):
        list(films.decode(path, 20, 8))


def test_a_file_without_a_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"a\.mkv has no video"):
        list(films.decode(path, 20, 8))


def test_a_video_with_no_frames_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=20)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        container.start_encoding()
    with pytest.raises(InputError, match=r"a\.avi (has a video with no frames|is cut off|has no video)"):
        list(films.decode(path, 20, 8))


def test_a_text_is_no_film(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no film")
    with pytest.raises(InputError, match=r"a\.mp4 is cut off or not a film"):
        list(films.decode(tmp_path / "a.mp4", 20, 8))


def test_the_ribbon_stands_below_the_film(film: Path, tmp_path: Path) -> None:
    films.write_with_ribbon(film, tmp_path / "out.mp4", [Event(0, 1, "a"), Event(1, 2, "b")], ["a", "b"])
    found = [frame.to_ndarray(format="rgb24") for _, frame in films.frames(tmp_path / "out.mp4")]
    assert len(found) == 40
    assert found[0].shape == (32 + films.RIBBON, 32, 3)
    last = found[-1][-4]
    for place, event in ((4, 0), (26, 1)):
        assert np.abs(last[place].astype(int) - colour(event)).max() < 40
    assert found[5][-4, 26].max() < 80, "the ribbon has not come so far yet"


def test_the_sound_of_a_film_is_kept(film: Path, tmp_path: Path) -> None:
    spoken, out, rate = tmp_path / "spoken.mkv", tmp_path / "out.mp4", 8000
    with av.open(str(spoken), "w") as container:
        picture = container.add_stream("mpeg4", rate=20)
        picture.width = picture.height = 32
        voice = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for _, frame in films.frames(film):
            drawn = av.VideoFrame.from_ndarray(frame.to_ndarray(format="rgb24"), format="rgb24")
            container.mux(picture.encode(drawn))
        container.mux(picture.encode())
        tone = (8000 * np.sin(np.arange(2 * rate) * 2 * np.pi * 440 / rate)).astype(np.int16)
        samples = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
        samples.sample_rate = rate
        container.mux(voice.encode(samples))
        container.mux(voice.encode())
    films.write_with_ribbon(spoken, out, [Event(0, 2, "a")], ["a"])
    assert len(list(films.frames(out))) == 40
    with av.open(str(out)) as made:
        heard = np.concatenate([frame.to_ndarray()[0] for frame in made.decode(audio=0)])
    spectrum = np.abs(np.fft.rfft(heard[: 2 * rate]))
    assert len(heard) >= 2 * rate - 1024 and abs(spectrum.argmax() / 2 - 440) < 2


def test_a_rendered_film_is_always_the_same_and_others_differ() -> None:
    one, again, other = rendered.film(3), rendered.film(3), rendered.film(4)
    assert np.array_equal(one.pictures, again.pictures) and one.labels == again.labels
    assert one.labels != other.labels
    assert 100 < len(one.pictures) == len(one.labels) < 400


def test_what_a_box_takes_along_was_decided_long_before() -> None:
    leaving: dict[str, list[NDArray[np.uint8]]] = {"is carried off": [], "leaves empty": []}
    for number in range(12):
        made = rendered.film(number)
        before = ""
        for picture, label in zip(made.pictures, made.labels, strict=True):
            if label in leaving and label != before:
                leaving[label].append(picture)
                assert any(earlier == "covers" for earlier in made.labels)
            before = label
    assert all(len(found) > 3 for found in leaving.values())
    boxes = {
        name: np.mean([picture[45:55, 27:37] for picture in found], axis=0) for name, found in leaving.items()
    }
    assert np.abs(boxes["is carried off"] - boxes["leaves empty"]).max() < 15, "the box looks the same"


def test_films_are_rendered_by_one_of_those_who_ask_at_the_same_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rendered, "FILMS", 1)
    with ThreadPoolExecutor(4) as askers:
        folders = {asked.result() for asked in [askers.submit(rendered.folder) for _ in range(4)]}
    (folder,) = folders
    assert sorted(path.name for path in folder.iterdir()) == ["film-00.csv", "film-00.mp4"]


def test_rendered_films_are_written_once_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(rendered, "FILMS", 2)
    folder = rendered.folder()
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(times) == ["film-00.csv", "film-00.mp4", "film-01.csv", "film-01.mp4"]
    assert rendered.folder() == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    made = rendered.film(1)
    frames = list(films.decode(folder / "film-01.mp4", rendered.FPS, rendered.SIDE))
    assert len(frames) == len(made.pictures)
    assert np.mean(np.abs(np.stack(frames).astype(int) - np.stack(made.pictures))) < 6
    events = read_events(folder / "film-01.csv")
    assert (
        label_steps(events, folder / "film-01.csv", len(frames), rendered.FPS, rendered.BACKGROUND) == made.labels
    )
