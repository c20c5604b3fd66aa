"""A finished text model: it writes, and measures how well it foresees a text, on the engine alone."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
from numpy.typing import NDArray

from unrolled import texts, vocabulary, whereabouts
from unrolled.causal import Causal
from unrolled.errors import InputError, counted
from unrolled.modelfile import Loaded, ModelFile
from unrolled.network import Network
from unrolled.piping import Streams
from unrolled.results import Evaluation, Output, Table
from unrolled.stream import Stream
from unrolled.tasks.text import corpus, piped
from unrolled.tasks.text.sampling import SampleOptions, choose
from unrolled.tasks.text.streamed import NextSymbol, Symbols
from unrolled.vocabulary import Place, UnknownCharacter

__all__ = ["Score", "TextModel"]

SCORE_SYMBOLS = 1 << 22  # logits in memory at a time
WINDOW = 64


@dataclass(frozen=True)
class Score:
    """How well a model foresees a text: the mean loss a symbol over `count` predicted symbols."""

    nats: float
    count: int

    COLUMNS: ClassVar[list[str]] = ["nats a symbol", "bits", "perplexity"]

    @property
    def bits(self) -> float:
        """The loss in bits a symbol."""
        return self.nats / float(np.log(2.0))

    @property
    def perplexity(self) -> float:
        """exp(nats): as uncertain as among this many equally likely symbols."""
        return float(np.exp(self.nats))

    def row(self) -> list[str]:
        """The loss in `COLUMNS`, for people."""
        return [f"{self.nats:.4f}", f"{self.bits:.4f}", f"{self.perplexity:.2f}"]

    def figures(self) -> dict[str, float]:
        """All of it, for programs."""
        return {**asdict(self), "bits": self.bits, "perplexity": self.perplexity}


class TextModel(Loaded):
    """A trained text model: `sample` writes, `score` measures, `stream` steps.

    `weights` is the format that they are packed in (default "float32"): see `unrolled.stepper.packed`. Raises
    `InputError` for a file whose vocabulary does not fit.
    """

    RunOptions: ClassVar[type[Any]] = SampleOptions

    def __init__(self, file: ModelFile, weights: str = "float32") -> None:
        super().__init__(file)
        self.vocabulary = vocabulary.from_json(file.encoding)
        if self.vocabulary.size != file.architecture.symbols:
            raise InputError(
                f"the vocabulary has {self.vocabulary.size} symbols, but the architecture "
                f"{file.architecture.symbols}."
            )
        self._network = Network(file, weights)

    def __reduce__(self) -> tuple[Any, ...]:
        return TextModel, (self.file, self._network.weights)

    def reads(self) -> dict[str, Any]:
        """What a symbol is, and the text of each, in the order of its logits (None: its bytes are in `bytes`)."""
        parts = self.vocabulary.parts()
        symbols = {"level": self.vocabulary.level, "symbols": self.vocabulary.pieces()}
        return {**symbols, **({"bytes": parts} if parts else {})}

    @cached_property
    def causal(self) -> Causal:
        """The model as a stream sees it."""
        front, reader = Symbols(self.vocabulary), NextSymbol(self.vocabulary)
        return Causal(self.file.fingerprint(), front, [self._network], self._network.outputs, reader)

    def stream(self) -> Stream:
        """A new stream, one symbol a step, from the zero state."""
        return Stream(self)

    def piped(
        self, streams: Streams, source: BinaryIO, refused: Callable[[str], None], ends: bool
    ) -> Iterator[Output]:
        """How surprising each line of `source` was: see `unrolled.piping.PipedModel`."""
        return piped.piped(self.vocabulary, streams.one, source, refused)

    def sample(
        self,
        prompt: str = "",
        length: int = 500,
        *,
        temperature: float = 0.8,
        top_p: float = 1.0,
        seed: int = 0,
    ) -> Iterator[str]:
        """Write on from `prompt`: an iterator over the text of `length` symbols, as each is chosen.

        `temperature` divides the logits (0 takes the likeliest symbol always); `top_p` keeps the likeliest
        symbols that together have this probability (Holtzman et al. 2020). The same seed gives the same text.
        An empty prompt stands for a new line. Raises `InputError` for a character that the model does not know,
        a number out of range or what is no text or number, before anything is written.
        """
        _check_kind(Integral, length=length, seed=seed)
        _check_kind(Real, temperature=temperature, top_p=top_p)
        if length < 0:
            raise InputError(f"length is {length}, expected 0 or more.")
        if not temperature >= 0:
            raise InputError(f"temperature is {temperature}, expected 0 or more.")
        if seed < 0:
            raise InputError(f"seed is {seed}, expected 0 or more.")
        if not 0 < top_p <= 1:
            raise InputError(f"top-p is {top_p}, expected more than 0 and at most 1.")
        return self._sample(self.encode_prompt(prompt), length, temperature, top_p, np.random.default_rng(seed))

    def encode_prompt(self, prompt: str) -> NDArray[np.int64]:
        """The symbols [T] of a prompt, at least one: an empty one stands for a new line."""
        if not isinstance(prompt, str) or prompt:
            return self.vocabulary.encode(prompt)
        try:
            return self.vocabulary.encode("\n")
        except InputError:
            return np.zeros(1, np.int64)

    def _sample(
        self,
        prompt: NDArray[np.int64],
        length: int,
        temperature: float,
        top_p: float,
        rng: np.random.Generator,
    ) -> Iterator[str]:
        stream, decoder = self.stream(), self.vocabulary.decoder()
        for begin in range(0, len(prompt), 1024):
            logits = stream.feed(prompt[begin : begin + 1024])[-1]
        for _ in range(length):
            symbol = choose(logits, temperature, top_p, rng)
            if text := decoder.feed(symbol):
                yield text
            logits = stream.step(symbol)
        if rest := decoder.finish():
            yield rest

    def foresee(self, symbols: NDArray[np.integer]) -> NDArray[np.float32]:
        """The logits [B, V] of what comes after each column of `symbols` [T, B], each from the zero state."""
        state = self._network.initial_state(symbols.shape[1])
        part = max(1, SCORE_SYMBOLS // (symbols.shape[1] * self.vocabulary.size))
        pieces = (symbols[begin : begin + part] for begin in range(0, len(symbols), part))
        last: NDArray[np.float32] = [self._network.run(piece, state)[-1] for piece in pieces][-1]
        return last

    def score(self, text: str, window: int | None = None) -> Score:
        """The loss on `text`; see `score_symbols`."""
        return self.score_symbols(self.vocabulary.encode(text), window)

    def score_symbols(self, symbols: NDArray[np.integer], window: int | None = None) -> Score:
        """The loss of foreseeing each symbol but the first from those before it.

        By default the state is carried through the whole text. With `window`, the text is cut into pieces of so
        many predictions, each from the zero state, as a model of fixed context would see it.

        Raises `InputError` for what are no symbols [T] of the model's vocabulary, and fewer than two of them.
        """
        symbols = self._checked(symbols)
        count = len(symbols) - 1
        if count < 1:
            raise InputError(f"the text has {counted(len(symbols), 'symbol')}; at least 2 are needed to score it.")
        if window is None:
            return Score(self._loss(symbols[:, None]) / count, count)
        _check_kind(Integral, window=window)
        if window < 1:
            raise InputError(f"window is {window}, expected 1 or more.")
        whole = count // window
        total = 0.0
        rows = max(1, SCORE_SYMBOLS // (window * self.vocabulary.size))
        for first in range(0, whole, rows):
            starts = np.arange(first, min(first + rows, whole)) * window
            total += self._loss(symbols[starts + np.arange(window + 1)[:, None]])
        if whole * window < count:
            total += self._loss(symbols[whole * window :, None])
        return Score(total / count, count)

    def _checked(self, symbols: NDArray[np.integer]) -> NDArray[np.integer]:
        array, size = np.asarray(symbols), self.vocabulary.size
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            found = f"{array.dtype} of shape {list(array.shape)}"
            raise InputError(f"symbols are {found}, expected whole numbers in one dimension.")
        for place in np.flatnonzero((array < 0) | (array >= size))[:1]:
            raise InputError(f"symbols[{place}] is {array[place]}, expected 0 to {size - 1}.")
        return array

    def symbols(self, paths: Sequence[str | Path] = ()) -> NDArray[np.integer]:
        """The symbols [T] of texts (default: the held-out part of its own)."""
        return corpus.encode_files(paths, self.vocabulary) if paths else self._held_out()

    def _held_out(self) -> NDArray[np.integer]:
        """The text that was held out of the model's training, read again from where it was.

        Raises `InputError` when the text is no longer there or no longer the same.
        """
        training = self.file.training
        level, apart = training["level"], training.get("held_out")  # earlier versions' models do not name it
        if apart is not None:
            paths = whereabouts.found(self.file, [apart])
            if corpus.fingerprint(paths, level) != training["held_out_data"]:
                raise InputError(
                    f"{paths[0]}: not the text that was held out of the model's training any more; name DATA to "
                    "measure on."
                )
            return corpus.encode_files(paths, self.vocabulary)
        paths = whereabouts.data(self.file, corpus.BUILTIN)
        again = corpus.read(paths, level, split=training["split"], vocabulary=self.vocabulary)
        if again.fingerprint != training["data"]:
            raise InputError(
                f"{', '.join(again.names)}: not the text that the model was trained on any more; name DATA to "
                "measure on."
            )
        return again.held_out

    def evaluate(self, paths: Sequence[str | Path] = ()) -> Evaluation:
        """The loss on texts (default: the held-out part of its own), the state carried and in windows of 64.

        Bits a byte compare models whose symbols are not alike; those of a text with unknown words have none.
        """
        symbols = self.symbols(paths)
        scores = {
            "state carried": self.score_symbols(symbols),
            f"windows of {WINDOW}": self.score_symbols(symbols, WINDOW),
        }
        size = self.vocabulary.byte_count(symbols[1:])
        by_byte = {name: score.bits * score.count / size if size else None for name, score in scores.items()}
        figures: dict[str, Any] = {name.replace(" ", "_"): score.figures() for name, score in scores.items()}
        figures["bits_a_byte"] = {name.replace(" ", "_"): bits for name, bits in by_byte.items()}
        rows = [
            [name, *score.row(), "" if by_byte[name] is None else f"{by_byte[name]:.4f}", f"{score.count:,}"]
            for name, score in scores.items()
        ]
        return Evaluation(figures, [Table(["", *Score.COLUMNS, "bits a byte", "symbols"], rows)])

    def run(self, inputs: Sequence[str], options: SampleOptions) -> Iterator[Output]:
        """Write on from each of `inputs`: texts, files of text, or `-`."""
        for given in inputs:
            prompt = texts.whole(given)
            try:
                text = "".join(self.sample(prompt, **asdict(options)))
            except UnknownCharacter as error:
                if prompt == given:
                    raise
                place, name = Place().after(prompt[: error.index]), "standard input" if given == "-" else given
                raise UnknownCharacter(error.character, error.index, error.known, name, place) from error
            yield Output(prompt + text, {"prompt": prompt, "text": text})

    def next_commands(self, path: str) -> list[str]:
        """Commands that a person may like to try next with this model, which is in the file `path`."""
        return [f"unrolled sample {path} --length 1000", f"unrolled eval {path}"]

    def _loss(self, symbols: NDArray[np.integer]) -> float:
        """The summed loss in nats over symbols [T + 1, B], each column from the zero state."""
        steps, batch = len(symbols) - 1, symbols.shape[1]
        state = self._network.initial_state(batch)
        chunk = max(1, min(4096, SCORE_SYMBOLS // (batch * self.vocabulary.size)))
        total = 0.0
        for begin in range(0, steps, chunk):
            part = symbols[begin : min(begin + chunk, steps) + 1].astype(np.int64)
            logits = self._network.run(part[:-1], state)
            logits -= logits.max(axis=-1, keepdims=True)
            chosen = np.take_along_axis(logits, part[1:, :, None], axis=-1)
            total += float(np.sum(np.log(np.exp(logits).sum(axis=-1)) - chosen[..., 0], dtype=np.float64))
        return total


def _check_kind(kind: type[Integral] | type[Real], **values: Any) -> None:
    """Raise `InputError` for a value that is no whole number (`Integral`), or no number at all (`Real`)."""
    for name, value in values.items():
        if not isinstance(value, kind):
            expected = "a whole number" if kind is Integral else "a number"
            raise InputError(f"{name.replace('_', '-')} is {value!r}, expected {expected}.")
