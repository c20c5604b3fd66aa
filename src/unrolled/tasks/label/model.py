"""A finished label model: it labels sequences, films while they are still being decoded, and measures itself."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import plots, texts
from unrolled.architecture import NO_EVENT
from unrolled.causal import Causal
from unrolled.errors import InputError
from unrolled.examples import Refused, divide
from unrolled.modelfile import Loaded, ModelFile
from unrolled.results import Evaluation, Output, Table
from unrolled.settings import setting
from unrolled.stream import Stream
from unrolled.tasks import whereabouts
from unrolled.tasks.label import films, piped, rendered, ribbons, segments, sequences, times
from unrolled.tasks.label.films import Event
from unrolled.tasks.label.labelling import Labeller, SwitchFilter, viterbi
from unrolled.tasks.label.names import cell, listed
from unrolled.tasks.label.ribbons import Ribbons
from unrolled.tasks.label.segments import LabelScore
from unrolled.tasks.label.sequences import Layout, Series

__all__ = ["EventOptions", "LabelModel", "encode_labels"]

READINGS = {"alone": "each step alone", "causal": "as it comes", "offline": "the whole sequence"}
Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
MOST_CONFUSED = 20  # classes of a confusion matrix that a terminal shows
RIBBON = 96  # characters


@dataclass(frozen=True)
class EventOptions:
    """How a label model tells what it finds."""

    every: bool = setting(False, "A row for every step, in place of one for every event.")
    offline: bool | None = setting(
        None,
        "Read whole sequences in both directions.",
        default_help="live for films, else as the model was trained",
    )
    time: str | None = setting(
        None,
        "A table's column of times: also say the time of each start and end (the last: that of the last row).",
    )
    video: str | None = setting(None, "Write the film with a ribbon of its events to this .mp4 file.")
    plot: str | None = setting(None, "Draw the events, and the true ones where known, to .png, .svg or .pdf.")


class LabelModel(Loaded):
    """A trained label model: `label` names the event of each step of a sequence, `stream` as it comes."""

    RunOptions: ClassVar[type[Any]] = EventOptions

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file)
        try:
            self.layout = Layout.from_json(file.encoding["layout"])
            self.classes: list[str] = file.encoding["classes"]
            self.penalty = float(file.encoding["switch_penalty"])
            self._labeller = Labeller(file)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"its encoding is not that of a label model: {error}.") from error
        if len(self.classes) != file.architecture.classes:
            raise InputError(
                f"it names {len(self.classes)} events, but the architecture has {file.architecture.classes}."
            )
        self.kind: str = file.architecture.kind

    def reads(self) -> dict[str, Any]:
        """What it reads and which events it names, as it was trained; of a table, the columns in order."""
        layout = self.layout
        found: dict[str, Any] = {"events": self.classes}
        if self.kind == "films":
            return {**found, "background": layout.background}
        if self.kind == "words":
            return found
        if layout.features:
            columns = {"columns": list(layout.features), "label": layout.label, "sequence": layout.sequence}
            found = {**columns, **found}
        return {**found, "missing": layout.missing}

    def features(self, inputs: Any) -> NDArray[np.float32]:
        """What the recurrent layers read of a sequence's inputs [T]: numbers [T, width]."""
        return self._labeller.front(inputs)

    @cached_property
    def causal(self) -> Causal:
        """The model as a stream sees it; of a bidirectional one, the part that reads forward."""
        return self._labeller.causal(self.file, self.classes, self.penalty)

    def stream(self) -> Stream:
        """A new stream: `read` names the event of each step as it comes."""
        return Stream(self)

    def piped(
        self, stream: Stream, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """The event of each row, or of each word, of `source`: see `unrolled.piping.PipedModel`."""
        if self.kind == "films":
            raise InputError("the model reads films, which come in files: unrolled run MODEL FILM")
        if self.kind == "words":
            return piped.of_sentences(stream, source, refused)
        return piped.of_rows(list(self.layout.features), self.file.architecture.inputs, stream, source, refused)

    def label(self, inputs: Any, offline: bool = False) -> list[str]:
        """The event of each step of one sequence; `offline` by the whole of it. Raises as `run` does."""
        if not offline:
            return self.stream().read(inputs)
        if not self._labeller.bidirectional:
            raise InputError("--offline needs a model trained with --bidirectional; this one reads forward alone.")
        found = viterbi(self._labeller.logits(inputs)["offline"], self.penalty)
        return [self.classes[one] for one in found]

    def measure(self, series: Sequence[Series]) -> Evaluation:
        """The scores on sequences whose events are known, for each way of reading them.

        Raises `InputError` for an event that training did not have.
        """
        scores = {name: self.scored(pairs) for name, pairs in self.readings(series).items()}
        best = list(scores.values())[-1]
        rows = [[_title(name), *score.row()] for name, score in scores.items()]
        tables = [
            Table(["read", *best.figures()], rows),
            Table(
                [f"event, {rows[-1][0]}", "precision", "recall", "F1", "steps"],
                [
                    [name, f"{one.precision:.1f}", f"{one.recall:.1f}", f"{one.f1:.1f}", f"{one.steps:,}"]
                    for name, one in zip(self.classes, best.classes(), strict=True)
                ],
            ),
        ]
        if len(self.classes) <= MOST_CONFUSED:
            tables.append(self._confusion(best))
        figures = {
            "sequences": len(series),
            "steps": sum(len(one.inputs) for one in series),
            **{name.replace(", ", "_"): score.figures() for name, score in scores.items()},
            "events": self.classes,
            "confusion": best.confusion.tolist(),
        }
        return Evaluation(figures, tables)

    def _confusion(self, score: LabelScore) -> Table:
        """Of each event's steps, the percentage that each event was said of; nothing is written for none."""
        letters = [chr(ord("a") + number) for number in range(len(self.classes))]
        shares = 100 * score.confusion / np.maximum(1, score.confusion.sum(1, keepdims=True))
        rows = [
            [f"{letter} {name}", *(f"{share:3.0f}" if share else "" for share in row)]
            for letter, name, row in zip(letters, self.classes, shares, strict=True)
        ]
        return Table(["% said of the true", *(f"{letter:>3}" for letter in letters)], rows, dense=True)

    def readings(self, series: Sequence[Series]) -> dict[str, list[Pair]]:
        """What each way of reading says of sequences whose events are known: (said [T], true [T]) for each.

        Raises `InputError` for an event that training did not have.
        """
        said: dict[str, list[Pair]] = {}
        for one in series:
            true = encode_labels(one, self.classes)
            known = true != NO_EVENT
            for name, logits in self._labeller.logits(one.inputs).items():
                said.setdefault(name, []).append((logits.argmax(-1)[known], true[known]))
                if self.penalty:
                    smooth = viterbi(logits, self.penalty) if name == "offline" else self._filtered(logits)
                    said.setdefault(f"{name}, smoothed", []).append((smooth[known], true[known]))
        return said

    def scored(self, pairs: Iterable[Pair]) -> LabelScore:
        """The scores of what was said against what is true; words have no segments."""
        return segments.score(pairs, len(self.classes), () if self.kind == "words" else segments.OVERLAPS)

    def _filtered(self, logits: NDArray[np.float32]) -> NDArray[np.int64]:
        return SwitchFilter(len(self.classes), self.penalty).feed(logits)

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """The scores on labelled sequences (default: what was held out); see `measure`."""
        return self.measure(self.read(paths, Refused()) if paths else self.held_out())

    def read(
        self, paths: Iterable[str | Path], refused: Refused, labelled: bool = True, time: str | None = None
    ) -> list[Series]:
        """Sequences from files, as this model takes them; raises `InputError` for others.

        `time` names the column of a table that has the time of each step.
        """
        kind, series = sequences.read(paths, replace(self.layout, time=time), refused, labelled)
        if kind != self.kind:
            raise InputError(f"{series[0].name} has {kind}, but the model reads {self.kind}.")
        for one in series:
            if kind == "numbers" and one.inputs.shape[1] != self.file.architecture.inputs:
                raise InputError(
                    f"{one.name} has {one.inputs.shape[1]} numbers a step, but the model reads "
                    f"{self.file.architecture.inputs}."
                )
        return series

    def held_out(self) -> list[Series]:
        """What was held out, read again from where it was; raises `InputError` if it is no longer the same."""
        training = self.file.training
        refused = Refused(training["skip_bad"])
        builtin = training["names"] == [rendered.NAME]
        if training["held_out"] is not None:
            paths: list[Any] = whereabouts.found(training, [training["held_out"]], self.file.folder)
            series = self.read(paths, refused)
        else:
            paths = [rendered.folder()]
            if not builtin:
                paths = whereabouts.found(training, training["names"], self.file.folder)
            split, seed = training["split"], training["seed"]
            if (
                self.kind == "films" and not training["skip_bad"]
            ):  # a film a sequence: only those held out are decoded
                shown = [source.path for source in sequences.sources(paths)]
                series = self.read([shown[number] for number in divide(len(shown), split, seed)[1]], refused)
            else:
                found = self.read(paths, refused)
                series = [found[number] for number in divide(len(found), split, seed)[1]]
        known = [one for one in series if set(one.labels or ()) <= {None, *self.classes}]
        compared = [Series(one.name, [], one.labels) for one in known] if builtin else known
        if sequences.fingerprint(compared) != training["held_out_data"]:
            given = ", ".join(map(str, paths))
            raise InputError(f"{given}: not the data that the model was trained with; name DATA to measure on.")
        return known

    def run(self, inputs: Sequence[str], options: EventOptions) -> Iterator[Output]:
        """The events of each of `inputs`: films, files of sequences, a table by `-` or, of words, sentences.

        A film's are told while it is still being decoded, unless `offline`. Raises `InputError` for an input
        that cannot be read.
        """
        if options.video and len(inputs) != 1:
            raise InputError(f"{len(inputs)} inputs, expected one for --video.")
        if options.plot and len(inputs) > ribbons.MOST:
            raise InputError(f"{len(inputs)} inputs; --plot draws at most {ribbons.MOST} sequences.")
        if options.plot:
            plots.figure_class(Path(options.plot))  # what cannot be drawn is refused before there is work done
        if options.video and self.kind != "films":
            raise InputError(f"--video needs a film, but the model reads {self.kind}.")
        if options.plot and self.kind == "words":
            raise InputError("--plot draws events over time, but the model reads words.")
        if options.time and self.kind != "numbers":
            raise InputError(f"--time names a column of a table, but the model reads {self.kind}.")
        if "" in inputs:
            raise InputError("the INPUT is empty, expected a file's name, or a text for a model of words.")
        odd: list[str] = []
        drawn: list[Ribbons] = []
        for given in inputs:
            if self.kind == "words":
                yield from self._sentences(given, options)
            else:
                yield from self._timed(given, options, odd, drawn)
        if options.plot:
            self._draw(Path(options.plot), drawn)

    def _offline(self, options: EventOptions) -> bool:
        if options.offline is None:
            return self._labeller.bidirectional and self.kind != "films"
        return options.offline

    def _sentences(self, given: str, options: EventOptions) -> Iterator[Output]:
        if given.endswith((".conllu", ".conllu.gz")) or Path(given).is_dir():
            sentences = [one.inputs for one in self.read([given], Refused(), labelled=False)]
        else:
            sentences = [text.split() for text in texts.lines(given)]
            if not all(sentences):
                raise InputError("the sentence has no words, expected at least one.")
        for words in sentences:
            events = self.label(words, self._offline(options))
            line = " ".join(f"{word}/{event}" for word, event in zip(words, events, strict=True))
            yield Output(line, {"words": words, "events": events})

    def _timed(self, given: str, options: EventOptions, odd: list[str], drawn: list[Ribbons]) -> Iterator[Output]:
        """The events of films, in seconds, or of other sequences, in steps.

        What is `odd` about times is said on standard error once, and kept there; `drawn` keeps what --plot draws.
        """
        if self.kind == "films" and given != "-" and not Path(given).is_dir():
            path = sequences.sources([given])[0]
            if path.kind != "films":
                raise InputError(f"{given} has {path.kind}, but the model reads films.")
            beside = path.path.with_suffix(".csv")
            truth = films.read_events(beside) if options.plot and beside.exists() else None
            yield from self._told(given, self._of_film(path.path, options), options, truth, drawn)
            return
        found = self._piped(options) if given == "-" else self.read([given], Refused(), False, options.time)
        if options.time and found[0].times is None:
            raise InputError(f"{given} has no columns with names, expected a table for --time.")
        if options.video and len(found) != 1:
            raise InputError(f"{given} has {len(found):,} sequences, expected one for --video.")
        if options.plot and len(drawn) + len(found) > ribbons.MOST:
            raise InputError(
                f"{given} has {len(found):,} sequences; --plot draws at most {ribbons.MOST} of all inputs."
            )
        for one in found:
            if not odd and (oddity := times.oddity(one.times or ())):
                odd.append(f"{one.name}, {oddity}")
                print(f"unrolled: {odd[0]}; times are told as they stand.", file=sys.stderr)
            rate = self.layout.fps if self.kind == "films" else 1.0
            labels = None if one.labels is None else [label or "" for label in one.labels]
            truth = None if labels is None else list(films.steps_to_events(labels, rate))
            said = self.label(one.inputs, self._offline(options))
            yield from self._told(one.name, said, options, truth, drawn, one.times)

    def _piped(self, options: EventOptions) -> list[Series]:
        """The sequences of a table on standard input, by the names of its columns."""
        if not self.layout.features:
            read = "arrays, which have no names of columns" if self.kind == "numbers" else self.kind
            raise InputError(f"standard input: the model reads {read}, expected the name of a file.")
        layout = replace(self.layout, time=options.time)
        return sequences.piped(sys.stdin.buffer.read(), layout, Refused())

    def _of_film(self, path: Path, options: EventOptions) -> Iterator[str]:
        """The event at each step of a film, as soon as it is known."""
        frames = films.decode(path, self.layout.fps, self.layout.side)
        if self._offline(options):
            yield from self.label(np.stack(list(frames)), offline=True)
            return
        stream = self.stream()
        for frame in frames:
            yield stream.read(frame[None])[0]

    def _told(
        self,
        name: str,
        labels: Iterable[str],
        options: EventOptions,
        truth: list[Event] | None,
        drawn: list[Ribbons],
        times: Sequence[str] | None = None,
    ) -> Iterator[Output]:
        """The rows of one sequence, as its labels come, its film with a ribbon, and what is to be drawn of it.

        `times` has the time of each step, where it is to be told as well.
        """
        rate = self.layout.fps if self.kind == "films" else 1.0
        kept: list[Event] = []
        columns = ["start", "end", "event", *(["start_time", "end_time"] if times else [])]
        if options.every:  # of a film the time in seconds, as nothing else tells it
            columns = (
                ["time", "event"] if self.kind == "films" else ["step", "event", *(["time"] if times else [])]
            )
        heading = f"# {name}\n{','.join(columns)}\n"

        def output(values: Sequence[float], event: str) -> Output:
            steps = list(map(round, values))
            at = [times[min(step, len(times) - 1)] for step in steps] if times else []
            told = values if self.kind == "films" else steps
            cells = [*map(_written, told), cell(event), *map(cell, at)]
            record = dict(zip(columns, [*told, event, *at], strict=True))
            return Output(heading + ",".join(cells), {"sequence": name, **record})

        for event in films.steps_to_events(labels, rate) if not options.every else ():
            kept.append(event)
            yield output([event.start, event.end], event.name)
            heading = ""
        if options.every:
            said: list[str] = []
            for step, label in enumerate(labels):
                said.append(label)
                yield output([step / rate], label)
                heading = ""
            kept = list(films.steps_to_events(said, rate))
        if options.video:
            films.write_with_ribbon(Path(name), Path(options.video), kept, self.classes)
        if options.plot:
            drawn.append((name, {"truth": truth, "model": kept} if truth is not None else {"model": kept}))

    def _draw(self, path: Path, drawn: Sequence[Ribbons]) -> None:
        """Ribbons of the sequences, with colours for events of other names than the model's too."""
        said = {event.name for _, rows in drawn for events in rows.values() for event in events}
        names = [*self.classes, *sorted(said - set(self.classes))]
        of_film = self.kind == "films"  # whose table of events does not name the background
        blank = self.layout.background if of_film else None
        ribbons.draw(path, drawn, names, "seconds" if of_film else "steps", blank)

    def show(self, series: Series) -> str:
        """What the model makes of one labelled sequence beside the truth, for people."""
        logits = self._labeller.logits(series.inputs)
        said = {READINGS[name]: [self.classes[n] for n in one.argmax(-1)] for name, one in logits.items()}
        rows = {"truth": [label or "?" for label in series.labels or ()], **said}
        if self.kind == "words":
            return "\n".join(
                f"{name:20}" + " ".join(f"{w}/{e}" for w, e in zip(series.inputs, events, strict=True))
                for name, events in rows.items()
            )
        places = np.linspace(0, len(series.inputs) - 1, min(RIBBON, len(series.inputs))).round().astype(int)
        letters = {name: chr(ord("a") + number % 26) for number, name in enumerate(self.classes)}
        lines = [
            f"{name:20}" + "".join(letters.get(events[place], "?") for place in places)
            for name, events in rows.items()
        ]
        legend = ", ".join(f"{letter} {name}" for name, letter in letters.items())
        return "\n".join([f"{series.name}: {legend}", *lines])

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""
        training = self.file.training
        if self.kind == "words":
            return [f"unrolled run {path} 'The old man the boat .'", f"unrolled eval {path}"]
        example = training.get("example")
        read = shlex.quote(whereabouts.path(training, example)) if example else "FILE"
        return [f"unrolled run {path} {read}", f"unrolled eval {path}"]


def encode_labels(series: Series, classes: Sequence[str]) -> NDArray[np.int64]:
    """The class of each step, -1 for none; raises `InputError` for an event that is not among `classes`."""
    numbers: dict[str | None, int] = {name: number for number, name in enumerate(classes)} | {None: NO_EVENT}
    for step, label in enumerate(series.labels or ()):
        if label not in numbers:
            raise InputError(
                f"{series.name}, step {step}: the event {label!r} is not in the training data, expected one of "
                f"{listed(classes)}"
            )
    return np.array([numbers[label] for label in series.labels or ()], np.int64)


def _written(number: float) -> str:
    """A step or a time in seconds, with no exponent however many there are."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


def _title(name: str) -> str:
    reading, _, rest = name.partition(",")
    return READINGS[reading] + ("," + rest if rest else "")
