"""How files of sequences are to be read, as a person said it and as a model keeps it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["Layout"]


@dataclass(frozen=True)
class Layout:
    """How files are to be read.

    In a table, `label` names the column of events (None: there is none), `sequence` the column that tells
    sequences apart (else a file is one, as is a table without that column of which nothing is learned) and
    `features` the columns that are read (empty: all others but those in `ignore`), which have numbers or, those of
    `categories`, these names; `time` may name a column with the time of each step, for those who tell it. A film
    is read at `fps` frames a second of `side` x `side` pixels; where its CSV names no event, the event is
    `background`. Where `missing` is "hold", a number or a name that is not there is NaN, else it is refused. The
    event of a step is the one that a file has `ahead` steps later.
    """

    label: str | None = "label"
    sequence: str | None = None
    ignore: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    fps: float = 10.0
    side: int = 32
    background: str = "nothing"
    missing: str = "refuse"
    time: str | None = None
    categories: dict[str, list[str]] = field(default_factory=dict)
    ahead: int = 0

    @property
    def gaps(self) -> bool:
        """Whether numbers may be missing."""
        return self.missing == "hold"

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Self:
        """What `dataclasses.asdict` made, after JSON."""
        lists = {name: tuple(document[name]) for name in ("ignore", "features")}
        return cls(**{**document, **lists})

    def to_json(self) -> dict[str, Any]:
        """What a model keeps of it, as JSON can hold it: all but `time`, and of the last two what they say."""
        idle = {"time", *(name for name in ("categories", "ahead") if not getattr(self, name))}
        kept = {name: value for name, value in asdict(self).items() if name not in idle}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in kept.items()}
