"""A finished speech model: it transcribes files and live sound on the engine alone."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from unrolled import modelfile, vocabulary, whereabouts
from unrolled.causal import Causal
from unrolled.edits import error_rates
from unrolled.errors import InputError
from unrolled.examples import Refused
from unrolled.floats import Floats
from unrolled.modelfile import Loaded, ModelFile
from unrolled.network import Network
from unrolled.piping import Streams
from unrolled.results import Evaluation, Output, Table
from unrolled.settings import setting
from unrolled.stream import Stream
from unrolled.tasks.speech import audio, ctc, piped, streamed, transcripts
from unrolled.tasks.speech.audio import Samples
from unrolled.tasks.speech.convolutions import Convolutions
from unrolled.tasks.speech.data import Data, SpeechOptions, usable
from unrolled.tasks.speech.filterbank import Bank, FilterBank
from unrolled.tasks.speech.fusion import CharacterModel
from unrolled.tasks.speech.listen import Listener, live
from unrolled.tasks.speech.transcripts import Recordings
from unrolled.tasks.text.model import TextModel

__all__ = ["ListenOptions", "SpeechModel"]

SHOWN = 5


@dataclass(frozen=True)
class ListenOptions:
    """How a speech model listens."""

    beam: int = setting(8, "Hypotheses kept in a beam search; 1 takes the best at every step.", at_least=1)
    lm: str | None = setting(
        None, "A text model of characters (`unrolled train text`) that weighs what may have been said."
    )
    lm_weight: float = setting(0.3, "Weight of the text model's log probabilities.", at_least=0)
    lm_bonus: float = setting(0.0, "Added for each character, against short texts.")
    partial: bool = setting(False, "Live: also print the guess at what is not yet certain.")


class SpeechModel(Loaded):
    """A trained speech model: `transcribe` reads a sound, `listen` hears it as it comes.

    Raises `InputError` for a file whose vocabulary or filter bank is none, or does not fit.
    """

    RunOptions: ClassVar[type[Any]] = ListenOptions

    def __init__(self, file: ModelFile) -> None:
        super().__init__(file)
        encoding = file.encoding
        self.vocabulary = vocabulary.from_json(encoding.get("vocabulary"))
        self.bank = Bank.from_json(encoding.get("bank"))
        self.mean, self.deviation = (_filter_values(encoding, n, self.bank) for n in ("mean", "deviation"))
        sizes = file.architecture
        bank = self.bank
        found = (self.vocabulary.size, bank.mels, bank.stack, bank.context)
        if found != (expected := (sizes.symbols, sizes.mels, sizes.stack, sizes.context)):
            raise InputError(
                f"its symbols, filters, frames a step and before it are {found}, but the architecture's "
                f"{expected}."
            )
        self._front = Convolutions(file) if sizes.channels else None
        self._network = Network(file)

    def filters(self) -> FilterBank:
        """A new stream of what the recurrent layers read of a sound."""
        return FilterBank(self.bank, self.mean, self.deviation, self._front)

    def steps(self, samples: Samples) -> Floats:
        """What the recurrent layers read of a whole sound [N]: [T, width]."""
        filters = self.filters()
        return np.concatenate([filters.feed(samples), filters.finish()])

    def reads(self) -> dict[str, Any]:
        """The samples a second of its sound, and its symbols in the order of its logits, which the blank ends."""
        return {"rate": self.bank.rate, "symbols": self.vocabulary.pieces()}

    @cached_property
    def causal(self) -> Causal:
        """The model as a stream sees it."""
        front, reader = streamed.Samples(self.filters()), streamed.BestPath(self.vocabulary)
        return Causal(self.file.fingerprint(), front, [self._network], self._network.outputs, reader)

    def stream(self) -> Stream:
        """A new stream of sound at `bank.rate` samples a second: `read` gives the text of the best path."""
        return Stream(self)

    def piped(
        self, streams: Streams, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """The text of each chunk of raw PCM in `source`: see `unrolled.piping.PipedModel`."""
        return piped.piped(self.bank, streams.one, source, ends)

    def listen(self, options: ListenOptions = ListenOptions()) -> Listener:
        """A new stream of sound whose text comes from a beam search, if `options` say so."""
        return Listener(self.bank, Stream(self, history=0), self._search(options), self.vocabulary)

    def transcribe(self, samples: NDArray[Any], options: ListenOptions = ListenOptions()) -> str:
        """The text of a whole sound: samples [N] at `bank.rate` a second.

        They are amplitudes between -1 and 1, or PCM of 8, 16 or 32 bits, as their type tells (`audio.amplitudes`).
        Raises `InputError` for what is neither, and for no samples.
        """
        if not np.size(samples):
            raise InputError("samples: expected at least one, got none")
        stream = self.listen(options)
        return stream.feed(samples) + stream.finish()

    def run(self, inputs: Sequence[str], options: ListenOptions) -> Iterator[Output]:
        """The text of each sound file; `-` is standard input, a sound file too or raw PCM, which is heard live.

        Raw PCM has the model's rate, 16 bits, little-endian, one channel. Raises `InputError` for a file that
        `audio.read` refuses, and for standard input with nothing in it.
        """
        fresh = self.listen(options)
        for name in inputs:
            samples = self._sound(name)
            stream = fresh.fork()
            if samples is None:
                yield from self._live(stream, options.partial)
                continue
            text = stream.feed(samples) + stream.finish()
            yield Output(
                text if len(inputs) == 1 else f"{name}: {text}",
                {"file": name, "text": text, "seconds": round(stream.seconds, 3)},
            )

    def _sound(self, name: str) -> Samples | None:
        """The samples [N] of a sound file, which `-` may be too; None where that is raw PCM."""
        if name == "-":
            source = cast(BufferedReader, sys.stdin.buffer)
            whole = audio.is_file(source.peek(4))
            return audio.read_content(source.read(), "standard input", self.bank.rate) if whole else None
        if name.lower().endswith(".tsv") or Path(name).is_dir():
            raise InputError(f"{name} is no sound; `unrolled eval` measures on a table of transcripts.")
        return audio.read(Path(name), self.bank.rate)

    def _live(self, stream: Listener, partial: bool) -> Iterator[Output]:
        """What is said in raw PCM on standard input, as it comes."""
        source = cast(BufferedReader, sys.stdin.buffer)
        if not source.peek(1):
            raise InputError("standard input is empty (0 bytes); expected a sound file or raw PCM.")
        spaced = " " in self.file.encoding["vocabulary"]["characters"]
        for heard in live(source, stream, spaced, partial):
            line = heard.text if heard.final else f"... {heard.text}"
            yield Output(line, {"file": "-", **heard._asdict()})

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """Error rates on tables of transcripts (default: what was held out of its training), freely decoded."""
        return self.measure(self.recordings(paths))

    def recordings(self, paths: Sequence[str | Path] = ()) -> Recordings:
        """The sounds of tables of transcripts (default: what was held out of its training)."""
        if not paths:
            return self._held_out()
        refused = Refused()
        return usable(transcripts.read(paths, self.bank.rate, refused), self.vocabulary, self.bank, refused)

    def measure(self, recordings: Recordings) -> Evaluation:
        """Character, word and string error rates, of the best path and of the beam search."""
        figures: dict[str, Any] = {"sounds": len(recordings), "seconds": round(sum(recordings.seconds), 1)}
        rows = []
        shown: list[str] = []
        for name, options in (("greedy", ListenOptions(beam=1)), ("beam", ListenOptions())):
            found = [self.transcribe(recordings.sound(i), options) for i in range(len(recordings))]
            rates = error_rates(recordings.texts, found)
            figures[name] = rates
            rows.append([name, *(f"{100 * rate:.2f} %" for rate in rates.values())])
            shown = [
                f"{'right' if text == said else 'wrong'}: heard {text!r}, said {said!r}"
                for text, said in zip(found[:SHOWN], recordings.texts, strict=False)
            ]
        columns = ["decoding", *(f"{name} error rate" for name in ("character", "word", "text"))]
        return Evaluation(figures, [Table(columns, rows)], "\n".join(shown))

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""
        record = f"arecord -q -t raw -f S16_LE -c 1 -r {self.bank.rate}"
        return [f"unrolled eval {path}", f"unrolled run {path} SOUND.wav", f"{record} | unrolled run {path} -"]

    def _search(self, options: ListenOptions) -> ctc.Search:
        blank = self.vocabulary.size
        if options.lm is None:
            return ctc.Greedy(blank) if options.beam == 1 else ctc.BeamSearch(blank, options.beam)
        file = modelfile.read(Path(options.lm))
        if file.task != "text":
            raise InputError(f"{options.lm} was trained for the task {file.task!r}; --lm takes a text model.")
        try:
            language = CharacterModel(TextModel(file), self.vocabulary, options.lm_weight, options.lm_bonus)
        except InputError as error:
            raise InputError(f"{options.lm}: {error}") from error
        return ctc.BeamSearch(blank, options.beam, language)

    def _held_out(self) -> Recordings:
        training = self.file.training
        options = SpeechOptions.of(training)
        if options.held_out is not None:
            (held_out,) = whereabouts.found(self.file, [options.held_out])
            options = replace(options, held_out=held_out)
        paths = whereabouts.data(self.file, transcripts.BUILTIN)
        data = Data.read(options, paths, training["seed"], self.vocabulary, self.bank)
        if data.fingerprint != training["data"]:
            raise InputError(
                f"{', '.join(data.train.names)}: not the sounds that the model was trained on; name a TSV."
            )
        return data.held_out


def _filter_values(encoding: dict[str, Any], name: str, bank: Bank) -> Floats:
    """A number for each filter, from a model file."""
    values = encoding.get(name)
    if not isinstance(values, list) or len(values) != bank.mels or not all(type(v) is float for v in values):
        raise InputError(f"{name} is not a list of {bank.mels} numbers.")
    return np.array(values, np.float32)
