"""A finished label model: it labels sequences, films while they are still being decoded, and measures itself."""

import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import sequences, texts, whereabouts
from unrolled.architecture import NO_EVENT
from unrolled.causal import Causal
from unrolled.errors import InputError, counted
from unrolled.examples import Refused, divide
from unrolled.floats import Floats
from unrolled.modelfile import Loaded, ModelFile
from unrolled.piping import Streams
from unrolled.results import Evaluation, Output
from unrolled.sequences import Series, encode_labels, events, films
from unrolled.sequences.layout import Layout
from unrolled.sequences.names import by_name
from unrolled.sequences.rows import Rows, of_rows
from unrolled.sequences.steps import Steps
from unrolled.softmax import softmax
from unrolled.stream import Stream
from unrolled.tasks.label import piped, rendered, segments, streamed
from unrolled.tasks.label.data import idle
from unrolled.tasks.label.labelling import Labeller
from unrolled.tasks.label.scores import READINGS, evaluation
from unrolled.tasks.label.segments import LabelScore
from unrolled.tasks.label.switching import SwitchFilter, viterbi
from unrolled.tasks.label.telling import EventOptions, Step, Telling

__all__ = ["LabelModel"]

Pair = tuple[NDArray[np.int64], NDArray[np.int64]]
RIBBON = 96  # characters


class LabelModel(Loaded):
    """A trained label model: `label` names the event of each step of a sequence, `stream` as it comes.

    Raises `InputError` for a file whose encoding is not that of a label model, or does not fit.
    """

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
        found: dict[str, Any] = {"events": self.classes, **({"ahead": layout.ahead} if layout.ahead else {})}
        if self.kind == "films":
            return {**found, "background": layout.background, "fps": layout.fps}
        if self.kind == "words":
            return found
        if layout.features:
            columns = {"columns": list(layout.features), "label": layout.label, "sequence": layout.sequence}
            found = {**columns, **({"categories": layout.categories} if layout.categories else {}), **found}
        return {**found, "missing": layout.missing}

    def idle(self) -> set[str]:
        """Its sizes and the settings of its training that made no difference."""
        return super().idle() | idle(self.kind)

    def features(self, inputs: Any) -> NDArray[np.float32]:
        """What the recurrent layers read of a sequence's inputs [T]: numbers [T, width]."""
        return self._labeller.front(inputs)

    @cached_property
    def causal(self) -> Causal:
        """The model as a stream sees it; of a bidirectional one, the part that reads forward."""
        front, reader = (
            Steps(self.file, self._labeller.front),
            streamed.Events(self.classes, self.penalty),
        )
        networks = [member.network for member in self._labeller.members]
        return Causal(self.file.fingerprint(), front, networks, len(self.classes), reader)

    def stream(self) -> Stream:
        """A new stream: `read` names the event of each step as it comes."""
        return Stream(self)

    def piped(
        self, streams: Streams, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """The event of each row, or of each word, of `source`: see `unrolled.piping.PipedModel`."""
        if self.kind == "films":
            raise InputError("the model reads films, which come in files: unrolled run MODEL FILM")
        if self.kind == "words":
            return piped.of_sentences(self.classes, streams.one, source, refused)
        rows = Rows(self.layout, self.file.architecture.inputs)
        return of_rows(rows, self._told, streams, source, refused)

    def _told(self, logits: Floats, event: str) -> tuple[Sequence[str], dict[str, Any]]:
        """The event of a row, and how likely each one is."""
        return [event], {"event": event, "probabilities": by_name(self.classes, softmax(logits))}

    def label(self, inputs: Any, offline: bool = False) -> list[str]:
        """The event of each step of one sequence: numbers [T, width], words [T] or frames [T, side, side, 3].

        By the steps up to it or, `offline` (default False), by the whole. Raises `InputError` for inputs that are
        not what the model reads, and for `offline` where it reads forward alone.
        """
        return self._advanced(inputs, offline)[1]

    def probabilities(self, inputs: Any, offline: bool = False) -> NDArray[np.float64]:
        """How likely each event is at each step of one sequence, [T, classes], in the order of `classes`.

        A penalty of switching has no part in it, so `label` may name another event than the likeliest. The
        arguments, and what it raises, are those of `label`.
        """
        return softmax(self._advanced(inputs, offline)[0])

    def _advanced(self, inputs: Any, offline: bool) -> tuple[Floats, list[str]]:
        """The logits [T, classes] of one sequence, and the event of each step."""
        if not offline:
            return self.stream().advance(inputs)
        if not self._labeller.bidirectional:
            raise InputError("--offline needs a model trained with --bidirectional; this one reads forward alone.")
        logits = self._labeller.logits(self.causal.front.checked(inputs))["offline"]
        return logits, [self.classes[one] for one in viterbi(logits, self.penalty)]

    def measure(self, series: Sequence[Series]) -> Evaluation:
        """The scores on sequences whose events are known, for each way of reading them.

        Raises `InputError` for an event that training did not have, and where no step has one.
        """
        if not any(map(any, (one.labels or () for one in series))):
            names = f"{series[0].name} and {len(series) - 1:,} more" if len(series) > 1 else series[0].name
            ahead = f" {counted(self.layout.ahead, 'step')} ahead" if self.layout.ahead else ""
            raise InputError(f"{names}: no step has an event{ahead}, expected at least one to measure by.")
        scores = {name: self.scored(pairs) for name, pairs in self.readings(series).items()}
        return evaluation(scores, self.classes, len(series), sum(len(one.inputs) for one in series))

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
        self.check(kind, series)
        return series

    def check(self, kind: str, series: Sequence[Series]) -> None:
        """Raise `InputError` for sequences of a `kind`, or of a width, that the model does not read."""
        if kind != self.kind:
            raise InputError(f"{series[0].name} has {kind}, but the model reads {self.kind}.")
        for one in series:
            if kind == "numbers" and one.inputs.shape[1] != self.file.architecture.inputs:
                raise InputError(
                    f"{one.name} has {counted(one.inputs.shape[1], 'number')} a step, but the model reads "
                    f"{self.file.architecture.inputs}."
                )

    def held_out(self) -> list[Series]:
        """What was held out, read again from where it was; raises `InputError` if it is no longer the same."""
        training = self.file.training
        refused = Refused(training["skip_bad"])
        builtin = training["names"] == [rendered.NAME]
        if training["held_out"] is not None:
            paths: list[Any] = whereabouts.found(self.file, [training["held_out"]])
            series = self.read(paths, refused)
        else:
            paths = whereabouts.data(self.file, rendered.NAME) or [rendered.folder()]
            split, seed = training["split"], training["seed"]
            if self.kind == "films" and not training["skip_bad"]:
                # A film is a sequence: only those held out are decoded.
                shown = [source.path for source in sequences.sources(paths)]
                series = self.read([shown[number] for number in divide(len(shown), split, seed)[1]], refused)
            else:
                found = self.read(paths, refused)
                series = [found[number] for number in divide(len(found), split, seed)[1]]
        known = [one for one in series if {None} != set(one.labels or ()) <= {None, *self.classes}]
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
        telling = Telling(self.kind, self.layout, self.classes, options, len(inputs))
        if "" in inputs:
            raise InputError("the INPUT is empty, expected a file's name, or a text for a model of words.")
        for given in inputs:
            if self.kind == "words":
                yield from self._sentences(given, options)
            else:
                yield from self._timed(given, options, telling)
        telling.draw()

    def _offline(self, options: EventOptions) -> bool:
        if options.offline is None:
            return self._labeller.bidirectional and self.kind != "films"
        return options.offline

    def _sentences(self, given: str, options: EventOptions) -> Iterator[Output]:
        if given.lower().endswith((".conllu", ".conllu.gz")) or Path(given).is_dir():
            sentences = [one.inputs for one in self.read([given], Refused(), labelled=False)]
        else:
            placed = texts.placed(given)
            sentences = [text.split() for text, _ in placed]
            if not all(sentences):
                raise InputError(f"{placed[sentences.index([])].place} has no words, expected at least one.")
        for words in sentences:
            logits, events = self._advanced(words, self._offline(options))
            line = " ".join(f"{word}/{event}" for word, event in zip(words, events, strict=True))
            likely = [by_name(self.classes, one) for one in softmax(logits)]
            yield Output(line, {"words": words, "events": events, "probabilities": likely})

    def _timed(self, given: str, options: EventOptions, telling: Telling) -> Iterator[Output]:
        """The events of films, in seconds, or of other sequences, in steps."""
        if self.kind == "films" and given != "-" and not Path(given).is_dir():
            path = sequences.sources([given])[0]
            if path.kind != "films":
                raise InputError(f"{given} has {path.kind}, but the model reads films.")
            beside = path.path.with_suffix(".csv")
            truth = events.read_events(beside) if options.plot and beside.exists() else None
            yield from telling.told(given, self._of_film(path.path, options), truth)
            return
        found = self._of_stdin(options) if given == "-" else self.read([given], Refused(), False, options.time)
        telling.check(given, found)
        for one in found:
            truth = None if one.labels is None else telling.events(label or "" for label in one.labels)
            yield from telling.told(one.name, self._steps(one.inputs, self._offline(options)), truth, one.times)

    def _of_stdin(self, options: EventOptions) -> list[Series]:
        """The sequences of a table on standard input, by the names of its columns."""
        if not self.layout.features:
            read = "arrays, which have no names of columns" if self.kind == "numbers" else self.kind
            raise InputError(f"standard input: the model reads {read}, expected the name of a file.")
        layout = replace(self.layout, time=options.time)
        return sequences.of_bytes(sys.stdin.buffer.read(), layout, Refused())

    def _of_film(self, path: Path, options: EventOptions) -> Iterator[Step]:
        """What is said of each step of a film, as soon as it is known."""
        frames = films.decode(path, self.layout.fps, self.layout.side)
        if self._offline(options):
            yield from self._steps(np.stack(list(frames)), offline=True)
            return
        stream = self.stream()
        for frame in frames:
            logits, (event,) = stream.advance(frame[None])
            yield Step(event, softmax(logits)[0])

    def _steps(self, inputs: Any, offline: bool) -> Iterator[Step]:
        """What is said of each step of one sequence."""
        logits, events = self._advanced(inputs, offline)
        return map(Step, events, softmax(logits))

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
        example = self.file.training.get("example")
        if self.kind == "words":
            read = shlex.quote(example or "A sentence .")
        else:
            read = shlex.quote(whereabouts.path(self.file, example)) if example else "FILE"
        return [f"unrolled run {path} {read}", f"unrolled eval {path}"]
