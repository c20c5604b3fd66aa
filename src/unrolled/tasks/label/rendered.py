"""Short films with scripted events, rendered by a seed: the data of the label task that needs no download.

Things happen in two lanes. In the upper one discs pass through, and squares meet and part. In the lower one a box
comes down, and later leaves. Which event it is can often not be told from one frame: a disc "enters" if the film
has not had its colour yet and "returns" if it has; squares that approach look like squares that part; and a box
that leaves has something in it only if, many frames ago, a ball lay where it came down.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import unrolled.cache
from unrolled.atomic import replacing
from unrolled.sequences import films
from unrolled.sequences.events import steps_to_events

__all__ = ["FILMS", "FPS", "NAME", "Film", "film", "folder"]

NAME = "rendered films"
FILMS = 96
FPS = 10
LONGEST_GAP = 150  # frames from what happens to what depends on it, about
SIDE = 64
SEED = 1998
BACKGROUND = "nothing"
DISCS = ((220, 60, 60), (60, 200, 80), (80, 110, 240))
SQUARE, BALL, BOX = (230, 200, 60), (240, 240, 240), (150, 120, 90)
FLOOR, MIDDLE, RADIUS, BOX_SIDE = 50, 32, 4, 9

Picture = NDArray[np.float32]
ROWS, COLUMNS = np.mgrid[:SIDE, :SIDE]


@dataclass
class Film:
    """Pictures [SIDE, SIDE, 3] and the event at each, as a script adds to them."""

    rng: np.random.Generator
    pictures: list[NDArray[np.uint8]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    ball: bool = False
    box: bool = False
    seen: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.wall = self.rng.uniform(25, 70, 3)

    def play(self, label: str, least: int, most: int, draw: Callable[[Picture, float], None]) -> None:
        """Add a scene of `least` to `most` frames; `draw` gets a picture and how far the scene is, from 0 to 1."""
        count = int(self.rng.integers(least, most + 1))
        for number in range(count):
            picture = np.empty((SIDE, SIDE, 3), np.float32)
            picture[:] = self.wall
            if self.ball:
                _disc(picture, MIDDLE, FLOOR, RADIUS, BALL)
            if self.box:
                _square(picture, MIDDLE, FLOOR, BOX_SIDE, BOX)
            draw(picture, number / max(1, count - 1))
            picture += 4 * self.rng.standard_normal(picture.shape, np.float32)
            self.pictures.append(np.clip(picture, 0, 255).astype(np.uint8))
            self.labels.append(label)

    def pause(self) -> None:
        """Nothing happens."""
        self.play(BACKGROUND, 3, 9, lambda picture, now: None)

    def visit(self) -> None:
        """A disc passes through the upper lane: it enters or, if its colour was there before, returns."""
        kind, height = int(self.rng.integers(len(DISCS))), int(self.rng.integers(10, 24))
        label = "returns" if kind in self.seen else "enters"
        self.seen.add(kind)
        self.play(label, 12, 20, lambda p, now: _disc(p, -5 + now * (SIDE + 10), height, 5, DISCS[kind]))

    def collision(self) -> None:
        """Two squares approach each other, collide and part."""
        height = int(self.rng.integers(10, 24))

        def apart(picture: Picture, distance: float) -> None:
            for side in (-1, 1):
                _square(picture, MIDDLE + side * (4 + distance * 32), height, 4, SQUARE)

        self.play("approaches", 8, 12, lambda picture, now: apart(picture, 1 - now * 0.95))
        self.play("collides", 3, 5, lambda picture, now: apart(picture, 0))
        self.play("parts", 8, 12, lambda picture, now: apart(picture, 0.05 + now * 0.95))

    def carrying(self) -> None:
        """A box comes down, on a ball or not; other things happen; it leaves, and takes the ball with it."""
        if self.rng.random() < 0.5:
            self.play("rolls in", 10, 14, lambda p, now: _disc(p, -4 + now * (MIDDLE + 4), FLOOR, RADIUS, BALL))
            self.ball = True
            self.pause()
        self.play("covers", 8, 12, lambda p, now: _square(p, MIDDLE, -9 + now * (FLOOR + 9), BOX_SIDE, BOX))
        self.box = True
        self.pause()
        for _ in range(int(self.rng.integers(0, 3))):
            (self.visit if self.rng.random() < 0.6 else self.collision)()
            self.pause()
        label = "is carried off" if self.ball else "leaves empty"
        self.ball = self.box = False
        self.play(label, 10, 16, lambda p, now: _square(p, MIDDLE + now * (MIDDLE + 9), FLOOR, BOX_SIDE, BOX))


def _disc(picture: Picture, x: float, y: float, radius: float, colour: tuple[int, int, int]) -> None:
    picture[(COLUMNS - x) ** 2 + (ROWS - y) ** 2 <= radius**2] = colour


def _square(picture: Picture, x: float, y: float, half: float, colour: tuple[int, int, int]) -> None:
    picture[(abs(COLUMNS - x) <= half) & (abs(ROWS - y) <= half)] = colour


def film(number: int) -> Film:
    """Film `number` of the set, always the same: about twenty seconds at `FPS` frames a second."""
    made = Film(np.random.default_rng([SEED, number]))
    for _ in range(2):
        made.pause()
        made.carrying()
        made.pause()
        (made.visit if made.rng.random() < 0.6 else made.collision)()
    made.pause()
    return made


def folder() -> Path:
    """Where the films are: rendered and written as video files, each with its events, where they are not yet.

    Raises `InputError` where they cannot be written.
    """
    with unrolled.cache.folder(f"films-{SEED}") as cache:
        for number in range(FILMS):
            path = cache / f"film-{number:02}.mp4"
            if not (path.exists() and path.with_suffix(".csv").exists()):
                made = film(number)
                films.write(path, made.pictures, FPS)
                with replacing(path.with_suffix(".csv")) as temporary:
                    temporary.write_text("\n".join(["start,end,event", *_rows(made)]) + "\n")
    return cache


def _rows(made: Film) -> Iterator[str]:
    for event in steps_to_events(made.labels, FPS):
        if event.name != BACKGROUND:
            yield f"{event.start:.1f},{event.end:.1f},{event.name}"
